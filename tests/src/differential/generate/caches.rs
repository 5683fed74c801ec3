//! Caches against invalidations: tables change while translations are cached, something is
//! invalidated, and a write shows whether it was this translation.

use super::image::{Image, Path, Stage};
use super::walks::{self, Mapping};
use super::{Scene, bits, queue};
use crate::differential::place::{DATA, DATA_PAGES, WRITERS, writer_id};
use crate::differential::random::Random;
use crate::differential::script::{Group, Step};

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A leaf names another page, or none.
    Leaf,
    /// The context entry's domain, or whether it exists.
    Context,
    /// The PASID table entry's domain, or whether it exists.
    PasidEntry,
    /// The root table pointer is latched again, or translation switched off and on.
    RootPointer,
}

/// Rounds of change, invalidation and write.
pub(super) fn scene(scene: &mut Scene, change: Change) {
    let writer = scene.random.below(WRITERS.len() as u64) as u8;
    let mut image = Image::default();
    let (path, mappings) = walks::build(scene, &mut image, writer);
    walks::turn_on(scene, &image);
    for _ in 0..1 + scene.random.below(4) {
        let mapping = &mappings[scene.random.below(mappings.len() as u64) as usize];
        round(scene, &image, &path, mapping, writer, change);
    }
}

fn round(
    scene: &mut Scene,
    image: &Image,
    path: &Path,
    mapping: &Mapping,
    writer: u8,
    change: Change,
) {
    walks::write(scene, writer, mapping, true);
    let mut group = Group::new("change the tables");
    let restored = alter(scene, &mut group, image, path, mapping, change);
    scene.groups.push(group);
    invalidate(scene, path, mapping, writer, change);
    let mut group = Group::new("write after the change");
    group.step(Step::Fill(DATA, 0x1000 * DATA_PAGES as usize, 0));
    let (iova, gpa) = mapping.address(&mut scene.random);
    group.step(Step::Write { writer, iova, gpa, count: 4 });
    walks::look(&mut group);
    group.step(Step::Peek(DATA, 0x1000 * DATA_PAGES as usize));
    for (at, value) in restored {
        group.poke(at, value);
    }
    scene.groups.push(group);
    everything(scene);
}

/// Changes an entry; returns what it was.
fn alter(
    scene: &mut Scene,
    group: &mut Group,
    image: &Image,
    path: &Path,
    mapping: &Mapping,
    change: Change,
) -> Vec<(u64, u64)> {
    let random = &mut scene.random;
    let (slot, value) = match change {
        Change::Leaf | Change::RootPointer => {
            let slot = mapping.slots.last().copied().unwrap_or(path.root);
            let bits = image.get(slot) & 0xfff;
            let moved = if mapping.level == 1 { walks::data_page(random) | bits } else { 0 };
            (slot, if random.one_in(3) { 0 } else { moved })
        }
        Change::Context | Change::PasidEntry => {
            let at = if change == Change::Context { 1 } else { path.above.len() - 1 };
            (path.above[at], image.get(path.above[at]) & !1)
        }
    };
    group.poke(slot, value);
    if change == Change::RootPointer && random.one_in(2) {
        scene.switch_off(group, bits::TE);
        scene.switch_on(group, bits::TE);
    } else if change == Change::RootPointer {
        scene.shoot(group, bits::SRTP);
    }
    vec![(slot, image.get(slot))]
}

/// An invalidation that may or may not be the right one.
fn invalidate(scene: &mut Scene, path: &Path, mapping: &Mapping, writer: u8, change: Change) {
    let random = &mut scene.random;
    let domain = (if random.one_in(3) { 1 + random.below(5) } else { path.domain }) << 16;
    let id = u64::from(if random.one_in(4) { 0x33 } else { writer_id(writer) }) << 32;
    // QEMU does not look at the domain, and drops all contexts for a domain's.
    let own = path.domain << 16;
    let context = match random.below(4) {
        0 => (0x11, 0),
        1 if scene.queue.is_some() => (0x21 | own, 0),
        _ => (0x31 | own | id | random.below(4) << 48, 0),
    };
    // QEMU uses a cached translation without a look at what is above it.
    let pick = if change == Change::Leaf { random.below(6) } else { 0 };
    let iotlb = match (path.stage, pick) {
        (_, 0) => (0x12, 0),
        (_, 1) => (0x22 | domain, 0),
        (Stage::First, 2) => (0x26 | domain | pasid(random) << 32, 0),
        (Stage::First, _) => (0x36 | domain | pasid(random) << 32, page(random, mapping)),
        (Stage::Second, _) => (0x32 | domain, page(random, mapping)),
    };
    let pasids = (random.pick(&[0x37, 0x07 | own, 0x17 | own]), 0);
    match (change, scene.queue.is_some()) {
        (Change::Leaf, true) if random.one_in(6) => {}
        (Change::Leaf, true) => queue::submit(scene, "invalidate some", &[iotlb]),
        (Change::RootPointer, true) => queue::submit(scene, "invalidate", &[(0x11, 0), (0x12, 0)]),
        (Change::Context, true) => queue::submit(scene, "invalidate contexts", &[context, iotlb]),
        // QEMU 11 goes on with a PASID entry of which P is cleared until the context is invalidated.
        (_, true) => {
            queue::submit(scene, "invalidate PASIDs", &[(0x11, 0), pasids, iotlb]);
        }
        (Change::Leaf, false) => super::dma::invalidate(scene, iotlb),
        (_, false) => {
            super::dma::invalidate(scene, context);
            super::dma::invalidate(scene, iotlb);
        }
    }
}

fn pasid(random: &mut Random) -> u64 {
    if random.one_in(4) { random.below(64) } else { 0 }
}

/// A page at the mapping or near it, with an address mask.
fn page(random: &mut Random, mapping: &Mapping) -> u64 {
    let mask = random.pick(&[0_u64, 0, 1, 2, 5, 9, 10, 17, 18]);
    let near = random.pick(&[0_u64, 0, 0, 1, 2, 1 << 9, 1 << 18]);
    (mapping.iova ^ near << 12) & !0xfff | mask
}

/// Drops all that is cached.
fn everything(scene: &mut Scene) {
    if scene.queue.is_some() {
        queue::flush(scene);
    } else {
        super::dma::invalidate(scene, (0x11, 0));
        super::dma::invalidate(scene, (0x12, 0));
    }
}
