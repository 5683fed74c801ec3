//! Interrupt remapping: tables, entries that are right and wrong, messages of devices.

use super::{Scene, bits, io_apic, queue};
use crate::differential::place::{EDU_DEVICE, EDUS, INTERRUPTS, edu_bar, edu_id};
use crate::differential::random::Random;
use crate::differential::script::{Group, Step};

/// Entries that scripts fill: as many as the table has.
const ENTRIES: u64 = 16;
/// IRTA.S for that many.
const SIZE: u64 = 3;

/// Fills the table, latches it, and lets devices send.
pub(super) fn scene(scene: &mut Scene) {
    if scene.queue.is_none() {
        queue::enable(scene, 0);
    }
    let mut group = Group::new("fill the interrupt table");
    for index in 0..ENTRIES {
        let (low, high) = entry(&mut scene.random);
        group.poke(INTERRUPTS + 16 * index, low).poke(INTERRUPTS + 16 * index + 8, high);
    }
    group.set_quad(0xb8, INTERRUPTS | SIZE);
    scene.shoot(&mut group, bits::SIRTP);
    scene.groups.push(group);
    // QEMU caches no entries, other units may.
    queue::submit(scene, "invalidate interrupt entries", &[(0x04, 0)]);
    if scene.random.one_in(4) {
        // Without remapping everything passes as it is.
        messages(scene);
        io_apic::wire(scene);
    }
    let mut group = Group::new("switch interrupt remapping on");
    scene.switch_on(&mut group, bits::IRE);
    scene.groups.push(group);
    for _ in 0..1 + scene.random.below(4) {
        match scene.random.below(2) {
            0 => messages(scene),
            _ => io_apic::wire(scene),
        }
    }
}

fn entry(random: &mut Random) -> (u64, u64) {
    let vector = 0x20 + random.below(0xd0);
    let destination = random.below(16) << 40;
    let mut low = 1 | vector << 16 | destination | random.below(2) << 2 | random.below(2) << 3;
    // Trigger mode; fixed or lowest priority.
    low |= random.below(2) << 4 | random.below(2) << 5;
    let source = u64::from(edu_id(random.below(u64::from(EDUS)) as u8));
    // Another function of the device, which a qualifier may let pass.
    let source = if random.one_in(3) { source | random.below(8) } else { source };
    let validation = random.pick(&[0_u64, 1, 1]);
    let qualifier = if random.one_in(3) { random.below(4) } else { 0 };
    let mut high = source | qualifier << 16 | validation << 18;
    if random.one_in(6) {
        match random.below(4) {
            0 => low &= !1,
            1 => low |= random.bit_of(0xff00_7000),
            2 => high |= random.bit_of(!0 << 20),
            _ => low |= u64::from(random.one_in(2)) << 1,
        }
    }
    (low, high)
}

/// A device sends a message with an address below 4 GiB and data of 16 bits.
pub(super) fn send(group: &mut Group, edu: u8, address: u64, data: u64) {
    let device = EDU_DEVICE + edu;
    group.step(Step::Config(device, 0x44, address as u32)).step(Step::Config(device, 0x48, 0));
    group.step(Step::Config(device, 0x4c, data as u32));
    group.step(Step::Config(device, 0x40, 0x0081_0005));
    group.step(Step::WriteLong(edu_bar(edu) + 0x60, 1));
    group.step(Step::WriteLong(edu_bar(edu) + 0x64, 1));
    group.step(Step::Config(device, 0x40, 0x0080_0005)).step(Step::Settle);
}

/// A device sends a message in one format or the other.
fn messages(scene: &mut Scene) {
    let random = &mut scene.random;
    let mut group = Group::new("messages");
    // QEMU 7.2 does not record interrupt faults: their events stay masked, and they are cleared.
    group.set(0x38, 1 << 31);
    let edu = u8::try_from(random.below(u64::from(EDUS))).unwrap_or(0);
    let index = if random.one_in(10) { random.below(1 << 16) } else { random.below(ENTRIES) };
    let shv = random.one_in(2);
    let handle = index & 0x7fff;
    let address = 0xfee0_0000 | handle << 5 | 1 << 4 | u64::from(shv) << 3 | (index >> 15) << 2;
    let subhandle = if shv && random.one_in(3) { random.below(4) } else { 0 };
    // QEMU lets messages in compatibility format through where they must be blocked.
    let (address, data) = match scene.command & bits::IRE == 0 && random.one_in(2) {
        true => (0xfee0_0000 | random.below(16) << 12, random.below(256)),
        false => (address, subhandle),
    };
    send(&mut group, edu, address, data);
    group.set(0x22c, 0x8000_0000).set(0x34, bits::PFO);
    scene.groups.push(group);
}
