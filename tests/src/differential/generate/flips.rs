//! Single bits of entries and descriptors: each is flipped in a script that is right otherwise.

use super::image::{Image, lead};
use super::interrupts::send;
use super::kinds::setup;
use super::walks::{self, look};
use super::{Scene, bits, prologue, queue, scalable};
use crate::Release;
use crate::differential::Mode;
use crate::differential::place::{DATA, INTERRUPTS, STATUS, edu_id, writer_id};
use crate::differential::script::{Group, Script, Step};

/// The structures whose bits are flipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Structure {
    /// Root, context, PASID directory, PASID table and paging entries.
    Tables,
    /// Descriptors of the queue.
    Descriptors,
    /// Interrupt remapping table entries.
    Interrupts,
}

/// The bit `bit` of the quad word at `slot`, on the way to the mapping `mapping`.
#[derive(Debug, Clone, Copy)]
struct Flip {
    slot: u64,
    bit: u32,
    mapping: usize,
}

/// The device that writes: the one whose contexts are in the lower half of a root entry.
const WRITER: u8 = 0;
/// The place in a page that is written: no table has an entry there.
const OFFSET: u64 = 0xe00;

/// The base of the flips of tables: three mappings, one of each page size.
fn tables(mode: Mode) -> (Image, Vec<u64>, Vec<Flip>) {
    let mut image = Image::default();
    let path = lead(&mut image, mode, writer_id(WRITER), 1, 4);
    let pages = [(1, 1, DATA), (2, 2, DATA), (3, 3, 0)];
    let mut flips = Vec::new();
    let mut iovas = Vec::new();
    for (mapping, (index, level, target)) in pages.into_iter().enumerate() {
        let iova = index << 39 | index << 30 | 0x20_0000 & !((1 << (9 * (level - 1) + 12)) - 1);
        let slots = path.map(&mut image, iova, level, target);
        // The 1-GiB page begins at 0.
        iovas.push(iova + if level == 3 { DATA } else { 0 });
        flips.extend(slots.iter().map(|slot| (*slot, mapping)));
    }
    let words = |slot: &u64, count: u64| (0..count).map(|at| slot + 8 * at).collect::<Vec<_>>();
    let sizes: &[u64] = if mode.is_scalable() { &[2, 4, 1, 8] } else { &[2, 2] };
    let above = path.above.iter().zip(sizes).flat_map(|(slot, count)| words(slot, *count));
    let slots = above.map(|slot| (slot, 0)).chain(flips);
    let flips =
        slots.flat_map(|(slot, mapping)| (0..64).map(move |bit| Flip { slot, bit, mapping }));
    (image, iovas, flips.collect())
}

/// Descriptors that are right in a mode.
fn descriptors(mode: Mode) -> Vec<[u64; 4]> {
    let device = u64::from(edu_id(0)) << 32;
    let mut all = vec![
        [0x11, 0, 0, 0],
        [0x21 | 1 << 16, 0, 0, 0],
        [0x31 | 1 << 16 | device, 0, 0, 0],
        [0x12, 0, 0, 0],
        [0x22 | 1 << 16, 0, 0, 0],
        [0x32 | 1 << 16, 0x1000, 0, 0],
        [0x25 | 0x600d << 32, STATUS + 0x800, 0, 0],
        [0x15, 0, 0, 0],
    ];
    match mode {
        Mode::Legacy => {}
        Mode::Remapping => all.extend([[0x04, 0, 0, 0], [0x14, 0, 0, 0]]),
        Mode::Scalable | Mode::FirstStage => all.extend([
            [0x07 | 1 << 16, 0, 0, 0],
            [0x17 | 1 << 16 | 1 << 32, 0, 0, 0],
            [0x37, 0, 0, 0],
            [0x26 | 1 << 16, 0, 0, 0],
            [0x36 | 1 << 16, 0x1000, 0, 0],
        ]),
    }
    all
}

/// Interrupt remapping table entries that are right.
const ENTRIES: [(u64, u64); 2] = [(1 | 0x41 << 16 | 5 << 40, 0), (1 | 0x42 << 16, 1 << 18)];

/// Number of flips of a structure.
pub fn count(structure: Structure, mode: Mode) -> u64 {
    let count = match structure {
        Structure::Tables => tables(mode).2.len(),
        Structure::Descriptors => {
            descriptors(mode).len() * if mode.is_scalable() { 256 } else { 128 }
        }
        Structure::Interrupts => ENTRIES.len() * 128,
    };
    count as u64
}

/// Whether the two units are known to differ in this flip, `docs/differences.md`.
pub fn is_known(structure: Structure, mode: Mode, flip: u64) -> bool {
    match structure {
        Structure::Tables => is_known_table(mode, flip),
        Structure::Descriptors => is_known_descriptor(mode, flip),
        Structure::Interrupts => is_known_interrupt(flip),
    }
}

/// The first flip of each structure above the page tables of scalable mode.
const CONTEXT: u64 = 128;
const DIRECTORY: u64 = CONTEXT + 256;
const PASID_ENTRY: u64 = DIRECTORY + 64;
const PAGES: u64 = PASID_ENTRY + 512;

fn is_known_table(mode: Mode, flip: u64) -> bool {
    if !mode.is_scalable() {
        return false;
    }
    let first_stage = mode == Mode::FirstStage;
    match flip {
        0..64 => false,
        // Reserved bits of the half of a root entry that is not used.
        64..CONTEXT => true,
        CONTEXT..DIRECTORY => match flip - CONTEXT {
            // PASIDE and PRE; a directory that is another table, whose entries have FPD; RID_PASID.
            3 | 4 | 12..16 | 64..85 => true,
            _ => false,
        },
        // Reserved bits, and tables of zeros.
        DIRECTORY..PASID_ENTRY => !matches!(flip - DIRECTORY, 0 | 1 | 28..48),
        PASID_ENTRY..PAGES => match flip - PASID_ENTRY {
            // QEMU checks no reserved bits.
            5 | 9..=11 | 48..=63 | 80..=86 | 89..=127 | 129 | 135..=139 | 176..=511 => true,
            // Without a first stage its fields are reserved.
            128..=191 if !first_stage => true,
            // AW, the fields of the second stage, PWSNP and SRE; rights of a table that is no page table.
            3 | 12..=47 | 87 | 88 | 128 | 141 => first_stage,
            _ => false,
        },
        // Rights of a table that is no page table, above one that is absent.
        _ => first_stage && flip == PAGES + 12,
    }
}

/// IM, which asks for posting, the destination's bits that have no meaning without EIM, and the bit
/// that makes SVT of the second entry 3.
fn is_known_interrupt(flip: u64) -> bool {
    matches!(flip % 128, 15 | 32..=39 | 48..=63) || flip == 128 + 83
}

fn is_known_descriptor(mode: Mode, flip: u64) -> bool {
    let size = if mode.is_scalable() { 256 } else { 128 };
    let right = descriptors(mode)[(flip / size) as usize];
    let mut qwords = right;
    qwords[(flip % size / 64) as usize] ^= 1 << (flip % 64);
    let kind = qwords[0] & 0xf | qwords[0] >> 5 & 0x70;
    match kind {
        // No function answers: the descriptor stays pending here. QEMU takes page group responses.
        3 | 8 | 9 => true,
        // An index mask beyond 15; without interrupt remapping QEMU takes these descriptors as well.
        4 => qwords[0] >> 31 & 1 != 0 || mode != Mode::Remapping,
        // An address mask beyond MAMV.
        6 => qwords[1] & 0x3f > 18,
        // Neither status nor interrupt; both, with which QEMU ends; a status that is not in memory.
        5 => matches!(qwords[0] & 0x30, 0x00 | 0x30) || qwords[1] >> 28 != 0,
        _ => false,
    }
}

/// A script with the flips of these numbers, below [`count`].
pub fn script(structure: Structure, mode: Mode, release: Release, flips: &[u64]) -> Script {
    let mut scene = Scene::new(0, mode, release);
    scene.groups.push(match structure {
        Structure::Interrupts => prologue(),
        Structure::Tables | Structure::Descriptors => setup(release),
    });
    if mode.is_scalable() {
        scalable::latch(&mut scene);
    }
    match structure {
        Structure::Tables => of_tables(&mut scene, flips),
        Structure::Descriptors => of_descriptors(&mut scene, flips),
        Structure::Interrupts => of_interrupts(&mut scene, flips),
    }
    Script { groups: scene.groups }
}

fn of_tables(scene: &mut Scene, numbers: &[u64]) {
    let (image, iovas, flips) = tables(scene.mode);
    let mut group = Group::new("build tables");
    image.write(&mut group);
    scene.groups.push(group);
    walks::turn_on(scene, &Image::default());
    if scene.queue.is_none() {
        queue::enable(scene, 0);
    }
    for number in numbers {
        let flip = flips[*number as usize];
        let entry = image.get(flip.slot);
        let mut group = Group::new(format!("flip {number}: bit {} at {:#x}", flip.bit, flip.slot));
        group.poke(flip.slot, entry ^ 1 << flip.bit);
        let (iova, gpa) = (iovas[flip.mapping] + OFFSET, DATA + OFFSET);
        group.step(Step::Fill(gpa, 4, 0));
        group.step(Step::Write { writer: WRITER, iova, gpa, count: 4 });
        look(&mut group);
        // The two units set accessed and dirty bits in another way if there are faults, or older bits.
        let compared = if scene.mode == Mode::FirstStage { !0x60 } else { u64::MAX };
        group.step(Step::ReadQuad(flip.slot, compared)).poke(flip.slot, entry);
        scene.groups.push(group);
        queue::flush(scene);
    }
}

fn of_descriptors(scene: &mut Scene, numbers: &[u64]) {
    let size = if scene.mode.is_scalable() { 256 } else { 128 };
    queue::enable(scene, 0);
    for number in numbers {
        let mut qwords = descriptors(scene.mode)[(number / size) as usize];
        qwords[(number % size / 64) as usize] ^= 1 << (number % 64);
        queue::try_one(scene, &format!("flip {number}"), qwords);
    }
}

fn of_interrupts(scene: &mut Scene, numbers: &[u64]) {
    queue::enable(scene, 0);
    let mut group = Group::new("an interrupt table");
    group.set_quad(0xb8, INTERRUPTS | 3);
    scene.shoot(&mut group, bits::SIRTP);
    scene.switch_on(&mut group, bits::IRE);
    scene.groups.push(group);
    for number in numbers {
        let (mut low, mut high) = ENTRIES[(number / 128) as usize];
        high |= if *number >= 128 { u64::from(edu_id(0)) } else { 0 };
        match number % 128 {
            bit @ 0..64 => low ^= 1 << bit,
            bit => high ^= 1 << (bit - 64),
        }
        let mut group = Group::new(format!("flip {number}"));
        group.poke(INTERRUPTS, low).poke(INTERRUPTS + 8, high);
        send(&mut group, 0, 0xfee0_0010, 0);
        look(&mut group);
        scene.groups.push(group);
        queue::submit(scene, "invalidate interrupt entries", &[(0x04, 0)]);
    }
}
