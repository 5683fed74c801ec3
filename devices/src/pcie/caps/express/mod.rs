//! The PCI Express capability, version 2 (`PCIe 7.5.3`), of an endpoint or a root port.

mod slot;

use serde::Deserialize;

use std::time::Duration;

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::express::*;
pub use slot::SlotEvent;

/// 8 GT/s, the third of the speeds below it.
const SPEED: u8 = 3;
const SPEEDS: u8 = 0b111;
/// Four lanes.
pub(super) const WIDTH: u8 = 4;

/// The hot-plug features of a slot (`PCIe 6.7`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HotPlug {
    /// The slot is not hot-plug capable: it reports no event.
    None,
    /// Cards are removed by surprise.
    #[default]
    Surprise,
    /// As [`HotPlug::Surprise`], with an attention button, indicators and a power controller.
    Button,
}

/// A slot below a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Physical Slot Number, which is also the Port Number.
    pub number: u8,
    /// Its hot-plug features.
    pub hot_plug: HotPlug,
}

/// The Device/Port Type of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortType {
    /// An endpoint that supports Function Level Reset.
    Endpoint,
    /// A root port with an occupied slot.
    RootPort(Slot),
    /// The upstream port of a switch.
    UpstreamPort,
    /// A downstream port of a switch, with an occupied slot.
    DownstreamPort(Slot),
}

impl PortType {
    /// The Device/Port Type field.
    fn code(self) -> u8 {
        match self {
            Self::Endpoint => 0,
            Self::RootPort(_) => 4,
            Self::UpstreamPort => 5,
            Self::DownstreamPort(_) => 6,
        }
    }

    /// The slot of a root port or a downstream port.
    pub fn slot(self) -> Option<Slot> {
        match self {
            Self::RootPort(slot) | Self::DownstreamPort(slot) => Some(slot),
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
    /// Declares the capability.
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
        if matches!(port_type, PortType::RootPort(_)) {
            declare_root(builder, at);
        }
        Ok(Self { at })
    }

    /// Whether software has initiated a Function Level Reset. The bit then reads 0.
    pub fn take_reset(self, config: &mut ConfigSpace) -> bool {
        let control = config.get::<DeviceControl>(self.at + DEVICE_CONTROL);
        config.set(self.at + DEVICE_CONTROL, control.with_initiate_reset(false));
        control.initiate_reset()
    }

    /// Device Status shows that an uncorrectable error was detected.
    pub fn note_error(self, config: &mut ConfigSpace, fatal: bool) {
        let status = config.get::<DeviceStatus>(self.at + DEVICE_STATUS);
        let detected = if fatal { REPORT_FATAL } else { REPORT_NON_FATAL };
        let errors = status.errors() | detected;
        config.set(self.at + DEVICE_STATUS, status.with_errors(errors));
    }

    /// Whether ARI Forwarding is enabled: requests for device numbers other than 0 also go down the
    /// link, as function numbers from 8 up (`PCIe 6.13`).
    pub fn forwards_ari(self, config: &ConfigSpace) -> bool {
        config.get::<DeviceControl2>(self.at + DEVICE_CONTROL_2).ari_forwarding()
    }

    /// The time after which the function gives a request up that is not answered; `None` with
    /// Completion Timeout Disable. A virtual function has that of its physical one.
    pub fn completion_timeout(self, config: &ConfigSpace) -> Option<Duration> {
        let control = config.get::<DeviceControl2>(self.at + DEVICE_CONTROL_2);
        let value = control.completion_timeout_value();
        (!control.completion_timeout_disable()).then(|| completion_timeout(value))
    }

    /// Device Status shows whether requests are not completed.
    pub fn set_pending(self, config: &mut ConfigSpace, pending: bool) {
        let status = config.get::<DeviceStatus>(self.at + DEVICE_STATUS);
        config.set(self.at + DEVICE_STATUS, status.with_transactions_pending(pending));
    }

    /// Whether a root port shows Request Retry Status to software.
    pub fn shows_rrs(self, config: &ConfigSpace) -> bool {
        config.get::<RootControl>(self.at + ROOT_CONTROL).rrs_visibility()
    }
}

fn declare_device(builder: &mut ConfigBuilder, at: u16, port_type: PortType) {
    let is_endpoint = port_type == PortType::Endpoint;
    let is_above_device = port_type.slot().is_some();
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
    let kept = DeviceControl::new().with_max_payload_size(7);
    builder.declare(at + DEVICE_CAPABILITIES, Register::new(capabilities));
    builder.declare(at + DEVICE_CONTROL, Register::new(control).writable(writable).kept(kept));
    builder.declare(
        at + DEVICE_STATUS,
        Register::new(DeviceStatus::new()).clearable(DeviceStatus::new().with_errors(0xf)),
    );
    builder.declare(
        at + DEVICE_CAPABILITIES_2,
        Register::new(
            DeviceCapabilities2::new()
                .with_completion_timeout_ranges(if is_endpoint { 0b1111 } else { 0 })
                .with_completion_timeout_disable(true)
                .with_ari_forwarding(is_above_device)
                .with_end_end_tlp_prefix(true)
                .with_max_end_end_tlp_prefixes(1),
        ),
    );
    // The setting of a physical function is that of its virtual ones (PCIe 9.3.5).
    let has_time_out = !builder.is_virtual();
    let writable = DeviceControl2::new()
        .with_completion_timeout_value(if is_endpoint && has_time_out { 0xf } else { 0 })
        .with_completion_timeout_disable(has_time_out)
        .with_ari_forwarding(is_above_device);
    builder.declare(at + DEVICE_CONTROL_2, Register::new(DeviceControl2::new()).writable(writable));
}

fn declare_link(builder: &mut ConfigBuilder, at: u16, port_type: PortType) {
    let slot = port_type.slot();
    let is_port = slot.is_some();
    let capabilities = LinkCapabilities::new()
        .with_max_speed(SPEED)
        .with_max_width(WIDTH)
        .with_surprise_down_reporting(is_port)
        .with_data_link_layer_active_reporting(is_port)
        .with_port_number(slot.map_or(0, |slot| slot.number));
    let control = LinkControl::new().with_common_clock(true).with_extended_synch(true);
    let commands = LinkControl::new().with_link_disable(is_port).with_retrain(is_port);
    let writable = LinkControl::from_bits(control.into_bits() | commands.into_bits());
    let status = LinkStatus::new()
        .with_speed(SPEED)
        .with_width(WIDTH)
        .with_slot_clock(true)
        .with_data_link_layer_active(is_port);
    let events =
        LinkStatus::new().with_bandwidth_management(is_port).with_autonomous_bandwidth(is_port);
    let target = LinkControl2::new().with_target_speed(SPEED);
    let targets = LinkControl2::new().with_target_speed(0xf);
    builder.declare(at + LINK_CAPABILITIES, Register::new(capabilities));
    builder.declare(
        at + LINK_CONTROL,
        Register::new(LinkControl::new()).writable(writable).kept(control),
    );
    builder.declare(at + LINK_STATUS, Register::new(status).clearable(events));
    builder.declare(
        at + LINK_CAPABILITIES_2,
        Register::new(LinkCapabilities2::new().with_speeds(SPEEDS)),
    );
    builder.declare(at + LINK_CONTROL_2, Register::new(target).writable(targets).sticky(targets));
    // The lanes have been equalized when the link came up, in all three phases.
    let equalized = LinkStatus2::new().with_equalization(0xf);
    builder.declare(at + LINK_STATUS_2, Register::new(equalized));
}

fn declare_slot(builder: &mut ConfigBuilder, at: u16, slot: Slot) {
    let (hot_plug, button) = (slot.hot_plug != HotPlug::None, slot.hot_plug == HotPlug::Button);
    let capabilities = SlotCapabilities::new()
        .with_attention_button(button)
        .with_power_controller(button)
        .with_attention_indicator(button)
        .with_power_indicator(button)
        .with_hot_plug_surprise(hot_plug)
        .with_hot_plug_capable(hot_plug)
        .with_no_command_completed(hot_plug)
        .with_slot_number(slot.number.into());
    let control = SlotControl::new()
        .with_attention_button_pressed_enable(button)
        .with_presence_detect_changed_enable(hot_plug)
        .with_hot_plug_interrupt_enable(hot_plug)
        .with_attention_indicator(if button { 3 } else { 0 })
        .with_power_indicator(if button { 3 } else { 0 })
        .with_power_off(button)
        .with_data_link_layer_changed_enable(hot_plug);
    // The slot has a card, and power.
    let reset = SlotControl::new()
        .with_attention_indicator(if button { INDICATOR_OFF } else { 0 })
        .with_power_indicator(if button { INDICATOR_ON } else { 0 });
    let events = SlotStatus::new()
        .with_attention_button_pressed(button)
        .with_presence_detect_changed(true)
        .with_data_link_layer_changed(true);
    let status = SlotStatus::new().with_presence_detect_state(true);
    builder.declare(at + SLOT_CAPABILITIES, Register::new(capabilities));
    builder.declare(at + SLOT_CONTROL, Register::new(reset).writable(control));
    builder.declare(at + SLOT_STATUS, Register::new(status).clearable(events));
}

fn declare_root(builder: &mut ConfigBuilder, at: u16) {
    let enables = RootControl::new().with_enables(0xf).with_rrs_visibility(true);
    let capabilities = RootCapabilities::new().with_rrs_visibility(true);
    builder.declare(at + ROOT_CAPABILITIES, Register::new(capabilities));
    let pme = RootStatus::new().with_pme(true);
    builder.declare(at + ROOT_CONTROL, Register::new(RootControl::new()).writable(enables));
    builder.declare(at + ROOT_STATUS, Register::new(RootStatus::new()).clearable(pme));
}
