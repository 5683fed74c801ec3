//! Reads and writes as a driver does them.

use super::*;
use proptest::prelude::*;

const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const REMOTE_IRR: u64 = 1 << 14;

fn read(apic: &mut IoApic, register: u8) -> u32 {
    let mut data = [0; 4];
    apic.mmio_write(IOREGSEL, &u32::from(register).to_le_bytes());
    apic.mmio_read(IOWIN, &mut data);
    u32::from_le_bytes(data)
}

fn write(apic: &mut IoApic, register: u8, value: u32) {
    apic.mmio_write(IOREGSEL, &u32::from(register).to_le_bytes());
    apic.mmio_write(IOWIN, &value.to_le_bytes());
}

fn read_entry(apic: &mut IoApic, pin: u8) -> u64 {
    let low = read(apic, REDIRECTION + 2 * pin);
    u64::from(read(apic, REDIRECTION + 2 * pin + 1)) << 32 | u64::from(low)
}

fn write_entry(apic: &mut IoApic, pin: u8, entry: u64) {
    write(apic, REDIRECTION + 2 * pin + 1, (entry >> 32) as u32);
    write(apic, REDIRECTION + 2 * pin, entry as u32);
}

fn drain(apic: &mut IoApic) -> Vec<Msi> {
    std::iter::from_fn(|| apic.poll_message()).map(|(_, message)| message).collect()
}

#[test]
fn identification() {
    let mut apic = IoApic::new();
    assert_eq!(read(&mut apic, VERSION), 0x0017_0020);
    write(&mut apic, ID, u32::MAX);
    assert_eq!(read(&mut apic, ID), 0x0f00_0000);
    assert_eq!(read(&mut apic, ARBITRATION), 0x0f00_0000);
    assert_eq!(apic.poll_message(), None);
}

#[test]
fn a_compatibility_entry_gives_a_compatibility_message() {
    let mut apic = IoApic::new();
    write_entry(&mut apic, 4, 0x0300_0000_0000_0830); // logical destination 3, vector 0x30
    apic.set_level(4, true);
    let message = Msi { address: 0xfee0_3004, data: 0x4030 };
    assert_eq!(apic.poll_message(), Some((4, message)));
    assert_eq!(apic.poll_message(), None);
}

#[test]
fn a_remappable_entry_gives_a_remappable_message() {
    let mut apic = IoApic::new();
    let handle = 0x8123_u64;
    let entry = (handle & 0x7fff) << 49 | 1 << 48 | (handle >> 15) << 11 | 0x31;
    write_entry(&mut apic, 0, entry);
    assert_eq!(read_entry(&mut apic, 0), entry);
    apic.set_level(0, true);
    let [message] = drain(&mut apic)[..] else { panic!("one message expected") };
    assert_eq!(message.address >> 20, 0xfee);
    assert_eq!(message.address >> 4 & 1, 1, "interrupt format");
    assert_eq!(message.address >> 3 & 1, 0, "no subhandle");
    assert_eq!((message.address >> 5 & 0x7fff) | (message.address >> 2 & 1) << 15, handle);
}

#[test]
fn an_edge_fires_once_and_not_while_masked() {
    let mut apic = IoApic::new();
    write_entry(&mut apic, 1, MASKED | 0x40);
    apic.set_level(1, true);
    write_entry(&mut apic, 1, 0x40);
    assert_eq!(drain(&mut apic), []);
    apic.set_level(1, true);
    assert_eq!(drain(&mut apic), [], "the line has not moved");
    apic.set_level(1, false);
    apic.set_level(1, true);
    assert_eq!(drain(&mut apic).len(), 1);
}

#[test]
fn a_level_fires_again_only_after_its_eoi() {
    let mut apic = IoApic::new();
    write_entry(&mut apic, 2, LEVEL | 0x50);
    apic.set_level(2, true);
    assert_eq!(drain(&mut apic), [Msi { address: 0xfee0_0000, data: 0xc050 }]);
    assert_eq!(read_entry(&mut apic, 2), LEVEL | REMOTE_IRR | 0x50);
    apic.set_level(2, false);
    apic.set_level(2, true);
    apic.eoi(0x51);
    assert_eq!(drain(&mut apic), []);
    apic.mmio_write(EOI, &0x50_u32.to_le_bytes());
    assert_eq!(drain(&mut apic).len(), 1, "still asserted");
    apic.set_level(2, false);
    apic.eoi(0x50);
    assert_eq!(drain(&mut apic), []);
    assert_eq!(read_entry(&mut apic, 2), LEVEL | 0x50);
}

#[test]
fn a_level_that_was_masked_fires_when_unmasked() {
    let mut apic = IoApic::new();
    write_entry(&mut apic, 2, MASKED | LEVEL | 0x50);
    apic.set_level(2, true);
    assert_eq!(drain(&mut apic), []);
    write_entry(&mut apic, 2, LEVEL | 0x50);
    assert_eq!(drain(&mut apic).len(), 1);
}

#[test]
fn going_through_edge_mode_clears_remote_irr() {
    let mut apic = IoApic::new();
    write_entry(&mut apic, 2, LEVEL | 0x50);
    apic.set_level(2, true);
    apic.set_level(2, false);
    drain(&mut apic);
    write_entry(&mut apic, 2, MASKED | 0x50);
    write_entry(&mut apic, 2, MASKED | LEVEL | 0x50);
    assert_eq!(read_entry(&mut apic, 2) & REMOTE_IRR, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    Read(u64, usize),
    Level(u8, bool),
    Eoi(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![Just(IOREGSEL), Just(IOWIN), Just(EOI), any::<u64>()];
    let data = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 4),
        1 => prop::collection::vec(any::<u8>(), 0..9),
    ];
    prop_oneof![
        4 => (offset, data).prop_map(|(offset, data)| Step::Write(offset, data)),
        1 => (any::<u64>(), 0_usize..9).prop_map(|(offset, length)| Step::Read(offset, length)),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(pin, level)| Step::Level(pin % 32, level)),
        1 => any::<u8>().prop_map(Step::Eoi),
    ]
}

proptest! {
    #[test]
    fn no_guest_can_break_it(steps in prop::collection::vec(step(), 0..200)) {
        let mut apic = IoApic::new();
        for step in steps {
            match step {
                Step::Write(offset, data) => apic.mmio_write(offset, &data),
                Step::Read(offset, length) => apic.mmio_read(offset, &mut vec![0; length]),
                Step::Level(pin, level) => apic.set_level(pin, level),
                Step::Eoi(vector) => apic.eoi(vector),
            }
            let messages = drain(&mut apic);
            prop_assert!(messages.len() <= usize::from(PINS));
            prop_assert!(messages.iter().all(|message| message.address >> 20 == 0xfee));
        }
    }
}
