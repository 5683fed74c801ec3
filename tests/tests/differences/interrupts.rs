//! Differences of interrupt remapping.

use super::*;

/// Enables interrupt remapping with 16 entries, and writes the first one.
fn remap(group: &mut Group, (low, high): (u64, u64)) {
    group.poke(INTERRUPTS, low).poke(INTERRUPTS + 8, high).set_quad(0xb8, INTERRUPTS | 3);
    group.set(0x18, 1 << 24).set(0x18, 1 << 25);
}

/// Lets the first edu send a message.
fn send(group: &mut Group, address: u32, data: u32) {
    for (register, value) in [(0x44, address), (0x48, 0), (0x4c, data), (0x40, 0x0081_0005)] {
        group.step(Step::Config(EDU_DEVICE, register, value));
    }
    group.step(Step::WriteLong(edu_bar(0) + 0x60, 1)).step(Step::WriteLong(edu_bar(0) + 0x64, 1));
}

#[test]
fn interrupt_faults() {
    differ(
        Mode::Remapping,
        |group| {
            remap(group, (0, 0));
            send(group, 0xfee0_0010, 0);
            group.check(FSTS, u32::MAX);
        },
        value(FAULT),
        value(by_release(0, FAULT)),
    );
}

#[test]
fn compatibility_format() {
    differ(
        Mode::Remapping,
        |group| {
            remap(group, (0, 0));
            send(group, 0xfee0_0000, 0x41);
            group.step(Step::Settle);
        },
        Observed::Messages(vec![]),
        Observed::Messages(vec![(0xfee0_0000, 0x41)]),
    );
}

#[test]
fn interrupt_entries_are_cached() {
    differ(
        Mode::Remapping,
        |group| {
            remap(group, (1 | 0x41 << 16, 0));
            send(group, 0xfee0_0010, 0);
            group.step(Step::Settle).poke(INTERRUPTS, 1 | 0x42 << 16);
            send(group, 0xfee0_0010, 0);
            group.step(Step::Settle);
        },
        Observed::Messages(vec![(0xfee0_0000, 0x4041)]),
        Observed::Messages(vec![(0xfee0_0000, 0x4042)]),
    );
}

/// Asserts the messages that come of an interrupt remapped by an entry with one more bit.
fn message_with(bit: u64, ours: Observed, qemu: Observed) {
    differ(
        Mode::Remapping,
        |group| {
            remap(group, (1 | 0x41 << 16 | bit, 0));
            send(group, 0xfee0_0010, 0);
            group.step(Step::Settle);
        },
        ours,
        qemu,
    );
}

#[test]
fn posted_entries_without_the_capability() {
    let passed = Observed::Messages(vec![(0xfee0_0000, 0x4041)]);
    message_with(1 << 15, Observed::Messages(vec![]), passed);
}

#[test]
fn source_validation_type_3() {
    const RECORD_END: u16 = 0x22c;
    differ(
        Mode::Remapping,
        |group| {
            remap(group, (1 | 0x41 << 16, 3 << 18));
            send(group, 0xfee0_0010, 0);
            group.check(RECORD_END, u32::MAX);
        },
        value(0x8000_0024),
        value(by_release(0, 0x8000_0026)),
    );
}

#[test]
fn destination_bits_without_eim() {
    for bit in [1 << 32, 1 << 63] {
        let passed = Observed::Messages(vec![(0xfee0_0000, 0x4041)]);
        message_with(bit, Observed::Messages(vec![]), passed);
    }
}
