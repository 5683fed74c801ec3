//! Page requests over the whole path: endpoint, link, the guest's unit, memory, and back.

use std::sync::Arc;

use iommu::event::{Event, Lost, PageRequestOutcome, Recorder};
use iommu::ids::PAGE_SIZE;
use iommu::spec::control::GlobalBits;
use iommu::spec::descriptor::PageGroupResponseDescriptor;
use iommu::spec::offset;
use iommu::spec::page_request::PageRequestDescriptor;
use iommu::spec::queue::QueueAddress;
use iommu::spec::tables::{
    PasidDirectoryEntry, PasidHigh, PasidLow, RootEntry, ScalableContextLow,
};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::endpoint::regs;
use crate::fault::FaultMode;
use crate::pcie::ConfigClient;
use crate::pcie::spec::header::Command;
use crate::pcie::spec::{ats, pasid, pri};
use crate::topology::{DeviceSpec, Topology, simple_devices};
use iommu::unit::UnitConfig;

const RING: u64 = 0x1000;
const ROOT: u64 = 0x3000;
const CONTEXTS: u64 = 0x4000;
const DIRECTORY: u64 = 0x5000;
const PASIDS: u64 = 0x6000;
const REQUESTS: u64 = 0x7000;
const IOVA: u32 = 0x9000;
const BAR: u64 = 0xc000_0000;
const PORT: Bdf = Bdf::new(0, 1, 0);
const ENDPOINT: Bdf = Bdf::new(1, 0, 0);
const EVENT: Msi = Msi { address: 0xfee0_3000, data: 0x45 };
const NOW: Instant = Instant::START;
/// Read permission, the last of its group.
const PAGE_REQUEST: u32 = 8 | 1 << 7 | 1 << 9;
const WITH_PASID: u32 = 1 << 6;
const PASID: u32 = 3;

struct Rig {
    complex: RootComplex,
    recorder: Arc<Recorder>,
    memory: Memory,
    tail: u32,
    port: Bdf,
    registers: u64,
}

impl Rig {
    /// Bus, BAR, tables and rings are set up; ATS, PASIDs and page requests are on.
    fn new() -> Self {
        let unit = UnitConfig::full(UnitRole::Guest);
        Self::with(RootComplexConfig::direct(unit), PORT, 0)
    }

    /// The function is the one below the second of two root ports, for which there is a second unit.
    fn with_second_unit() -> Self {
        let unit = UnitConfig::full(UnitRole::Guest);
        let mut devices = simple_devices(2, 0);
        devices.push("drhd,id=u,scope=rp1".parse::<DeviceSpec>().unwrap());
        let topology = Topology::new(&devices).unwrap();
        let config = RootComplexConfig { topology, ..RootComplexConfig::direct(unit) };
        Self::with(config, Bdf::new(0, 2, 0), Unit::SIZE)
    }

    /// `registers` is the offset of the unit that the function's port belongs to.
    fn with(config: RootComplexConfig, port: Bdf, registers: u64) -> Self {
        let recorder = Arc::new(Recorder::default());
        let memory = Memory::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let tracer = Tracer::to(recorder.clone());
        let complex = RootComplex::new(config, memory.clone(), tracer).unwrap();
        let mut rig = Self { complex, recorder, memory, tail: 0, port, registers };
        rig.set_up_function();
        rig.set_up_unit();
        rig
    }

    fn set_up_function(&mut self) {
        let mut bridge = self.client(self.port);
        bridge.set_buses(1, 1);
        bridge.set_memory_window(BAR as u32, BAR as u32);
        bridge.set_command(Command::MEMORY_AND_MASTER);
        let mut endpoint = self.client(ENDPOINT);
        endpoint.set_bar0(BAR as u32);
        endpoint.set_command(Command::MEMORY_AND_MASTER);
        let [pasid, ats, pri] =
            [pasid::ID, ats::ID, pri::ID].map(|id| endpoint.extended_capability(id).unwrap());
        let pasids = pasid::PasidControl::new().with_enable(true);
        endpoint.write(pasid + pasid::CONTROL, pasids);
        endpoint.enable_ats(ats);
        endpoint.write(pri + pri::ALLOCATION, 512_u32);
        endpoint.write(pri + pri::CONTROL, pri::Control::new().with_enable(true));
    }

    fn set_up_unit(&mut self) {
        let page = |address: u64| address / PAGE_SIZE;
        let root = RootEntry::new().with_present(true).with_page(page(CONTEXTS));
        self.poke(ROOT + 16, root.into_bits());
        let context = ScalableContextLow::new()
            .with_present(true)
            .with_device_tlb(true)
            .with_pasid(true)
            .with_page_requests(true)
            .with_page(page(DIRECTORY));
        self.poke(CONTEXTS, context.into_bits());
        let directory = PasidDirectoryEntry::new().with_present(true).with_page(page(PASIDS));
        self.poke(DIRECTORY, directory.into_bits());
        for pasid in [0, u64::from(PASID)] {
            let entry = PasidLow::new().with_present(true).with_translation_type(4).with_width(2);
            self.poke(PASIDS + pasid * 64, entry.into_bits());
            self.poke(PASIDS + pasid * 64 + 8, PasidHigh::new().with_domain(1).into_bits());
        }
        let ring = QueueAddress::new().with_wide(true).with_page(page(RING));
        self.unit(offset::IQA, ring.into_bits() as u32);
        self.unit(offset::RTADDR, ROOT as u32 | 1 << 10);
        self.unit(offset::PQA, REQUESTS as u32);
        self.unit(offset::PECTL + 4, EVENT.data);
        self.unit(offset::PECTL + 8, EVENT.address as u32);
        self.unit(offset::PECTL, 0);
        let on = GlobalBits::new().with_queued_invalidation(true).with_translation(true);
        self.unit(offset::GCMD, on.with_set_root_table(true).into_bits());
    }

    fn client(&mut self, function: Bdf) -> ConfigClient<'_, RootComplex> {
        ConfigClient::new(&mut self.complex, function, NOW)
    }

    fn unit(&mut self, at: u16, value: u32) {
        self.complex.unit_write(self.registers + u64::from(at), &value.to_le_bytes(), NOW);
    }

    fn poke(&self, address: u64, value: u64) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    fn register(&mut self, at: u64) -> u32 {
        let mut data = [0; 4];
        self.complex.memory_read(BAR + at, &mut data, NOW);
        u32::from_le_bytes(data)
    }

    /// Lets the function make a page request; returns RESULT.
    fn request(&mut self, command: u32, group: u32) -> u32 {
        for (at, value) in [
            (regs::IOVA, IOVA),
            (regs::PASID, PASID),
            (regs::GROUP, group),
            (regs::COMMAND, command),
        ] {
            self.complex.memory_write(BAR + at, &value.to_le_bytes(), NOW);
        }
        self.register(regs::RESULT)
    }

    /// The descriptor in slot `slot` of the page request queue.
    fn slot(&self, slot: u64) -> PageRequestDescriptor {
        let bits = self.memory.read_obj::<u128>(GuestAddress(REQUESTS + slot * 32)).unwrap();
        PageRequestDescriptor::from_bits(bits)
    }

    /// Answers what a slot asks.
    fn respond(&mut self, request: PageRequestDescriptor, code: u8) {
        let response = PageGroupResponseDescriptor::new()
            .with_requester(request.requester())
            .with_pasid_present(request.pasid_present())
            .with_pasid(request.pasid())
            .with_group(request.group())
            .with_code(code);
        let at = GuestAddress(RING + u64::from(self.tail));
        self.memory.write_obj(response.into_bits(), at).unwrap();
        self.tail += 32;
        self.unit(offset::IQT, self.tail);
    }

    fn interrupts(&mut self) -> Vec<Msi> {
        std::iter::from_fn(|| self.complex.poll_interrupt()).collect()
    }

    fn has(&self, matches: impl Fn(&Event) -> bool) -> bool {
        self.recorder.events().iter().any(|timed| matches(&timed.event))
    }
}

#[test]
fn a_request_goes_up_and_its_answer_comes_down() {
    for (command, pasid) in [(PAGE_REQUEST, None), (PAGE_REQUEST | WITH_PASID, Some(PASID))] {
        let mut rig = Rig::new();
        assert_eq!(rig.request(command, 0x111), 0);
        assert_eq!(rig.interrupts(), [EVENT]);
        let request = rig.slot(0);
        assert_eq!(request.requester(), ENDPOINT.into_bits());
        assert_eq!((request.page(), request.group()), (u64::from(IOVA) / PAGE_SIZE, 0x111));
        assert_eq!(request.pasid_present().then_some(request.pasid()), pasid);
        assert_eq!(rig.register(regs::OUTSTANDING), 1);
        rig.respond(request, 1);
        assert_eq!(rig.register(regs::OUTSTANDING), 0);
        assert_eq!(rig.register(regs::RESPONSE), 1 << 31 | 0x111 << 4 | 1);
    }
}

#[test]
fn a_full_queue_answers_by_itself() {
    let mut rig = Rig::new();
    for group in 0..127 {
        assert_eq!(rig.request(PAGE_REQUEST, group), 0);
    }
    assert_eq!(rig.register(regs::RESPONSES), 0);
    rig.request(PAGE_REQUEST, 127);
    assert_eq!(rig.register(regs::RESPONSE), 1 << 31 | 127 << 4);
    assert_eq!((rig.register(regs::OUTSTANDING), rig.register(regs::RESPONSES)), (127, 1));
    assert!(rig.has(|event| {
        matches!(event, Event::PageRequested { outcome: PageRequestOutcome::Overflowed, .. })
    }));
}

#[test]
fn a_function_that_may_not_ask_is_told_so() {
    let mut rig = Rig::new();
    rig.poke(CONTEXTS, 0);
    rig.request(PAGE_REQUEST, 5);
    assert_eq!(rig.register(regs::RESPONSE), 1 << 31 | 5 << 4 | 1);
    assert!(rig.has(|event| matches!(event, Event::DmaFault { recorded: true, .. })));
}

#[test]
fn a_silent_link_loses_the_answer() {
    let mut rig = Rig::new();
    rig.request(PAGE_REQUEST, 5);
    rig.complex.inject(0, FaultMode::Silent, NOW);
    rig.respond(rig.slot(0), 0);
    let lost = |event: &Event| matches!(event, Event::Lost { what: Lost::PageGroupResponse, .. });
    assert!(rig.has(lost));
}

#[test]
fn a_request_goes_to_the_queue_of_the_unit_that_has_the_port() {
    let mut rig = Rig::with_second_unit();
    let tails = |rig: &mut Rig| {
        [0, Unit::SIZE].map(|unit| {
            let mut data = [0; 8];
            rig.complex.unit_read(unit + u64::from(offset::PQT), &mut data);
            u64::from_le_bytes(data)
        })
    };
    assert_eq!(rig.request(PAGE_REQUEST, 0x22), 0);
    assert_eq!(tails(&mut rig), [0, 32]);
    assert_eq!(rig.interrupts(), [EVENT]);
    let request = rig.slot(0);
    assert_eq!((request.requester(), request.group()), (ENDPOINT.into_bits(), 0x22));
    rig.respond(request, 0);
    assert_eq!(rig.register(regs::OUTSTANDING), 0);
    assert_eq!(rig.register(regs::RESPONSE), 1 << 31 | 0x22 << 4);
}
