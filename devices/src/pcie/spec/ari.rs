//! Alternative Routing-ID Interpretation (`PCIe 7.8.8`).

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u16 = 0x000e;
/// Version of the capability.
pub const VERSION: u8 = 1;
/// Bytes in the capability.
pub const LENGTH: u16 = 8;
/// ARI Capability.
pub const CAPABILITY: u16 = 4;

/// ARI Capability.
#[bitfield(u16)]
pub struct Capability {
    __: u8,
    /// The function with the next number, 0 in the last.
    pub next_function: u8,
}

register_layout!(Capability: u16);
