//! The tables of scalable mode above the second stage: root halves, contexts, PASID directory and table.

use super::tables::{Allocator, BEYOND_HOST, Context, NOWHERE, Tree, passed_through};
use super::{Scene, bits};
use crate::Release;
use crate::differential::Mode;
use crate::differential::place::{CONTEXTS, ROOT, edu_id};
use crate::differential::random::Random;
use crate::differential::script::Group;

/// PASID table entry: second stage, pass-through.
const SECOND_STAGE: u64 = 2 << 6;
const PASS_THROUGH: u64 = 4 << 6;

/// RTADDR.TTM.
pub(super) const fn table_mode(mode: Mode) -> u64 {
    match mode {
        Mode::Legacy | Mode::Remapping => 0,
        Mode::Scalable | Mode::FirstStage => 1 << 10,
    }
}

/// Lets the unit know which mode it is in: PASID descriptors exist in scalable mode only.
pub(super) fn latch(scene: &mut Scene) {
    let mut group = Group::new("latch scalable mode");
    group.set_quad(0x20, ROOT | table_mode(scene.mode));
    scene.shoot(&mut group, bits::SRTP);
    scene.groups.push(group);
}

/// The root entry of bus 0. The devices are in its upper half, devices 16 to 31.
pub(super) fn root(random: &mut Random, wrong: bool) -> (u64, u64) {
    let half = CONTEXTS | 1;
    // QEMU looks at the reserved bits of both halves: there are none in the other one.
    let other = random.pick(&[0, half]);
    let half = match wrong.then(|| random.below(4)) {
        Some(0) => half & !1,
        Some(1) => half | random.bit_of(0xffe),
        Some(2) => NOWHERE | 1,
        Some(_) => half | random.bit_of(BEYOND_HOST),
        None => half,
    };
    (other, half)
}

/// Where the context entry of an `edu` is: 32 bytes each, the half's first device at its begin.
pub(super) fn context_slot(edu: u8) -> u64 {
    CONTEXTS + 32 * u64::from(edu_id(edu) & 0x7f)
}

/// A context entry, with a PASID directory, a PASID table and a tree below it.
pub(super) fn context(
    random: &mut Random,
    group: &mut Group,
    allocator: &mut Allocator,
    domain: u64,
    release: Release,
) -> Context {
    let (directory, table) = (allocator.page(), allocator.page());
    let wrong = random.one_in(8).then(|| random.below(11));
    // FPD of any entry on the way counts. QEMU does not heed it for what is wrong above the tree.
    let fpd = if wrong.is_none() { random.below(12) } else { 3 };
    let fpd = [0, 1, 2].map(|at| u64::from(fpd == at) << 1);
    // RID_PASID: any that the smallest directory reaches. QEMU 11 lacks the capability.
    let any = random.one_in(2) && release == Release::Seven;
    let pasid = if any { random.below(1 << 13) } else { 0 };
    let device_tlb = random.below(2) << 2;
    let directory_size = random.below(8) << 9;
    let mut entry = vec![directory | directory_size | device_tlb | fpd[0] | 1, pasid, 0, 0];
    let mut directory_entry = table | fpd[1] | 1;
    let passes = wrong.is_none() && random.one_in(6);
    let tree = Tree::new(random, allocator, domain);
    let translation = if passes { PASS_THROUGH } else { SECOND_STAGE };
    let mut low = tree.root | translation | (tree.levels - 2) << 2 | fpd[2] | 1;
    // PWSNP and PGSNP mean nothing to memory that is coherent.
    let high = domain | random.below(4) << 23;
    match wrong {
        Some(0) => entry[0] &= !1,
        Some(1) => entry[0] |= random.bit_of(0x1e0 | BEYOND_HOST),
        Some(2) => entry[1] |= random.bit_of(!0 << 21),
        Some(3) => entry[2 + random.below(2) as usize] = random.value() | 1,
        Some(4) => entry[0] = entry[0] & 0xfff | NOWHERE,
        Some(5) => directory_entry &= !1,
        Some(6) => directory_entry = NOWHERE | 1,
        Some(7) => low &= !1,
        Some(8) => low = low & !(7 << 6) | random.pick(&[0, 5, 6, 7]) << 6,
        Some(9) => low = low & !(7 << 2) | random.pick(&[0, 3, 4, 5, 6, 7]) << 2,
        Some(_) => low = low & 0xfff | NOWHERE,
        None => {}
    }
    group.poke(directory + 8 * (pasid >> 6), directory_entry);
    let slot = table + 64 * (pasid & 0x3f);
    group.poke(slot, low).poke(slot + 8, high);
    let mappings = match passes {
        true => passed_through(random),
        false => tree.fill(random, group, allocator, wrong.is_some()),
    };
    Context { entry, mappings }
}
