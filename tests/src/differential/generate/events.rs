//! Event registers: masked, pending, sent.

use super::{Scene, bits, queue};
use crate::differential::script::{Group, Step};

/// Programs an event's message, provokes the event, and plays with its mask.
pub(super) fn scene(scene: &mut Scene) {
    let mut group = Group::new("program fault and completion events");
    for base in [0x38_u16, 0xa0] {
        let data = scene.random.below(256) as u32;
        let address = 0xfee0_0000 | (scene.random.below(4) as u32) << 12;
        group.set(base + 4, data).set(base + 8, address);
        let mask = scene.random.pick(&[0_u32, 0x8000_0000]);
        group.set(base, mask).check(base, u32::MAX);
    }
    scene.groups.push(group);
    if scene.queue.is_none() {
        queue::enable(scene, 0);
    }
    for _ in 0..1 + scene.random.below(6) {
        provoke(scene);
    }
}

fn provoke(scene: &mut Scene) {
    match scene.random.below(5) {
        0 => queue::submit(scene, "a wait with an interrupt", &[(0x15, 0)]),
        1 => {
            let base = scene.random.pick(&[0x38_u16, 0xa0]);
            let mask = scene.random.pick(&[0_u32, 0x8000_0000]);
            let mut group = Group::new("an event's mask");
            group.set(base, mask).check(base, u32::MAX).step(Step::Settle);
            scene.groups.push(group);
        }
        2 => {
            let mut group = Group::new("acknowledge completions");
            group.set(0x9c, 1).check(0x9c, u32::MAX).check(0xa0, u32::MAX).step(Step::Settle);
            scene.groups.push(group);
        }
        3 => {
            let mut group = Group::new("acknowledge faults");
            group.set(0x34, bits::PFO | bits::IQE).check(0x34, u32::MAX).check(0x38, u32::MAX);
            scene.groups.push(group.step(Step::Settle).clone());
        }
        _ => queue::scene(scene),
    }
}
