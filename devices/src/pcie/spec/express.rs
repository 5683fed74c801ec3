//! PCI Express (`PCIe 7.5.3`).

use std::time::Duration;

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u8 = 0x10;
/// Bytes in the capability.
pub const LENGTH: u16 = 0x3c;
/// PCI Express Capabilities.
pub const CAPABILITIES: u16 = 0x02;
/// Device Capabilities.
pub const DEVICE_CAPABILITIES: u16 = 0x04;
/// Device Control.
pub const DEVICE_CONTROL: u16 = 0x08;
/// Device Status.
pub const DEVICE_STATUS: u16 = 0x0a;
/// Link Capabilities.
pub const LINK_CAPABILITIES: u16 = 0x0c;
/// Link Control.
pub const LINK_CONTROL: u16 = 0x10;
/// Link Status.
pub const LINK_STATUS: u16 = 0x12;
/// Slot Capabilities.
pub const SLOT_CAPABILITIES: u16 = 0x14;
/// Slot Control.
pub const SLOT_CONTROL: u16 = 0x18;
/// Slot Status.
pub const SLOT_STATUS: u16 = 0x1a;
/// Root Control.
pub const ROOT_CONTROL: u16 = 0x1c;
/// Root Capabilities.
pub const ROOT_CAPABILITIES: u16 = 0x1e;
/// Root Status.
pub const ROOT_STATUS: u16 = 0x20;
/// Device Capabilities 2.
pub const DEVICE_CAPABILITIES_2: u16 = 0x24;
/// Device Control 2.
pub const DEVICE_CONTROL_2: u16 = 0x28;
/// Link Capabilities 2.
pub const LINK_CAPABILITIES_2: u16 = 0x2c;
/// Link Control 2.
pub const LINK_CONTROL_2: u16 = 0x30;

/// Link Status 2.
pub const LINK_STATUS_2: u16 = 0x32;

/// Device Control: non-fatal errors are reported.
pub const REPORT_NON_FATAL: u8 = 1 << 1;
/// Device Control: fatal errors are reported.
pub const REPORT_FATAL: u8 = 1 << 2;
/// Slot Control: an indicator is on.
pub const INDICATOR_ON: u8 = 1;
/// Slot Control: an indicator is off.
pub const INDICATOR_OFF: u8 = 3;

/// PCI Express Capabilities.
#[bitfield(u16)]
pub struct Capabilities {
    #[bits(4)]
    pub version: u8,
    /// 0 endpoint, 4 root port, 5 and 6 the ports of a switch.
    #[bits(4)]
    pub port_type: u8,
    pub slot_implemented: bool,
    #[bits(5)]
    pub interrupt_message_number: u8,
    #[bits(2)]
    __: u8,
}

/// Device Capabilities.
#[bitfield(u32)]
pub struct DeviceCapabilities {
    #[bits(15)]
    __: u16,
    pub role_based_error_reporting: bool,
    #[bits(12)]
    __: u16,
    pub function_level_reset: bool,
    #[bits(3)]
    __: u8,
}

/// Device Control.
#[bitfield(u16)]
pub struct DeviceControl {
    /// Bit 0 correctable errors, bit 1 non-fatal ones, bit 2 fatal ones, bit 3 Unsupported
    /// Requests.
    #[bits(4)]
    pub error_reporting: u8,
    pub relaxed_ordering: bool,
    #[bits(3)]
    pub max_payload_size: u8,
    #[bits(3)]
    __: u8,
    pub no_snoop: bool,
    /// 2 stands for 512 bytes.
    #[bits(3)]
    pub max_read_request_size: u8,
    /// Initiate Function Level Reset, on an endpoint; reads 0.
    pub initiate_reset: bool,
}

/// Device Status.
#[bitfield(u16)]
pub struct DeviceStatus {
    /// Correctable, non-fatal, fatal errors and Unsupported Requests detected.
    #[bits(4)]
    pub errors: u8,
    __: bool,
    /// The function has sent requests that are not completed.
    pub transactions_pending: bool,
    #[bits(10)]
    __: u16,
}

/// Link Capabilities.
#[bitfield(u32)]
pub struct LinkCapabilities {
    #[bits(4)]
    pub max_speed: u8,
    #[bits(6)]
    pub max_width: u8,
    #[bits(9)]
    __: u16,
    /// A Surprise Down error can be detected, and logged in AER.
    pub surprise_down_reporting: bool,
    pub data_link_layer_active_reporting: bool,
    #[bits(3)]
    __: u8,
    pub port_number: u8,
}

/// Link Control.
#[bitfield(u16)]
pub struct LinkControl {
    #[bits(4)]
    __: u8,
    /// Holds the link down while it is set.
    pub link_disable: bool,
    /// Reads 0.
    pub retrain: bool,
    pub common_clock: bool,
    pub extended_synch: bool,
    #[bits(8)]
    __: u8,
}

/// Link Status.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct LinkStatus {
    /// Current speed: 3 for 8 GT/s.
    #[bits(4)]
    pub speed: u8,
    /// Negotiated lanes.
    #[bits(6)]
    pub width: u8,
    #[bits(2)]
    __: u8,
    /// Both ends use the reference clock of the slot.
    pub slot_clock: bool,
    /// DLLLA: the data link layer is up.
    pub data_link_layer_active: bool,
    /// LBMS, cleared by writing one: software has retrained the link.
    pub bandwidth_management: bool,
    /// LABS, cleared by writing one.
    pub autonomous_bandwidth: bool,
}

/// Slot Capabilities.
#[bitfield(u32)]
pub struct SlotCapabilities {
    pub attention_button: bool,
    pub power_controller: bool,
    __: bool,
    pub attention_indicator: bool,
    pub power_indicator: bool,
    pub hot_plug_surprise: bool,
    pub hot_plug_capable: bool,
    #[bits(11)]
    __: u16,
    pub no_command_completed: bool,
    #[bits(13)]
    pub slot_number: u16,
}

/// Slot Control.
#[bitfield(u16)]
pub struct SlotControl {
    pub attention_button_pressed_enable: bool,
    #[bits(2)]
    __: u8,
    pub presence_detect_changed_enable: bool,
    __: bool,
    pub hot_plug_interrupt_enable: bool,
    #[bits(2)]
    pub attention_indicator: u8,
    /// 1 on, 2 blinking, 3 off.
    #[bits(2)]
    pub power_indicator: u8,
    /// The slot has no power.
    pub power_off: bool,
    __: bool,
    pub data_link_layer_changed_enable: bool,
    #[bits(3)]
    __: u8,
}

/// Slot Status.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct SlotStatus {
    /// ABP, cleared by writing one.
    pub attention_button_pressed: bool,
    #[bits(2)]
    __: u8,
    /// PDC, cleared by writing one.
    pub presence_detect_changed: bool,
    #[bits(2)]
    __: u8,
    /// PDS: the slot is occupied.
    pub presence_detect_state: bool,
    __: bool,
    /// DLLSC, cleared by writing one.
    pub data_link_layer_changed: bool,
    #[bits(7)]
    __: u8,
}

/// Root Control: system errors on error messages, PME interrupt.
#[bitfield(u16)]
pub struct RootControl {
    #[bits(4)]
    pub enables: u8,
    /// Configuration RRS Software Visibility Enable: a read of the vendor ID that is answered with
    /// Request Retry Status reads 0x0001.
    pub rrs_visibility: bool,
    #[bits(11)]
    __: u16,
}

/// Root Capabilities.
#[bitfield(u16)]
pub struct RootCapabilities {
    /// The port has Configuration RRS Software Visibility.
    pub rrs_visibility: bool,
    #[bits(15)]
    __: u16,
}

/// Root Status.
#[bitfield(u32)]
pub struct RootStatus {
    pub pme_requester: u16,
    pub pme: bool,
    #[bits(15)]
    __: u16,
}

/// Device Capabilities 2.
#[bitfield(u32)]
pub struct DeviceCapabilities2 {
    /// Completion Timeout Ranges Supported: bit 0 is range A, of the shortest times, bit 3 range D.
    #[bits(4)]
    pub completion_timeout_ranges: u8,
    pub completion_timeout_disable: bool,
    /// ARI Forwarding, of a port above a device: function numbers may have eight bits.
    pub ari_forwarding: bool,
    #[bits(15)]
    __: u16,
    /// TLPs may have End-End prefixes: PASIDs.
    pub end_end_tlp_prefix: bool,
    /// How many End-End prefixes; 0 stands for four.
    #[bits(2)]
    pub max_end_end_tlp_prefixes: u8,
    __: u8,
}

/// Device Control 2.
#[bitfield(u16)]
pub struct DeviceControl2 {
    /// Completion Timeout Value, see [`completion_timeout`].
    #[bits(4)]
    pub completion_timeout_value: u8,
    pub completion_timeout_disable: bool,
    pub ari_forwarding: bool,
    #[bits(10)]
    __: u16,
}

/// The Completion Timeout for a [`DeviceControl2::completion_timeout_value`]: the longest time of
/// its range (`PCIe 7.5.3.16`). A reserved value stands for the default.
pub const fn completion_timeout(value: u8) -> Duration {
    match value {
        0b0001 => Duration::from_micros(100),
        0b0010 => Duration::from_millis(10),
        0b0101 => Duration::from_millis(55),
        0b0110 => Duration::from_millis(210),
        0b1001 => Duration::from_millis(900),
        0b1010 => Duration::from_millis(3500),
        0b1101 => Duration::from_secs(13),
        0b1110 => Duration::from_secs(64),
        _ => Duration::from_millis(50),
    }
}

/// Link Capabilities 2.
#[bitfield(u32)]
pub struct LinkCapabilities2 {
    __: bool,
    #[bits(7)]
    pub speeds: u8,
    #[bits(24)]
    __: u32,
}

/// Link Control 2.
#[bitfield(u16)]
pub struct LinkControl2 {
    #[bits(4)]
    pub target_speed: u8,
    #[bits(12)]
    __: u16,
}

/// Link Status 2.
#[bitfield(u16)]
pub struct LinkStatus2 {
    /// The level of 5 GT/s.
    pub de_emphasis: bool,
    /// At 8 GT/s: bit 0 complete, bits 3:1 the phases that were successful.
    #[bits(4)]
    pub equalization: u8,
    #[bits(11)]
    __: u16,
}

register_layout!(
    Capabilities: u16, DeviceCapabilities: u32, DeviceControl: u16, DeviceStatus: u16,
    LinkCapabilities: u32, LinkControl: u16, LinkStatus: u16,
    SlotCapabilities: u32, SlotControl: u16, SlotStatus: u16,
    RootControl: u16, RootCapabilities: u16, RootStatus: u32,
    DeviceCapabilities2: u32, DeviceControl2: u16, LinkCapabilities2: u32, LinkControl2: u16,
    LinkStatus2: u16,
);
