//! The device as its users drive it, on bus 0.

use iommu::ids::Bdf;

use super::*;
use crate::pcie::spec::header;
use crate::testkit::Machine;

const ID: Bdf = Bdf::new(0, 0xc, 0);
const BAR: u64 = 0xd000_0000;
const IOVA: u64 = 0x1_0000_0ffe;
const OUTPUT: u64 = 0x8000;

struct Rig(Machine);

impl Rig {
    /// Two pages are mapped, one after the other.
    fn new() -> Self {
        let mut machine = Machine::described(&["iommu-testdev".parse().unwrap()]);
        machine.config_write(ID, header::BAR0, &(BAR as u32).to_le_bytes());
        machine.function(ID).set_command(header::Command::MEMORY_AND_MASTER);
        machine.upstream.map(IOVA & !0xfff, 13, OUTPUT, true, true);
        Self(machine)
    }

    fn write(&mut self, register: u64, value: u32) {
        let Machine { hierarchy, upstream, now, .. } = &mut self.0;
        hierarchy.memory_write(BAR + register, &value.to_le_bytes(), upstream, *now);
    }

    fn read(&mut self, register: u64) -> u32 {
        let mut data = [0; 4];
        self.0.read(BAR + register, &mut data);
        u32::from_le_bytes(data)
    }

    /// RESULT after a read of TRIGGER, with or without arming the device before.
    fn run(&mut self, iova: u64, gpa: u64, length: u32) -> u32 {
        self.write(regs::IOVA_LOW, iova as u32);
        self.write(regs::IOVA_HIGH, (iova >> 32) as u32);
        self.write(regs::GPA_LOW, gpa as u32);
        self.write(regs::GPA_HIGH, (gpa >> 32) as u32);
        self.write(regs::LENGTH, length);
        self.write(regs::DOORBELL, 1);
        assert_eq!(self.read(regs::RESULT), Outcome::Busy as u32);
        assert_eq!(self.read(regs::TRIGGER), 0);
        self.read(regs::RESULT)
    }
}

#[test]
fn who_it_is() {
    let mut rig = Rig::new();
    assert_eq!(rig.0.config_u32(ID, 0), 0x0005_1b36);
    assert_eq!(rig.0.config_u32(ID, 8), 0x00ff_0000);
    rig.0.config_write(ID, header::BAR0, &[0xff; 4]);
    assert_eq!(rig.0.config_u32(ID, header::BAR0), 0xffff_f000);
}

#[test]
fn it_finds_what_it_has_written() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(IOVA, OUTPUT + 0xffe, 9), Outcome::Ok as u32);
    let expected = [0x78, 0x56, 0x34, 0x12, 0x78, 0x56, 0x34, 0x12, 0x78, 0];
    assert_eq!(rig.0.upstream.load(OUTPUT + 0xffe, 10), expected);
    let requests: Vec<_> =
        rig.0.upstream.requests.iter().map(|(it, length)| (it.requester, *length)).collect();
    assert_eq!(requests, [(ID, 2), (ID, 7)], "cut at the page boundary");
    assert_eq!(rig.read(regs::TRIGGER), 0);
    assert_eq!(rig.read(regs::RESULT), Outcome::NotArmed as u32, "armed once");
}

/// A function cannot see that a posted write has failed, and sends the rest.
#[test]
fn it_goes_on_behind_a_page_that_is_blocked() {
    let mut rig = Rig::new();
    rig.0.upstream.map(0x2000, 12, OUTPUT, false, true);
    rig.0.upstream.map(0x4000, 12, OUTPUT + 0x1000, false, true);
    assert_eq!(rig.run(0x2ffc, OUTPUT, 0x1008), Outcome::WriteFailed as u32);
    assert_eq!(rig.0.upstream.load(OUTPUT + 0xffc, 4), [0x78, 0x56, 0x34, 0x12]);
    assert_eq!(rig.0.upstream.load(OUTPUT + 0x1000, 4), [0x78, 0x56, 0x34, 0x12], "third page");
    let lengths: Vec<_> = rig.0.upstream.requests.iter().map(|(_, length)| *length).collect();
    assert_eq!(lengths, [4, 0x1000, 4]);
}

#[test]
fn io_space_can_be_enabled_although_no_port_is_decoded() {
    let mut rig = Rig::new();
    rig.0.config_write(ID, header::COMMAND, &[0b111]);
    assert_eq!(rig.0.config_u32(ID, header::COMMAND) & 0xff, 0b111);
}

#[test]
fn pages_of_both_sides_need_not_line_up() {
    let mut rig = Rig::new();
    rig.0.upstream.map(0x2000, 13, OUTPUT, true, true);
    assert_eq!(rig.run(0x2f01, OUTPUT + 0xf01, 0x1000), Outcome::Ok as u32);
}

#[test]
fn what_goes_wrong_has_a_number() {
    let mut rig = Rig::new();
    assert_eq!(rig.read(regs::RESULT), Outcome::Idle as u32);
    assert_eq!(rig.run(IOVA, OUTPUT, 0), Outcome::BadLength as u32);
    assert_eq!(rig.run(IOVA, OUTPUT, MAX_LENGTH + 1), Outcome::BadLength as u32);
    assert_eq!(rig.run(IOVA + 0x10_0000, OUTPUT, 4), Outcome::WriteFailed as u32);
    assert_eq!(rig.run(IOVA, OUTPUT + 0x5000, 4), Outcome::Mismatch as u32);
    rig.write(regs::ATTRIBUTES, 0b1011);
    assert_eq!(rig.run(IOVA, OUTPUT + 0xffe, 4), Outcome::BadAttributes as u32);
    rig.write(regs::ATTRIBUTES, 0);
    assert_eq!(rig.run(IOVA, OUTPUT + 0xffe, 4), Outcome::Ok as u32);
    rig.0.config_write(ID, header::COMMAND, &[0b010]);
    assert_eq!(rig.run(IOVA, OUTPUT + 0xffe, 4), Outcome::WriteFailed as u32);
}

#[test]
fn registers_take_double_words_and_a_disarmed_device_does_nothing() {
    let mut rig = Rig::new();
    rig.write(regs::LENGTH, 4);
    rig.write(regs::DOORBELL, 1);
    rig.write(regs::DOORBELL, 0);
    assert_eq!(rig.read(regs::RESULT), Outcome::Idle as u32);
    rig.read(regs::TRIGGER);
    assert_eq!(rig.read(regs::RESULT), Outcome::NotArmed as u32);
    for (at, length) in [(0x04, 1), (0x04, 2), (0x04, 8), (0x06, 4), (0xffe, 4)] {
        let mut data = vec![0; length];
        rig.0.read(BAR + at, &mut data);
        assert!(data.iter().all(|byte| *byte == 0xff), "{length} bytes at {at:#x}");
    }
    assert_eq!(rig.read(0x24), 0);
    assert!(rig.0.upstream.requests.is_empty());
}
