//! Access Control Services (`PCIe 7.7.11`).

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u16 = 0x000d;
/// Version of the capability.
pub const VERSION: u8 = 1;
/// Bytes in the capability.
pub const LENGTH: u16 = 8;
/// ACS Capability.
pub const CAPABILITY: u16 = 4;
/// ACS Control.
pub const CONTROL: u16 = 6;

/// The bits of both ACS Capability and ACS Control.
#[bitfield(u16)]
pub struct AcsBits {
    /// A requester id must lie on a bus below the port.
    pub source_validation: bool,
    /// Only untranslated requests pass.
    pub translation_blocking: bool,
    /// Peer-to-peer requests go to the root complex.
    pub request_redirect: bool,
    /// Peer-to-peer completions go to the root complex.
    pub completion_redirect: bool,
    /// Requests that would go back down go to the root complex.
    pub upstream_forwarding: bool,
    #[bits(11)]
    __: u16,
}

register_layout!(AcsBits: u16);
