//! Tables for the devices, right ones and slightly wrong ones. What scalable mode has above the
//! second stage is in [`super::scalable`].

use std::cell::Cell;

use super::{Scene, scalable};
use crate::Release;
use crate::differential::Mode;
use crate::differential::place::{CONTEXTS, DATA, DATA_PAGES, ROOT, TABLES, edu_id};
use crate::differential::random::Random;
use crate::differential::script::Group;

const READ: u64 = 1;
const WRITE: u64 = 2;
const LARGE: u64 = 1 << 7;
/// Bits of a second-stage entry that mean nothing to a unit without memory types.
const IGNORED: u64 = 1 << 2 | 0b111 << 3 | 1 << 10 | 0x1ff << 52;
/// An address beyond memory, which nothing answers.
pub(super) const NOWHERE: u64 = 0x4000_0000;
/// Bits above the host address width of 48.
pub(super) const BEYOND_HOST: u64 = 0b1111 << 48;

/// Mappings of a device at the most.
const MAPPINGS: u64 = 4;

/// A page that a device can use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    /// Where the device sees it.
    pub(super) iova: u64,
    /// A change of an entry that is right so far.
    pub(super) leaf: Option<Leaf>,
}

/// The entry that maps a page of 4 KiB, readable and writable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    /// Where the entry is.
    pub(super) slot: u64,
    /// The domain of its tree.
    pub(super) domain: u64,
}

/// Pages for tables, given out one after the other.
#[derive(Debug)]
pub(super) struct Allocator {
    next: u64,
}

impl Allocator {
    pub(super) fn new() -> Self {
        Self { next: TABLES }
    }

    /// A page, which [`build`] has zeroed.
    pub(super) fn page(&mut self) -> u64 {
        let page = self.next;
        self.next += 0x1000;
        page
    }
}

/// Writes the root entry of bus 0 and a context for each of `edus` devices, with tables of their
/// own. Returns what each can use.
pub(super) fn build(scene: &mut Scene, edus: u8) -> Vec<Vec<Mapping>> {
    let mut group = Group::new("build tables");
    let mut allocator = Allocator::new();
    group.step(crate::differential::Step::Fill(TABLES, 0x8_0000, 0));
    let (mode, release, random) = (scene.mode, scene.release, &mut scene.random);
    let wrong_root = random.one_in(24);
    let (low, high) = match mode {
        Mode::Scalable | Mode::FirstStage => scalable::root(random, wrong_root),
        Mode::Legacy | Mode::Remapping => legacy_root(random, wrong_root),
    };
    group.poke(ROOT, low).poke(ROOT + 8, high);
    let mut contexts: Vec<Context> = Vec::new();
    for edu in 0..edus {
        // A domain has one tree; devices can share it.
        let mut context = match contexts.last() {
            Some(context) if random.one_in(5) => context.clone(),
            _ => {
                let domain = u64::from(edu) + 1;
                let make = if mode.is_scalable() { scalable::context } else { legacy_context };
                make(random, &mut group, &mut allocator, domain, release)
            }
        };
        if wrong_root {
            context.mappings.iter_mut().for_each(|mapping| mapping.leaf = None);
        }
        let slot = match mode {
            Mode::Scalable | Mode::FirstStage => scalable::context_slot(edu),
            Mode::Legacy | Mode::Remapping => CONTEXTS + 16 * u64::from(edu_id(edu)),
        };
        for (at, qword) in (slot..).step_by(8).zip(&context.entry) {
            group.poke(at, *qword);
        }
        contexts.push(context);
    }
    scene.groups.push(group);
    contexts.into_iter().map(|context| context.mappings).collect()
}

fn legacy_root(random: &mut Random, wrong: bool) -> (u64, u64) {
    let root = CONTEXTS | 1;
    match wrong.then(|| random.below(5)) {
        Some(0) => (root & !1, 0),
        Some(1) => (root | random.bit_of(0xffe), 0),
        Some(2) => (root, random.value() | 1),
        Some(3) => (NOWHERE | 1, 0),
        Some(_) => (root | random.bit_of(BEYOND_HOST), 0),
        None => (root, 0),
    }
}

/// A context entry, and what is mapped below it.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) entry: Vec<u64>,
    pub(super) mappings: Vec<Mapping>,
}

/// The tables of one device.
///
/// Devices have 28 address bits, so that their upper tables have one index only: all mappings share
/// them, down to the table of level 2.
pub(super) struct Tree {
    pub(super) root: u64,
    pub(super) levels: u64,
    domain: u64,
    /// The tables below the entries of levels 3 and 4.
    upper: [u64; 2],
    /// No mapping has put anything wrong into the upper tables.
    is_right: Cell<bool>,
}

impl Tree {
    pub(super) fn new(random: &mut Random, allocator: &mut Allocator, domain: u64) -> Self {
        let levels = random.pick(&[3_u64, 4, 4]);
        let mut page = || allocator.page();
        let (root, upper) = (page(), [page(), page()]);
        Self { root, levels, domain, upper, is_right: Cell::new(true) }
    }

    /// Maps some pages. `wrong`: what leads to the tree is not right.
    pub(super) fn fill(
        &self,
        random: &mut Random,
        group: &mut Group,
        allocator: &mut Allocator,
        wrong: bool,
    ) -> Vec<Mapping> {
        let count = 1 + random.below(MAPPINGS);
        let mut mappings: Vec<_> =
            (0..count).map(|index| mapping(random, group, allocator, self, index)).collect();
        for mapping in &mut mappings {
            // An upper table that is wrong is wrong for all.
            mapping.leaf = mapping.leaf.filter(|_| !wrong && self.is_right.get());
            if let Some(leaf) = &mut mapping.leaf {
                leaf.domain = self.domain;
            }
        }
        mappings
    }
}

/// The view of a device whose addresses pass through, of which nothing can be changed.
pub(super) fn passed_through(random: &mut Random) -> Vec<Mapping> {
    (0..4).map(|_| Mapping { iova: data_page(random), leaf: None }).collect()
}

fn legacy_context(
    random: &mut Random,
    group: &mut Group,
    allocator: &mut Allocator,
    domain: u64,
    _release: Release,
) -> Context {
    let named = domain << 8;
    if random.one_in(6) {
        // Pass-through, of the width that the unit has.
        let fpd = u64::from(random.one_in(4)) << 1;
        let entry = vec![1 | 2 << 2 | fpd, 2 | named];
        return Context { entry, mappings: passed_through(random) };
    }
    let tree = Tree::new(random, allocator, domain);
    let translation_type = u64::from(random.one_in(3)) << 2;
    let (mut low, mut high) = (tree.root | 1 | translation_type, (tree.levels - 2) | named);
    let wrong = random.one_in(12);
    if wrong {
        match random.below(7) {
            0 => low &= !1,
            1 => low |= 3 << 2,
            2 => low |= random.bit_of(0xff0),
            3 => low |= random.bit_of(BEYOND_HOST),
            4 => high = high & !7 | random.pick(&[0, 3, 4, 5, 6, 7]),
            5 => high |= random.bit_of(1 << 7 | 0xffff_ffff << 24),
            _ => low = low & 0xfff | NOWHERE,
        }
    } else {
        low |= u64::from(random.one_in(6)) << 1;
        // Bits that mean nothing.
        high |= if random.one_in(4) { random.below(16) << 3 } else { 0 };
    }
    let mappings = tree.fill(random, group, allocator, wrong);
    Context { entry: vec![low, high], mappings }
}

/// A page that DMA may read and write.
pub(super) fn data_page(random: &mut Random) -> u64 {
    DATA + 0x1000 * random.below(DATA_PAGES)
}

/// Maps a page or a large page somewhere in the part of the address space that is the mapping's.
fn mapping(
    random: &mut Random,
    group: &mut Group,
    allocator: &mut Allocator,
    tree: &Tree,
    index: u64,
) -> Mapping {
    let part = (1 << 28) / MAPPINGS;
    let mut iova = (index * part + random.below(part)) & !0xfff;
    let wrong_level = random.one_in(8).then(|| 1 + random.below(tree.levels));
    let mut table = tree.root;
    let mut leaf = None;
    let mut full_rights = true;
    for level in (1..=tree.levels).rev() {
        let slot = table + 8 * (iova >> (12 + 9 * (level - 1)) & 0x1ff);
        let large = level == 2 && random.one_in(6);
        let last = level == 1 || large;
        table = match level {
            3 | 4 => tree.upper[(level - 3) as usize],
            2 if large => {
                iova = iova & !0x1f_ffff | (data_page(random) - DATA);
                DATA
            }
            2 => allocator.page(),
            _ => data_page(random),
        };
        let size = if large { LARGE } else { 0 };
        let ignored = if random.one_in(3) { random.bits() & IGNORED } else { 0 };
        // Units may look at rights early or late: what lacks one has no other fault.
        let lacking = level <= 2 && wrong_level.is_none() && random.one_in(10);
        let rights = if lacking { random.below(4) } else { READ | WRITE };
        full_rights &= rights == READ | WRITE;
        let mut entry = table | size | rights | ignored;
        if wrong_level == Some(level) {
            entry = wrong_entry(random, entry, level, last);
            tree.is_right.set(tree.is_right.get() && level <= 2);
        }
        group.poke(slot, entry);
        if last {
            let usable = !large && full_rights && wrong_level.is_none();
            leaf = usable.then_some(Leaf { slot, domain: 0 });
            break;
        }
    }
    Mapping { iova, leaf }
}

/// An entry that a unit must refuse.
fn wrong_entry(random: &mut Random, entry: u64, level: u64, last: bool) -> u64 {
    let reserved = match (level, last) {
        (2, true) => 0x1f_f000,
        (4, _) => LARGE,
        _ => 0,
    };
    match random.below(4) {
        0 => entry & !(READ | WRITE),
        1 if !last => entry & 0xfff | NOWHERE,
        // Into the interrupt range.
        2 if level == 1 => entry & 0xfff | 0xfee0_0000,
        _ => entry | random.bit_of(reserved | BEYOND_HOST | 1 << 11),
    }
}
