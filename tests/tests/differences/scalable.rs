//! Differences of scalable mode. QEMU 7.2 has second-stage tables and pass-through.

use super::*;

const DIRECTORY: u64 = TABLES + 0x4000;
const PASIDS: u64 = TABLES + 0x5000;
/// Address of the first edu's context entry, in the table of the root entry's upper half.
const CONTEXT: u64 = CONTEXTS + 32 * (edu_id(0) as u64 & 0x7f);
/// Scalable mode in RTADDR, wide descriptors in IQA.
const SCALABLE: u64 = 1 << 10;
const WIDE: u64 = 1 << 11;
const NOWHERE: u64 = 0x4000_0000;

/// Enables scalable mode and the queue.
fn begin(group: &mut Group) {
    group.set_quad(0x20, ROOT | SCALABLE).set(0x18, 1 << 30);
    group.set_quad(0x90, RING | WIDE).set(0x18, 1 << 26);
}

/// Maps the first edu's page 0 by four levels of second-stage tables, and applies `change`.
fn mapped(group: &mut Group, change: impl FnOnce(&mut Group)) {
    begin(group);
    group.poke(ROOT + 8, CONTEXTS | 1).poke(CONTEXT, DIRECTORY | 1);
    group.poke(DIRECTORY, PASIDS | 1).poke(PASIDS, TABLES | 2 << 6 | 2 << 2 | 1);
    group.poke(PASIDS + 8, 1);
    for level in 0..3 {
        group.poke(TABLES + 0x1000 * level, (TABLES + 0x1000 * (level + 1)) | 3);
    }
    group.poke(TABLES + 0x3000, PATTERN | 3);
    change(group);
    group.set(0x18, 1 << 31 | 1 << 26);
}

/// Writes a wide descriptor into a slot.
fn descriptor(group: &mut Group, slot: u64, qwords: [u64; 4]) {
    for (at, qword) in (RING + 32 * slot..).step_by(8).zip(qwords) {
        group.poke(at, qword);
    }
}

/// Asserts FSTS after `change` and a read of page 0.
fn fault_of_a_read(change: impl Fn(&mut Group), ours: u64, qemu: u64) {
    differ(
        Mode::Scalable,
        |group| {
            mapped(group, &change);
            read_memory(group, 0);
            group.check(FSTS, u32::MAX);
        },
        value(ours),
        value(qemu),
    );
}

/// Asserts FSTS after one wide descriptor.
fn error_of(qwords: [u64; 4], ours: u64, qemu: u64) {
    differ(
        Mode::Scalable,
        |group| {
            begin(group);
            descriptor(group, 0, qwords);
            group.set(0x88, 32).check(FSTS, u32::MAX);
        },
        value(ours),
        value(qemu),
    );
}

#[test]
fn scalable_fault_reasons() {
    let leaf = TABLES + 0x3000;
    for (at, entry, ours, qemu) in [
        (ROOT + 8, 0, 0x39, 0x1),
        (ROOT + 8, CONTEXTS | 3, 0x3a, 0xa),
        (ROOT + 8, NOWHERE | 1, 0x40, 0x9),
        (CONTEXT, 0, 0x41, 0x2),
        (CONTEXT, DIRECTORY | 1 << 8 | 1, 0x42, 0xb),
        (CONTEXT, NOWHERE | 1, 0x50, by_release(0x58, 0x50)),
        (DIRECTORY, 0, 0x51, by_release(0x58, 0x51)),
        (DIRECTORY, NOWHERE | 1, 0x58, 0x58),
        (PASIDS, 0, 0x59, by_release(0x58, 0x5b)),
        (PASIDS, TABLES | 7 << 6 | 2 << 2 | 1, 0x5b, by_release(0x58, 0x5b)),
        (PASIDS, NOWHERE | 2 << 6 | 2 << 2 | 1, 0x7b, 0x3),
        (TABLES, NOWHERE | 3, 0x78, 0x7),
        (leaf, 0, 0x79, 0x6),
        (leaf, PATTERN | 3 | 1 << 51, 0x7a, 0xc),
        (leaf, PATTERN | 2, 0x86, 0x6),
        (leaf, 0xfee0_0003, 0x87, 0x87),
    ] {
        differ(
            Mode::Scalable,
            |group| {
                mapped(group, |group| {
                    group.poke(at, entry);
                });
                read_memory(group, 0);
                group.check(0x22c, 0xff);
            },
            value(ours),
            value(qemu),
        );
    }
}

#[test]
fn pasid_of_a_request_without_one() {
    differ(
        Mode::Scalable,
        |group| {
            mapped(group, |group| {
                group.poke(TABLES + 0x3000, 0);
            });
            read_memory(group, 0);
            // PP.
            group.check(0x228, 1 << 31);
        },
        value(0),
        value(by_release(1 << 31, 0)),
    );
}

#[test]
fn first_stage_without_the_capability() {
    let entry = TABLES | 1 << 6 | 2 << 2 | 1;
    fault_of_a_read(
        |group| {
            group.poke(PASIDS, entry);
        },
        FAULT,
        by_release(0, FAULT),
    );
}

#[test]
fn reserved_bits_of_pasid_tables() {
    let entry = TABLES | 2 << 6 | 2 << 2 | 1;
    for (at, entry) in [(DIRECTORY, PASIDS | 1 << 2 | 1), (PASIDS, entry | 1 << 5)] {
        fault_of_a_read(
            |group| {
                group.poke(at, entry);
            },
            FAULT,
            0,
        );
    }
}

#[test]
fn pasids_in_a_context_without_the_capability() {
    fault_of_a_read(
        |group| {
            group.poke(CONTEXT, DIRECTORY | 1 << 3 | 1);
        },
        FAULT,
        0,
    );
}

#[test]
fn rid_pasid_beyond_the_directory() {
    // 64 PASIDs behind the last of 128 directory entries.
    let beyond = |group: &mut Group| {
        group.poke(CONTEXT + 8, 128 * 64).poke(DIRECTORY + 8 * 128, PASIDS | 1);
    };
    fault_of_a_read(beyond, FAULT, 0);
}

#[test]
fn rid_pasid_without_the_capability() {
    // PASID 3 maps page 0, PASID 0 does not exist.
    let third = |group: &mut Group| {
        group.poke(CONTEXT + 8, 3).poke(PASIDS, 0);
        group.poke(PASIDS + 3 * 64, TABLES | 2 << 6 | 2 << 2 | 1).poke(PASIDS + 3 * 64 + 8, 1);
    };
    fault_of_a_read(third, 0, by_release(0, FAULT));
}

#[test]
fn width_of_a_pass_through_pasid_entry() {
    fault_of_a_read(
        |group| {
            group.poke(PASIDS, 4 << 6 | 1);
        },
        0,
        by_release(FAULT, 0),
    );
}

#[test]
fn other_half_of_a_root_entry() {
    fault_of_a_read(
        |group| {
            group.poke(ROOT, CONTEXTS | 2);
        },
        0,
        FAULT,
    );
}

#[test]
fn pasid_faults_with_faults_disabled() {
    let silent = |group: &mut Group| {
        group.poke(CONTEXT, DIRECTORY | 3).poke(PASIDS, 0);
    };
    fault_of_a_read(silent, 0, by_release(FAULT, 0));
}

#[test]
fn pasid_entries_are_cached() {
    differ(
        Mode::Scalable,
        |group| {
            mapped(group, |_| {});
            read_memory(group, 0);
            group.poke(PASIDS, 0);
            read_memory(group, 0);
            group.check(FSTS, u32::MAX);
        },
        value(0),
        value(by_release(FAULT, 0)),
    );
}

#[test]
fn upper_half_of_a_descriptor() {
    error_of([0x12, 0, 1, 0], QUEUE_ERROR, by_release(0, QUEUE_ERROR));
}

#[test]
fn granularity_of_pasid_descriptors() {
    error_of([0x07 | 2 << 4, 0, 0, 0], QUEUE_ERROR, by_release(0, QUEUE_ERROR));
    error_of([0x06 | 1 << 4, 0, 0, 0], QUEUE_ERROR, by_release(0, QUEUE_ERROR));
}

#[test]
fn pasid_device_tlb_descriptor() {
    error_of([0x08 | u64::from(edu_id(0)) << 16, 0, 0, 0], 0, by_release(QUEUE_ERROR, 0));
}

#[test]
fn tail_between_wide_descriptors() {
    differ(
        Mode::Scalable,
        |group| {
            begin(group);
            descriptor(group, 0, [0x12, 0, 0, 0]);
            group.set(0x88, 16).check(FSTS, u32::MAX);
        },
        value(QUEUE_ERROR),
        value(by_release(0, QUEUE_ERROR)),
    );
}

#[test]
fn tail_between_wide_descriptors_of_no_queue() {
    differ(
        Mode::Scalable,
        |group| {
            group.set_quad(0x90, RING | WIDE).set(0x88, 0x10).check(FSTS, u32::MAX);
        },
        value(0),
        value(by_release(0, QUEUE_ERROR)),
    );
}

#[test]
fn narrow_descriptors_in_scalable_mode() {
    differ(
        Mode::Scalable,
        |group| {
            group.set_quad(0x20, ROOT | SCALABLE).set(0x18, 1 << 30);
            submit(group, &[(0x12, 0)]);
            group.check(FSTS, u32::MAX);
        },
        value(QUEUE_ERROR),
        value(0),
    );
}

#[test]
fn invalidation_registers_in_scalable_mode() {
    differ(
        Mode::Scalable,
        |group| {
            group.set_quad(0x20, ROOT | SCALABLE).set(0x18, 1 << 30);
            // IAIG says what was done.
            group.set_quad(0xf8, 1 << 63 | 1 << 60).check(0xfc, 3 << 25);
        },
        value(0),
        value(1 << 25),
    );
}

#[test]
fn scalable_capabilities() {
    differ(
        Mode::Scalable,
        |group| {
            group.step(Step::ReadQuad(UNIT + 0x10, u64::MAX));
        },
        value(0x0003_4800_8000_0fc7),
        value(0x4800_8000_0fc6),
    );
}
