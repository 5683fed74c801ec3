//! DMA by the devices: translation on, transfers in rounds, faults looked at and cleared.

use super::tables::{self, Mapping};
use super::{Scene, bits, queue};
use crate::differential::place::{EDUS, ROOT};
use crate::differential::script::{Group, Step};

const BUFFER: u64 = 0x4_0000;
const TO_MEMORY: u64 = 2;

/// Builds tables, switches translation on, and lets the devices transfer.
pub(super) fn scene(scene: &mut Scene) {
    for _ in 0..1 + scene.random.below(2) {
        let mappings = tables::build(scene, EDUS);
        turn_on(scene);
        for _ in 0..1 + scene.random.below(3) {
            round(scene, &mappings);
        }
        clear_faults(scene);
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
    group.set_quad(0x20, ROOT);
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
        let page = scene.random.pick(mappings).iova;
        // Where nothing is mapped, now and then.
        let page = if scene.random.one_in(10) { scene.random.below(1 << 16) << 12 } else { page };
        let offset = scene.random.below(0x1000);
        let count = 1 + scene.random.below((0x1000 - offset).min(64));
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

/// Looks at what has been recorded.
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
