//! What a descriptor and a translation cost, each beside reading the same bytes with vm-memory.
//!
//! `cargo bench -p iommu`. The figures in docs/performance.md come from here.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iommu::Memory;
use iommu::ats::{Access, AddressType, DmaRequest};
use iommu::event::{Tracer, UnitRole};
use iommu::ids::{Bdf, Iova, PAGE_SIZE};
use iommu::spec::control::GlobalBits;
use iommu::spec::descriptor::{IotlbDescriptor, WaitDescriptor};
use iommu::spec::offset;
use iommu::spec::queue::QueueAddress;
use iommu::spec::tables::{ContextHigh, ContextLow, RootEntry, SecondStageEntry};
use iommu::time::Instant;
use iommu::unit::{Unit, UnitConfig};
use vm_memory::{Bytes, GuestAddress};

const RING: u64 = 0x100_0000;
const STATUS: u64 = 0x20_0000;
const ROOT: u64 = 0x30_0000;
const CONTEXTS: u64 = 0x31_0000;
const TABLES: u64 = 0x40_0000;
const FUNCTION: Bdf = Bdf::new(1, 0, 0);
const NOW: Instant = Instant::START;

struct Machine {
    unit: Unit,
    memory: Memory,
    ring: QueueAddress,
}

impl Machine {
    /// A unit with the largest ring, and 4096 pages of FUNCTION mapped from IOVA 0 on.
    fn new() -> Self {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 64 << 20)]).expect("64 MiB");
        let unit = Unit::new(UnitConfig::new(UnitRole::Guest), Tracer::none());
        let ring = QueueAddress::new().with_size(7).with_page(RING / PAGE_SIZE);
        let mut machine = Self { unit, memory, ring };
        machine.build_tables();
        machine.write64(offset::IQA, ring.into_bits());
        machine.write64(offset::RTADDR, ROOT);
        let on = GlobalBits::new().with_queued_invalidation(true).with_translation(true);
        machine.write32(offset::GCMD, on.with_set_root_table(true).into_bits());
        machine
    }

    fn build_tables(&self) {
        let entry = |address: u64| {
            let entry = SecondStageEntry::new().with_read(true).with_write(true);
            entry.with_page(address / PAGE_SIZE).into_bits()
        };
        let root = RootEntry::new().with_present(true).with_page(CONTEXTS / PAGE_SIZE);
        self.poke(ROOT + u64::from(FUNCTION.bus()) * 16, root.into_bits());
        let low = ContextLow::new().with_present(true).with_page(TABLES / PAGE_SIZE);
        let slot = CONTEXTS + u64::from(FUNCTION.devfn()) * 16;
        self.poke(slot, low.into_bits());
        self.poke(slot + 8, ContextHigh::new().with_width(2).with_domain(1).into_bits());
        self.poke(TABLES, entry(TABLES + 0x1000));
        self.poke(TABLES + 0x1000, entry(TABLES + 0x2000));
        for table in 0..8 {
            let pages = TABLES + 0x3000 + table * PAGE_SIZE;
            self.poke(TABLES + 0x2000 + table * 8, entry(pages));
            for page in 0..512 {
                self.poke(pages + page * 8, entry(0x200_0000 + (table * 512 + page) * PAGE_SIZE));
            }
        }
    }

    fn poke(&self, address: u64, value: u64) {
        self.memory.write_obj(value, GuestAddress(address)).expect("inside memory");
    }

    fn write32(&mut self, at: u16, value: u32) {
        self.unit.write(at.into(), &value.to_le_bytes(), &self.memory, NOW);
    }

    fn write64(&mut self, at: u16, value: u64) {
        self.unit.write(at.into(), &value.to_le_bytes(), &self.memory, NOW);
    }

    fn descriptors(&self) -> u64 {
        u64::from(self.ring.bytes() / 16)
    }

    /// Every slot an invalidation of one domain, and the last of `rounds` a wait.
    fn fill_ring(&self) {
        let flush = IotlbDescriptor::new().with_granularity(2).with_domain(1).into_bits();
        for slot in 0..self.descriptors() {
            let at = GuestAddress(RING + slot * 16);
            self.memory.write_obj(flush, at).expect("inside memory");
        }
    }

    fn dma(&mut self, address: u64) -> u64 {
        let request = DmaRequest {
            requester: FUNCTION,
            pasid: None,
            address: Iova(address),
            address_type: AddressType::Untranslated,
            access: Access::Read,
        };
        self.unit.dma(&request, &self.memory, NOW).expect("mapped").0
    }
}

fn queue(c: &mut Criterion) {
    let mut machine = Machine::new();
    machine.fill_ring();
    let slots = machine.descriptors();
    let batch = slots - 1;
    let mut group = c.benchmark_group("queue");
    group.throughput(Throughput::Elements(batch));
    group.bench_function("read_obj, 16 bytes each", |b| {
        b.iter(|| {
            for slot in 0..batch {
                let at = GuestAddress(RING + slot * 16);
                black_box(machine.memory.read_obj::<u128>(at).expect("inside memory"));
            }
        });
    });
    let wait = WaitDescriptor::new()
        .with_status_write(true)
        .with_status_data(1)
        .with_status_dword(STATUS >> 2)
        .into_bits();
    let flush: u128 = machine.memory.read_obj(GuestAddress(RING)).expect("inside memory");
    let mut tail = 0;
    group.bench_function("full ring, IOTLB and one wait", |b| {
        b.iter(|| {
            let last = GuestAddress(RING + (tail + batch - 1) % slots * 16);
            machine.memory.write_obj(wait, last).expect("inside memory");
            tail = (tail + batch) % slots;
            machine.write32(offset::IQT, (tail * 16) as u32);
            machine.memory.write_obj(flush, last).expect("inside memory");
        });
    });
    assert_eq!(machine.memory.read_obj::<u32>(GuestAddress(STATUS)).expect("inside memory"), 1);
    group.finish();
}

fn translation(c: &mut Criterion) {
    let mut machine = Machine::new();
    let mut group = c.benchmark_group("translation");
    group.bench_function("read_obj, 8 bytes", |b| {
        b.iter(|| machine.memory.read_obj::<u64>(black_box(GuestAddress(TABLES))).expect("inside"));
    });
    machine.dma(0x1000);
    group.bench_function("IOTLB hit", |b| b.iter(|| machine.dma(black_box(0x1008))));
    for page in 0..4096 {
        machine.dma(page * PAGE_SIZE);
    }
    let mut page = 0_u64;
    group.bench_function("IOTLB hit, random among 4096", |b| {
        b.iter(|| {
            page = page.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            machine.dma((page >> 52) * PAGE_SIZE)
        });
    });
    // A function whose IOTLB entries never survive: each round begins with a flush, whose cost is
    // measured alone too.
    let flush = iommu::spec::control::IotlbCommand::new().with_granularity(1).with_start(true);
    let off = GlobalBits::new().with_translation(true);
    machine.write32(offset::GCMD, off.into_bits());
    group.bench_function("flush alone", |b| {
        b.iter(|| machine.write32(offset::IOTLB + 4, (flush.into_bits() >> 32) as u32));
    });
    group.bench_function("flush and 4-level walk", |b| {
        b.iter(|| {
            machine.write32(offset::IOTLB + 4, (flush.into_bits() >> 32) as u32);
            machine.dma(black_box(0x1008))
        });
    });
    group.finish();
}

criterion_group!(benches, queue, translation);
criterion_main!(benches);
