//! The registers of the PCI Express capability, bit by bit (`PCIe 7.5.3`). Bits that nothing here
//! uses are left out: they read as zero.

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// PCI Express Capabilities.
#[bitfield(u16)]
pub(super) struct Capabilities {
    #[bits(4)]
    pub(super) version: u8,
    /// 0 endpoint, 4 root port, 5 and 6 the ports of a switch.
    #[bits(4)]
    pub(super) port_type: u8,
    pub(super) slot_implemented: bool,
    #[bits(5)]
    pub(super) interrupt_message_number: u8,
    #[bits(2)]
    __: u8,
}

/// Device Capabilities.
#[bitfield(u32)]
pub(super) struct DeviceCapabilities {
    #[bits(15)]
    __: u16,
    pub(super) role_based_error_reporting: bool,
    #[bits(12)]
    __: u16,
    pub(super) function_level_reset: bool,
    #[bits(3)]
    __: u8,
}

/// Device Control.
#[bitfield(u16)]
pub(super) struct DeviceControl {
    /// Correctable, non-fatal, fatal errors and Unsupported Requests are reported.
    #[bits(4)]
    pub(super) error_reporting: u8,
    pub(super) relaxed_ordering: bool,
    #[bits(3)]
    pub(super) max_payload_size: u8,
    #[bits(3)]
    __: u8,
    pub(super) no_snoop: bool,
    /// 2 stands for 512 bytes.
    #[bits(3)]
    pub(super) max_read_request_size: u8,
    /// Initiate Function Level Reset, on an endpoint; reads 0.
    pub(super) initiate_reset: bool,
}

/// Device Status.
#[bitfield(u16)]
pub(super) struct DeviceStatus {
    /// Correctable, non-fatal, fatal errors and Unsupported Requests detected.
    #[bits(4)]
    pub(super) errors: u8,
    #[bits(12)]
    __: u16,
}

/// Link Capabilities.
#[bitfield(u32)]
pub(super) struct LinkCapabilities {
    #[bits(4)]
    pub(super) max_speed: u8,
    #[bits(6)]
    pub(super) max_width: u8,
    #[bits(9)]
    __: u16,
    /// A Surprise Down error can be detected, and logged in AER.
    pub(super) surprise_down_reporting: bool,
    pub(super) data_link_layer_active_reporting: bool,
    #[bits(3)]
    __: u8,
    pub(super) port_number: u8,
}

/// Link Control.
#[bitfield(u16)]
pub(super) struct LinkControl {
    #[bits(4)]
    __: u8,
    /// Takes the link down while it is set.
    pub(super) link_disable: bool,
    /// Reads 0.
    pub(super) retrain: bool,
    pub(super) common_clock: bool,
    pub(super) extended_synch: bool,
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
    /// Both ends share a reference clock.
    pub slot_clock: bool,
    /// DLLLA: the data link layer is up.
    pub data_link_layer_active: bool,
    /// LBMS, cleared by writing one: the link has been trained anew because software asked for it.
    pub bandwidth_management: bool,
    /// LABS, cleared by writing one.
    pub autonomous_bandwidth: bool,
}

/// Slot Capabilities.
#[bitfield(u32)]
pub(super) struct SlotCapabilities {
    pub(super) attention_button: bool,
    pub(super) power_controller: bool,
    __: bool,
    pub(super) attention_indicator: bool,
    pub(super) power_indicator: bool,
    pub(super) hot_plug_surprise: bool,
    pub(super) hot_plug_capable: bool,
    #[bits(11)]
    __: u16,
    pub(super) no_command_completed: bool,
    #[bits(13)]
    pub(super) slot_number: u16,
}

/// Slot Control.
#[bitfield(u16)]
pub(super) struct SlotControl {
    pub(super) attention_button_pressed_enable: bool,
    #[bits(2)]
    __: u8,
    pub(super) presence_detect_changed_enable: bool,
    __: bool,
    pub(super) hot_plug_interrupt_enable: bool,
    #[bits(2)]
    pub(super) attention_indicator: u8,
    /// 1 on, 2 blinking, 3 off.
    #[bits(2)]
    pub(super) power_indicator: u8,
    /// The slot has no power.
    pub(super) power_off: bool,
    __: bool,
    pub(super) data_link_layer_changed_enable: bool,
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
pub(super) struct RootControl {
    #[bits(4)]
    pub(super) enables: u8,
    #[bits(12)]
    __: u16,
}

/// Root Status.
#[bitfield(u32)]
pub(super) struct RootStatus {
    pub(super) pme_requester: u16,
    pub(super) pme: bool,
    #[bits(15)]
    __: u16,
}

/// Device Capabilities 2.
#[bitfield(u32)]
pub(super) struct DeviceCapabilities2 {
    #[bits(4)]
    __: u8,
    pub(super) completion_timeout_disable: bool,
    /// Of a port above a device: function numbers may have eight bits.
    pub(super) ari_forwarding: bool,
    #[bits(15)]
    __: u16,
    /// TLPs may have End-End prefixes: PASIDs.
    pub(super) end_end_tlp_prefix: bool,
    /// How many, 0 for four.
    #[bits(2)]
    pub(super) max_end_end_tlp_prefixes: u8,
    __: u8,
}

/// Device Control 2.
#[bitfield(u16)]
pub(super) struct DeviceControl2 {
    #[bits(4)]
    __: u8,
    pub(super) completion_timeout_disable: bool,
    pub(super) ari_forwarding: bool,
    #[bits(10)]
    __: u16,
}

/// Link Capabilities 2.
#[bitfield(u32)]
pub(super) struct LinkCapabilities2 {
    __: bool,
    #[bits(7)]
    pub(super) speeds: u8,
    #[bits(24)]
    __: u32,
}

/// Link Control 2.
#[bitfield(u16)]
pub(super) struct LinkControl2 {
    #[bits(4)]
    pub(super) target_speed: u8,
    #[bits(12)]
    __: u16,
}

register_layout!(
    Capabilities: u16, DeviceCapabilities: u32, DeviceControl: u16, DeviceStatus: u16,
    LinkCapabilities: u32, LinkControl: u16, LinkStatus: u16,
    SlotCapabilities: u32, SlotControl: u16, SlotStatus: u16,
    RootControl: u16, RootStatus: u32,
    DeviceCapabilities2: u32, DeviceControl2: u16, LinkCapabilities2: u32, LinkControl2: u16,
);
