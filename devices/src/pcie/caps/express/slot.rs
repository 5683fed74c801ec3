//! The live half of a port's capability: what it says of its link and its slot, and what software
//! asks of both (`PCIe 6.7.3`, `PCIe 7.5.3`).

use super::{Express, SPEED, WIDTH};
use crate::pcie::config::ConfigSpace;
use crate::pcie::spec::express::*;

/// Something that a slot latches in Slot Status until software clears it.
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
    /// What the port says of its link.
    pub fn link_status(self, config: &ConfigSpace) -> LinkStatus {
        config.get(self.at + LINK_STATUS)
    }

    /// Says in Link Status whether the link is active. One that is not has no speed and no width.
    pub fn set_link_active(self, config: &mut ConfigSpace, active: bool) {
        let status = self
            .link_status(config)
            .with_data_link_layer_active(active)
            .with_speed(if active { SPEED } else { 0 })
            .with_width(if active { WIDTH } else { 0 });
        config.set(self.at + LINK_STATUS, status);
    }

    /// Whether software has Link Disable set.
    pub fn link_disable(self, config: &ConfigSpace) -> bool {
        config.get::<LinkControl>(self.at + LINK_CONTROL).link_disable()
    }

    /// Sets Link Disable, or clears it, as software would.
    pub fn set_link_disable(self, config: &mut ConfigSpace, disable: bool) {
        let control = config.get::<LinkControl>(self.at + LINK_CONTROL);
        config.set(self.at + LINK_CONTROL, control.with_link_disable(disable));
    }

    /// Software asks for the link to be trained anew: Retrain Link reads 0, and a link that is up
    /// comes back with LBMS set. That resets nothing (`PCIe 4.2.5`: by way of Recovery).
    pub fn take_retrain(self, config: &mut ConfigSpace) {
        let control = config.get::<LinkControl>(self.at + LINK_CONTROL);
        config.set(self.at + LINK_CONTROL, control.with_retrain(false));
        let status = self.link_status(config);
        if control.retrain() && status.data_link_layer_active() {
            config.set(self.at + LINK_STATUS, status.with_bandwidth_management(true));
        }
    }

    /// What the port says of its slot.
    pub fn slot_status(self, config: &ConfigSpace) -> SlotStatus {
        config.get(self.at + SLOT_STATUS)
    }

    /// Says in Slot Status whether there is a card.
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

    /// Whether the hot-plug interrupt is asserted: an event is latched, and both it and the
    /// interrupt are enabled.
    pub fn hot_plug_interrupt(self, config: &ConfigSpace) -> bool {
        let control = config.get::<SlotControl>(self.at + SLOT_CONTROL);
        let status = self.slot_status(config);
        let events = control.attention_button_pressed_enable() & status.attention_button_pressed()
            | control.presence_detect_changed_enable() & status.presence_detect_changed()
            | control.data_link_layer_changed_enable() & status.data_link_layer_changed();
        control.hot_plug_interrupt_enable() && events
    }

    /// Whether software has taken the power from the slot. A slot without power controller has it
    /// always.
    pub fn is_powered_off(self, config: &ConfigSpace) -> bool {
        config.get::<SlotControl>(self.at + SLOT_CONTROL).power_off()
    }

    /// Whether software has also turned the power indicator off: the card may be pulled out.
    pub fn may_be_pulled(self, config: &ConfigSpace) -> bool {
        let control = config.get::<SlotControl>(self.at + SLOT_CONTROL);
        control.power_off() && control.power_indicator() == INDICATOR_OFF
    }

    /// Whether errors of the severity are reported up (`PCIe 7.5.3.4`).
    pub fn reports_errors(self, config: &ConfigSpace, fatal: bool) -> bool {
        let enables = config.get::<DeviceControl>(self.at + DEVICE_CONTROL).error_reporting();
        enables & if fatal { REPORT_FATAL } else { REPORT_NON_FATAL } != 0
    }
}
