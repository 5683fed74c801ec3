//! Differences that QEMU 11 shows: the first stage, and PASID tables.

use super::*;

const DIRECTORY: u64 = TABLES + 0x4000;
const PASIDS: u64 = TABLES + 0x5000;
/// Address of the first testdev's context entry, in the table of the root entry's lower half.
const CONTEXT: u64 = CONTEXTS + 32 * (writer_id(0) as u64);
const LEAF: u64 = TABLES + 0x3000;
/// Present, writable, user.
const PAGE: u64 = 7;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// PGTT of the first stage, four levels (AW), P.
const ENTRY: u64 = 1 << 6 | 2 << 2 | 1;

/// Maps the first testdev's page 0 by four levels of first-stage tables, applies `change`, and switches
/// translation and the queue on.
fn mapped(group: &mut Group, change: impl FnOnce(&mut Group)) {
    group.set_quad(0x20, ROOT | 1 << 10).set(0x18, 1 << 30);
    group.poke(ROOT, CONTEXTS | 1).poke(CONTEXT, DIRECTORY | 1);
    group.poke(DIRECTORY, PASIDS | 1).poke(PASIDS, ENTRY);
    // PWSNP.
    group.poke(PASIDS + 8, 1 | 1 << 23).poke(PASIDS + 16, TABLES);
    for level in 0..3 {
        group.poke(TABLES + 0x1000 * level, (TABLES + 0x1000 * (level + 1)) | PAGE);
    }
    group.poke(LEAF, DATA | PAGE);
    change(group);
    group.set_quad(0x90, RING | 1 << 11).set(0x18, 1 << 31 | 1 << 26);
}

/// Submits wide descriptors.
fn submit_wide(group: &mut Group, descriptors: &[(u64, u64)]) {
    for (slot, (low, high)) in (RING..).step_by(32).zip(descriptors) {
        group.poke(slot, *low).poke(slot + 8, *high);
    }
    group.set(0x88, 32 * descriptors.len() as u32);
}

/// Asserts the bits 11:0 of the entry at `at` after a write to page 0.
fn entry_after_a_write(change: impl FnOnce(&mut Group), at: u64, ours: u64, qemu: u64) {
    differ_on_eleven(
        Mode::FirstStage,
        |group| {
            mapped(group, change);
            write_by_testdev(group, 0);
            group.step(Step::ReadQuad(at, 0xfff));
        },
        value(ours),
        value(qemu),
    );
}

/// Asserts the fault reason of a write to `iova`, or 0.
fn reason(change: impl FnOnce(&mut Group), iova: u64, ours: u64, qemu: u64) {
    differ_on_eleven(
        Mode::FirstStage,
        |group| {
            mapped(group, change);
            write_by_testdev(group, iova);
            group.check(0x22c, 0xff);
        },
        value(ours),
        value(qemu),
    );
}

/// Asserts FSTS after a write of page 0, whose P in the PASID entry is cleared, and these descriptors submitted.
fn write_after(descriptors: &[(u64, u64)], ours: u64, qemu: u64) {
    differ_on_eleven(
        Mode::FirstStage,
        |group| {
            mapped(group, |_| {});
            write_by_testdev(group, 0);
            group.poke(PASIDS, ENTRY & !1);
            submit_wide(group, descriptors);
            write_by_testdev(group, 0);
            group.check(FSTS, u32::MAX);
        },
        value(ours),
        value(qemu),
    );
}

#[test]
fn accessed_bits_above_a_fault() {
    let absent = |group: &mut Group| {
        group.poke(LEAF, 0);
    };
    entry_after_a_write(absent, TABLES, PAGE, PAGE | ACCESSED);
}

#[test]
fn dirty_bit_of_an_accessed_page() {
    let accessed = |group: &mut Group| {
        group.poke(LEAF, DATA | PAGE | ACCESSED);
    };
    entry_after_a_write(accessed, LEAF, PAGE | ACCESSED | DIRTY, PAGE | ACCESSED);
}

#[test]
fn accessed_bits_without_snooping_walks() {
    let no_snoop = |group: &mut Group| {
        group.poke(PASIDS + 8, 1);
    };
    reason(no_snoop, 0, 0x90, 0);
}

#[test]
fn missing_right_above_an_absent_page() {
    let change = |group: &mut Group| {
        group.poke(TABLES, (TABLES + 0x1000) | 5).poke(LEAF, 0);
    };
    reason(change, 0, 0x71, 0x85);
}

#[test]
fn first_stage_and_second_stage_width() {
    let change = |group: &mut Group| {
        // AW: 39 bits.
        group.poke(PASIDS, 1 << 6 | 1 << 2 | 1);
    };
    reason(change, 0, 0, 0);
    let beyond = |group: &mut Group| {
        group.poke(PASIDS, 1 << 6 | 1 << 2 | 1).poke(TABLES + 8, (TABLES + 0x1000) | PAGE);
    };
    reason(beyond, 1 << 39, 0, 0x80);
}

#[test]
fn faults_disabled_in_an_absent_pasid_entry() {
    let directory = |group: &mut Group| {
        group.poke(DIRECTORY, 2);
    };
    reason(directory, 0, 0, 0x51);
    let entry = |group: &mut Group| {
        group.poke(PASIDS, ENTRY & !1 | 2);
    };
    reason(entry, 0, 0, 0x59);
}

#[test]
fn pasid_entry_after_its_invalidation() {
    write_after(&[(0x37, 0), (0x12, 0)], FAULT, 0);
}

#[test]
fn cached_translation_without_its_pasid_entry() {
    write_after(&[(0x11, 0), (0x37, 0)], FAULT, 0);
}

#[test]
fn address_mask_of_a_pasid_invalidation() {
    differ_on_eleven(
        Mode::FirstStage,
        |group| {
            mapped(group, |_| {});
            submit_wide(group, &[(0x36 | 1 << 16, 19)]);
            group.check(FSTS, u32::MAX);
        },
        value(0),
        value(QUEUE_ERROR),
    );
}

#[test]
fn reserved_pointer_bits_under_pass_through() {
    let change = |group: &mut Group| {
        group.poke(PASIDS, 1 << 63 | 4 << 6 | 2 << 2 | 1);
    };
    reason(change, DATA, 0x5a, 0);
}

#[test]
fn reserved_table_modes() {
    // QEMU looks at bit 10 alone: the other mode of legacy tables finds no context.
    for (mode, qemu) in [(2, 0x2), (3, 0)] {
        differ_on_eleven(
            Mode::FirstStage,
            |group| {
                mapped(group, |_| {});
                group.set_quad(0x20, ROOT | mode << 10).set(0x18, 1 << 31 | 1 << 30 | 1 << 26);
                write_by_testdev(group, 0);
                group.check(0x22c, 0xff);
            },
            value(0x30),
            value(qemu),
        );
    }
}
