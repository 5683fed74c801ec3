//! The events of a port's link and slot, the errors that it detects, and its interrupts.
//!
//! ```text
//!   link, slot ---> Link Status, Slot Status --(enables)--> hot-plug interrupt --+
//!   errors ------> AER: status --(mask)--> DPC: trigger --(enable)--------------+--> MSI
//!                        \--> error message --> root port: AER root --(enable)--+
//! ```
//!
//! The three interrupts share the port's one MSI vector. Each sends a message when it becomes
//! asserted, and no other until software has cleared its cause (`PCIe 6.7.3.4`).

use iommu::ids::Bdf;

use super::Port;
use crate::pcie::UpstreamMessage;
use crate::pcie::caps::express::SlotEvent;
use crate::pcie::link::LinkDownReasons;
use crate::pcie::spec::aer::Uncorrectable;
use crate::pcie::spec::header::{BRIDGE_CONTROL, BridgeControl};

/// The asserted interrupts of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Asserted {
    hot_plug: bool,
    error: bool,
    containment: bool,
}

/// The outcome of an error that a port has detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorOutcome {
    /// The error is logged, and not reported.
    Logged,
    /// Containment has been triggered.
    Contained,
    /// A message goes to the root port.
    Reported {
        /// `ERR_FATAL`, else `ERR_NONFATAL`.
        fatal: bool,
    },
}

impl Port {
    /// `down`, with the reasons for which software holds the link down: Link Disable, Secondary Bus
    /// Reset, slot power, containment.
    pub fn add_commanded_reasons(&self, down: LinkDownReasons) -> LinkDownReasons {
        down.with_disabled(self.express.link_disable(&self.core.config))
            .with_reset(self.secondary_bus_reset())
            .with_unpowered(self.express.is_powered_off(&self.core.config))
            .with_contained(self.dpc.is_some_and(|dpc| dpc.is_triggered(&self.core.config)))
    }

    /// Whether software holds the bus below in reset.
    pub fn secondary_bus_reset(&self) -> bool {
        self.core.config.get::<BridgeControl>(BRIDGE_CONTROL).secondary_bus_reset()
    }

    /// Whether software has powered the slot off, and the power indicator: the card may be removed.
    pub fn may_be_removed(&self) -> bool {
        self.express.may_be_removed(&self.core.config)
    }

    /// Whether the slot has an attention button.
    pub fn has_button(&self) -> bool {
        self.express.has_button(&self.core.config)
    }

    /// The attention button is pressed. Returns whether the slot has one.
    pub fn press_button(&mut self) -> bool {
        let has_button = self.has_button();
        if has_button {
            self.latch(SlotEvent::AttentionButtonPressed);
        }
        has_button
    }

    /// Sets or clears Link Disable, as software would.
    pub fn set_link_disable(&mut self, disable: bool) {
        self.express.set_link_disable(&mut self.core.config, disable);
    }

    /// Sets in Link Status whether the link is active.
    pub fn set_link_active(&mut self, active: bool) {
        self.express.set_link_active(&mut self.core.config, active);
    }

    /// Sets Presence Detect State in Slot Status.
    pub fn set_presence(&mut self, present: bool) {
        self.express.set_presence(&mut self.core.config, present);
    }

    /// Latches `event`, and interrupts if that is enabled. Returns whether it is: software that has
    /// handled all earlier events learns of this one.
    pub fn latch(&mut self, event: SlotEvent) -> bool {
        self.express.latch(&mut self.core.config, event);
        self.update_interrupts();
        self.core.is_bus_master() && self.express.interrupts_on(&self.core.config, event)
    }

    /// Whether Slot Status shows a card, and Link Status an active link.
    pub fn shows_card(&self) -> bool {
        let config = &self.core.config;
        self.express.slot_status(config).presence_detect_state()
            && self.express.link_status(config).data_link_layer_active()
    }

    /// The port has detected `error`. An error that triggers containment is not also reported
    /// (`PCIe 6.2.11`).
    pub fn detect(&mut self, error: Uncorrectable) -> ErrorOutcome {
        let Some(fatal) = self.aer.log(&mut self.core.config, error) else {
            return ErrorOutcome::Logged;
        };
        let outcome =
            if self.dpc.is_some_and(|dpc| dpc.detect(&mut self.core.config, self.core.id, fatal)) {
                ErrorOutcome::Contained
            } else if self.express.reports_errors(&self.core.config, fatal)
                || self.core.command().serr_enable()
            {
                ErrorOutcome::Reported { fatal }
            } else {
                ErrorOutcome::Logged
            };
        self.update_interrupts();
        outcome
    }

    /// Whether `error` would trigger containment.
    pub fn contains(&self, error: Uncorrectable) -> bool {
        let reported = self.aer.reports(&self.core.config, error);
        reported
            .is_some_and(|fatal| self.dpc.is_some_and(|dpc| dpc.contains(&self.core.config, fatal)))
    }

    /// A root port receives an error message of `source`.
    pub fn receive_error(&mut self, source: Bdf, fatal: bool) {
        if self.is_root {
            self.aer.receive(&mut self.core.config, source, fatal);
            self.update_interrupts();
        }
    }

    /// The next message that the port itself has sent.
    pub fn poll_message(&mut self) -> Option<UpstreamMessage> {
        self.core.poll_message()
    }

    /// Carries out what software has written to configuration space.
    pub(super) fn written(&mut self) {
        self.express.take_retrain(&mut self.core.config);
        if let Some(dpc) = self.dpc {
            dpc.take_software_trigger(&mut self.core.config, self.core.id);
        }
        self.update_interrupts();
        if self.core.is_bus_master() {
            let unmasked = self.msi.take_pending(&mut self.core.config);
            self.core.send_msi(unmasked);
        }
    }

    fn update_interrupts(&mut self) {
        let now = Asserted {
            hot_plug: self.express.hot_plug_interrupt(&self.core.config),
            error: self.is_root && self.aer.interrupt(&self.core.config),
            containment: self.dpc.is_some_and(|dpc| dpc.interrupt(&self.core.config)),
        };
        let before = std::mem::replace(&mut self.asserted, now);
        let rises = [
            now.hot_plug && !before.hot_plug,
            now.error && !before.error,
            now.containment && !before.containment,
        ];
        for _ in rises.into_iter().filter(|rises| *rises) {
            if self.core.is_bus_master() {
                let msi = self.msi.raise(&mut self.core.config);
                self.core.send_msi(msi);
            }
        }
    }
}
