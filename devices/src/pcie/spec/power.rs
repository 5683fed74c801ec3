//! PCI Power Management (`PCIe 7.5.2`).

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u8 = 0x01;
/// Bytes in the capability.
pub const LENGTH: u16 = 8;
/// Power Management Capabilities.
pub const CAPABILITIES: u16 = 2;
/// Power Management Control/Status.
pub const CONTROL: u16 = 4;

/// Power Management Control/Status.
#[bitfield(u16)]
pub struct Control {
    /// 0 is D0, 3 is D3hot.
    #[bits(2)]
    pub power_state: u8,
    __: bool,
    /// Going back to D0 does not reset the function.
    pub no_soft_reset: bool,
    #[bits(12)]
    __: u16,
}

register_layout!(Control: u16);
