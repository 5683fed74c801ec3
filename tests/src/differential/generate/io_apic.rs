//! The I/O APIC: redirection entries are programmed, devices pull their wires, and what comes of it
//! reaches the local APICs as messages, remapped if that is on.

use super::{Scene, bits};
use crate::differential::Mode;
use crate::differential::place::{EDU_DEVICE, EDUS, IO_APIC, edu_bar};
use crate::differential::random::Random;
use crate::differential::script::{Group, Step};

/// Register select, window, EOI.
const SELECT: u64 = IO_APIC;
const WINDOW: u64 = IO_APIC + 0x10;
const EOI: u64 = IO_APIC + 0x40;

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;

/// A few devices pull their wires.
pub(super) fn scene(scene: &mut Scene) {
    for _ in 0..1 + scene.random.below(3) {
        wire(scene);
    }
}

/// A device's interrupt from its entry to the end.
pub(super) fn wire(scene: &mut Scene) {
    let random = &mut scene.random;
    let edu = u8::try_from(random.below(u64::from(EDUS))).unwrap_or(0);
    // INTA of device n is led to pin 20 + n mod 4.
    let pin = 20 + edu;
    let (low, high) = match scene.mode == Mode::Remapping && scene.command & bits::IRE != 0 {
        true => remappable(random),
        false => compatible(random),
    };
    let bar = edu_bar(edu);
    let mut group = Group::new("an interrupt by wire");
    // QEMU 7.2 does not record interrupt faults: their events stay masked, and they are cleared.
    group.set(0x38, 1 << 31);
    // INTA instead of a message.
    group.step(Step::Config(EDU_DEVICE + edu, 0x40, 0x0080_0005));
    let is_late = random.one_in(4);
    if is_late {
        // While the entry is masked an edge is lost, a level is not.
        program(&mut group, pin, low | MASKED, high);
        pull(&mut group, bar);
        group.step(Step::Settle);
    }
    program(&mut group, pin, low, high);
    if !is_late {
        pull(&mut group, bar);
    }
    group.step(Step::Settle);
    look(&mut group, pin);
    let end = |group: &mut Group| group.step(Step::WriteLong(EOI, low & 0xff)).clone();
    if random.one_in(3) {
        // Ended while the wire is still pulled: a level comes again.
        end(&mut group);
        group.step(Step::Settle);
    }
    group.step(Step::WriteLong(bar + 0x64, u32::MAX));
    if random.one_in(3) {
        // The end of another vector, which ends nothing.
        group.step(Step::WriteLong(EOI, low & 0xff ^ 1)).step(Step::Settle);
        look(&mut group, pin);
    }
    end(&mut group);
    group.step(Step::Settle);
    look(&mut group, pin);
    program(&mut group, pin, MASKED, 0);
    group.set(0x22c, 0x8000_0000).set(0x34, bits::PFO);
    scene.groups.push(group);
}

/// Vector, fixed or lowest priority, edge or level: what both formats have.
fn common(random: &mut Random) -> u32 {
    let vector = 0x20 + random.below(0xd0) as u32;
    vector | if random.one_in(2) { LEVEL } else { 0 } | if random.one_in(8) { MASKED } else { 0 }
}

fn compatible(random: &mut Random) -> (u32, u32) {
    let mode = random.below(2) as u32;
    let logical = random.below(2) as u32;
    (common(random) | mode << 8 | logical << 11, (random.below(256) as u32) << 24)
}

/// The table has 16 entries; now and then another one is named.
fn remappable(random: &mut Random) -> (u32, u32) {
    let index = if random.one_in(10) { random.below(1 << 16) } else { random.below(16) } as u32;
    (common(random) | index >> 15 << 11, (index & 0x7fff) << 17 | 1 << 16)
}

fn program(group: &mut Group, pin: u8, low: u32, high: u32) {
    let register = 0x10 + 2 * u32::from(pin);
    // The mask first, the rest, and then the low half as it shall be.
    for (register, value) in [(register, MASKED), (register + 1, high), (register, low)] {
        group.step(Step::WriteLong(SELECT, register)).step(Step::WriteLong(WINDOW, value));
    }
}

fn pull(group: &mut Group, bar: u64) {
    group.step(Step::WriteLong(bar + 0x60, 1));
}

/// A read of the entry, for remote IRR above all.
fn look(group: &mut Group, pin: u8) {
    for register in [0x10, 0x11].map(|half| half + 2 * u32::from(pin)) {
        group.step(Step::WriteLong(SELECT, register)).step(Step::ReadLong(WINDOW, u32::MAX));
    }
}
