//! Writes of one device through tables of all levels and page sizes, right and wrong, and what the
//! unit leaves in them.

use super::image::{Image, Path, Stage, lead};
use super::{Scene, bits, queue, scalable};
use crate::differential::Mode;
use crate::differential::place::{DATA, DATA_PAGES, ROOT, TABLES, WRITERS, writer_id};
use crate::differential::random::Random;
use crate::differential::script::{Group, Step};

/// Beyond memory.
const NOWHERE: u64 = 0x4000_0000;
const BEYOND_HOST: u64 = 0b1111 << 48;

/// A mapping of a writer.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    pub(super) iova: u64,
    pub(super) target: u64,
    pub(super) level: u64,
    /// Addresses of its entries, the highest first.
    pub(super) slots: Vec<u64>,
}

/// What a script of walks may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Nothing is wrong.
    Nothing,
    /// One entry of the page tables, in half of the mappings.
    Pages,
    /// Root, context or PASID tables.
    Above,
}

/// Walks with this kind of errors in the tables.
pub(super) fn scene(scene: &mut Scene, wrong: Wrong) {
    let writer = scene.random.below(WRITERS.len() as u64) as u8;
    let mut image = Image::default();
    let (path, mappings) = build(scene, &mut image, writer);
    let mut broken = Vec::new();
    if wrong == Wrong::Pages {
        for mapping in &mappings {
            if scene.random.one_in(2) {
                let at = scene.random.below(mapping.slots.len() as u64) as usize;
                let slot = mapping.slots[at];
                let level = path.levels - at as u64;
                let last = at + 1 == mapping.slots.len();
                let entry = image.get(slot);
                image.set(slot, wrong_entry(&mut scene.random, path.stage, entry, level, last));
                broken.push(slot);
            }
        }
    }
    if wrong == Wrong::Above {
        break_above(scene, &mut image, &path);
    }
    turn_on(scene, &image);
    for _ in 0..2 + scene.random.below(4) {
        let mapping = &mappings[scene.random.below(mappings.len() as u64) as usize];
        // The two units set accessed bits above a fault in another way, and they check the rights of
        // upper levels at different times.
        let astray = match wrong {
            Wrong::Nothing => path.stage == Stage::Second,
            Wrong::Pages => false,
            Wrong::Above => true,
        };
        write(scene, writer, mapping, astray);
    }
    if path.stage == Stage::First && wrong == Wrong::Nothing {
        let mut group = Group::new("accessed and dirty bits");
        group.step(Step::Peek(TABLES, 0x1_0000));
        scene.groups.push(group);
    }
}

/// Tables of one writer with a few mappings, not written yet.
pub(super) fn build(scene: &mut Scene, image: &mut Image, writer: u8) -> (Path, Vec<Mapping>) {
    let random = &mut scene.random;
    let levels = match Stage::of(scene.mode) {
        Stage::First => 4,
        Stage::Second => random.pick(&[3_u64, 4]),
    };
    let domain = 1 + random.below(5);
    let path = lead(image, scene.mode, writer_id(writer), domain, levels);
    let mut mappings = Vec::new();
    for index in 0..1 + random.below(4) {
        // The highest level tells the mappings apart, so that their pages do not overlap.
        let top = index * 16 + random.below(16);
        let level = random.pick(&[1_u64, 1, 2, 3]).min(levels - 1);
        let low = random.below(1 << (9 * (levels - 1))) & !((1 << (9 * (level - 1))) - 1);
        let mut iova = top << (12 + 9 * (levels - 1)) | low << 12;
        if path.stage == Stage::First && random.one_in(3) {
            iova |= !0 << 47; // Canonical.
        }
        let target = if level == 1 {
            data_page(random)
        } else {
            DATA >> (12 + 9 * (level - 1)) << (12 + 9 * (level - 1))
        };
        let slots = path.map(image, iova, level, target);
        mappings.push(Mapping { iova, target, level, slots });
    }
    (path, mappings)
}

/// A page that devices may write.
pub(super) fn data_page(random: &mut Random) -> u64 {
    DATA + 0x1000 * random.below(DATA_PAGES)
}

impl Mapping {
    /// An address in the page whose memory is in the data pages: IOVA and physical.
    pub(super) fn address(&self, random: &mut Random) -> (u64, u64) {
        let offset = 4 * random.below(0x3f0);
        let into = match self.level {
            1 => 0,
            _ => data_page(random) - self.target,
        };
        (self.iova + into + offset, self.target + into + offset)
    }
}

/// Writes the image, latches the tables and enables translation, with or without a queue.
pub(super) fn turn_on(scene: &mut Scene, image: &Image) {
    let mut group = Group::new("build tables, switch translation on");
    image.write(&mut group);
    group.set_quad(0x20, ROOT | scalable::table_mode(scene.mode));
    scene.shoot(&mut group, bits::SRTP);
    scene.switch_on(&mut group, bits::TE);
    scene.groups.push(group);
    if scene.mode.is_scalable() || scene.random.one_in(2) {
        let size = scene.random.below(2) as u8;
        queue::enable(scene, size);
    }
}

/// One write, now and then to another address if `astray`, and a look at the faults.
pub(super) fn write(scene: &mut Scene, writer: u8, mapping: &Mapping, astray: bool) {
    let (mut iova, gpa) = mapping.address(&mut scene.random);
    if astray && scene.random.one_in(10) {
        iova ^= 1 << scene.random.pick(&[12_u64, 13, 21, 22, 30, 31, 39, 40, 47]);
    }
    let count = 1 + scene.random.below(64) as u32;
    let mut group = Group::new("a write");
    group.step(Step::Write { writer, iova, gpa, count });
    look(&mut group);
    scene.groups.push(group);
}

/// Compares the fault record and the fault status, and clears them.
pub(super) fn look(group: &mut Group) {
    group.check(0x34, u32::MAX).step(Step::Record);
    group.set(0x22c, 0x8000_0000).set(0x34, bits::PFO).check(0x34, u32::MAX);
}

/// An entry that a unit must refuse for a write.
fn wrong_entry(random: &mut Random, stage: Stage, entry: u64, level: u64, last: bool) -> u64 {
    let large = last && level > 1;
    match (stage, random.below(5)) {
        // No rights at all; not writable; supervisor.
        (_, 0) => entry & !7,
        (_, 1) => entry & !2,
        (Stage::First, 2) => entry & !4,
        (_, 3) if !last => entry & 0xfff | NOWHERE,
        (Stage::First, _) => {
            let low = if large { ((1 << (9 * (level - 1))) - 1) << 12 & !(1 << 12) } else { 0 };
            let size = if level == 4 { 1 << 7 } else { 0 };
            entry | random.bit_of(low | size | BEYOND_HOST)
        }
        (Stage::Second, _) => {
            let low = if large { ((1 << (9 * (level - 1))) - 1) << 12 } else { 0 };
            let size = if level == 4 { 1 << 7 } else { 0 };
            entry | random.bit_of(low | size | BEYOND_HOST | 1 << 11)
        }
    }
}

/// Makes an entry above the page tables wrong.
fn break_above(scene: &mut Scene, image: &mut Image, path: &Path) {
    let random = &mut scene.random;
    let at = random.below(path.above.len() as u64) as usize;
    let slot = path.above[at];
    let entry = image.get(slot);
    let reserved = match (scene.mode.is_scalable(), at) {
        (false, 0) => 0xffe | BEYOND_HOST,
        (false, _) => 0xff0 | BEYOND_HOST,
        (true, 0) => 0xffe | BEYOND_HOST,
        (true, 1) => 0x1e0 | BEYOND_HOST,
        // QEMU does not look at reserved bits of PASID tables.
        (true, _) => 1,
    };
    let choice = random.below(5);
    let fpd = at > 0 && random.one_in(3);
    let entry = match choice {
        0 => entry & !1,
        1 => entry & 0xfff | NOWHERE,
        2 if at == 1 && !scene.mode.is_scalable() => entry | 3 << 2,
        2 if at == 3 => entry & !(7 << 6) | random.pick(&[0_u64, 5, 6, 7]) << 6,
        _ => {
            let bit = random.bit_of(reserved);
            if bit == 1 { entry & !1 } else { entry | bit }
        }
    };
    // QEMU heeds FPD only in context entries that are not present.
    let fpd = fpd && choice == 0 && at == 1;
    image.set(slot, entry | u64::from(fpd) << 1);
    if scene.mode == Mode::FirstStage && at == 3 && choice == 1 {
        image.set(slot, entry & 0xfff);
        image.set(slot + 16, NOWHERE);
    }
}
