//! Process Address Space ID (`PCIe 7.8.9`).

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u16 = 0x001b;
/// Version of the capability.
pub const VERSION: u8 = 1;
/// Bytes in the capability.
pub const LENGTH: u16 = 8;
/// PASID Capability.
pub const CAPABILITY: u16 = 4;
/// PASID Control.
pub const CONTROL: u16 = 6;

/// PASID Capability.
#[bitfield(u16)]
pub struct Capability {
    __: bool,
    pub execute: bool,
    pub privileged: bool,
    #[bits(5)]
    __: u8,
    #[bits(5)]
    pub width: u8,
    #[bits(3)]
    __: u8,
}

/// PASID Control.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PasidControl {
    /// Requests may have a PASID prefix.
    pub enable: bool,
    /// Requests may ask for execute permission.
    pub execute: bool,
    /// Requests may be in privileged mode.
    pub privileged: bool,
    #[bits(13)]
    __: u16,
}

register_layout!(Capability: u16, PasidControl: u16);
