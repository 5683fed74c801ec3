//! Differences of register values.

use super::*;

#[test]
fn queue_address_reads_back() {
    differ(
        Mode::Legacy,
        |group| {
            group.set_quad(0x90, RING).check(0x90, u32::MAX);
        },
        value(RING),
        value(0),
    );
}

#[test]
fn invalidation_registers_read_back() {
    differ(
        Mode::Legacy,
        |group| {
            group.set(0x28, 0x1234_5678).check(0x28, u32::MAX);
        },
        value(0x1234_5678),
        value(0x5678),
    );
}

#[test]
fn address_bits_beyond_the_host() {
    differ(
        Mode::Legacy,
        |group| {
            group.set(0x24, u32::MAX).check(0x24, u32::MAX);
        },
        value(0xffff),
        value(0xffff_ffff),
    );
}

#[test]
fn upper_event_addresses() {
    differ(
        Mode::Legacy,
        |group| {
            group.set(0x44, 0x1000).check(0x44, u32::MAX);
        },
        value(0x1000),
        value(0),
    );
}

#[test]
fn capabilities() {
    differ(
        Mode::Remapping,
        |group| {
            group.step(Step::ReadQuad(UNIT + 0x08, u64::MAX));
        },
        value(0x00d2_008c_226f_0606),
        value(by_release(0x00d2_008c_222f_0606, 0x80d2_008c_222f_0606)),
    );
}

#[test]
fn extended_capabilities() {
    differ(
        Mode::Remapping,
        |group| {
            group.step(Step::ReadQuad(UNIT + 0x10, u64::MAX));
        },
        value(0x00f0_0f4f),
        value(0x00f0_0f4e),
    );
}
