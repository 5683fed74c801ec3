//! Differences of tables, faults and caches.

use super::*;

/// Gives the first edu tables of four levels, in which `leaf` is the entry for IOVA 0 and `second`
/// the entry above it, and enables translation.
fn translate(group: &mut Group, context_bits: u64, second: u64, leaf: u64) {
    let slot = CONTEXTS + 16 * u64::from(edu_id(0));
    group.poke(ROOT, CONTEXTS | 1);
    group.poke(slot, TABLES | 1 | context_bits).poke(slot + 8, 0x102);
    group.poke(TABLES, (TABLES + 0x1000) | 3).poke(TABLES + 0x1000, (TABLES + 0x2000) | 3);
    group.poke(TABLES + 0x2000, (TABLES + 0x3000) | second).poke(TABLES + 0x3000, leaf);
    group.set_quad(0x20, ROOT).set(0x18, 1 << 30).set(0x18, 1 << 31);
}

fn write_memory(group: &mut Group, address: u64) {
    let (edu, source, destination) = (0, BUFFER, address);
    group.step(Step::Dma { edu, source, destination, count: 4, command: 2 }).step(Step::Settle);
}

#[test]
fn pasid_in_a_record_without_pasid() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 0, 3, 0);
            read_memory(group, 0);
            group.check(0x22c, u32::MAX);
        },
        value(0xc000_0006),
        value(by_release(0xc0ff_ff06, 0xc000_0006)),
    );
}

#[test]
fn reserved_context_with_faults_disabled() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 1 << 1 | 1 << 4, 3, DATA | 3);
            read_memory(group, 0);
            group.check(FSTS, u32::MAX);
        },
        value(0),
        value(FAULT),
    );
}

#[test]
fn bit_62_of_a_leaf() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 0, 3, DATA | 3 | 1 << 62);
            read_memory(group, 0);
            group.check(FSTS, u32::MAX);
        },
        value(FAULT),
        value(by_release(0, FAULT)),
    );
}

#[test]
fn reserved_bit_and_missing_right() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 0, 3, DATA | 1 | 1 << 11);
            write_memory(group, 0);
            group.check(0x22c, 0xff);
        },
        value(0xc),
        value(0x5),
    );
}

#[test]
fn interrupt_range_and_missing_right() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 0, 1, 0xfee0_0003);
            write_memory(group, 0);
            group.check(0x22c, 0xff);
        },
        value(0xe),
        value(0x5),
    );
}

#[test]
fn large_page_that_reaches_the_interrupt_range() {
    differ(
        Mode::Legacy,
        |group| {
            // 2 MiB from 0xfee00000 on, of which the upper half is none of the interrupts'.
            translate(group, 0, 3, 0);
            group.poke(TABLES + 0x2000, 0xfee0_0083);
            write_memory(group, 0x10_0000);
            group.check(FSTS, u32::MAX);
        },
        value(0),
        value(FAULT),
    );
}

#[test]
fn second_fault_of_a_function() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 0, 3, 0);
            read_memory(group, 0);
            read_memory(group, 0);
            group.check(FSTS, u32::MAX);
        },
        value(OVERFLOW),
        value(FAULT),
    );
}

#[test]
fn missing_right_of_a_cached_page() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 0, 3, DATA | 1);
            read_memory(group, 0);
            write_memory(group, 0);
            group.check(FSTS, u32::MAX);
        },
        value(FAULT),
        value(0),
    );
}

#[test]
fn pages_that_an_invalidation_does_not_name() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 0, 3, PATTERN | 3);
            read_memory(group, 0);
            group.poke(TABLES + 0x3000, 0);
            // Page 0x100 of the domain, by registers.
            group.set_quad(0xf0, 0x10_0000).set_quad(0xf8, 1 << 63 | 3 << 60 | 1 << 32);
            read_memory(group, 0);
            group.check(FSTS, u32::MAX);
        },
        value(0),
        value(by_release(FAULT, 0)),
    );
}

#[test]
fn caches_after_set_root_table_pointer() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 0, 3, PATTERN | 3);
            read_memory(group, 0);
            group.poke(TABLES + 0x3000, 0).set(0x18, 1 << 31 | 1 << 30);
            read_memory(group, 0);
            group.check(FSTS, u32::MAX);
        },
        value(0),
        value(FAULT),
    );
}

#[test]
fn width_of_a_pass_through_context() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 2 << 2, 3, 0);
            // AW: 39 bits; the unit has 48 as well.
            group.poke(CONTEXTS + 16 * u64::from(edu_id(0)) + 8, 0x101);
            read_memory(group, PATTERN);
            group.check(FSTS, u32::MAX);
        },
        value(FAULT),
        value(0),
    );
}

#[test]
fn fault_event_of_a_record_that_is_cleared() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 0, 3, 0);
            read_memory(group, 0);
            group.set(0x22c, 1 << 31).check(0x38, u32::MAX);
        },
        value(0x8000_0000),
        value(0xc000_0000),
    );
}

#[test]
fn domain_of_a_context_invalidation() {
    // By domain 2 and by function with domain 2, while the function's is 1.
    for low in [0x21, 0x31 | u64::from(edu_id(0)) << 32] {
        differ(
            Mode::Legacy,
            |group| {
                translate(group, 0, 3, PATTERN | 3);
                read_memory(group, 0);
                group.poke(CONTEXTS + 16 * u64::from(edu_id(0)), 0);
                group.set_quad(0x90, RING).set(0x18, 1 << 31 | 1 << 26);
                group.poke(RING, low | 2 << 16).poke(RING + 16, 0x12).set(0x88, 32);
                read_memory(group, 0);
                group.check(FSTS, u32::MAX);
            },
            value(0),
            value(FAULT),
        );
    }
}

#[test]
fn granularity_of_a_context_invalidation_by_register() {
    differ(
        Mode::Legacy,
        |group| {
            group.set_quad(0x28, 1 << 63 | 2 << 61 | 1).check(0x2c, 3 << 27);
        },
        value(2 << 27),
        value(1 << 27),
    );
}
