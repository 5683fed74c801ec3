//! Each known difference between our remapping unit and QEMU's, with a script that shows it. The
//! tests assert both results, so a difference that disappears is noticed. `docs/differences.md`
//! says which unit is right, and why. The generator of `tests::differential` avoids these cases.

mod first_stage;
mod interrupts;
mod io_apic;
mod queue;
mod registers;
mod scalable;
mod translation;

use std::io::Write;
use std::path::PathBuf;

use tests::differential::place::{
    CONTEXTS, DATA, EDU_DEVICE, INTERRUPTS, PATTERN, RING, ROOT, STATUS, TABLES, UNIT, edu_bar,
    edu_id, writer_id,
};
use tests::differential::script::Observed;
use tests::differential::{Group, Mode, Ours, Qemu, Script, Step, generate};
use tests::{Need, Release, judge, wanted};

const FSTS: u16 = 0x34;
const IQH: u16 = 0x80;
const FAULT: u64 = 2;
const OVERFLOW: u64 = 3;
const QUEUE_ERROR: u64 = 0x10;
const BUFFER: u64 = 0x4_0000;

/// Runs the steps of `build` on both machines, and asserts the results of the last step.
fn differ(mode: Mode, build: impl FnOnce(&mut Group), ours: Observed, qemu: Observed) {
    if !wanted(Need::Judge) {
        return;
    }
    let thread = std::thread::current();
    let name = thread.name().and_then(|path| path.rsplit("::").next()).unwrap_or("difference");
    let documented = [
        include_str!("../../../docs/differences.md"),
        include_str!("../../../docs/differences-scalable.md"),
    ];
    let is_documented = documented.iter().any(|page| page.contains(&format!("`{name}`")));
    assert!(is_documented, "docs/differences.md and its second page have no '{name}'");
    let mut group = Group::new(name);
    build(&mut group);
    let script = Script { groups: vec![generate::prologue(), group] };
    let directory =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let mut qemu_machine = Qemu::start(mode, &directory).expect("QEMU starts");
    let shown = Ours::new(mode, judge().release).run(&script).pop();
    assert_eq!(shown, Some(ours), "ours:\n{}", script.body());
    let shown = qemu_machine.run(&script).expect("QEMU survives").pop();
    assert_eq!(shown, Some(qemu), "QEMU:\n{}", script.body());
}

/// As [`differ`], on QEMU 11 only.
fn differ_on_eleven(mode: Mode, build: impl FnOnce(&mut Group), ours: Observed, qemu: Observed) {
    if !wanted(Need::Judge) {
        return;
    }
    if judge().release < Release::Eleven {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("difference");
        // The test harness hides the output of `eprintln`.
        let line = format!("not compared, as QEMU is older than 11: {name}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    let with_writers = |group: &mut Group| {
        *group = generate::kinds::setup(Release::Eleven);
        build(group);
    };
    differ(mode, with_writers, ours, qemu);
}

/// Lets the first `iommu-testdev` write, which is in the lower half of a root entry.
fn write_by_testdev(group: &mut Group, iova: u64) {
    group.step(Step::Write { writer: 0, iova, gpa: DATA, count: 4 });
}

/// The first on QEMU 7.2, the second on QEMU 11.
fn by_release<T>(seven: T, eleven: T) -> T {
    match judge().release {
        Release::Seven => seven,
        Release::Eleven => eleven,
    }
}

fn value(value: u64) -> Observed {
    Observed::Value(value)
}

/// Enables the queue and submits descriptors.
fn submit(group: &mut Group, descriptors: &[(u64, u64)]) {
    group.set_quad(0x90, RING).set(0x18, 1 << 26);
    for (slot, (low, high)) in (RING..).step_by(16).zip(descriptors) {
        group.poke(slot, *low).poke(slot + 8, *high);
    }
    group.set(0x88, 16 * descriptors.len() as u32);
}

fn read_memory(group: &mut Group, address: u64) {
    let (edu, source, destination) = (0, address, BUFFER);
    group.step(Step::Dma { edu, source, destination, count: 4, command: 0 }).step(Step::Settle);
}
