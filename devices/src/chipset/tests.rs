//! Accesses as a guest makes them.

use std::sync::Arc;

use iommu::event::{LinkState, Recorder, UnitRole};
use iommu::unit::UnitConfig;
use proptest::prelude::*;
use vm_memory::GuestAddress;

use super::*;
use crate::edu;

pub(super) const NOW: Instant = Instant::START;
const EDU: u32 = 0xfd00_0000;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
/// The pin to which INTA of the first `edu`, device 12, leads.
const EDU_PIN: u8 = 20;

/// A machine after firmware, with one `edu`, and its events.
pub(super) struct Guest {
    pub(super) chipset: Chipset,
    pub(super) events: Arc<Recorder>,
}

pub(super) fn guest_with(change: impl FnOnce(&mut RootComplexConfig)) -> Guest {
    let mut root_complex = RootComplexConfig::direct(UnitConfig::new(UnitRole::Guest));
    root_complex.topology = Topology::simple(2, 1);
    change(&mut root_complex);
    let topology = root_complex.topology.clone();
    let config = ChipsetConfig { root_complex, memory: 64 << 20, cpus: 2, tsc_khz: 7 };
    let memory = Memory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let events = Arc::new(Recorder::default());
    let tracer = Tracer::to(events.clone());
    let mut chipset = Chipset::new(config, &mut Media::new(), memory, tracer).unwrap();
    chipset.set_up(&topology);
    chipset.place_bars(&topology);
    Guest { chipset, events }
}

pub(super) fn guest() -> Guest {
    guest_with(|_| {})
}

impl Guest {
    pub(super) fn read(&mut self, address: u64) -> u32 {
        let mut data = [0; 4];
        self.chipset.memory_read(address, &mut data, NOW);
        u32::from_le_bytes(data)
    }

    pub(super) fn write(&mut self, address: u64, value: u32) {
        self.chipset.memory_write(address, &value.to_le_bytes(), NOW);
    }

    pub(super) fn input(&mut self, port: u16, length: usize) -> u32 {
        let mut data = [0; 4];
        self.chipset.port_read(port, &mut data[..length], NOW);
        u32::from_le_bytes(data)
    }

    pub(super) fn output(&mut self, port: u16, data: &[u8]) -> Vec<Output> {
        self.chipset.port_write(port, data, NOW);
        self.outputs()
    }

    pub(super) fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.chipset.poll_output()).collect()
    }

    pub(super) fn set_entry(&mut self, pin: u8, low: u32) {
        self.write(map::IO_APIC.start, u32::from(io_apic::REDIRECTION + 2 * pin));
        self.write(map::IO_APIC.start + io_apic::IOWIN, low);
    }

    /// INTA of `edu` goes up or down.
    pub(super) fn set_wire(&mut self, level: bool) -> Vec<Output> {
        let register = if level { edu::regs::RAISE } else { edu::regs::ACKNOWLEDGE };
        self.write(u64::from(EDU) + register, 1);
        self.outputs()
    }
}

fn line(level: bool) -> Output {
    Output::Line(Line { pin: EDU_PIN, level })
}

pub(super) fn interrupt(data: u32) -> Msi {
    Msi { address: 0xfee0_0000, data }
}

#[test]
fn ecam_is_where_pciexbar_says() {
    const HOST_BRIDGE: u32 = 0x29c0_8086;
    let mut guest = guest();
    assert_eq!(guest.read(map::ECAM.start), HOST_BRIDGE, "where firmware has put it");
    let set = |guest: &mut Guest, pciexbar: u32| {
        guest.output(0xcf8, &0x8000_0060_u32.to_le_bytes());
        guest.output(0xcfc, &pciexbar.to_le_bytes());
    };
    set(&mut guest, 0xa000_0001);
    assert_eq!(guest.read(map::ECAM.start), u32::MAX);
    assert_eq!(guest.read(0xa000_0000), HOST_BRIDGE);
    set(&mut guest, 0xa000_0000);
    assert_eq!(guest.read(0xa000_0000), u32::MAX, "it is off");
    // It covers the unit and the I/O APIC, whose addresses are fixed.
    set(&mut guest, 0xf000_0001);
    assert_eq!(guest.read(0xf000_0000), HOST_BRIDGE);
    assert_eq!(guest.read(map::UNIT.start), 0x10);
    guest.write(map::IO_APIC.start, io_apic::VERSION.into());
    assert_eq!(guest.read(map::IO_APIC.start + io_apic::IOWIN), 0x0017_0020);
}

#[test]
fn the_kind_of_reset_reads_back_and_its_trigger_does_not() {
    let mut guest = guest();
    for (written, read, exits) in [(0x0a, 0x0a, 0), (0x06, 0x02, 1), (0xff, 0x0a, 1), (0, 0, 0)] {
        assert_eq!(guest.output(0xcf9, &[written]).len(), exits, "{written:#x}");
        assert_eq!(guest.input(0xcf9, 1), read, "{written:#x}");
    }
    guest.output(0xcf8, &0x8000_0000_u32.to_le_bytes());
    assert_eq!(guest.input(0xcf8, 4), 0x8000_0000, "the latch is not reset control");
    assert_eq!(guest.input(0xcf9, 2), 0xffff);
}

#[test]
fn the_guest_ends_its_run_by_a_port() {
    let mut guest = guest();
    let ends: [(u16, &[u8], GuestExit); 9] = [
        (0xf4, &[0x10], GuestExit::Debug(0x10)),
        (0xf4, &0x1234_5678_u32.to_le_bytes(), GuestExit::Debug(0x1234_5678)),
        (0x604, &0x2000_u16.to_le_bytes(), GuestExit::PowerOff),
        (0x604, &0x3c00_u16.to_le_bytes(), GuestExit::PowerOff),
        (0x600, &[5 << 2 | 1 << 5], GuestExit::PowerOff),
        (0xcf9, &[0x06], GuestExit::Reset),
        (0xcf9, &[0x0e], GuestExit::Reset),
        (0xcf9, &[0x04], GuestExit::Reset),
        (0x64, &[0xfe], GuestExit::Reset),
    ];
    for (port, data, exit) in ends {
        assert_eq!(guest.output(port, data), [Output::Exit(exit)], "{port:#x} {data:x?}");
    }
    let values = guest.events.events().into_iter().filter_map(|timed| match timed.event {
        Event::GuestExit { value } => Some(value),
        _ => None,
    });
    assert_eq!(values.collect::<Vec<_>>(), [0x10, 0x1234_5678]);
    let harmless: [(u16, &[u8]); 9] = [
        (0x604, &0x1c00_u16.to_le_bytes()),
        (0x604, &[0xff]),
        (0x600, &[5 << 2]),
        (0x600, &[1 << 5]),
        (0x601, &[5 << 2 | 1 << 5]),
        (0xcf9, &[0x02]),
        (0xcf9, &[0x06, 0x06]),
        (0x64, &[0xd1]),
        (0x65, &[0xfe]),
    ];
    for (port, data) in harmless {
        assert_eq!(guest.output(port, data), [], "{port:#x} {data:x?}");
    }
}

#[test]
fn com1_sends_receives_and_interrupts() {
    let mut guest = guest();
    guest.set_entry(COM1_PIN, 0x40);
    assert_eq!(guest.output(0x3f8, b"o"), [Output::Console(b'o')]);
    // The interrupt of an empty transmitter, which it always is.
    let com1 = |level| Output::Line(Line { pin: COM1_PIN, level });
    let sent = [com1(true), com1(false), Output::Interrupt(interrupt(0x4040))];
    assert_eq!(guest.output(0x3f9, &[2]), sent);
    guest.chipset.console_input(b"ab", NOW);
    assert_eq!(guest.outputs(), []);
    assert_eq!([guest.input(0x3f8, 1), guest.input(0x3f8, 1)], [u32::from(b'a'), u32::from(b'b')]);
    assert_eq!(guest.outputs(), [Output::ConsoleEmpty]);
    assert_eq!(guest.chipset.console_room(), 64);
}

#[test]
fn the_debug_console_takes_single_bytes_and_reads_as_its_port() {
    let mut guest = guest();
    assert_eq!(guest.output(0xe9, b"\xff"), [Output::DebugConsole(0xff)]);
    assert_eq!(guest.input(0xe9, 1), 0xe9);
    assert_eq!(guest.output(0xe9, b"ab"), []);
    assert_eq!(guest.output(0xe8, b"abcd"), []);
    assert_eq!(guest.output(0xea, b"a"), []);
    assert_eq!([guest.input(0xe9, 2), guest.input(0xe8, 4)], [0xffff, u32::MAX]);
    assert_eq!([guest.input(0xe8, 1), guest.input(0xea, 1)], [0xff, 0xff]);
}

#[test]
fn with_pc_testdev_port_0xe9_is_that_device_s() {
    let mut guest = guest_with(|config| {
        let devices = ["pc-testdev".parse().unwrap()];
        config.topology = crate::topology::Topology::new(&devices).unwrap();
    });
    assert_eq!(guest.output(0xe9, b"a"), []);
    assert_eq!(guest.input(0xe1, 1), u32::from(b'a'));
    assert_eq!(guest.input(0xe9, 1), u32::from(b'a'));
}

#[test]
fn the_doorbell_drops_the_link_and_reports_are_events() {
    let mut guest = guest_with(|config| {
        config.faults = vec!["on=doorbell,port=rp1,mode=silent".parse().unwrap()];
    });
    assert_eq!(
        [guest.input(0x5e0, 4), guest.input(0x5e4, 4), guest.input(0x5e8, 4)],
        [0x4b4e_4c47, 7, 2]
    );
    for (port, value) in [(0x5e4, 7_u32), (0x5e8, 3), (0x5ec, 1), (0x5f0, 2)] {
        assert_eq!(guest.output(port, &value.to_le_bytes()), []);
    }
    let events: Vec<_> = guest.events.events().into_iter().map(|timed| timed.event).collect();
    assert!(
        matches!(
            events[..],
            [
                Event::Doorbell { value: 7 },
                Event::FaultInjected { .. },
                Event::Link { state: LinkState::Down, .. },
                Event::GuestReport { metric: 3, value: 0x2_0000_0001 },
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn a_wire_reaches_the_cpus_through_the_io_apic() {
    let mut guest = guest();
    guest.set_entry(EDU_PIN, 0x41);
    assert_eq!(guest.set_wire(true), [line(true), Output::Interrupt(interrupt(0x4041))]);
    assert_eq!(guest.set_wire(false), [line(false)]);
}

#[test]
fn the_route_of_a_level_interrupt_comes_before_it_and_stays_while_it_is_masked() {
    let mut guest = guest();
    guest.set_entry(EDU_PIN, LEVEL | 0x41);
    let message = interrupt(0xc041);
    let route = |msi| Output::Route { pin: EDU_PIN, msi };
    let first = [line(true), route(Some(message)), Output::Interrupt(message)];
    assert_eq!(guest.set_wire(true), first);
    // A driver may mask it before it ends it, and must hear of the next one all the same.
    guest.set_entry(EDU_PIN, MASKED | LEVEL | 0x41);
    guest.chipset.end_of_interrupt(0x41, NOW);
    assert_eq!(guest.outputs(), []);
    guest.set_entry(EDU_PIN, LEVEL | 0x41);
    assert_eq!(guest.outputs(), [Output::Interrupt(message)], "it is still asserted");
    guest.set_wire(false);
    guest.chipset.end_of_interrupt(0x41, NOW);
    // Nothing has to come back of edges.
    guest.set_entry(EDU_PIN, 0x41);
    let edge = [line(true), route(None), Output::Interrupt(interrupt(0x4041))];
    assert_eq!(guest.set_wire(true), edge);
}

#[test]
fn a_wire_that_changes_while_the_io_apic_is_written_is_followed() {
    let mut guest = guest();
    guest.set_entry(EDU_PIN, 0x41);
    guest.write(u64::from(EDU) + edu::regs::STATUS, 0x80);
    guest.write(u64::from(EDU) + edu::regs::FACTORIAL, 5);
    let due = guest.chipset.poll_timeout().unwrap();
    guest.set_entry(0, 0x30);
    guest.chipset.handle_timeout(due);
    guest.chipset.memory_write(map::IO_APIC.start + io_apic::IOWIN, &[0x31, 0, 0, 0], due);
    assert_eq!(guest.outputs(), [line(true), Output::Interrupt(interrupt(0x4041))]);
}

fn place() -> impl Strategy<Value = u64> {
    let near = |base: u64| (0_u64..0x1010).prop_map(move |offset| base - 8 + offset);
    prop_oneof![
        near(map::ECAM.start),
        near(map::ECAM.start + 0x6_0000),
        near(map::PCI_MEMORY.start),
        near(u64::from(EDU)),
        near(map::IO_APIC.start),
        near(map::UNIT.start),
        any::<u64>(),
    ]
}

proptest! {
    #[test]
    fn no_guest_can_break_it(
        steps in prop::collection::vec(
            (0_u8..5, place(), 0_u16..0xd00, prop::collection::vec(any::<u8>(), 0..9)), 0..60,
        ),
    ) {
        let mut guest = guest();
        for (kind, address, port, mut data) in steps {
            match kind {
                0 => guest.chipset.memory_read(address, &mut data, NOW),
                1 => guest.chipset.memory_write(address, &data, NOW),
                2 => guest.chipset.port_read(port, &mut data, NOW),
                3 => guest.chipset.port_write(port, &data, NOW),
                _ => guest.chipset.end_of_interrupt(port as u8, NOW),
            }
            prop_assert!(guest.outputs().len() <= 256);
        }
    }
}
