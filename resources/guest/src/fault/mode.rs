//! What each fault looks like from here: the table of `docs/failure-modes.md`, as this program expects
//! to see it.

use super::port::{BUTTON_PRESSED, LINK_CHANGED, PRESENCE_CHANGED, PRESENT};
use crate::vtd::Outcome;

/// What there is to be seen while a fault lasts.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its name on the command line.
    pub name: &'static str,
    /// Configuration space and registers answer, and DMA arrives.
    pub answers: bool,
    /// Link Status says active.
    pub active: bool,
    /// Slot Status.
    pub slot: u16,
    /// The port interrupts.
    pub interrupts: bool,
    /// AER's Uncorrectable Error Status of the port.
    pub errors: u32,
    /// How a flush of the device's ATC ends.
    pub flush: Outcome,
    /// How the fault ends.
    pub end: End,
}

/// How a fault ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself (`for=` of the fault), and the device has been reset.
    Reset,
    /// By itself, and the device has noticed nothing.
    Kept,
    /// This program clears Link Disable.
    ClearLinkDisable,
    /// This program clears DPC Trigger Status.
    Release,
    /// This program powers the slot down; later there is a card again, and it powers it up.
    PowerCycle,
}

const DATA_LINK_PROTOCOL: u32 = 1 << 4;
const SURPRISE_DOWN: u32 = 1 << 5;

const GONE: Row = Row {
    name: "ghost",
    answers: false,
    active: true,
    slot: PRESENT,
    interrupts: false,
    errors: 0,
    flush: Outcome::TimedOut,
    end: End::Reset,
};

const MUTE: Row =
    Row { name: "hang", answers: true, flush: Outcome::Stalled, end: End::Kept, ..GONE };

/// All faults of a port, in no order that matters.
const ROWS: [Row; 14] = [
    GONE,
    Row { name: "silent", active: false, ..GONE },
    Row { name: "flap", active: false, ..GONE },
    Row { name: "flap-keep", active: false, end: End::Kept, ..GONE },
    Row {
        name: "disable",
        active: false,
        slot: PRESENT | LINK_CHANGED,
        interrupts: true,
        end: End::ClearLinkDisable,
        ..GONE
    },
    Row {
        name: "surprise",
        active: false,
        slot: PRESENCE_CHANGED | LINK_CHANGED,
        interrupts: true,
        ..GONE
    },
    Row {
        name: "safe",
        answers: true,
        slot: PRESENT | BUTTON_PRESSED,
        interrupts: true,
        flush: Outcome::Completed,
        end: End::PowerCycle,
        ..GONE
    },
    Row {
        name: "dpc",
        active: false,
        slot: PRESENT | LINK_CHANGED,
        interrupts: true,
        errors: DATA_LINK_PROTOCOL,
        end: End::Release,
        ..GONE
    },
    Row { name: "aer", active: false, interrupts: true, errors: SURPRISE_DOWN, ..GONE },
    MUTE,
    Row { name: "lossy", ..MUTE },
    Row { name: "late", ..MUTE },
    Row { name: "slow", flush: Outcome::Completed, ..MUTE },
    Row { name: "dup", flush: Outcome::Completed, ..MUTE },
];

/// The row with that name.
pub fn find(name: &str) -> Option<&'static Row> {
    const { &ROWS }.iter().find(|row| row.name == name)
}
