//! Two functions with one number, each in a segment of its own, as a guest uses them: by addresses.

use std::sync::Arc;
use std::time::Duration;

use iommu::event::{Event, Recorder, UnitRole};
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
use crate::fault::{FaultMode, GuestConsole};
use crate::pcie::ConfigAccess;
use crate::pcie::spec::{ats, msi};
use crate::topology::DeviceSpec;

/// The number of both functions.
const FUNCTION: Bdf = Bdf::new(1, 0, 0);
const IOVA: u64 = 0x7000;
const FILL: u32 = 3;
const BY_ATC: u32 = 1 << 4;
const SEND_MSI: u32 = 7;
const ICT: Duration = Duration::from_secs(1);
const DEVICES: [&str; 5] = [
    "root-port,id=far,segment=1",
    "ats-endpoint,bus=far",
    "root-port,id=near",
    "ats-endpoint,bus=near",
    "drhd,id=u,segment=1",
];

/// The structures of the unit with that index begin here.
const fn base(unit: u64) -> u64 {
    0x1_0000 * (unit + 1)
}

const ROOT: u64 = 0x1000;
const CONTEXTS: u64 = 0x2000;
const TABLES: u64 = 0x3000;
const INTERRUPTS: u64 = 0x6000;
const STATUS: u64 = 0x7000;

/// The page that the tables of a unit map IOVA to.
const fn target(unit: u64) -> u64 {
    0x10_0000 + unit * PAGE_SIZE
}

/// The entry that does.
const fn entry(unit: u64) -> u64 {
    base(unit) + TABLES + 0x2000 + IOVA / PAGE_SIZE * 8
}

const fn bar(segment: u64) -> u64 {
    [map::PCI_MEMORY.start, map::segment_memory(0).start][segment as usize]
}

/// Configuration space as an ECAM has it.
struct Ecam<'a>(&'a mut Chipset, map::Range);

impl ConfigAccess for Ecam<'_> {
    fn config_read(&mut self, function: Bdf, offset: u16, data: &mut [u8], now: Instant) {
        let at = (u64::from(function.into_bits()) << 12) + u64::from(offset);
        self.0.memory_read(self.1.start + at, data, now);
    }

    fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant) {
        let at = (u64::from(function.into_bits()) << 12) + u64::from(offset);
        self.0.memory_write(self.1.start + at, data, now);
    }
}

/// Segments 0 and 1, each with a root port, and an endpoint on bus 1 behind it. Unit 1 is that of
/// segment 1.
struct Rig {
    chipset: Chipset,
    memory: Memory,
    recorder: Arc<Recorder>,
    now: Instant,
    tails: [u64; 2],
}

impl Rig {
    fn new(change: impl FnOnce(&mut RootComplexConfig)) -> Self {
        let unit = UnitConfig {
            interrupt_remapping: true,
            ict: Timeout::After(ICT),
            ..UnitConfig::new(UnitRole::Guest)
        };
        let mut root_complex = RootComplexConfig::direct(unit);
        let devices = DEVICES.map(|text| text.parse::<DeviceSpec>().unwrap());
        root_complex.topology = Topology::new(&devices).unwrap();
        root_complex.oracle = true;
        let near = UnitConfig { fault_records: 2, ..unit };
        root_complex.unit_settings = vec![("u".to_owned(), near)];
        change(&mut root_complex);
        let topology = root_complex.topology.clone();
        let memory = Memory::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let recorder = Arc::new(Recorder::default());
        let tracer = Tracer::to(recorder.clone());
        let config = ChipsetConfig { root_complex, memory: 2 << 20, cpus: 1, tsc_khz: 0 };
        let mut chipset = Chipset::new(config, &mut Media::new(), memory.clone(), tracer).unwrap();
        chipset.set_up(&topology);
        let mut rig = Self { chipset, memory, recorder, now: Instant::START, tails: [0; 2] };
        for segment in [0, 1] {
            rig.set_up_functions(segment);
            rig.set_up_unit(segment);
        }
        rig
    }

    fn ecam(&mut self, segment: u64) -> Ecam<'_> {
        Ecam(&mut self.chipset, [map::ECAM, map::segment_ecam(0)][segment as usize])
    }

    fn set_up_functions(&mut self, segment: u64) {
        let (now, bar) = (self.now, bar(segment) as u32);
        let mut ecam = self.ecam(segment);
        let mut bridge = ConfigClient::new(&mut ecam, Bdf::new(0, 1, 0), now);
        bridge.set_buses(1, 1);
        bridge.set_memory_window(bar, bar);
        bridge.set_command(Command::MEMORY_AND_MASTER);
        let mut endpoint = ConfigClient::new(&mut ecam, FUNCTION, now);
        endpoint.set_bar0(bar);
        endpoint.set_command(Command::MEMORY_AND_MASTER);
        let ats = endpoint.extended_capability(ats::ID).unwrap();
        endpoint.enable_ats(ats);
    }

    /// Tables of the unit that map IOVA to [`target`] for all functions of bus 1.
    fn set_up_unit(&mut self, unit: u64) {
        let at = |offset: u64| base(unit) + offset;
        let page = |address: u64| address / PAGE_SIZE;
        let leaf = |address| {
            let entry = SecondStageEntry::new().with_read(true).with_write(true);
            entry.with_page(page(address)).into_bits()
        };
        let root = RootEntry::new().with_present(true).with_page(page(at(CONTEXTS)));
        self.poke(at(ROOT) + 16, root.into_bits());
        let low = ContextLow::new().with_present(true).with_translation_type(1);
        self.poke(at(CONTEXTS), low.with_page(page(at(TABLES))).into_bits());
        self.poke(at(CONTEXTS) + 8, ContextHigh::new().with_width(1).with_domain(1).into_bits());
        self.poke(at(TABLES), leaf(at(TABLES) + 0x1000));
        self.poke(at(TABLES) + 0x1000, leaf(at(TABLES) + 0x2000));
        self.poke(entry(unit), leaf(target(unit)));
        let interrupts = InterruptTableAddress::new().with_page(page(at(INTERRUPTS))).with_size(3);
        self.unit(unit, offset::IQA, at(0) as u32);
        self.unit(unit, offset::RTADDR, at(ROOT) as u32);
        self.unit(unit, offset::IRTA, interrupts.into_bits() as u32);
        let on = GlobalBits::new().with_queued_invalidation(true).with_translation(true);
        let on = on.with_interrupt_remapping(true).with_set_interrupt_table(true);
        self.unit(unit, offset::GCMD, on.with_set_root_table(true).into_bits());
    }

    fn unit(&mut self, unit: u64, at: u16, value: u32) {
        self.write(map::unit(unit as usize).start + u64::from(at), value);
    }

    fn read_unit(&mut self, unit: u64, at: u16) -> u64 {
        let mut data = [0; 8];
        let address = map::unit(unit as usize).start + u64::from(at);
        self.chipset.memory_read(address, &mut data, self.now);
        u64::from_le_bytes(data)
    }

    fn write(&mut self, address: u64, value: u32) {
        self.chipset.memory_write(address, &value.to_le_bytes(), self.now);
    }

    fn read(&mut self, address: u64) -> u32 {
        let mut data = [0; 4];
        self.chipset.memory_read(address, &mut data, self.now);
        u32::from_le_bytes(data)
    }

    fn poke(&self, address: u64, value: u64) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    /// The first words of both targets.
    fn targets(&self) -> [u32; 2] {
        [0, 1].map(|unit| self.memory.read_obj(GuestAddress(target(unit))).unwrap())
    }

    fn command(&mut self, segment: u64, command: u32, pattern: u32) {
        for (at, value) in [
            (regs::IOVA, IOVA as u32),
            (regs::LENGTH, 8),
            (regs::PATTERN, pattern),
            (regs::COMMAND, command),
        ] {
            self.write(bar(segment) + at, value);
        }
    }

    /// Submits a Device-TLB invalidation of 01:00.0 and a wait to the unit's queue. Whether the wait
    /// has completed.
    fn flush(&mut self, unit: u64) -> bool {
        let status = GuestAddress(base(unit) + STATUS);
        self.memory.write_obj(0_u32, status).unwrap();
        let source = FUNCTION.into_bits();
        let invalidate = DeviceTlbDescriptor::new().with_source_id(source).with_page(IOVA >> 12);
        let wait = WaitDescriptor::new().with_status_write(true).with_status_data(1);
        let wait = wait.with_status_dword(status.0 >> 2);
        for descriptor in [invalidate.into_bits(), wait.into_bits()] {
            let slot = base(unit) + self.tails[unit as usize];
            self.tails[unit as usize] += 16;
            self.memory.write_obj(descriptor, GuestAddress(slot)).unwrap();
        }
        self.unit(unit, offset::IQT, self.tails[unit as usize] as u32);
        self.memory.read_obj::<u32>(status).unwrap() == 1
    }

    fn has_timed_out(&mut self, unit: u64) -> bool {
        let status = self.read(map::unit(unit as usize).start + u64::from(offset::FSTS));
        FaultStatus::from_bits(status).timeout_error()
    }

    /// Source and reason of the unit's first fault record.
    fn record(&mut self, unit: u64) -> Option<(Bdf, u8)> {
        let high = FaultRecordHigh::from_bits(self.read_unit(unit, offset::FRCD + 8));
        high.fault().then(|| (Bdf::from_bits(high.source_id()), high.reason()))
    }

    /// The segments of the events that match.
    fn segments(&self, wanted: impl Fn(&Event) -> bool) -> Vec<u16> {
        let events = self.recorder.events();
        events.iter().filter(|timed| wanted(&timed.event)).map(|timed| timed.segment).collect()
    }

    fn vectors(&mut self) -> Vec<u8> {
        let outputs = std::iter::from_fn(|| self.chipset.poll_output());
        let vector = |output| match output {
            Output::Interrupt(msi) => Some(msi.data as u8),
            _ => None,
        };
        outputs.filter_map(vector).collect()
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.chipset.poll_timeout().filter(|due| *due <= end) {
            self.now = due;
            self.chipset.handle_timeout(due);
        }
        self.now = end;
    }
}

#[test]
fn each_segment_has_its_configuration_space_and_0xcf8_leads_to_the_first() {
    let mut rig = Rig::new(|_| {});
    let far = map::segment_ecam(0).start;
    assert_eq!(rig.read(far), 0x29c0_8086, "0001:00:00.0");
    assert_eq!(rig.read(far + 0x8000), 0x3420_8086, "0001:00:01.0");
    assert_eq!(rig.read(far + 0x10_0000), 0x6c6b_1234, "0001:01:00.0");
    assert_eq!(rig.read(far + 0x1_0000), u32::MAX, "there is no 0001:00:02.0");
    assert_eq!(rig.read(map::segment_ecam(1).start), u32::MAX, "there is no segment 2");
    // Another bus number here moves nothing there.
    let now = rig.now;
    ConfigClient::new(&mut rig.ecam(0), Bdf::new(0, 1, 0), now).set_buses(2, 2);
    assert_eq!(rig.read(map::ECAM.start + 0x10_0000), u32::MAX);
    assert_eq!(rig.read(far + 0x10_0000), 0x6c6b_1234);
    rig.chipset.port_write(0xcf8, &0x8001_0000_u32.to_le_bytes(), now);
    let mut data = [0; 4];
    rig.chipset.port_read(0xcfc, &mut data, now);
    assert_eq!(data, [0xff; 4]);
    // No segment claims an access across the edge of its windows.
    let mut data = [0; 8];
    for edge in [far, map::segment_memory(0).start, map::segment_memory(0).end()] {
        rig.chipset.memory_read(edge - 4, &mut data, now);
        assert_eq!(data, [0xff; 8], "{edge:#x}");
        rig.chipset.memory_write(edge - 4, &[0; 8], now);
    }
}

#[test]
fn a_segments_unit_has_the_page_behind_those_of_the_first_and_its_settings() {
    let mut rig = Rig::new(|_| {});
    let records = |cap: u64| cap >> 40 & 0xff;
    assert_eq!(records(rig.read_unit(0, offset::CAP)), 7);
    assert_eq!(records(rig.read_unit(1, offset::CAP)), 1);
    assert_eq!(rig.read_unit(1, offset::RTADDR), base(1) + ROOT);
    assert_eq!(rig.read_unit(2, offset::CAP), u64::MAX, "there is no third");
}

#[test]
fn dma_and_faults_of_equal_numbers_are_of_their_segments_units() {
    let mut rig = Rig::new(|_| {});
    rig.command(1, FILL, 0xb);
    assert_eq!(rig.targets(), [0, 0xb]);
    rig.command(0, FILL | BY_ATC, 0xa);
    assert_eq!(rig.targets(), [0xa, 0xb]);
    let is_dma = |event: &Event| matches!(event, Event::Dma { function: FUNCTION, .. });
    assert_eq!(rig.segments(is_dma), [1, 0]);
    let events = rig.recorder.events().into_iter().filter(|timed| is_dma(&timed.event));
    let [far, near] =
        &events.map(|timed| serde_json::to_value(timed).unwrap()).collect::<Vec<_>>()[..]
    else {
        panic!("two events")
    };
    assert_eq!((&far["segment"], &far["function"]), (&1.into(), &"01:00.0".into()));
    assert_eq!((near.get("segment"), &near["function"]), (None, &"01:00.0".into()));
    for segment in [0, 1] {
        let mut rig = Rig::new(|_| {});
        rig.poke(entry(segment), 0);
        rig.command(segment, FILL, 1);
        assert_eq!(rig.record(segment), Some((FUNCTION, FaultReason::WRITE_DENIED.0)));
        assert_eq!(rig.record(1 - segment), None);
        let is_fault = |event: &Event| matches!(event, Event::DmaFault { .. });
        assert_eq!(rig.segments(is_fault), [segment as u16]);
    }
}

#[test]
fn an_invalidate_request_reaches_the_function_in_its_units_segment_only() {
    let mut rig = Rig::new(|_| {});
    rig.command(0, FILL | BY_ATC, 1);
    rig.command(1, FILL | BY_ATC, 1);
    let drops = |event: &Event| matches!(event, Event::AtcInvalidated { dropped: 1, .. });
    assert!(rig.flush(1));
    assert_eq!(rig.segments(drops), [1]);
    assert!(rig.flush(0));
    assert_eq!(rig.segments(drops), [1, 0], "the other one still held it");
}

#[test]
fn a_lost_link_stalls_the_queue_of_its_segment() {
    for (port, lost) in [(0, 0), (1, 1)] {
        let mut rig = Rig::new(|_| {});
        rig.chipset.inject(port, FaultMode::Silent, rig.now);
        assert!(!rig.flush(lost), "the port with index {port} is that of segment {lost}");
        assert!(rig.flush(1 - lost));
        rig.pass(ICT);
        assert!(rig.has_timed_out(lost) && !rig.has_timed_out(1 - lost));
        let is_ite =
            |event: &Event| matches!(event, Event::InvalidationTimeout { function: FUNCTION, .. });
        assert_eq!(rig.segments(is_ite), [lost as u16]);
        rig.chipset.lift(port, FaultMode::Silent, rig.now);
        rig.chipset.inject(2, FaultMode::Silent, rig.now);
    }
}

#[test]
fn faults_of_the_schedule_happen_in_the_segment_of_their_port() {
    for (fault, lost) in [
        ("at=1ms,port=far,mode=silent", 1),
        ("at=1ms,port=near,mode=silent", 0),
        ("at=1ms,mode=silent", 0),
        ("on=doorbell,port=far,mode=silent", 1),
        ("on=serial:/down/,port=far,mode=silent", 1),
        ("on=serial:/down/,port=near,mode=silent", 0),
        ("on=debugcon:/down/,port=far,mode=silent", 1),
        ("on=debugcon:/down/,port=near,mode=silent", 0),
        ("after=descriptors:1,port=far,mode=silent", 1),
    ] {
        let mut rig = Rig::new(|config| config.faults = vec![fault.parse().unwrap()]);
        rig.pass(Duration::from_millis(1));
        rig.chipset.port_write(port::BENCH + 4, &1_u32.to_le_bytes(), rig.now);
        let mut matched: Vec<usize> = Vec::new();
        for console in GuestConsole::ALL {
            matched.extend(rig.chipset.console_expressions(console).map(|(n, _)| n));
        }
        matched.into_iter().for_each(|n| rig.chipset.console_matched(n, rig.now));
        let happened = |event: &Event| matches!(event, Event::FaultInjected { .. });
        rig.flush(1 - lost);
        rig.flush(lost);
        assert_eq!(rig.segments(happened), [lost as u16], "{fault}");
    }
}

#[test]
fn interrupts_are_remapped_by_the_unit_of_the_segment() {
    let mut rig = Rig::new(|_| {});
    let msi = Msi { address: RemappableAddress::for_handle(0).into_bits(), data: 0 };
    for (segment, vector) in [(0, 0x40), (1, 0x50)] {
        let entry = Irte::new().with_present(true).with_vector(vector).into_bits();
        rig.memory.write_obj(entry, GuestAddress(base(segment) + INTERRUPTS)).unwrap();
        let now = rig.now;
        let mut ecam = rig.ecam(segment);
        let mut endpoint = ConfigClient::new(&mut ecam, FUNCTION, now);
        let capability = endpoint.capability(msi::ID).unwrap();
        endpoint.enable_msi(capability, msi);
    }
    rig.command(1, SEND_MSI, 0);
    assert_eq!(rig.vectors(), [0x50]);
    rig.command(0, SEND_MSI, 0);
    assert_eq!(rig.vectors(), [0x40]);
}

#[test]
fn the_oracle_names_the_segment_of_a_stale_access() {
    for segment in [0, 1] {
        let mut rig = Rig::new(|_| {});
        rig.command(0, FILL | BY_ATC, 1);
        rig.command(1, FILL | BY_ATC, 1);
        rig.chipset.inject(segment as usize, FaultMode::EarlyCompletion, rig.now);
        for unit in [0, 1] {
            rig.poke(entry(unit), 0);
            assert!(rig.flush(unit));
        }
        rig.command(0, FILL | BY_ATC, 2);
        rig.command(1, FILL | BY_ATC, 2);
        let stale = |event: &Event| matches!(event, Event::StaleAccess { function: FUNCTION, .. });
        assert_eq!(rig.segments(stale), [segment as u16]);
        assert_eq!(rig.chipset.stale_counts().unwrap().told_success, 1);
    }
}

#[test]
fn the_units_of_all_segments_keep_their_fault_records_over_a_reset() {
    let mut rig = Rig::new(|_| {});
    rig.poke(entry(1), 0);
    rig.command(1, FILL, 1);
    let sticky = rig.chipset.sticky_registers();
    assert_eq!(sticky.len(), 2);
    let mut rig = Rig::new(|config| config.sticky = sticky);
    assert_eq!((rig.record(0), rig.record(1).map(|(source, _)| source)), (None, Some(FUNCTION)));
}

#[test]
fn each_segment_has_a_host_of_its_own_if_there_is_one_below() {
    let policy: iommu::submit::Policy = "bounded:100ms".parse().unwrap();
    let mut rig = Rig::new(|config| {
        let unit = config.guest_unit;
        let forwarded = RootComplexConfig::forwarded(policy, unit);
        (config.host, config.guest_unit) = (forwarded.host, forwarded.guest_unit);
    });
    rig.chipset.inject(1, FaultMode::Silent, rig.now);
    assert!(!rig.flush(1) && rig.flush(0));
    rig.pass(Duration::from_millis(100));
    assert!(rig.has_timed_out(1) && !rig.has_timed_out(0));
}
