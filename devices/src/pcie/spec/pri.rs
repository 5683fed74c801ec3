//! Page Request Interface (`PCIe 10.5.2`).

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u16 = 0x0013;
/// Version of the capability.
pub const VERSION: u8 = 1;
/// Bytes in the capability.
pub const LENGTH: u16 = 16;
/// Page Request Control.
pub const CONTROL: u16 = 4;
/// Page Request Status.
pub const STATUS: u16 = 6;
/// Outstanding Page Request Capacity.
pub const CAPACITY: u16 = 8;
/// Outstanding Page Request Allocation.
pub const ALLOCATION: u16 = 12;

/// Page Request Control.
#[bitfield(u16)]
pub struct Control {
    pub enable: bool,
    /// Drops outstanding requests. Has an effect only while `enable` is clear; reads 0.
    pub reset: bool,
    #[bits(14)]
    __: u16,
}

/// Page Request Status.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PriStatus {
    /// RF: a Response Failure was received.
    pub response_failure: bool,
    /// UPRGI: a response was received for a group that is not outstanding.
    pub unexpected_group: bool,
    #[bits(6)]
    __: u8,
    /// Page requests are disabled, and none is outstanding.
    pub stopped: bool,
    #[bits(6)]
    __: u8,
    /// Responses to requests with PASID must carry it.
    pub pasid_required: bool,
}

register_layout!(Control: u16, PriStatus: u16);
