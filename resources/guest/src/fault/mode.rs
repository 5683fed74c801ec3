//! The table of `docs/failure-modes.md`, as this program checks it.

use super::port::{BUTTON_PRESSED, LINK_CHANGED, PRESENCE_CHANGED, PRESENT};
use crate::vtd::Outcome;

/// The state that software sees while a fault lasts.
#[derive(Clone, Copy)]
pub struct Row {
    /// The name of the fault on the command line.
    pub name: &'static str,
    /// Whether configuration space and registers answer, and DMA arrives.
    pub answers: bool,
    /// Whether Link Status has Data Link Layer Link Active.
    pub active: bool,
    /// The bits of Slot Status.
    pub slot: u16,
    /// Whether the port sends an interrupt.
    pub interrupts: bool,
    /// The port's Uncorrectable Error Status in AER.
    pub errors: u32,
    /// The outcome of a flush of the device's ATC.
    pub flush: Outcome,
    /// The end of the fault.
    pub end: End,
}

/// The end of a fault.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The fault ends by itself (`for=`), and the device has been reset.
    Reset,
    /// The fault ends by itself, and the device keeps its state.
    Kept,
    /// This program clears Link Disable.
    ClearLinkDisable,
    /// This program clears DPC Trigger Status.
    Release,
    /// This program powers the slot down, waits for a new card, and powers it up.
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

/// The device is present, and answers no invalidation.
const NO_COMPLETION: Row =
    Row { name: "no-completion", answers: true, flush: Outcome::Stalled, end: End::Kept, ..GONE };

/// All faults of a port.
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
    NO_COMPLETION,
    Row { name: "lossy", ..NO_COMPLETION },
    Row { name: "late", ..NO_COMPLETION },
    Row { name: "slow", flush: Outcome::Completed, ..NO_COMPLETION },
    Row { name: "dup", flush: Outcome::Completed, ..NO_COMPLETION },
];

/// The row of a fault, by its name of today or an earlier one.
pub fn find(name: &str) -> Option<&'static Row> {
    let name = if name == "hang" { "no-completion" } else { name };
    const { &ROWS }.iter().find(|row| row.name == name)
}
