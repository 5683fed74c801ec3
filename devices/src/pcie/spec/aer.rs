//! Advanced Error Reporting (`PCIe 7.8.4`).

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u16 = 0x0001;
/// Version of the capability.
pub const VERSION: u8 = 2;
/// Bytes in the capability.
pub const LENGTH: u16 = 0x48;
/// Uncorrectable Error Status.
pub const UNCORRECTABLE_STATUS: u16 = 0x04;
/// Uncorrectable Error Mask.
pub const UNCORRECTABLE_MASK: u16 = 0x08;
/// Uncorrectable Error Severity.
pub const UNCORRECTABLE_SEVERITY: u16 = 0x0c;
/// Correctable Error Status.
pub const CORRECTABLE_STATUS: u16 = 0x10;
/// Correctable Error Mask.
pub const CORRECTABLE_MASK: u16 = 0x14;
/// Advanced Error Capabilities and Control.
pub const CONTROL: u16 = 0x18;
/// Root Error Command, of a root port.
pub const ROOT_COMMAND: u16 = 0x2c;
/// Root Error Status, of a root port.
pub const ROOT_STATUS: u16 = 0x30;
/// Error Source Identification, of a root port.
pub const SOURCE: u16 = 0x34;

/// An uncorrectable error, by its bit in the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncorrectable {
    /// Data Link Protocol Error.
    DataLinkProtocol = 4,
    /// Surprise Down Error.
    SurpriseDown = 5,
    /// Completion Timeout.
    CompletionTimeout = 14,
    /// ACS Violation.
    AcsViolation = 21,
}

/// Advanced Error Capabilities and Control.
#[bitfield(u32)]
pub struct Control {
    /// The bit of the first error that is not yet cleared.
    #[bits(5)]
    pub first_error: u8,
    #[bits(27)]
    __: u32,
}

/// Root Error Command: which messages interrupt.
#[bitfield(u32)]
pub struct RootCommand {
    pub correctable: bool,
    pub non_fatal: bool,
    pub fatal: bool,
    #[bits(29)]
    __: u32,
}

/// Root Error Status.
#[bitfield(u32)]
pub struct RootStatus {
    pub correctable: bool,
    pub multiple_correctable: bool,
    pub uncorrectable: bool,
    pub multiple_uncorrectable: bool,
    pub first_is_fatal: bool,
    pub non_fatal: bool,
    pub fatal: bool,
    #[bits(20)]
    __: u32,
    #[bits(5)]
    pub interrupt_message_number: u8,
}

/// Error Source Identification.
#[bitfield(u32)]
pub struct Source {
    pub correctable: u16,
    pub uncorrectable: u16,
}

register_layout!(Control: u32, RootCommand: u32, RootStatus: u32, Source: u32);
