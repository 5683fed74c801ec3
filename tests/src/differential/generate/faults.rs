//! Faults that repeat: records that are in use, overflow, events that are masked and come later.

use super::image::Image;
use super::walks;
use super::{Scene, bits};
use crate::differential::place::{DATA, WRITERS};
use crate::differential::script::{Group, Step};

/// Faults of both writers while the record is full or empty, the event masked or not.
pub(super) fn scene(scene: &mut Scene) {
    let mut image = Image::default();
    for writer in 0..WRITERS.len() as u8 {
        walks::build(scene, &mut image, writer);
    }
    let mut group = Group::new("the event's message");
    group.set(0x3c, scene.random.below(256) as u32).set(0x40, 0xfee0_0000);
    let mask = scene.random.pick(&[0_u32, 1 << 31]);
    group.set(0x38, mask).check(0x38, u32::MAX);
    scene.groups.push(group);
    walks::turn_on(scene, &image);
    let mut recorded = None;
    for _ in 0..3 + scene.random.below(8) {
        act(scene, &mut recorded);
    }
}

/// `recorded`: the writer whose fault is in the record, until another one's has overflowed it.
fn act(scene: &mut Scene, recorded: &mut Option<u8>) {
    let random = &mut scene.random;
    let mut group = Group::new("faults");
    match random.below(6) {
        0..3 => {
            let mut writer = random.below(WRITERS.len() as u64) as u8;
            // Of two faults of one function QEMU drops the second without PFO.
            if *recorded == Some(writer) {
                writer ^= 1;
            }
            *recorded = Some(if recorded.is_some() { u8::MAX } else { writer });
            // An address in a gap between all mappings.
            let iova = 0x7000_0000_0000 | random.below(1 << 20) << 12;
            group.step(Step::Write { writer, iova, gpa: DATA, count: 4 });
        }
        3 => {
            group.set(0x38, random.pick(&[0_u32, 1 << 31]));
        }
        // QEMU clears IP with FSTS only.
        _ => {
            group.set(0x22c, 1 << 31).set(0x34, bits::PFO);
            *recorded = None;
        }
    }
    group.check(0x34, u32::MAX).check(0x38, u32::MAX).step(Step::Record).step(Step::Settle);
    scene.groups.push(group);
}
