//! Fault reasons of scalable mode, for which QEMU 7.2 mostly uses the numbers of legacy mode.

use super::script::RECORD;

/// The double words of a fault record of ours, with the reason that QEMU has for the same fault.
///
/// `docs/differences.md` has this table, and a test for it.
pub fn as_qemu_numbers(words: [u32; RECORD.len()]) -> [u32; RECORD.len()] {
    let [low, high, source, status] = words;
    let is_read = status >> 30 & 1 != 0;
    let reason = match status & 0xff {
        0x38 => 0x08,
        0x39 => 0x01,
        0x3a => 0x0a,
        0x40 => 0x09,
        0x41 => 0x02,
        0x42 => 0x0b,
        // QEMU does not tell directory from table, absent from wrong.
        0x50..=0x5b => 0x58,
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
    };
    [low, high, source, status & !0xff | reason]
}
