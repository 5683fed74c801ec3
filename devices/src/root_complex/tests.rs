//! The whole path without CPUs: a driver programs unit and endpoint, the link goes down.

use std::sync::Arc;
use std::time::Duration;

use iommu::event::{Event, Lost, Recorder};
use iommu::ids::PAGE_SIZE;
use iommu::spec::control::GlobalBits;
use iommu::spec::descriptor::{DeviceTlbDescriptor, WaitDescriptor};
use iommu::spec::fault::FaultStatus;
use iommu::spec::offset;
use iommu::spec::queue::QueueErrorRecord;
use iommu::spec::tables::{ContextHigh, ContextLow, RootEntry, SecondStageEntry};
use iommu::submit::Verdict;
use iommu::time::Timeout;
use iommu::unit::{Ordering, UnitConfig};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::endpoint::regs;
use crate::fault::FaultMode;
use crate::pcie::ConfigClient;
use crate::pcie::caps::express::HotPlug;
use crate::pcie::spec::header::Command;
use crate::pcie::spec::{ats, dpc};
use crate::topology::{DeviceSpec, Topology, simple_devices};

const RING: u64 = 0x1000;
const STATUS: u64 = 0x2000;
const ROOT: u64 = 0x3000;
const CONTEXTS: u64 = 0x4000;
const TABLES: u64 = 0x5000;
pub(super) const TARGET: u64 = 0x10_0000;
pub(super) const IOVA: u64 = 0x7000;
/// The entry that maps IOVA to TARGET.
pub(super) const ENTRY: u64 = TABLES + 0x2000 + IOVA / PAGE_SIZE * 8;
const BARS: u64 = 0xc000_0000;
const FILL_BY_ATC: u32 = 3 | 1 << 4;
pub(super) const BOUND: Duration = Duration::from_millis(100);

/// The function behind port `port`.
pub(super) const fn function(port: u8) -> Bdf {
    Bdf::new(port + 1, 0, 0)
}

/// Two root ports with all that a slot can have, an endpoint behind each.
fn with_buttons() -> Topology {
    let mut devices = simple_devices(2, 0);
    for device in &mut devices {
        if let DeviceSpec::RootPort(port) = device {
            port.hotplug = HotPlug::Button;
        }
    }
    Topology::new(&devices).unwrap()
}

pub(super) struct Rig {
    pub(super) complex: RootComplex,
    recorder: Arc<Recorder>,
    memory: Memory,
    pub(super) now: Instant,
    tail: u32,
}

impl Rig {
    fn new(policy: &str, ict: Timeout) -> Self {
        Self::with(policy, ict, Ordering::Serial)
    }

    /// Buses, BARs, unit and ATS are set up; IOVA is mapped to TARGET for both functions.
    pub(super) fn with(policy: &str, ict: Timeout, ordering: Ordering) -> Self {
        Self::with_faults(policy, ict, ordering, &[])
    }

    pub(super) fn with_faults(
        policy: &str,
        ict: Timeout,
        ordering: Ordering,
        faults: &[&str],
    ) -> Self {
        let unit = UnitConfig { ict, ordering, ..UnitConfig::new(UnitRole::Host) };
        Self::built(RootComplexConfig::forwarded(policy.parse().unwrap(), unit), faults)
    }

    /// As [`Self::with_faults`], without a host: the guest's unit is the physical one.
    pub(super) fn direct(unit: UnitConfig, faults: &[&str]) -> Self {
        Self::built(RootComplexConfig::direct(unit), faults)
    }

    fn built(mut config: RootComplexConfig, faults: &[&str]) -> Self {
        let recorder = Arc::new(Recorder::default());
        let memory = Memory::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        config.faults = faults.iter().map(|text| text.parse().unwrap()).collect();
        config.topology = with_buttons();
        config.oracle = true;
        let tracer = Tracer::to(recorder.clone());
        let complex = RootComplex::new(config, memory.clone(), tracer).unwrap();
        let mut rig = Self { complex, recorder, memory, now: Instant::START, tail: 0 };
        rig.set_up_functions();
        rig.set_up_unit();
        rig
    }

    pub(super) fn client(&mut self, function: Bdf) -> ConfigClient<'_, RootComplex> {
        ConfigClient::new(&mut self.complex, function, self.now)
    }

    /// Turns containment of fatal errors on at a port, and ends one that there is.
    pub(super) fn contain_errors(&mut self, port: u8) {
        let mut bridge = self.client(Bdf::new(0, port + 1, 0));
        let dpc = bridge.extended_capability(dpc::ID).unwrap();
        let control = dpc::Control::new().with_trigger_enable(dpc::TRIGGER_FATAL);
        bridge.write(dpc + dpc::CONTROL, control);
        bridge.write(dpc + dpc::STATUS, dpc::Status::new().with_triggered(true));
    }

    pub(super) fn set_up_functions(&mut self) {
        for port in 0..2 {
            let (bridge, bar) = (Bdf::new(0, port + 1, 0), BARS as u32 + (u32::from(port) << 20));
            let bus = port + 1;
            let mut bridge = self.client(bridge);
            bridge.set_buses(bus, bus);
            bridge.set_memory_window(bar, bar);
            bridge.set_command(Command::MEMORY_AND_MASTER);
            let mut endpoint = self.client(function(port));
            endpoint.set_bar0(bar);
            endpoint.set_command(Command::MEMORY_AND_MASTER);
            let ats = endpoint.extended_capability(ats::ID).unwrap();
            endpoint.enable_ats(ats);
        }
    }

    fn set_up_unit(&mut self) {
        let page = |address: u64| address / PAGE_SIZE;
        let entry = |address| {
            let entry = SecondStageEntry::new().with_read(true).with_write(true);
            entry.with_page(page(address)).into_bits()
        };
        for port in 0..2 {
            let root = RootEntry::new().with_present(true).with_page(page(CONTEXTS));
            self.poke(ROOT + u64::from(function(port).bus()) * 16, root.into_bits());
        }
        let low = ContextLow::new().with_present(true).with_translation_type(1);
        self.poke(CONTEXTS, low.with_page(page(TABLES)).into_bits());
        self.poke(CONTEXTS + 8, ContextHigh::new().with_width(1).with_domain(1).into_bits());
        self.poke(TABLES, entry(TABLES + 0x1000));
        self.poke(TABLES + 0x1000, entry(TABLES + 0x2000));
        self.poke(TABLES + 0x2000 + IOVA / PAGE_SIZE * 8, entry(TARGET));
        self.unit(offset::IQA, RING as u32);
        self.unit(offset::RTADDR, ROOT as u32);
        let on = GlobalBits::new().with_queued_invalidation(true).with_translation(true);
        self.unit(offset::GCMD, on.with_set_root_table(true).into_bits());
    }

    pub(super) fn unit(&mut self, at: u16, value: u32) {
        self.complex.unit_write(at.into(), &value.to_le_bytes(), self.now);
    }

    fn poke(&self, address: u64, value: u64) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    pub(super) fn peek(&self, address: u64) -> u32 {
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    pub(super) fn register(&mut self, port: u8, at: u64, value: u32) {
        let address = BARS + (u64::from(port) << 20) + at;
        self.complex.memory_write(address, &value.to_le_bytes(), self.now);
    }

    /// Lets the function fill 8 bytes at IOVA with `pattern`, by its ATC.
    pub(super) fn fill(&mut self, port: u8, pattern: u32) {
        self.register(port, regs::IOVA, IOVA as u32);
        self.register(port, regs::LENGTH, 8);
        self.register(port, regs::PATTERN, pattern);
        self.register(port, regs::COMMAND, FILL_BY_ATC);
    }

    /// Submits a Device-TLB invalidation with a wait, whose status word is number `n`.
    pub(super) fn flush(&mut self, port: u8, n: u64) {
        self.write_flush(port, n);
        self.ring();
    }

    /// Writes the tail, again maybe.
    pub(super) fn ring(&mut self) {
        self.unit(offset::IQT, self.tail);
    }

    fn write_flush(&mut self, port: u8, n: u64) {
        let source = function(port).into_bits();
        let wait = WaitDescriptor::new()
            .with_status_write(true)
            .with_status_data(1)
            .with_status_dword((STATUS + 4 * n) >> 2);
        let invalidate = DeviceTlbDescriptor::new().with_source_id(source).with_page(IOVA >> 12);
        self.queue(invalidate.into_bits());
        self.queue(wait.into_bits());
    }

    /// Writes a descriptor behind the tail, and leaves IQT as it is.
    pub(super) fn queue(&mut self, descriptor: u128) {
        self.memory.write_obj(descriptor, GuestAddress(RING + u64::from(self.tail))).unwrap();
        self.tail += 16;
    }

    /// Two flushes, and one write of the tail.
    pub(super) fn two_flushes_in_one_ring(&mut self) {
        let tail = self.tail;
        self.write_flush(0, 0);
        self.write_flush(0, 1);
        assert_eq!(self.tail, tail + 64);
        self.unit(offset::IQT, self.tail);
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.recorder.events().into_iter().map(|timed| timed.event).collect()
    }

    pub(super) fn done(&self, n: u64) -> bool {
        self.peek(STATUS + 4 * n) == 1
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.complex.poll_timeout().filter(|next| *next <= end) {
            self.now = next;
            self.complex.handle_timeout(next);
        }
        self.now = end;
    }

    fn drop_link(&mut self, port: usize) {
        self.complex.inject(port, FaultMode::Silent, self.now);
    }

    /// Whose time-out the guest sees, `None` while ITE is clear.
    pub(super) fn ite(&mut self) -> Option<Bdf> {
        let mut status = [0; 4];
        self.complex.unit_read(offset::FSTS.into(), &mut status);
        let mut record = [0; 8];
        self.complex.unit_read(offset::IQERCD.into(), &mut record);
        let record = QueueErrorRecord::from_bits(u64::from_le_bytes(record));
        let status = FaultStatus::from_bits(u32::from_le_bytes(status));
        status.timeout_error().then(|| Bdf::from_bits(record.timeout_source()))
    }

    pub(super) fn has(&self, matches: impl Fn(&Event) -> bool) -> bool {
        self.recorder.events().iter().any(|timed| matches(&timed.event))
    }
}

#[test]
fn a_healthy_flush_goes_all_the_way_and_back_at_once() {
    let mut rig = Rig::new("linux", Timeout::Never);
    rig.fill(0, 0xabcd);
    assert_eq!(rig.peek(TARGET), 0xabcd);
    rig.flush(0, 0);
    assert!(rig.done(0));
    assert!(rig.has(|event| matches!(event, Event::AtcInvalidated { dropped: 1, .. })));
    assert!(rig.has(|event| matches!(event, Event::Verdict { verdict: Verdict::Completed, .. })));
}

#[test]
fn dma_that_reaches_memory_is_an_event_and_blocked_dma_is_a_fault() {
    let mut rig = Rig::new("linux", Timeout::Never);
    rig.fill(0, 1);
    let dma = |event: &Event| matches!(event, Event::Dma { length: 8, .. });
    assert!(rig.has(dma));
    let mut blocked = Rig::new("linux", Timeout::Never);
    blocked.register(0, regs::IOVA, 0x9000);
    blocked.register(0, regs::LENGTH, 8);
    blocked.register(0, regs::COMMAND, 3);
    assert!(!blocked.has(dma));
    assert!(blocked.has(|event| matches!(event, Event::DmaFault { recorded: true, .. })));
}

#[test]
fn without_any_bound_a_silent_link_stalls_the_guest_for_ever() {
    let mut rig = Rig::new("linux", Timeout::Never);
    rig.drop_link(0);
    rig.flush(0, 0);
    rig.pass(Duration::from_secs(1 << 20));
    assert_eq!((rig.done(0), rig.ite()), (false, None));
    let lost = |event: &Event| matches!(event, Event::Lost { what: Lost::InvalidateRequest, .. });
    assert!(rig.has(lost));
}

#[test]
fn a_bounded_wait_ends_in_ite_with_the_right_source() {
    for policy in ["bounded:100ms", "amd"] {
        let mut rig = Rig::new(policy, Timeout::Never);
        rig.drop_link(0);
        rig.flush(0, 0);
        rig.pass(BOUND - Duration::from_nanos(1));
        assert_eq!(rig.ite(), None);
        rig.pass(Duration::from_nanos(1));
        assert_eq!(rig.ite(), Some(function(0)), "{policy}");
        assert!(!rig.done(0));
    }
}

#[test]
fn the_physical_units_own_timeout_ends_it_too() {
    let mut rig = Rig::new("linux", Timeout::After(Duration::from_secs(60)));
    rig.drop_link(1);
    rig.flush(1, 0);
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.ite(), Some(function(1)));
}

#[test]
fn a_presence_check_skips_what_the_link_no_longer_reaches() {
    let mut rig = Rig::new("present+bounded:100ms", Timeout::Never);
    rig.flush(0, 0);
    rig.drop_link(0);
    rig.flush(0, 1);
    assert!(rig.done(0) && rig.done(1));
    assert!(rig.has(|event| matches!(event, Event::Verdict { verdict: Verdict::Skipped, .. })));
}

#[test]
fn a_healthy_neighbor_suffers_as_the_ordering_says() {
    for (ordering, done) in [(Ordering::Serial, false), (Ordering::Parallel, true)] {
        let mut rig = Rig::with("linux", Timeout::Never, ordering);
        rig.drop_link(0);
        rig.flush(0, 0);
        rig.flush(1, 1);
        assert_eq!((rig.done(0), rig.done(1)), (false, done), "{ordering}");
    }
}

#[test]
fn the_unit_goes_on_when_the_guest_clears_ite() {
    let mut rig = Rig::new("bounded:100ms", Timeout::After(Duration::from_secs(1)));
    rig.drop_link(0);
    rig.flush(0, 0);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.ite(), Some(function(0)));
    rig.unit(offset::FSTS, FaultStatus::new().with_timeout_error(true).into_bits());
    // The first host waiter that polls sees the physical unit's ITE, and gives up as in Linux.
    rig.flush(1, 1);
    assert_eq!(rig.ite(), Some(function(1)));
    rig.unit(offset::FSTS, FaultStatus::new().with_timeout_error(true).into_bits());
    rig.flush(1, 2);
    assert!(rig.done(2));
}
