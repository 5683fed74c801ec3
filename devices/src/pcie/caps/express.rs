//! The PCI Express capability, version 2 (`PCIe 7.5.3`), of an endpoint or a root port.

use bitfield_struct::bitfield;

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register, register_layout};
use crate::pcie::header::ConfigBuilder;

const ID: u8 = 0x10;
const LENGTH: u16 = 0x3c;
const CAPABILITIES: u16 = 0x02;
const DEVICE_CAPABILITIES: u16 = 0x04;
const DEVICE_CONTROL: u16 = 0x08;
const DEVICE_STATUS: u16 = 0x0a;
const LINK_CAPABILITIES: u16 = 0x0c;
const LINK_CONTROL: u16 = 0x10;
const LINK_STATUS: u16 = 0x12;
const SLOT_CAPABILITIES: u16 = 0x14;
const SLOT_CONTROL: u16 = 0x18;
const SLOT_STATUS: u16 = 0x1a;
const ROOT_CONTROL: u16 = 0x1c;
const ROOT_STATUS: u16 = 0x20;
const DEVICE_CAPABILITIES_2: u16 = 0x24;
const DEVICE_CONTROL_2: u16 = 0x28;
const LINK_CAPABILITIES_2: u16 = 0x2c;
const LINK_CONTROL_2: u16 = 0x30;

/// 8 GT/s, the third of the speeds below it.
const SPEED: u8 = 3;
const SPEEDS: u8 = 0b111;
/// Four lanes.
const WIDTH: u8 = 4;

/// PCI Express Capabilities.
#[bitfield(u16)]
struct Capabilities {
    #[bits(4)]
    version: u8,
    /// 0 endpoint, 4 root port.
    #[bits(4)]
    port_type: u8,
    slot_implemented: bool,
    #[bits(5)]
    interrupt_message_number: u8,
    #[bits(2)]
    __: u8,
}

/// Device Capabilities.
#[bitfield(u32)]
struct DeviceCapabilities {
    #[bits(15)]
    __: u16,
    role_based_error_reporting: bool,
    #[bits(12)]
    __: u16,
    function_level_reset: bool,
    #[bits(3)]
    __: u8,
}

/// Device Control.
#[bitfield(u16)]
struct DeviceControl {
    /// Correctable, non-fatal, fatal errors and Unsupported Requests are reported.
    #[bits(4)]
    error_reporting: u8,
    relaxed_ordering: bool,
    #[bits(3)]
    max_payload_size: u8,
    #[bits(3)]
    __: u8,
    no_snoop: bool,
    /// 2 stands for 512 bytes.
    #[bits(3)]
    max_read_request_size: u8,
    /// Initiate Function Level Reset, on an endpoint; reads 0.
    initiate_reset: bool,
}

/// Device Status.
#[bitfield(u16)]
struct DeviceStatus {
    /// Correctable, non-fatal, fatal errors and Unsupported Requests detected.
    #[bits(4)]
    errors: u8,
    #[bits(12)]
    __: u16,
}

/// Link Capabilities.
#[bitfield(u32)]
struct LinkCapabilities {
    #[bits(4)]
    max_speed: u8,
    #[bits(6)]
    max_width: u8,
    #[bits(10)]
    __: u16,
    data_link_layer_active_reporting: bool,
    #[bits(3)]
    __: u8,
    port_number: u8,
}

/// Link Control.
///
/// Link Disable and Retrain Link are read-only zero: this link has nothing that they could change.
#[bitfield(u16)]
struct LinkControl {
    #[bits(6)]
    __: u8,
    common_clock: bool,
    extended_synch: bool,
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
    /// LBMS and LABS, cleared by writing ones.
    #[bits(2)]
    pub bandwidth_events: u8,
}

/// Slot Capabilities.
#[bitfield(u32)]
struct SlotCapabilities {
    #[bits(5)]
    __: u8,
    hot_plug_surprise: bool,
    hot_plug_capable: bool,
    #[bits(11)]
    __: u16,
    no_command_completed: bool,
    #[bits(13)]
    slot_number: u16,
}

/// Slot Control: the enables of what this slot could report.
#[bitfield(u16)]
struct SlotControl {
    #[bits(3)]
    __: u8,
    presence_detect_changed_enable: bool,
    __: bool,
    hot_plug_interrupt_enable: bool,
    #[bits(6)]
    __: u8,
    data_link_layer_changed_enable: bool,
    #[bits(3)]
    __: u8,
}

/// Slot Status.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct SlotStatus {
    #[bits(3)]
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
struct RootControl {
    #[bits(4)]
    enables: u8,
    #[bits(12)]
    __: u16,
}

/// Root Status.
#[bitfield(u32)]
struct RootStatus {
    pme_requester: u16,
    pme: bool,
    #[bits(15)]
    __: u16,
}

/// Device Capabilities 2.
#[bitfield(u32)]
struct DeviceCapabilities2 {
    #[bits(4)]
    __: u8,
    completion_timeout_disable: bool,
    #[bits(27)]
    __: u32,
}

/// Device Control 2.
#[bitfield(u16)]
struct DeviceControl2 {
    #[bits(4)]
    __: u8,
    completion_timeout_disable: bool,
    #[bits(11)]
    __: u16,
}

/// Link Capabilities 2.
#[bitfield(u32)]
struct LinkCapabilities2 {
    __: bool,
    #[bits(7)]
    speeds: u8,
    #[bits(24)]
    __: u32,
}

/// Link Control 2.
#[bitfield(u16)]
struct LinkControl2 {
    #[bits(4)]
    target_speed: u8,
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

/// What kind of function the capability describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortType {
    /// An endpoint that can do a Function Level Reset.
    Endpoint,
    /// A root port with an occupied slot.
    RootPort {
        /// The physical slot number, which is also the port number.
        slot: u8,
    },
}

/// The PCI Express capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct Express {
    at: u16,
}

impl Express {
    /// Declares it.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(builder: &mut ConfigBuilder, port_type: PortType) -> Result<Self, Error> {
        let at = builder.capability(ID, LENGTH)?;
        let is_port = port_type != PortType::Endpoint;
        let capabilities = Capabilities::new()
            .with_version(2)
            .with_port_type(if is_port { 4 } else { 0 })
            .with_slot_implemented(is_port);
        builder.declare(at + CAPABILITIES, Register::new(capabilities));
        declare_device(builder, at, port_type);
        declare_link(builder, at, port_type);
        if let PortType::RootPort { slot } = port_type {
            declare_slot(builder, at, slot);
            declare_root(builder, at);
        }
        Ok(Self { at })
    }

    /// Whether software has initiated a Function Level Reset; only once for each.
    pub fn take_reset(self, config: &mut ConfigSpace) -> bool {
        let control = config.get::<DeviceControl>(self.at + DEVICE_CONTROL);
        config.set(self.at + DEVICE_CONTROL, control.with_initiate_reset(false));
        control.initiate_reset()
    }

    /// What the port says of its link.
    pub fn link_status(self, config: &ConfigSpace) -> LinkStatus {
        config.get(self.at + LINK_STATUS)
    }

    /// What the port says of its slot.
    pub fn slot_status(self, config: &ConfigSpace) -> SlotStatus {
        config.get(self.at + SLOT_STATUS)
    }
}

fn declare_device(builder: &mut ConfigBuilder, at: u16, port_type: PortType) {
    let is_endpoint = port_type == PortType::Endpoint;
    let capabilities = DeviceCapabilities::new()
        .with_role_based_error_reporting(true)
        .with_function_level_reset(is_endpoint);
    let control = DeviceControl::new()
        .with_relaxed_ordering(true)
        .with_no_snoop(true)
        .with_max_read_request_size(2);
    let writable = DeviceControl::new()
        .with_error_reporting(0xf)
        .with_relaxed_ordering(true)
        .with_max_payload_size(7)
        .with_no_snoop(true)
        .with_max_read_request_size(7)
        .with_initiate_reset(is_endpoint);
    // Both ends of a link must agree on it, so that a reset of one end leaves it (`PCIe 6.6.2`).
    let sticky = DeviceControl::new().with_max_payload_size(7);
    builder.declare(at + DEVICE_CAPABILITIES, Register::new(capabilities));
    builder.declare(
        at + DEVICE_CONTROL,
        Register::new(control).writable(writable).sticky(sticky),
    );
    builder.declare(
        at + DEVICE_STATUS,
        Register::new(DeviceStatus::new()).clearable(DeviceStatus::new().with_errors(0xf)),
    );
    builder.declare(
        at + DEVICE_CAPABILITIES_2,
        Register::new(DeviceCapabilities2::new().with_completion_timeout_disable(true)),
    );
    builder.declare(
        at + DEVICE_CONTROL_2,
        Register::new(DeviceControl2::new())
            .writable(DeviceControl2::new().with_completion_timeout_disable(true)),
    );
}

fn declare_link(builder: &mut ConfigBuilder, at: u16, port_type: PortType) {
    let (is_port, port_number) = match port_type {
        PortType::Endpoint => (false, 0),
        PortType::RootPort { slot } => (true, slot),
    };
    let capabilities = LinkCapabilities::new()
        .with_max_speed(SPEED)
        .with_max_width(WIDTH)
        .with_data_link_layer_active_reporting(is_port)
        .with_port_number(port_number);
    let control = LinkControl::new()
        .with_common_clock(true)
        .with_extended_synch(true);
    let status = LinkStatus::new()
        .with_speed(SPEED)
        .with_width(WIDTH)
        .with_slot_clock(true)
        .with_data_link_layer_active(is_port);
    let events = LinkStatus::new().with_bandwidth_events(if is_port { 3 } else { 0 });
    let target = LinkControl2::new().with_target_speed(SPEED);
    let targets = LinkControl2::new().with_target_speed(0xf);
    builder.declare(at + LINK_CAPABILITIES, Register::new(capabilities));
    builder.declare(
        at + LINK_CONTROL,
        Register::new(LinkControl::new())
            .writable(control)
            .sticky(control),
    );
    builder.declare(at + LINK_STATUS, Register::new(status).clearable(events));
    builder.declare(
        at + LINK_CAPABILITIES_2,
        Register::new(LinkCapabilities2::new().with_speeds(SPEEDS)),
    );
    builder.declare(
        at + LINK_CONTROL_2,
        Register::new(target).writable(targets).sticky(targets),
    );
}

fn declare_slot(builder: &mut ConfigBuilder, at: u16, slot: u8) {
    let capabilities = SlotCapabilities::new()
        .with_hot_plug_surprise(true)
        .with_hot_plug_capable(true)
        .with_no_command_completed(true)
        .with_slot_number(slot.into());
    let control = SlotControl::new()
        .with_presence_detect_changed_enable(true)
        .with_hot_plug_interrupt_enable(true)
        .with_data_link_layer_changed_enable(true);
    let events = SlotStatus::new()
        .with_presence_detect_changed(true)
        .with_data_link_layer_changed(true);
    let status = SlotStatus::new().with_presence_detect_state(true);
    builder.declare(at + SLOT_CAPABILITIES, Register::new(capabilities));
    builder.declare(
        at + SLOT_CONTROL,
        Register::new(SlotControl::new()).writable(control),
    );
    builder.declare(at + SLOT_STATUS, Register::new(status).clearable(events));
}

fn declare_root(builder: &mut ConfigBuilder, at: u16) {
    let enables = RootControl::new().with_enables(0xf);
    let pme = RootStatus::new().with_pme(true);
    builder.declare(
        at + ROOT_CONTROL,
        Register::new(RootControl::new()).writable(enables),
    );
    builder.declare(
        at + ROOT_STATUS,
        Register::new(RootStatus::new()).clearable(pme),
    );
}
