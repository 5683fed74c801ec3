//! DMA by the devices: translation on, transfers in rounds, faults looked at and cleared.

use super::tables::{self, Mapping};
use super::{Scene, bits, queue, scalable};
use crate::differential::place::{EDUS, ROOT};
use crate::differential::script::{Group, Step};

const BUFFER: u64 = 0x4_0000;
const TO_MEMORY: u64 = 2;

/// Builds tables, switches translation on, and lets the devices transfer.
pub(super) fn scene(scene: &mut Scene) {
    if scene.mode.is_scalable() && scene.queue.is_none() {
        // Invalidation by registers belongs to legacy mode.
        queue::enable(scene, 0);
    }
    for _ in 0..1 + scene.random.below(2) {
        let mappings = tables::build(scene, EDUS);
        turn_on(scene);
        for _ in 0..1 + scene.random.below(3) {
            round(scene, &mappings);
        }
        clear_faults(scene);
        for edu in 0..EDUS {
            stale(scene, edu, &mappings[usize::from(edu)]);
        }
        if scene.random.one_in(3) {
            let mut group = Group::new("switch translation off");
            scene.switch_off(&mut group, bits::TE);
            scene.groups.push(group);
        }
    }
}

/// Latches the tables, drops what is cached of older ones, switches translation on.
fn turn_on(scene: &mut Scene) {
    let mut group = Group::new("latch the tables");
    group.set_quad(0x20, ROOT | scalable::table_mode(scene.mode));
    scene.shoot(&mut group, bits::SRTP);
    if scene.queue.is_none() {
        // By registers: contexts, then translations.
        let global = 1 << 61 | 1 << 63;
        group.set_quad(0x28, global).check(0x2c, 0x8000_0000);
        group.set_quad(0xf8, 1 << 60 | 1 << 63).check(0xfc, 0x8000_0000);
    }
    scene.groups.push(group);
    queue::flush(scene);
    let mut group = Group::new("switch translation on");
    scene.switch_on(&mut group, bits::TE);
    scene.groups.push(group);
}

/// A transfer of each of some devices, at once; then a look at the faults.
fn round(scene: &mut Scene, mappings: &[Vec<Mapping>]) {
    let mut group = Group::new("transfers");
    for (edu, mappings) in (0..EDUS).zip(mappings) {
        if scene.random.one_in(3) || mappings.is_empty() {
            continue;
        }
        let mapping = scene.random.pick(mappings);
        // One address in ten is random, and most likely not mapped.
        let astray = scene.random.one_in(10);
        let page = if astray { scene.random.below(1 << 16) << 12 } else { mapping.iova };
        let works = !astray && mapping.leaf.is_some() && page < 0x0fff_f000;
        let offset = scene.random.below(0x1000);
        // Into the next page only from one that works: of two faults QEMU drops the second.
        let room = if works && scene.random.one_in(4) { 64 } else { (0x1000 - offset).min(64) };
        let count = 1 + scene.random.below(room);
        let (memory, device) = (page + offset, BUFFER + scene.random.below(0xf00));
        let step = match scene.random.below(2) {
            0 => Step::Dma { edu, source: memory, destination: device, count, command: 0 },
            _ => Step::Dma { edu, source: device, destination: memory, count, command: TO_MEMORY },
        };
        group.step(step);
    }
    group.step(Step::Settle);
    faults(&mut group);
    scene.groups.push(group);
    clear_faults(scene);
}

/// Moves a page while its translation is cached, invalidates something, and writes to the page. The
/// write goes to the new place if the invalidation covered the page, to the old one if not.
fn stale(scene: &mut Scene, edu: u8, mappings: &[Mapping]) {
    if mappings.is_empty() || scene.random.one_in(2) {
        return;
    }
    let Mapping { iova, leaf: Some(leaf) } = scene.random.pick(mappings) else { return };
    let random = &mut scene.random;
    let mut group = Group::new("move a page");
    let transfer =
        |source, destination, command| Step::Dma { edu, source, destination, count: 8, command };
    group.step(transfer(iova, BUFFER, 0)).step(Step::Settle);
    group.poke(leaf.slot, tables::data_page(random) | 3);
    let domain = if random.one_in(3) { 1 + random.below(5) } else { leaf.domain };
    // The invalidation may also name pages around it, or only other pages.
    let mask = random.below(12);
    // QEMU 7.2 looks at eight bits of the page number, and so drops more pages than these.
    let any_bit = 1 << random.below(8);
    let page = ((iova >> 12) ^ random.pick(&[0, 0, 1, any_bit])) << 12;
    let scope = random.below(6);
    scene.groups.push(group);
    match scope {
        0 => {}
        1 => invalidate(scene, (0x12, 0)),
        2 => invalidate(scene, (0x22 | domain << 16, 0)),
        3 => invalidate(scene, (0x11, 0)),
        _ => invalidate(scene, (0x32 | domain << 16, page | mask)),
    }
    let mut group = Group::new("write to the page that has moved");
    let offset = 8 * scene.random.below(512);
    group.step(transfer(BUFFER + 64, iova + offset, TO_MEMORY)).step(Step::Settle);
    faults(&mut group);
    scene.groups.push(group);
    clear_faults(scene);
}

/// Does what a descriptor says, by the queue or, while that is off, by registers.
pub(super) fn invalidate(scene: &mut Scene, (low, high): (u64, u64)) {
    if scene.queue.is_some() {
        queue::submit(scene, "invalidate some", &[(low, high)]);
        return;
    }
    let mut group = Group::new("invalidate some by registers");
    let (granularity, domain) = (low >> 4 & 3, low >> 16 & 0xffff);
    if low & 0xf == 1 {
        group.set_quad(0x28, 1 << 63 | granularity << 61 | domain).check(0x2c, 0xf800_0000);
    } else {
        group.set_quad(0xf0, high).set_quad(0xf8, 1 << 63 | granularity << 60 | domain << 32);
        group.check(0xfc, 0xb600_0000);
    }
    scene.groups.push(group);
}

/// Compares the fault record and the fault status.
fn faults(group: &mut Group) {
    group.check(0x34, u32::MAX).check(0x38, u32::MAX).step(Step::Record);
}

/// Clears the record and the status, as a driver does it.
fn clear_faults(scene: &mut Scene) {
    let mut group = Group::new("clear faults");
    group.set(0x22c, 0x8000_0000).set(0x34, bits::PFO).check(0x34, u32::MAX).check(0x38, u32::MAX);
    scene.groups.push(group);
    if scene.queue.is_some() {
        queue::flush(scene);
    } else {
        let mut group = Group::new("invalidate everything by registers");
        group.set_quad(0x28, 1 << 61 | 1 << 63).set_quad(0xf8, 1 << 60 | 1 << 63);
        scene.groups.push(group);
    }
}
