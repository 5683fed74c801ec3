//! The driver of a port: link, slot, errors, and the port's interrupt.

use crate::machine::time::{Ticks, poll};
use crate::machine::{apic, interrupts};
use crate::pci::Bdf;
use crate::pci::config::{
    self, CAPABILITY_EXPRESS, CAPABILITY_MSI, EXTENDED_AER, EXTENDED_DPC, register,
};
use crate::pci::enumerate::{Functions, is_bridge};

const DEVICE_CONTROL: u16 = 0x08;
const LINK_CONTROL: u16 = 0x10;
const LINK_STATUS: u16 = 0x12;
const SLOT_CONTROL: u16 = 0x18;
const SLOT_STATUS: u16 = 0x1a;

const LINK_DISABLE: u16 = 1 << 4;
const LINK_ACTIVE: u16 = 1 << 13;

/// Slot Status: the attention button was pressed.
pub const BUTTON_PRESSED: u16 = 1 << 0;
/// Slot Status: a card came or went.
pub const PRESENCE_CHANGED: u16 = 1 << 3;
/// Slot Status: a card is in the slot (Presence Detect State).
pub const PRESENT: u16 = 1 << 6;
/// Slot Status: the link came up or went down.
pub const LINK_CHANGED: u16 = 1 << 8;
const EVENTS: u16 = BUTTON_PRESSED | PRESENCE_CHANGED | LINK_CHANGED;

const POWER_OFF: u16 = 1 << 10;
const POWER_INDICATOR_OFF: u16 = 3 << 8;
const POWER_INDICATOR_ON: u16 = 1 << 8;
const POWER_INDICATOR: u16 = 3 << 8;

/// A port with a slot.
#[derive(Clone, Copy)]
pub struct Port {
    bdf: Bdf,
    express: u16,
    aer: Option<u16>,
    dpc: Option<u16>,
}

impl Port {
    /// Opens the port above `function`, see [`Port::open`].
    pub fn above(functions: &Functions, function: Bdf, contain: bool) -> Option<Self> {
        let leads_there = |bridge: Bdf| {
            let numbers = config::read32(bridge, register::BUS_NUMBERS);
            is_bridge(bridge) && (numbers >> 8) as u8 == function.bus()
        };
        let mut found = functions.iter().map(|function| function.bdf);
        found.find(|bdf| leads_there(*bdf)).and_then(|bdf| Self::open(bdf, contain))
    }

    /// Enables all interrupts of a port, and with `contain` also DPC. `None` if it lacks a
    /// capability.
    pub fn open(bdf: Bdf, contain: bool) -> Option<Self> {
        const HOT_PLUG: u16 = 1 << 12 | 1 << 5 | 1 << 3 | 1 << 0;
        const REPORT_ERRORS: u16 = 0xf;
        const ROOT_COMMAND: u16 = 0x2c;
        const CONTAIN_FATAL: u16 = 1 << 0;
        const INTERRUPT: u16 = 1 << 3;
        let express = config::capability(bdf, CAPABILITY_EXPRESS)?;
        let msi = config::capability(bdf, CAPABILITY_MSI)?;
        let aer = config::extended_capability(bdf, EXTENDED_AER);
        let dpc = config::extended_capability(bdf, EXTENDED_DPC);
        let (address, data) = apic::message(interrupts::PORT);
        config::write32(bdf, msi + 4, address);
        config::write32(bdf, msi + 8, 0);
        config::write16(bdf, msi + 12, data as u16);
        config::write16(bdf, msi + 2, config::read16(bdf, msi + 2) | 1);
        let port = Self { bdf, express, aer, dpc };
        port.acknowledge();
        port.set_slot(|control| control | HOT_PLUG);
        config::write16(bdf, express + DEVICE_CONTROL, REPORT_ERRORS);
        if let Some(aer) = aer {
            config::write32(bdf, aer + ROOT_COMMAND, 7);
        }
        if let (Some(dpc), true) = (dpc, contain) {
            config::write16(bdf, dpc + 6, CONTAIN_FATAL | INTERRUPT);
        }
        Some(port)
    }

    /// Whether Link Status has Data Link Layer Link Active.
    pub fn link_is_active(&self) -> bool {
        config::read16(self.bdf, self.express + LINK_STATUS) & LINK_ACTIVE != 0
    }

    /// Slot Status: Presence Detect State, and the events.
    pub fn slot(&self) -> u16 {
        config::read16(self.bdf, self.express + SLOT_STATUS) & (EVENTS | PRESENT)
    }

    /// Clears the slot's events.
    pub fn acknowledge(&self) {
        config::write16(self.bdf, self.express + SLOT_STATUS, EVENTS);
    }

    /// Sets Link Disable, or clears it.
    pub fn disable_link(&self, disable: bool) {
        let control = config::read16(self.bdf, self.express + LINK_CONTROL);
        let kept = control & !LINK_DISABLE;
        let value = if disable { kept | LINK_DISABLE } else { kept };
        config::write16(self.bdf, self.express + LINK_CONTROL, value);
    }

    /// Switches the slot's power and its power indicator. With both off the card may be pulled out.
    pub fn power(&self, on: bool) {
        if on {
            self.set_slot(|control| control & !POWER_OFF);
            self.set_slot(|control| control & !POWER_INDICATOR | POWER_INDICATOR_ON);
        } else {
            self.set_slot(|control| control | POWER_OFF);
            self.set_slot(|control| control | POWER_INDICATOR_OFF);
        }
    }

    /// Waits for a card in the slot without power, and switches the power on. False after `limit`.
    pub fn take_new_card(&self, limit: Ticks) -> bool {
        self.acknowledge();
        let inserted = poll(limit, || self.slot() & PRESENT != 0);
        self.acknowledge();
        self.power(true);
        inserted
    }

    /// The port's Uncorrectable Error Status; 0 without AER.
    pub fn errors(&self) -> u32 {
        self.aer.map_or(0, |aer| config::read32(self.bdf, aer + 4))
    }

    /// Whether DPC Trigger Status is set.
    pub fn is_contained(&self) -> bool {
        self.dpc.is_some_and(|dpc| config::read16(self.bdf, dpc + 8) & 1 != 0)
    }

    /// Clears DPC Trigger Status, which ends the containment.
    pub fn release(&self) {
        const TRIGGER_AND_INTERRUPT: u16 = 0b1001;
        if let Some(dpc) = self.dpc {
            config::write16(self.bdf, dpc + 8, TRIGGER_AND_INTERRUPT);
        }
    }

    fn set_slot(&self, change: impl FnOnce(u16) -> u16) {
        let control = config::read16(self.bdf, self.express + SLOT_CONTROL);
        config::write16(self.bdf, self.express + SLOT_CONTROL, change(control));
    }
}
