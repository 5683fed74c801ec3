//! MSI-X (`PCIe 7.7.2`): the capability. The table is in a BAR of the function.

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u8 = 0x11;
/// Bytes in the capability.
pub const LENGTH: u16 = 12;
/// Message Control.
pub const CONTROL: u16 = 2;
/// Table Offset and BIR.
pub const TABLE: u16 = 4;
/// PBA Offset and BIR.
pub const PENDING: u16 = 8;

/// Message Control.
#[bitfield(u16)]
pub struct Control {
    /// Vectors, less one.
    #[bits(11)]
    pub table_size: u16,
    #[bits(3)]
    __: u8,
    pub function_mask: bool,
    pub enable: bool,
}

register_layout!(Control: u16);
