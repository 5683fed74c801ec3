//! Registers are written with anything, and read back: which bits stick, which are cleared.

use super::Scene;
use crate::differential::place::UNIT;
use crate::differential::script::{Group, Step};

/// A register: offset, the bits that may be written, those that are compared.
///
/// `docs/differences.md` lists the parts that are not compared.
struct Register {
    offset: u16,
    writable: u32,
    compared: u32,
}

const fn register(offset: u16, writable: u32, compared: u32) -> Register {
    Register { offset, writable, compared }
}

/// Registers that only hold what is written, dword by dword.
const PLAIN: [Register; 19] = [
    register(0x00, u32::MAX, u32::MAX),
    // RTADDR.
    register(0x20, u32::MAX, 0xffff_fc00),
    register(0x24, u32::MAX, 0x0000_ffff),
    // CCMD but for ICC; SID and FM cannot be read back from everywhere.
    register(0x28, u32::MAX, 0x0000_ffff),
    register(0x2c, 0x6000_0003, 0x6000_0000),
    // Event data and addresses. A unit may have no upper half of the data, and then its messages have none.
    register(0x3c, 0x0000_ffff, 0x0000_ffff),
    register(0x40, u32::MAX, u32::MAX),
    register(0xa4, 0x0000_ffff, 0x0000_ffff),
    register(0xa8, u32::MAX, u32::MAX),
    // IQH.
    register(0x80, u32::MAX, u32::MAX),
    register(0x84, u32::MAX, u32::MAX),
    // IQT, the queue being off.
    register(0x88, u32::MAX, u32::MAX),
    register(0x8c, u32::MAX, u32::MAX),
    // IQA.QS.
    register(0x90, u32::MAX, 0x0000_07ff),
    // GSTS, ICS.
    register(0x1c, u32::MAX, u32::MAX),
    register(0x9c, u32::MAX, u32::MAX),
    // IOTLB but for IVT.
    register(0xf8, u32::MAX, u32::MAX),
    register(0xfc, 0x3003_ffff, 0x3003_ffff),
    // The fault record's F.
    register(0x22c, u32::MAX, 1 << 31),
];

/// The registers that are read when a script ends.
pub(super) const STATE: [(u16, u32); 12] = [
    (0x1c, u32::MAX),
    (0x34, u32::MAX),
    (0x38, u32::MAX),
    (0x80, u32::MAX),
    (0x88, u32::MAX),
    (0x9c, u32::MAX),
    (0xa0, u32::MAX),
    (0x20, 0xffff_fc00),
    (0x24, 0x0000_ffff),
    (0x90, 0x0000_07ff),
    (0x40, u32::MAX),
    (0xa8, u32::MAX),
];

/// Some writes and reads. The queue is off, and stays so.
pub(super) fn scene(scene: &mut Scene) {
    if scene.queue.is_some() {
        return;
    }
    let mut group = Group::new("registers hold what they may");
    for _ in 0..4 + scene.random.below(24) {
        let register = &PLAIN[scene.random.below(PLAIN.len() as u64) as usize];
        // Any bits: the cut is the point. In a tail between wide descriptors QEMU 11 sees an error,
        // although the queue is off.
        let between = register.offset == 0x88 && scene.mode.is_scalable();
        let writable = register.writable & if between { !0x10 } else { u32::MAX };
        let value = scene.random.value() as u32 & writable;
        group.set(register.offset, value).check(register.offset, register.compared);
    }
    // As one access of eight bytes.
    for (offset, mask) in [(0x20, 0x0000_ffff_ffff_fc00), (0x90, 0x7ff)] {
        let value = scene.random.value();
        group.set_quad(offset, value);
        group.step(Step::ReadQuad(UNIT + u64::from(offset), mask));
    }
    // A tail that is left over would be fetched to as soon as the queue is on.
    group.set(0x88, 0);
    scene.groups.push(group);
}
