//! Address Translation Services (`PCIe 10.5.1`).

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u16 = 0x000f;
/// Version of the capability.
pub const VERSION: u8 = 1;
/// Bytes in the capability.
pub const LENGTH: u16 = 8;
/// ATS Capability.
pub const CAPABILITY: u16 = 4;
/// ATS Control.
pub const CONTROL: u16 = 6;

/// ATS Capability.
#[bitfield(u16)]
pub struct Capability {
    /// Invalidate Requests that the function can take at once; 0 stands for 32.
    #[bits(5)]
    pub invalidate_queue_depth: u8,
    /// Untranslated addresses in requests are page aligned.
    pub page_aligned_request: bool,
    /// Invalidate Requests may set Global Invalidate.
    pub global_invalidate: bool,
    #[bits(9)]
    __: u16,
}

/// ATS Control.
#[bitfield(u16)]
pub struct Control {
    /// Smallest Translation Unit: log2 of the pages in the smallest range asked for.
    #[bits(5)]
    pub smallest_translation_unit: u8,
    #[bits(10)]
    __: u16,
    pub enable: bool,
}

register_layout!(Capability: u16, Control: u16);
