//! Differences of descriptors and of the queue.

use super::*;

#[test]
fn wait_without_status_and_interrupt() {
    differ(
        Mode::Legacy,
        |group| {
            submit(group, &[(0x05, 0)]);
            group.check(FSTS, u32::MAX);
        },
        value(0),
        value(QUEUE_ERROR),
    );
}

#[test]
fn status_address_outside_memory() {
    differ(
        Mode::Legacy,
        |group| {
            submit(group, &[(0x25 | 1 << 32, 1 << 40)]);
            group.check(FSTS, u32::MAX);
        },
        value(0),
        value(QUEUE_ERROR),
    );
}

#[test]
fn pasid_descriptors_in_legacy_mode() {
    for kind in [6, 7] {
        differ(
            Mode::Legacy,
            |group| {
                submit(group, &[(kind | 2 << 4, 0)]);
                group.check(FSTS, u32::MAX);
            },
            value(QUEUE_ERROR),
            value(by_release(0, QUEUE_ERROR)),
        );
    }
}

#[test]
fn reserved_bits_of_interrupt_entry_invalidation() {
    differ(
        Mode::Remapping,
        |group| {
            submit(group, &[(0x04 | 1 << 63, 0)]);
            group.check(FSTS, u32::MAX);
        },
        value(QUEUE_ERROR),
        value(by_release(0, QUEUE_ERROR)),
    );
}

#[test]
fn queue_error_record() {
    differ(
        Mode::Legacy,
        |group| {
            submit(group, &[(0x0f, 0)]);
            group.check(0xb0, u32::MAX);
        },
        value(3),
        value(0),
    );
}

#[test]
fn resume_after_queue_error() {
    differ(
        Mode::Legacy,
        |group| {
            submit(group, &[(0x0f, 0), (0x25 | 7 << 32, STATUS)]);
            group.poke(RING, 0x12).set(FSTS, 0x10).check(IQH, u32::MAX);
        },
        value(0x20),
        value(0),
    );
}

#[test]
fn queue_off_without_a_wait() {
    differ(
        Mode::Legacy,
        |group| {
            submit(group, &[(0x12, 0)]);
            group.set(0x18, 0).check(0x1c, u32::MAX);
        },
        value(0),
        value(1 << 26),
    );
}

#[test]
fn device_tlb_of_a_function_without_ats() {
    differ(
        Mode::Legacy,
        |group| {
            let function = u64::from(edu_id(0)) << 32;
            submit(group, &[(0x03 | function, 0), (0x25 | 7 << 32, STATUS)]);
            group.step(Step::ReadLong(STATUS, u32::MAX));
        },
        value(0),
        value(7),
    );
}

#[test]
fn status_outside_memory() {
    differ(
        Mode::Legacy,
        |group| {
            submit(group, &[(0x25 | 7 << 32, 0x4000_0000)]);
            group.check(FSTS, u32::MAX);
        },
        value(0),
        value(QUEUE_ERROR),
    );
}

#[test]
fn page_group_response_without_page_requests() {
    differ_on_eleven(
        Mode::Legacy,
        |group| {
            submit(group, &[(0x19, 0)]);
            group.check(FSTS, u32::MAX);
        },
        value(QUEUE_ERROR),
        value(0),
    );
}

#[test]
fn index_mask_of_an_interrupt_entry_invalidation() {
    differ(
        Mode::Remapping,
        |group| {
            // 16, while MHMV is 15.
            submit(group, &[(0x14 | 16 << 27, 0)]);
            group.check(FSTS, u32::MAX);
        },
        value(QUEUE_ERROR),
        value(0),
    );
}

#[test]
fn interrupt_entry_invalidation_without_remapping() {
    differ_on_eleven(
        Mode::Legacy,
        |group| {
            submit(group, &[(0x04, 0)]);
            group.check(FSTS, u32::MAX);
        },
        value(QUEUE_ERROR),
        value(0),
    );
}
