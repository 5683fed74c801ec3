//! Interrupts of functions and of the I/O APIC on their way through remapping.

use std::sync::Arc;

use iommu::event::{Event, Recorder};
use iommu::spec::control::GlobalBits;
use iommu::spec::fault::{FaultReason, FaultRecordHigh};
use iommu::spec::interrupt::{InterruptTableAddress, Irte, RemappableAddress};
use iommu::spec::offset;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::endpoint::regs;
use crate::pcie::ConfigClient;
use crate::pcie::spec::header::Command;
use crate::pcie::spec::msi;
use crate::topology::Topology;
use iommu::unit::UnitConfig;

const TABLE: u64 = 0x4000;
const BAR: u64 = 0xc000_0000;
const NOW: Instant = Instant::START;
const FUNCTION: Bdf = Bdf::new(1, 0, 0);
const READ: u32 = 1;
const FILL: u32 = 3;
const SEND_MSI: u32 = 7;
const UNSUPPORTED_REQUEST: u32 = 1;

struct Rig {
    complex: RootComplex,
    memory: Memory,
    recorder: Arc<Recorder>,
}

impl Rig {
    /// One port with its bus and its endpoint's BAR; interrupt remapping with a table of 16
    /// entries.
    fn new(io_apic: Option<Bdf>) -> Self {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let unit = UnitConfig { interrupt_remapping: true, ..UnitConfig::new(UnitRole::Guest) };
        let config = RootComplexConfig::direct(unit);
        let recorder = Arc::new(Recorder::default());
        let tracer = Tracer::to(recorder.clone());
        let config = RootComplexConfig { io_apic, topology: Topology::simple(1, 0), ..config };
        let complex = RootComplex::new(config, memory.clone(), tracer).unwrap();
        let mut rig = Self { complex, memory, recorder };
        let port = Bdf::new(0, 1, 0);
        let mut bridge = rig.client(port);
        bridge.set_buses(1, 1);
        bridge.set_memory_window(BAR as u32, BAR as u32);
        bridge.set_command(Command::MEMORY_AND_MASTER);
        let mut endpoint = rig.client(FUNCTION);
        endpoint.set_bar0(BAR as u32);
        endpoint.set_command(Command::MEMORY_AND_MASTER);
        let table = InterruptTableAddress::new().with_page(TABLE >> 12).with_size(3);
        rig.unit(offset::IRTA, table.into_bits() as u32);
        let on = GlobalBits::new().with_set_interrupt_table(true).with_interrupt_remapping(true);
        rig.unit(offset::GCMD, on.into_bits());
        rig
    }

    fn client(&mut self, function: Bdf) -> ConfigClient<'_, RootComplex> {
        ConfigClient::new(&mut self.complex, function, NOW)
    }

    fn unit(&mut self, at: u16, value: u32) {
        self.complex.unit_write(at.into(), &value.to_le_bytes(), NOW);
    }

    fn set_entry(&mut self, index: u64, entry: Irte) {
        self.memory.write_obj(entry.into_bits(), GuestAddress(TABLE + 16 * index)).unwrap();
    }

    /// Gives the endpoint a command that ends with RESULT.
    fn command(&mut self, command: u32, iova: u64, length: u32) -> u32 {
        for (at, value) in [
            (regs::IOVA, iova as u32),
            (regs::LENGTH, length),
            (regs::PATTERN, 0x51),
            (regs::COMMAND, command),
        ] {
            self.complex.memory_write(BAR + at, &value.to_le_bytes(), NOW);
        }
        let mut result = [0; 4];
        self.complex.memory_read(BAR + regs::RESULT, &mut result, NOW);
        u32::from_le_bytes(result)
    }

    /// Points the endpoint's MSI somewhere and has it sent.
    fn send_msi(&mut self, msi: Msi) {
        let mut endpoint = self.client(FUNCTION);
        let capability = endpoint.capability(msi::ID).unwrap();
        endpoint.enable_msi(capability, msi);
        assert_eq!(self.command(SEND_MSI, 0, 1), 0);
    }

    fn interrupts(&mut self) -> Vec<Msi> {
        std::iter::from_fn(|| self.complex.poll_interrupt()).collect()
    }

    /// Source and reason of the first record.
    fn record(&mut self) -> (Bdf, u8) {
        let mut high = [0; 8];
        self.complex.unit_read(u64::from(offset::FRCD) + 8, &mut high);
        let high = FaultRecordHigh::from_bits(u64::from_le_bytes(high));
        (Bdf::from_bits(high.source_id()), high.reason())
    }
}

fn remappable(handle: u16) -> Msi {
    Msi { address: RemappableAddress::for_handle(handle).into_bits(), data: 0 }
}

fn entry_for(source: Bdf, vector: u8) -> Irte {
    let entry = Irte::new().with_present(true).with_vector(vector);
    entry.with_source_validation(1).with_source_id(source.into_bits())
}

#[test]
fn an_msi_becomes_what_its_entry_says() {
    let mut rig = Rig::new(None);
    rig.set_entry(3, entry_for(FUNCTION, 0x61).with_destination(0x0100));
    rig.send_msi(remappable(3));
    assert_eq!(rig.interrupts(), [Msi { address: 0xfee0_1000, data: 0x4061 }]);
    let sent = Event::Interrupt { requester: FUNCTION, address: 0xfee0_0070, data: 0 };
    assert!(rig.recorder.events().iter().any(|timed| timed.event == sent));
}

#[test]
fn a_blocked_msi_reaches_nobody_and_is_recorded() {
    let mut rig = Rig::new(None);
    rig.send_msi(Msi { address: 0xfee0_0000, data: 0x41 });
    assert_eq!(rig.interrupts(), []);
    assert_eq!(rig.record(), (FUNCTION, FaultReason::IR_COMPATIBILITY_BLOCKED.0));
}

#[test]
fn an_msi_that_points_to_memory_is_a_write_to_memory() {
    let mut rig = Rig::new(None);
    rig.send_msi(Msi { address: 0x8000, data: 0x4321 });
    assert_eq!(rig.interrupts(), []);
    assert_eq!(rig.memory.read_obj::<u32>(GuestAddress(0x8000)).unwrap(), 0x4321);
}

#[test]
fn the_io_apic_is_validated_by_the_requester_id_that_it_has() {
    for (io_apic, gets_through) in [(Some(IO_APIC_ID), false), (Some(FUNCTION), true), (None, true)]
    {
        let mut rig = Rig::new(io_apic);
        rig.set_entry(1, entry_for(FUNCTION, 0x71));
        let routed = gets_through.then_some(Msi { address: 0xfee0_0000, data: 0x4071 });
        assert_eq!(rig.complex.io_apic_route(remappable(1)), routed);
        assert_eq!(rig.record(), (Bdf::default(), 0), "a route has no effect");
        rig.complex.io_apic_message(remappable(1), NOW);
        assert_eq!(rig.interrupts(), Vec::from_iter(routed));
        if let (Some(id), false) = (io_apic, gets_through) {
            assert_eq!(rig.record(), (id, FaultReason::IR_SOURCE_MISMATCH.0));
        }
    }
}

#[test]
fn a_fault_of_the_io_apic_raises_the_units_event_at_once_and_as_it_is() {
    let mut rig = Rig::new(Some(IO_APIC_ID));
    rig.unit(offset::FECTL + 4, 0x31);
    rig.unit(offset::FECTL + 8, 0xfee0_0000);
    rig.unit(offset::FECTL, 0);
    rig.complex.io_apic_message(remappable(1), NOW);
    assert_eq!(rig.interrupts(), [Msi { address: 0xfee0_0000, data: 0x31 }]);
}

#[test]
fn plain_dma_to_the_interrupt_range_is_an_interrupt_or_malformed() {
    let mut rig = Rig::new(None);
    rig.set_entry(2, entry_for(FUNCTION, 0x51));
    rig.command(FILL, remappable(2).address, 4);
    assert_eq!(rig.interrupts(), [Msi { address: 0xfee0_0000, data: 0x4051 }]);
    assert_eq!(rig.command(READ, remappable(2).address, 4), UNSUPPORTED_REQUEST);
    assert_eq!(rig.record(), (FUNCTION, FaultReason::IR_MALFORMED.0));
    for (address, length) in [(0, 8), (0, 2), (2, 4)] {
        let mut rig = Rig::new(None);
        rig.command(FILL, 0xfee0_0000 + address, length);
        assert_eq!(rig.interrupts(), []);
        assert_eq!(rig.record(), (FUNCTION, FaultReason::IR_MALFORMED.0));
    }
}
