//! Secondary PCI Express (`PCIe 7.7.3`).

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u16 = 0x0019;
/// Version of the capability.
pub const VERSION: u8 = 1;
/// Bytes in the capability, without the two of each lane.
pub const LENGTH: u16 = 0x0c;
/// Link Control 3.
pub const LINK_CONTROL_3: u16 = 0x04;
/// Lane Error Status: a bit for each lane.
pub const LANE_ERROR_STATUS: u16 = 0x08;
/// Lane Equalization Control of lane 0; those of the next lanes follow.
pub const LANE_EQUALIZATION: u16 = 0x0c;

/// Link Control 3.
#[bitfield(u32)]
pub struct LinkControl3 {
    /// The next retraining equalizes the lanes anew.
    pub perform_equalization: bool,
    /// A request for equalization interrupts.
    pub interrupt_enable: bool,
    #[bits(30)]
    __: u32,
}

/// Lane Equalization Control.
#[bitfield(u16)]
pub struct LaneEqualization {
    /// Of the port above the link. Reserved at the other end.
    #[bits(4)]
    pub downstream_preset: u8,
    #[bits(3)]
    pub downstream_hint: u8,
    __: bool,
    /// Of the function below the link.
    #[bits(4)]
    pub upstream_preset: u8,
    #[bits(3)]
    pub upstream_hint: u8,
    __: bool,
}

register_layout!(LinkControl3: u32, LaneEqualization: u16);
