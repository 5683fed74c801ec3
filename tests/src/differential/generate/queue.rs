//! The invalidation queue: batches of descriptors, good ones and bad ones, waits, and recovery.

use super::{Scene, bits};
use crate::differential::Mode;
use crate::differential::place::{RING, STATUS, edu_id};
use crate::differential::random::Random;
use crate::differential::script::Group;

/// Where the queue is.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// IQA.QS.
    size: u8,
    /// IQA.DW: descriptors have 256 bits.
    wide: bool,
    /// The next slot.
    tail: u64,
    /// A wait that has been written, by number: each has a status word of its own.
    waits: u64,
}

impl Queue {
    fn slots(self) -> u64 {
        (4096 << self.size) / self.slot_bytes()
    }

    fn slot_bytes(self) -> u64 {
        if self.wide { 32 } else { 16 }
    }

    /// Where a slot is.
    fn address(self, slot: u64) -> u64 {
        RING + self.slot_bytes() * slot
    }

    /// The value of IQT for a slot. A ring has 512 KiB at the most.
    fn offset(self, slot: u64) -> u32 {
        (self.slot_bytes() * slot) as u32
    }
}

/// Invalidates everything, and waits for it.
const CONTEXT_GLOBAL: (u64, u64) = (0x11, 0);
const IOTLB_GLOBAL: (u64, u64) = (0x12, 0);
const PASIDS_GLOBAL: (u64, u64) = (0x37, 0);

/// Some batches.
pub(super) fn scene(scene: &mut Scene) {
    if scene.queue.is_none() {
        let size = u8::try_from(scene.random.below(3)).unwrap_or(0);
        enable(scene, size);
    }
    for _ in 0..1 + scene.random.below(4) {
        batch(scene);
    }
    if scene.random.one_in(4) {
        tail_outside(scene);
    }
    if scene.random.one_in(3) {
        disable(scene);
    }
}

/// Switches the queue on.
pub(super) fn enable(scene: &mut Scene, size: u8) {
    let mut group = Group::new("switch the queue on");
    let wide = scene.mode.is_scalable();
    group.set(0x88, 0).set_quad(0x90, RING | u64::from(wide) << 11 | u64::from(size));
    scene.switch_on(&mut group, bits::QIE);
    group.check(0x80, u32::MAX);
    scene.queue = Some(Queue { size, wide, tail: 0, waits: 0 });
    scene.groups.push(group);
}

/// Switches it off, after a wait as QEMU wants it.
fn disable(scene: &mut Scene) {
    submit(scene, "a last wait", &[]);
    let mut group = Group::new("switch the queue off");
    scene.switch_off(&mut group, bits::QIE);
    group.check(0x80, u32::MAX).set(0x88, 0);
    scene.queue = None;
    scene.groups.push(group);
}

/// Puts descriptors and a wait with a status write on the queue, and looks at what has come of it.
pub(super) fn submit(scene: &mut Scene, label: &str, descriptors: &[(u64, u64)]) {
    let Some(mut queue) = scene.queue else { return };
    let mut group = Group::new(label);
    for descriptor in descriptors {
        put(&mut group, &mut queue, *descriptor);
    }
    let wait = status_write(&mut queue, scene.random.bits() as u32);
    put(&mut group, &mut queue, wait);
    ring(&mut group, queue);
    scene.queue = Some(queue);
    scene.groups.push(group);
}

/// Submits one descriptor, looks at what has come of it, and mends it if it was refused.
pub(super) fn try_one(scene: &mut Scene, label: &str, qwords: [u64; 4]) {
    let Some(mut queue) = scene.queue else { return };
    let mut group = Group::new(label);
    let slot = queue.address(queue.tail);
    put(&mut group, &mut queue, (qwords[0], qwords[1]));
    if queue.wide {
        group.poke(slot + 16, qwords[2]).poke(slot + 24, qwords[3]);
    }
    ring(&mut group, queue);
    group.poke(slot, 0x12).poke(slot + 8, 0);
    if queue.wide {
        group.poke(slot + 16, 0).poke(slot + 24, 0);
    }
    // QEMU needs the tail to be written again.
    group.set(0x34, bits::IQE);
    ring(&mut group, queue);
    group.set(0x9c, 1).check(0x9c, u32::MAX);
    scene.queue = Some(queue);
    scene.groups.push(group);
}

/// Drops all that the unit may have cached.
pub(super) fn flush(scene: &mut Scene) {
    let all: &[_] = match scene.mode {
        Mode::Scalable | Mode::FirstStage => &[CONTEXT_GLOBAL, PASIDS_GLOBAL, IOTLB_GLOBAL],
        Mode::Legacy | Mode::Remapping => &[CONTEXT_GLOBAL, IOTLB_GLOBAL],
    };
    submit(scene, "invalidate everything", all);
}

fn put(group: &mut Group, queue: &mut Queue, (low, high): (u64, u64)) {
    let slot = queue.address(queue.tail);
    group.poke(slot, low).poke(slot + 8, high);
    if queue.wide {
        group.poke(slot + 16, 0).poke(slot + 24, 0);
    }
    queue.tail = (queue.tail + 1) % queue.slots();
}

/// The doorbell, and a look at head and errors.
fn ring(group: &mut Group, queue: Queue) {
    group.set(0x88, queue.offset(queue.tail));
    group.check(0x80, u32::MAX).check(0x34, u32::MAX).check(0x38, u32::MAX);
    group.check(0x9c, u32::MAX).check(0xa0, u32::MAX);
}

fn status_write(queue: &mut Queue, data: u32) -> (u64, u64) {
    queue.waits += 1;
    (0x25 | u64::from(data) << 32, STATUS + 4 * (queue.waits % 1024))
}

/// A batch, in which one descriptor may be wrong; then it is mended.
fn batch(scene: &mut Scene) {
    let Some(mut queue) = scene.queue else { return };
    let length = match scene.random.below(8) {
        0 => queue.slots() - 1 - scene.random.below(4),
        1 => 60 + scene.random.below(40),
        _ => 1 + scene.random.below(8),
    };
    let wrong = scene.random.one_in(3).then(|| scene.random.below(length));
    let mut group = Group::new("a batch of descriptors");
    let mut bad_slot = 0;
    for index in 0..length {
        let descriptor = if Some(index) == wrong {
            bad_slot = queue.tail;
            wrong_descriptor(&mut scene.random)
        } else {
            descriptor(&mut scene.random, &mut queue, scene.mode)
        };
        put(&mut group, &mut queue, descriptor);
    }
    // QEMU's queue can only be switched off behind a wait.
    let wait = status_write(&mut queue, 0x600d);
    put(&mut group, &mut queue, wait);
    ring(&mut group, queue);
    if wrong.is_some() {
        group.label = "a batch with a bad descriptor, which is mended".to_owned();
        // QEMU needs the tail to be written again, so that nothing is looked at before.
        let slot = queue.address(bad_slot);
        group.poke(slot, 0x12).poke(slot + 8, 0);
        group.set(0x34, bits::IQE);
        ring(&mut group, queue);
    }
    if scene.random.one_in(2) {
        group.set(0x9c, 1).check(0x9c, u32::MAX).check(0xa0, u32::MAX);
    }
    scene.queue = Some(queue);
    scene.groups.push(group);
}

/// A descriptor that both units take.
fn descriptor(random: &mut Random, queue: &mut Queue, mode: Mode) -> (u64, u64) {
    let domain = (random.below(6) | u64::from(random.one_in(8)) << 15) << 16;
    let source = u64::from(edu_id(random.below(5) as u8)) << 32;
    let kinds = if mode.is_scalable() { 10 } else { 8 };
    match random.below(kinds) {
        0 => (0x11, 0),
        1 => (0x21 | domain, 0),
        2 => (0x31 | domain | source | random.below(4) << 48, 0),
        3 => (0x12 | random.below(4) << 6, 0),
        4 => (0x22 | domain | random.below(4) << 6, 0),
        5 => {
            let page = random.below(1 << 16) << 12;
            (0x32 | domain | random.below(4) << 6, page | random.below(2) << 6 | random.below(19))
        }
        // An interrupt instead of a status write; both at once QEMU does not survive.
        6 if random.one_in(2) => (0x15 | random.below(2) << 6, 0),
        // PASIDs are known by 20 bits; neither unit has first-stage translations to drop.
        8 => (0x07 | random.pick(&[0_u64, 1, 3]) << 4 | domain | random.below(1 << 20) << 32, 0),
        9 => {
            let page = random.below(1 << 16) << 12;
            let low = 0x06 | random.pick(&[2_u64, 3]) << 4 | domain | random.below(1 << 20) << 32;
            (low, page | random.below(2) << 6 | random.below(19))
        }
        7 if mode == Mode::Remapping => (0x04 | random.below(2) << 4, 0),
        _ => {
            let (low, high) = status_write(queue, random.bits() as u32);
            (low | random.below(2) << 6, high)
        }
    }
}

/// A descriptor that no unit takes: a type that there is not, no granularity, a reserved bit.
fn wrong_descriptor(random: &mut Random) -> (u64, u64) {
    let reserved = |random: &mut Random, low: u64, (low_mask, high_mask): (u64, u64)| {
        if random.one_in(2) || high_mask == 0 {
            (low | random.bit_of(low_mask), 0)
        } else {
            (low, random.bit_of(high_mask))
        }
    };
    match random.below(7) {
        // Type 0, and types that do not exist.
        0 => (random.pick(&[0_u64, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f]), random.bits()),
        1 => (random.pick(&[0x01_u64, 0x02]) | random.below(1 << 16) << 16, 0),
        // Above MAMV.
        2 => (0x32, 19 + random.below(45)),
        3 => reserved(random, 0x11, (0xfffc_0000_0000_f1c0, u64::MAX)),
        4 => reserved(random, 0x12, (0xffff_ffff_0000_f100, 0x0f80)),
        5 => reserved(random, 0x03, (0xffff_0000_ffe0_f1f0, 0x0ffe)),
        _ => reserved(random, 0x25, (0x0000_0000_ffff_f180, 0b11)),
    }
}

/// A tail that is not in the ring; then one that is.
fn tail_outside(scene: &mut Scene) {
    let Some(queue) = scene.queue else { return };
    let mut group = Group::new("a tail outside of the ring");
    let largest = 0x8_0000 / queue.slot_bytes();
    let outside = queue.slots() + scene.random.below(largest - queue.slots());
    group.set(0x88, queue.offset(outside)).check(0x80, u32::MAX).check(0x34, u32::MAX);
    // Back before the error is cleared: with the bad tail it would come again.
    group.set(0x88, queue.offset(queue.tail)).set(0x34, bits::IQE);
    ring(&mut group, queue);
    scene.groups.push(group);
}
