//! The status of a port's link and slot, and what software commands both to do (`PCIe 6.7.3`,
//! `PCIe 7.5.3`).

use super::{Express, SPEED, WIDTH};
use crate::pcie::config::ConfigSpace;
use crate::pcie::spec::express::*;

/// An event that Slot Status latches until software clears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotEvent {
    /// ABP.
    AttentionButtonPressed,
    /// PDC.
    PresenceDetectChanged,
    /// DLLSC.
    DataLinkLayerChanged,
}

impl Express {
    /// Link Status.
    pub fn link_status(self, config: &ConfigSpace) -> LinkStatus {
        config.get(self.at + LINK_STATUS)
    }

    /// Sets in Link Status whether the link is active. A link that is down has no speed and no
    /// width.
    pub fn set_link_active(self, config: &mut ConfigSpace, active: bool) {
        let status = self
            .link_status(config)
            .with_data_link_layer_active(active)
            .with_speed(if active { SPEED } else { 0 })
            .with_width(if active { WIDTH } else { 0 });
        config.set(self.at + LINK_STATUS, status);
    }

    /// Whether Link Disable is set.
    pub fn link_disable(self, config: &ConfigSpace) -> bool {
        config.get::<LinkControl>(self.at + LINK_CONTROL).link_disable()
    }

    /// Sets or clears Link Disable, as software would.
    pub fn set_link_disable(self, config: &mut ConfigSpace, disable: bool) {
        let control = config.get::<LinkControl>(self.at + LINK_CONTROL);
        config.set(self.at + LINK_CONTROL, control.with_link_disable(disable));
    }

    /// Retrains the link if software has set Retrain Link, which then reads 0. A link that is up
    /// goes through Recovery, which sets LBMS and resets nothing (`PCIe 4.2.5`).
    pub fn take_retrain(self, config: &mut ConfigSpace) {
        let control = config.get::<LinkControl>(self.at + LINK_CONTROL);
        config.set(self.at + LINK_CONTROL, control.with_retrain(false));
        let status = self.link_status(config);
        if control.retrain() && status.data_link_layer_active() {
            config.set(self.at + LINK_STATUS, status.with_bandwidth_management(true));
        }
    }

    /// Slot Status.
    pub fn slot_status(self, config: &ConfigSpace) -> SlotStatus {
        config.get(self.at + SLOT_STATUS)
    }

    /// Sets Presence Detect State.
    pub fn set_presence(self, config: &mut ConfigSpace, present: bool) {
        let status = self.slot_status(config).with_presence_detect_state(present);
        config.set(self.at + SLOT_STATUS, status);
    }

    /// Whether the slot has an attention button.
    pub fn has_button(self, config: &ConfigSpace) -> bool {
        config.get::<SlotCapabilities>(self.at + SLOT_CAPABILITIES).attention_button()
    }

    /// Latches `event` in Slot Status.
    pub fn latch(self, config: &mut ConfigSpace, event: SlotEvent) {
        let status = self.slot_status(config);
        let status = match event {
            SlotEvent::AttentionButtonPressed => status.with_attention_button_pressed(true),
            SlotEvent::PresenceDetectChanged => status.with_presence_detect_changed(true),
            SlotEvent::DataLinkLayerChanged => status.with_data_link_layer_changed(true),
        };
        config.set(self.at + SLOT_STATUS, status);
    }

    /// Whether the hot-plug interrupt is asserted: an event is latched, and the event and the
    /// interrupt are enabled.
    pub fn hot_plug_interrupt(self, config: &ConfigSpace) -> bool {
        let control = config.get::<SlotControl>(self.at + SLOT_CONTROL);
        let status = self.slot_status(config);
        let events = control.attention_button_pressed_enable() & status.attention_button_pressed()
            | control.presence_detect_changed_enable() & status.presence_detect_changed()
            | control.data_link_layer_changed_enable() & status.data_link_layer_changed();
        control.hot_plug_interrupt_enable() && events
    }

    /// Whether the slot interrupts on `event`: both are enabled.
    pub fn interrupts_on(self, config: &ConfigSpace, event: SlotEvent) -> bool {
        let control = config.get::<SlotControl>(self.at + SLOT_CONTROL);
        let is_enabled = match event {
            SlotEvent::AttentionButtonPressed => control.attention_button_pressed_enable(),
            SlotEvent::PresenceDetectChanged => control.presence_detect_changed_enable(),
            SlotEvent::DataLinkLayerChanged => control.data_link_layer_changed_enable(),
        };
        control.hot_plug_interrupt_enable() && is_enabled
    }

    /// Whether software has powered the slot off. A slot without power controller is always on.
    pub fn is_powered_off(self, config: &ConfigSpace) -> bool {
        config.get::<SlotControl>(self.at + SLOT_CONTROL).power_off()
    }

    /// Whether software has powered the slot off, and the power indicator: the card may be removed.
    pub fn may_be_removed(self, config: &ConfigSpace) -> bool {
        let control = config.get::<SlotControl>(self.at + SLOT_CONTROL);
        control.power_off() && control.power_indicator() == INDICATOR_OFF
    }

    /// Whether errors of this severity are reported to the root port (`PCIe 7.5.3.4`).
    pub fn reports_errors(self, config: &ConfigSpace, fatal: bool) -> bool {
        let enables = config.get::<DeviceControl>(self.at + DEVICE_CONTROL).error_reporting();
        enables & if fatal { REPORT_FATAL } else { REPORT_NON_FATAL } != 0
    }
}
