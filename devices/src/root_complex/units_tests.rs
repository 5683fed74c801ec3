//! Two units: one for the second root port, and one for the rest.

use std::sync::Arc;
use std::time::Duration;

use iommu::event::{Event, Recorder};
use iommu::ids::PAGE_SIZE;
use iommu::spec::control::GlobalBits;
use iommu::spec::descriptor::{DeviceTlbDescriptor, WaitDescriptor};
use iommu::spec::fault::{FaultReason, FaultRecordHigh, FaultStatus};
use iommu::spec::interrupt::{InterruptTableAddress, Irte, RemappableAddress};
use iommu::spec::offset;
use iommu::spec::tables::{ContextHigh, ContextLow, RootEntry, SecondStageEntry};
use iommu::time::Timeout;
use iommu::unit::UnitConfig;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::endpoint::regs;
use crate::pcie::ConfigClient;
use crate::pcie::spec::header::Command;
use crate::pcie::spec::{ats, msi};
use crate::topology::{DeviceSpec, Topology, simple_devices};

const BARS: u32 = 0xc000_0000;
const IOVA: u64 = 0x7000;
const FILL: u32 = 3;
const SEND_MSI: u32 = 7;
const ICT: Duration = Duration::from_secs(1);

/// The structures of a unit begin here.
const fn base(unit: u64) -> u64 {
    0x1_0000 * (unit + 1)
}

const RING: u64 = 0;
const ROOT: u64 = 0x1000;
const CONTEXTS: u64 = 0x2000;
const TABLES: u64 = 0x3000;
const INTERRUPTS: u64 = 0x6000;
const STATUS: u64 = 0x7000;

/// The page that the tables of a unit map IOVA to.
const fn target(unit: u64) -> u64 {
    0x10_0000 + unit * PAGE_SIZE
}

struct Rig {
    complex: RootComplex,
    memory: Memory,
    recorder: Arc<Recorder>,
    now: Instant,
    tails: [u32; 2],
}

impl Rig {
    /// Two root ports with an endpoint each. The unit with index 1 has the second one.
    fn new(config: impl Fn(UnitConfig) -> RootComplexConfig, faults: &[&str]) -> Self {
        let unit = UnitConfig {
            interrupt_remapping: true,
            ict: Timeout::After(ICT),
            ..UnitConfig::new(UnitRole::Guest)
        };
        let mut config = config(unit);
        let mut devices = simple_devices(2, 0);
        devices.push("drhd,id=u,scope=rp1".parse::<DeviceSpec>().unwrap());
        config.topology = Topology::new(&devices).unwrap();
        config.faults = faults.iter().map(|text| text.parse().unwrap()).collect();
        let near = UnitConfig { fault_records: 2, ..config.guest_unit };
        config.unit_settings = vec![("u".to_owned(), near)];
        config.oracle = true;
        let recorder = Arc::new(Recorder::default());
        let memory = Memory::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let complex =
            RootComplex::new(config, memory.clone(), Tracer::to(recorder.clone())).unwrap();
        let mut rig = Self { complex, memory, recorder, now: Instant::START, tails: [0; 2] };
        for (port, bus) in [(0, 1), (1, 2)] {
            rig.give_bus(port, bus);
        }
        rig.set_up_unit(0);
        rig.set_up_unit(1);
        rig
    }

    fn direct() -> Self {
        Self::new(RootComplexConfig::direct, &[])
    }

    fn client(&mut self, function: Bdf) -> ConfigClient<'_, RootComplex> {
        ConfigClient::new(&mut self.complex, function, self.now)
    }

    fn give_bus(&mut self, port: u8, bus: u8) {
        let bar = BARS + (u32::from(port) << 20);
        let mut bridge = self.client(Bdf::new(0, port + 1, 0));
        bridge.set_buses(bus, bus);
        bridge.set_memory_window(bar, bar);
        bridge.set_command(Command::MEMORY_AND_MASTER);
        let mut endpoint = self.client(Bdf::new(bus, 0, 0));
        endpoint.set_bar0(bar);
        endpoint.set_command(Command::MEMORY_AND_MASTER);
        let ats = endpoint.extended_capability(ats::ID).unwrap();
        endpoint.enable_ats(ats);
    }

    /// Tables of the unit that map IOVA to [`target`] for all functions of buses 1 and 2.
    fn set_up_unit(&mut self, unit: u64) {
        let at = |offset: u64| base(unit) + offset;
        let page = |address: u64| address / PAGE_SIZE;
        let entry = |address| {
            let entry = SecondStageEntry::new().with_read(true).with_write(true);
            entry.with_page(page(address)).into_bits()
        };
        for bus in [1, 2] {
            let root = RootEntry::new().with_present(true).with_page(page(at(CONTEXTS)));
            self.poke(at(ROOT) + bus * 16, root.into_bits());
        }
        let low = ContextLow::new().with_present(true).with_translation_type(1);
        self.poke(at(CONTEXTS), low.with_page(page(at(TABLES))).into_bits());
        self.poke(at(CONTEXTS) + 8, ContextHigh::new().with_width(1).with_domain(1).into_bits());
        self.poke(at(TABLES), entry(at(TABLES) + 0x1000));
        self.poke(at(TABLES) + 0x1000, entry(at(TABLES) + 0x2000));
        self.poke(at(TABLES) + 0x2000 + IOVA / PAGE_SIZE * 8, entry(target(unit)));
        let interrupts = InterruptTableAddress::new().with_page(page(at(INTERRUPTS))).with_size(3);
        self.write(unit, offset::IQA, at(RING) as u32);
        self.write(unit, offset::RTADDR, at(ROOT) as u32);
        self.write(unit, offset::IRTA, interrupts.into_bits() as u32);
        let on = GlobalBits::new().with_queued_invalidation(true).with_translation(true);
        let on = on.with_interrupt_remapping(true).with_set_interrupt_table(true);
        self.write(unit, offset::GCMD, on.with_set_root_table(true).into_bits());
    }

    fn write(&mut self, unit: u64, at: u16, value: u32) {
        let at = unit * Unit::SIZE + u64::from(at);
        self.complex.unit_write(at, &value.to_le_bytes(), self.now);
    }

    fn read(&mut self, unit: u64, at: u16) -> u64 {
        let mut data = [0; 8];
        self.complex.unit_read(unit * Unit::SIZE + u64::from(at), &mut data);
        u64::from_le_bytes(data)
    }

    fn poke(&self, address: u64, value: u64) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    fn peek(&self, address: u64) -> u32 {
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    fn command(&mut self, port: u8, command: u32, pattern: u32) {
        let bar = u64::from(BARS) + (u64::from(port) << 20);
        for (at, value) in [
            (regs::IOVA, IOVA as u32),
            (regs::LENGTH, 8),
            (regs::PATTERN, pattern),
            (regs::COMMAND, command),
        ] {
            self.complex.memory_write(bar + at, &value.to_le_bytes(), self.now);
        }
    }

    /// Submits a Device-TLB invalidation of `function` and a wait to the unit's queue.
    fn flush(&mut self, unit: u64, function: Bdf) {
        let invalidate =
            DeviceTlbDescriptor::new().with_source_id(function.into_bits()).with_page(IOVA >> 12);
        let wait = WaitDescriptor::new()
            .with_status_write(true)
            .with_status_data(1)
            .with_status_dword((base(unit) + STATUS) >> 2);
        for descriptor in [invalidate.into_bits(), wait.into_bits()] {
            let tail = &mut self.tails[unit as usize];
            let slot = base(unit) + RING + u64::from(*tail);
            *tail += 16;
            self.memory.write_obj(descriptor, GuestAddress(slot)).unwrap();
        }
        self.write(unit, offset::IQT, self.tails[unit as usize]);
    }

    fn is_done(&self, unit: u64) -> bool {
        self.peek(base(unit) + STATUS) == 1
    }

    fn has_timed_out(&mut self, unit: u64) -> bool {
        let mut data = [0; 4];
        self.complex.unit_read(unit * Unit::SIZE + u64::from(offset::FSTS), &mut data);
        FaultStatus::from_bits(u32::from_le_bytes(data)).timeout_error()
    }

    /// Source and reason of the unit's first fault record.
    fn record(&mut self, unit: u64) -> Option<(Bdf, u8)> {
        let high = FaultRecordHigh::from_bits(self.read(unit, offset::FRCD + 8));
        high.fault().then(|| (Bdf::from_bits(high.source_id()), high.reason()))
    }

    /// The unit delivers interrupt 0 of any source as this vector.
    fn set_vector(&mut self, unit: u64, vector: u8) {
        let entry = Irte::new().with_present(true).with_vector(vector);
        self.memory.write_obj(entry.into_bits(), GuestAddress(base(unit) + INTERRUPTS)).unwrap();
    }

    fn vectors(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.complex.poll_interrupt()).map(|msi| msi.data as u8).collect()
    }
}

const FIRST: Bdf = Bdf::new(1, 0, 0);
const SECOND: Bdf = Bdf::new(2, 0, 0);

#[test]
fn each_unit_has_its_page_and_its_settings() {
    let mut rig = Rig::direct();
    let records = |cap: u64| cap >> 40 & 0xff;
    assert_eq!(records(rig.read(0, offset::CAP)), 7);
    assert_eq!(records(rig.read(1, offset::CAP)), 1);
    assert_eq!(rig.read(0, offset::RTADDR), base(0) + ROOT);
    assert_eq!(rig.read(1, offset::RTADDR), base(1) + ROOT);
    rig.write(2, offset::RTADDR, 0x1000);
    assert_eq!(rig.read(2, offset::RTADDR), u64::MAX, "there is no third");
}

#[test]
fn dma_goes_through_the_tables_of_the_unit_that_has_the_port() {
    let mut rig = Rig::direct();
    rig.command(0, FILL, 0xa);
    assert_eq!((rig.peek(target(0)), rig.peek(target(1))), (0xa, 0));
    rig.command(1, FILL, 0xb);
    assert_eq!((rig.peek(target(0)), rig.peek(target(1))), (0xa, 0xb));
}

#[test]
fn a_fault_is_recorded_in_the_unit_that_has_the_port() {
    for (port, unit, function) in [(0, 0, FIRST), (1, 1, SECOND)] {
        let mut rig = Rig::direct();
        rig.poke(base(unit) + TABLES + 0x2000 + IOVA / PAGE_SIZE * 8, 0);
        rig.command(port, FILL, 1);
        assert_eq!(rig.record(unit), Some((function, FaultReason::WRITE_DENIED.0)));
        assert_eq!(rig.record(1 - unit), None);
    }
}

#[test]
fn each_unit_keeps_its_fault_records_over_a_reset() {
    let mut rig = Rig::direct();
    rig.poke(base(1) + TABLES + 0x2000 + IOVA / PAGE_SIZE * 8, 0);
    rig.command(1, FILL, 1);
    let sticky = rig.complex.sticky_registers();
    let mut rig = Rig::new(
        |unit| RootComplexConfig { sticky: sticky.clone(), ..RootComplexConfig::direct(unit) },
        &[],
    );
    assert_eq!((rig.record(0), rig.record(1).map(|(source, _)| source)), (None, Some(SECOND)));
}

#[test]
fn software_moves_functions_between_units_by_renumbering_buses() {
    let mut rig = Rig::direct();
    rig.give_bus(0, 5);
    rig.give_bus(1, 1);
    rig.command(1, FILL, 0xb);
    assert_eq!(rig.peek(target(1)), 0xb, "bus 1 is the second port's now");
    assert_eq!(rig.record(0), None);
    rig.command(0, FILL, 0xa);
    assert_eq!(rig.record(0).map(|(source, _)| source), Some(Bdf::new(5, 0, 0)));
}

#[test]
fn each_unit_invalidates_the_atcs_of_its_functions() {
    let policy = "linux".parse().unwrap();
    for mut rig in [
        Rig::direct(),
        Rig::new(|unit| RootComplexConfig::forwarded(Clone::clone(&policy), unit), &[]),
    ] {
        rig.flush(1, SECOND);
        assert!(rig.is_done(1) && !rig.is_done(0));
        rig.flush(0, FIRST);
        assert!(rig.is_done(0));
    }
}

#[test]
fn a_request_to_another_units_function_is_lost() {
    let mut rig = Rig::direct();
    rig.flush(1, FIRST);
    assert!(!rig.is_done(1) && !rig.has_timed_out(1));
    rig.flush(0, FIRST);
    assert!(rig.is_done(0), "the other unit goes on");
    rig.now = rig.now + ICT;
    rig.complex.handle_timeout(rig.now);
    assert!(rig.has_timed_out(1) && !rig.has_timed_out(0) && !rig.is_done(1));

    let policy: iommu::submit::Policy = "linux".parse().unwrap();
    let mut rig = Rig::new(|unit| RootComplexConfig::forwarded(policy.clone(), unit), &[]);
    rig.flush(1, FIRST);
    assert!(rig.has_timed_out(1), "the host refuses at once");
}

#[test]
fn interrupts_are_remapped_by_the_unit_that_has_the_port_and_the_io_apics_by_the_first() {
    let mut rig = Rig::direct();
    rig.set_vector(0, 0x40);
    rig.set_vector(1, 0x50);
    let msi = Msi { address: RemappableAddress::for_handle(0).into_bits(), data: 0 };
    for function in [FIRST, SECOND] {
        let mut endpoint = rig.client(function);
        let capability = endpoint.capability(msi::ID).unwrap();
        endpoint.enable_msi(capability, msi);
    }
    rig.command(0, SEND_MSI, 0);
    assert_eq!(rig.vectors(), [0x40]);
    rig.command(1, SEND_MSI, 0);
    assert_eq!(rig.vectors(), [0x50]);
    // Even if software gives the second port the bus of the I/O APIC's requester id.
    rig.client(Bdf::new(0, 2, 0)).set_buses(2, 0xff);
    rig.complex.io_apic_message(msi, rig.now);
    assert_eq!(rig.vectors(), [0x40]);
}

#[test]
fn faults_count_the_descriptors_of_all_units() {
    let fault = "after=descriptors:3,mode=silent,port=rp0";
    let mut rig = Rig::new(RootComplexConfig::direct, &[fault]);
    let has_happened = |rig: &Rig| {
        let events = rig.recorder.events();
        events.iter().any(|event| matches!(event.event, Event::FaultInjected { .. }))
    };
    rig.flush(1, SECOND);
    assert!(!has_happened(&rig), "two descriptors");
    rig.flush(0, FIRST);
    assert!(has_happened(&rig), "the third is the other unit's");
}
