//! Fault reasons of scalable mode, for which QEMU has other numbers than the specification: 7.2 for
//! nearly all of them, 11 for root and context tables and for the second stage.

use super::Mode;
use super::script::RECORD;
use crate::Release;

/// The double words of a fault record of ours, with the reason that QEMU has for the same fault.
///
/// `docs/differences.md` has this table, and a test for it.
pub fn as_qemu_numbers(
    words: [u32; RECORD.len()],
    mode: Mode,
    release: Release,
) -> [u32; RECORD.len()] {
    let [low, high, source, status] = words;
    let is_read = status >> 30 & 1 != 0;
    let reason = status & 0xff;
    let reason = match (mode, release) {
        (Mode::Legacy | Mode::Remapping, _) => reason,
        (Mode::Scalable | Mode::FirstStage, Release::Seven) => {
            second_stage(pasid_tables(upper_tables(reason)), is_read)
        }
        (Mode::Scalable, Release::Eleven) => second_stage(upper_tables(reason), is_read),
        (Mode::FirstStage, Release::Eleven) => upper_tables(reason),
    };
    [low, high, source, status & !0xff | reason]
}

const fn upper_tables(reason: u32) -> u32 {
    match reason {
        0x38 => 0x08,
        0x39 => 0x01,
        0x3a => 0x0a,
        0x40 => 0x09,
        0x41 => 0x02,
        0x42 => 0x0b,
        other => other,
    }
}

/// QEMU 7.2 does not tell directory from table, absent from wrong.
const fn pasid_tables(reason: u32) -> u32 {
    match reason {
        0x50..=0x5b => 0x58,
        other => other,
    }
}

const fn second_stage(reason: u32, is_read: bool) -> u32 {
    match reason {
        0x7b => 0x03,
        0x84 => 0x04,
        0x85 => 0x05,
        0x86 => 0x06,
        // No rights at all: QEMU names the one that was missing.
        0x79 if is_read => 0x06,
        0x79 => 0x05,
        0x78 => 0x07,
        0x7a => 0x0c,
        other => other,
    }
}
