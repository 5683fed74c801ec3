//! Downstream Port Containment (`PCIe 7.9.14`).

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u16 = 0x001d;
/// Version of the capability.
pub const VERSION: u8 = 1;
/// Bytes in the capability.
pub const LENGTH: u16 = 0x34;
/// DPC Capability.
pub const CAPABILITY: u16 = 0x04;
/// DPC Control.
pub const CONTROL: u16 = 0x06;
/// DPC Status.
pub const STATUS: u16 = 0x08;
/// DPC Error Source ID.
pub const SOURCE: u16 = 0x0a;

/// DPC Control: fatal errors trigger.
pub const TRIGGER_FATAL: u8 = 1;
/// DPC Control: fatal and non-fatal errors trigger.
pub const TRIGGER_NON_FATAL: u8 = 2;

/// DPC Capability.
#[bitfield(u16)]
pub struct Capability {
    #[bits(5)]
    pub interrupt_message_number: u8,
    pub root_port_extensions: bool,
    pub poisoned_tlp_blocking: bool,
    pub software_trigger: bool,
    #[bits(4)]
    pub pio_log_size: u8,
    pub active_err_cor: bool,
    #[bits(3)]
    __: u8,
}

/// DPC Control.
#[bitfield(u16)]
pub struct Control {
    /// [`TRIGGER_FATAL`], [`TRIGGER_NON_FATAL`], or 0: off.
    #[bits(2)]
    pub trigger_enable: u8,
    pub completion_control: bool,
    pub interrupt_enable: bool,
    pub err_cor_enable: bool,
    __: bool,
    /// Reads 0.
    pub software_trigger: bool,
    #[bits(9)]
    __: u16,
}

/// DPC Status.
#[bitfield(u16)]
pub struct Status {
    pub triggered: bool,
    #[bits(2)]
    pub reason: u8,
    pub interrupt: bool,
    pub busy: bool,
    /// With reason 3: 1 for the software trigger.
    #[bits(2)]
    pub reason_extension: u8,
    __: bool,
    #[bits(5)]
    pub pio_first_error: u8,
    #[bits(3)]
    __: u8,
}

register_layout!(Capability: u16, Control: u16, Status: u16);
