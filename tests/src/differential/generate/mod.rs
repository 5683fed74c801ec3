//! Makes scripts from seeds. Most steps are those of a correct driver, some are wrong.
//!
//! A script begins with [`prologue`], which puts both machines into the same state, and ends with
//! `epilogue`, which compares their final states. In between are a few scenes of one kind each.

mod caches;
mod dma;
mod events;
mod faults;
pub mod flips;
mod image;
mod interrupts;
mod io_apic;
pub mod kinds;
mod queue;
mod registers;
mod scalable;
mod tables;
mod walks;

use super::Mode;
use super::place::{self, EDUS};
use super::random::Random;
use super::script::{Group, Script, Step};
use crate::Release;

pub use queue::Queue;

/// Registers and their bits that scenes share.
pub mod bits {
    /// GCMD, GSTS: translation.
    pub const TE: u32 = 1 << 31;
    /// GCMD: set root table pointer.
    pub const SRTP: u32 = 1 << 30;
    /// GCMD, GSTS: queued invalidation.
    pub const QIE: u32 = 1 << 26;
    /// GCMD, GSTS: interrupt remapping.
    pub const IRE: u32 = 1 << 25;
    /// GCMD: set interrupt table pointer.
    pub const SIRTP: u32 = 1 << 24;
    /// FSTS: overflow.
    pub const PFO: u32 = 1;
    /// FSTS: queue error.
    pub const IQE: u32 = 1 << 4;
}

/// The state of the unit as the script has set it so far; the next scene goes on from there.
#[derive(Debug)]
pub struct Scene {
    /// Where choices come from.
    pub random: Random,
    /// The mode of the unit.
    pub mode: Mode,
    /// The QEMU that the script is for.
    pub release: Release,
    /// The persistent bits of GCMD.
    pub command: u32,
    /// The queue, while it is on.
    pub queue: Option<Queue>,
    /// The groups so far.
    pub groups: Vec<Group>,
}

impl Scene {
    /// A unit after power-on.
    pub fn new(seed: u64, mode: Mode, release: Release) -> Self {
        let random = Random::new(seed);
        Self { random, mode, release, command: 0, queue: None, groups: Vec::new() }
    }

    /// A write of GCMD that switches `bits` on, and a look at GSTS.
    pub fn switch_on(&mut self, group: &mut Group, bits: u32) {
        self.command |= bits;
        group.set(0x18, self.command).check(0x1c, u32::MAX);
    }

    /// A write of GCMD that switches `bits` off, and a look at GSTS.
    pub fn switch_off(&mut self, group: &mut Group, bits: u32) {
        self.command &= !bits;
        group.set(0x18, self.command).check(0x1c, u32::MAX);
    }

    /// A write of GCMD with one-shot `bits`, and a look at GSTS.
    pub fn shoot(&mut self, group: &mut Group, bits: u32) {
        group.set(0x18, self.command | bits).check(0x1c, u32::MAX);
    }
}

/// The script of `seed`.
pub fn script(seed: u64, mode: Mode, release: Release) -> Script {
    let mut scene = Scene::new(seed, mode, release);
    scene.groups.push(prologue());
    if mode.is_scalable() {
        scalable::latch(&mut scene);
    }
    let scenes = 1 + scene.random.below(3);
    for _ in 0..scenes {
        match scene.random.below(10) {
            0 => registers::scene(&mut scene),
            1 => events::scene(&mut scene),
            2..5 => queue::scene(&mut scene),
            5..8 if mode == Mode::Remapping => interrupts::scene(&mut scene),
            5 => io_apic::scene(&mut scene),
            _ => dma::scene(&mut scene),
        }
    }
    let end = epilogue(&mut scene);
    scene.groups.extend(end);
    Script { groups: scene.groups }
}

/// Memory zeroed, devices switched on, and a known pattern in their buffers, which a reset leaves
/// alone: what every script needs to be run again and again.
pub fn prologue() -> Group {
    let mut group = Group::new("set up");
    group.step(Step::Fill(place::ARENA, place::ARENA_SIZE as usize, 0));
    group.step(Step::Pattern(place::PATTERN, 0x1000));
    for edu in 0..EDUS {
        let bar = place::edu_bar(edu);
        let device = place::EDU_DEVICE + edu;
        // Below 4 GiB, as all places are.
        group.step(Step::Config(device, 0x10, bar as u32)).step(Step::Config(device, 0x04, 6));
        group.step(Step::WriteLong(bar + 0x64, u32::MAX)).step(Step::WriteLong(bar + 0x20, 0));
        let (source, destination) = (place::PATTERN, 0x4_0000);
        group.step(Step::Dma { edu, source, destination, count: 4095, command: 0 });
    }
    group.step(Step::Settle);
    group
}

/// Reads of the unit, the devices' buffers and memory.
fn epilogue(scene: &mut Scene) -> Vec<Group> {
    let mut state = Group::new("the unit's state at the end");
    for (offset, mask) in registers::STATE {
        state.check(offset, mask);
    }
    let mut buffers = Group::new("the devices' buffers at the end");
    scene.command &= !bits::TE;
    buffers.set(0x18, scene.command);
    for edu in 0..EDUS {
        let destination = place::DUMP + 0x1000 * u64::from(edu);
        buffers.step(Step::Dma { edu, source: 0x4_0000, destination, count: 4095, command: 2 });
    }
    buffers.step(Step::Settle).step(Step::Peek(place::DUMP, 0x1000 * usize::from(EDUS)));
    let mut memory = Group::new("memory at the end");
    memory.step(Step::Peek(place::DATA, 0x1000 * place::DATA_PAGES as usize));
    memory.step(Step::Peek(place::STATUS, 0x1000));
    vec![state, buffers, memory]
}
