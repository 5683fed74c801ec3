//! Message Signaled Interrupts (`PCIe 7.7.1`), with 64-bit address.

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u8 = 0x05;
/// Bytes in a capability without per-vector masking.
pub const LENGTH: u16 = 0x0e;
/// Bytes in a capability with per-vector masking.
pub const LENGTH_WITH_MASK: u16 = 0x18;
/// Message Control.
pub const CONTROL: u16 = 0x02;
/// Message Address.
pub const ADDRESS: u16 = 0x04;
/// Message Upper Address.
pub const UPPER_ADDRESS: u16 = 0x08;
/// Message Data.
pub const DATA: u16 = 0x0c;
/// Mask Bits.
pub const MASK: u16 = 0x10;
/// Pending Bits.
pub const PENDING: u16 = 0x14;

/// Message Control.
#[bitfield(u16)]
pub struct Control {
    pub enable: bool,
    /// log2 of the vectors that the function asks for.
    #[bits(3)]
    pub multiple_capable: u8,
    /// log2 of the vectors that software grants.
    #[bits(3)]
    pub multiple_enable: u8,
    pub is_64_bit: bool,
    pub per_vector_mask: bool,
    #[bits(7)]
    __: u8,
}

register_layout!(Control: u16);
