//! The PCI Express capability, version 2 (`PCIe 7.5.3`), of an endpoint or a root port.

mod layout;

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use layout::*;
pub use layout::{LinkStatus, SlotStatus};

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
    /// The upper port of a switch.
    UpstreamPort,
    /// A lower port of a switch, with an occupied slot.
    DownstreamPort {
        /// The physical slot number, which is also the port number.
        slot: u8,
    },
}

impl PortType {
    /// The Device/Port Type field.
    fn code(self) -> u8 {
        match self {
            Self::Endpoint => 0,
            Self::RootPort { .. } => 4,
            Self::UpstreamPort => 5,
            Self::DownstreamPort { .. } => 6,
        }
    }

    /// The slot below it.
    fn slot(self) -> Option<u8> {
        match self {
            Self::RootPort { slot } | Self::DownstreamPort { slot } => Some(slot),
            Self::Endpoint | Self::UpstreamPort => None,
        }
    }
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
        let capabilities = Capabilities::new()
            .with_version(2)
            .with_port_type(port_type.code())
            .with_slot_implemented(port_type.slot().is_some());
        builder.declare(at + CAPABILITIES, Register::new(capabilities));
        declare_device(builder, at, port_type);
        declare_link(builder, at, port_type);
        if let Some(slot) = port_type.slot() {
            declare_slot(builder, at, slot);
        }
        if matches!(port_type, PortType::RootPort { .. }) {
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
    builder.declare(at + DEVICE_CONTROL, Register::new(control).writable(writable).sticky(sticky));
    builder.declare(
        at + DEVICE_STATUS,
        Register::new(DeviceStatus::new()).clearable(DeviceStatus::new().with_errors(0xf)),
    );
    builder.declare(
        at + DEVICE_CAPABILITIES_2,
        Register::new(
            DeviceCapabilities2::new()
                .with_completion_timeout_disable(true)
                .with_end_end_tlp_prefix(true)
                .with_max_end_end_tlp_prefixes(1),
        ),
    );
    builder.declare(
        at + DEVICE_CONTROL_2,
        Register::new(DeviceControl2::new())
            .writable(DeviceControl2::new().with_completion_timeout_disable(true)),
    );
}

fn declare_link(builder: &mut ConfigBuilder, at: u16, port_type: PortType) {
    let (is_port, port_number) = (port_type.slot().is_some(), port_type.slot().unwrap_or(0));
    let capabilities = LinkCapabilities::new()
        .with_max_speed(SPEED)
        .with_max_width(WIDTH)
        .with_data_link_layer_active_reporting(is_port)
        .with_port_number(port_number);
    let control = LinkControl::new().with_common_clock(true).with_extended_synch(true);
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
        Register::new(LinkControl::new()).writable(control).sticky(control),
    );
    builder.declare(at + LINK_STATUS, Register::new(status).clearable(events));
    builder.declare(
        at + LINK_CAPABILITIES_2,
        Register::new(LinkCapabilities2::new().with_speeds(SPEEDS)),
    );
    builder.declare(at + LINK_CONTROL_2, Register::new(target).writable(targets).sticky(targets));
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
    let events =
        SlotStatus::new().with_presence_detect_changed(true).with_data_link_layer_changed(true);
    let status = SlotStatus::new().with_presence_detect_state(true);
    builder.declare(at + SLOT_CAPABILITIES, Register::new(capabilities));
    builder.declare(at + SLOT_CONTROL, Register::new(SlotControl::new()).writable(control));
    builder.declare(at + SLOT_STATUS, Register::new(status).clearable(events));
}

fn declare_root(builder: &mut ConfigBuilder, at: u16) {
    let enables = RootControl::new().with_enables(0xf);
    let pme = RootStatus::new().with_pme(true);
    builder.declare(at + ROOT_CONTROL, Register::new(RootControl::new()).writable(enables));
    builder.declare(at + ROOT_STATUS, Register::new(RootStatus::new()).clearable(pme));
}
