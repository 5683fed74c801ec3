//! Each known difference between our remapping unit and QEMU's, shown by a script: what both do is
//! asserted, so that none of them can go away unseen. `docs/differences.md` says who is right, and
//! why; the generator of `tests::differential` stays clear of them.

mod io_apic;
mod scalable;

use std::path::PathBuf;

use tests::differential::place::{
    CONTEXTS, DATA, EDU_DEVICE, INTERRUPTS, PATTERN, RING, ROOT, STATUS, TABLES, UNIT, edu_bar,
    edu_id,
};
use tests::differential::script::Observed;
use tests::differential::{Group, Mode, Ours, Qemu, Script, Step, generate};
use tests::{Need, wanted};

const FSTS: u16 = 0x34;
const IQH: u16 = 0x80;
const FAULT: u64 = 2;
const OVERFLOW: u64 = 3;
const QUEUE_ERROR: u64 = 0x10;
const BUFFER: u64 = 0x4_0000;

/// Runs what `build` puts into a group, and asserts what its last step shows on both machines.
fn differ(mode: Mode, build: impl FnOnce(&mut Group), ours: Observed, qemu: Observed) {
    if !wanted(Need::Qemu) {
        return;
    }
    let thread = std::thread::current();
    let name = thread.name().and_then(|path| path.rsplit("::").next()).unwrap_or("difference");
    let documented = include_str!("../../../docs/differences.md");
    assert!(documented.contains(&format!("`{name}`")), "docs/differences.md has no '{name}'");
    let mut group = Group::new(name);
    build(&mut group);
    let script = Script { groups: vec![generate::prologue(), group] };
    let directory =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let mut judge = Qemu::start(mode, &directory).expect("QEMU starts");
    let shown = Ours::new(mode).run(&script).pop();
    assert_eq!(shown, Some(ours), "ours:\n{}", script.body());
    let shown = judge.run(&script).expect("QEMU survives").pop();
    assert_eq!(shown, Some(qemu), "QEMU:\n{}", script.body());
}

fn value(value: u64) -> Observed {
    Observed::Value(value)
}

/// Switches the queue on and submits descriptors.
fn submit(group: &mut Group, descriptors: &[(u64, u64)]) {
    group.set_quad(0x90, RING).set(0x18, 1 << 26);
    for (slot, (low, high)) in (RING..).step_by(16).zip(descriptors) {
        group.poke(slot, *low).poke(slot + 8, *high);
    }
    group.set(0x88, 16 * descriptors.len() as u32);
}

/// Gives the first edu a tree of four levels in which `leaf` is the entry for IOVA 0, with `second`
/// the entry above it, and switches translation on.
fn translate(group: &mut Group, context_bits: u64, second: u64, leaf: u64) {
    let slot = CONTEXTS + 16 * u64::from(edu_id(0));
    group.poke(ROOT, CONTEXTS | 1);
    group.poke(slot, TABLES | 1 | context_bits).poke(slot + 8, 0x102);
    group.poke(TABLES, (TABLES + 0x1000) | 3).poke(TABLES + 0x1000, (TABLES + 0x2000) | 3);
    group.poke(TABLES + 0x2000, (TABLES + 0x3000) | second).poke(TABLES + 0x3000, leaf);
    group.set_quad(0x20, ROOT).set(0x18, 1 << 30).set(0x18, 1 << 31);
}

fn read_memory(group: &mut Group, address: u64) {
    let (edu, source, destination) = (0, address, BUFFER);
    group.step(Step::Dma { edu, source, destination, count: 4, command: 0 }).step(Step::Settle);
}

fn write_memory(group: &mut Group, address: u64) {
    let (edu, source, destination) = (0, BUFFER, address);
    group.step(Step::Dma { edu, source, destination, count: 4, command: 2 }).step(Step::Settle);
}

/// Lets the first edu send a message.
fn send(group: &mut Group, address: u32, data: u32) {
    for (register, value) in [(0x44, address), (0x48, 0), (0x4c, data), (0x40, 0x0081_0005)] {
        group.step(Step::Config(EDU_DEVICE, register, value));
    }
    group.step(Step::WriteLong(edu_bar(0) + 0x60, 1)).step(Step::WriteLong(edu_bar(0) + 0x64, 1));
}

/// Switches interrupt remapping on, with 16 entries of which the first is given.
fn remap(group: &mut Group, (low, high): (u64, u64)) {
    group.poke(INTERRUPTS, low).poke(INTERRUPTS + 8, high).set_quad(0xb8, INTERRUPTS | 3);
    group.set(0x18, 1 << 24).set(0x18, 1 << 25);
}

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
fn pasid_descriptors_in_legacy_mode() {
    for kind in [6, 7] {
        differ(
            Mode::Legacy,
            |group| {
                submit(group, &[(kind | 2 << 4, 0)]);
                group.check(FSTS, u32::MAX);
            },
            value(QUEUE_ERROR),
            value(0),
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
        value(0),
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
fn pasid_in_a_record_without_pasid() {
    differ(
        Mode::Legacy,
        |group| {
            translate(group, 0, 3, 0);
            read_memory(group, 0);
            group.check(0x22c, u32::MAX);
        },
        value(0xc000_0006),
        value(0xc0ff_ff06),
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
        value(0),
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
        value(FAULT),
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
fn interrupt_faults() {
    differ(
        Mode::Remapping,
        |group| {
            remap(group, (0, 0));
            send(group, 0xfee0_0010, 0);
            group.check(FSTS, u32::MAX);
        },
        value(FAULT),
        value(0),
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
        value(0x00d2_008c_222f_0606),
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
