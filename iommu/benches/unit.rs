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
use iommu::spec::control::{GlobalBits, IotlbCommand};
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
    /// A unit with the largest ring, and pages of FUNCTION mapped from IOVA 0 on.
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
        // 65536 pages: more than the IOTLB holds. They share 4096 pages of memory.
        for table in 0..128 {
            let pages = TABLES + 0x3000 + table * PAGE_SIZE;
            self.poke(TABLES + 0x2000 + table * 8, entry(pages));
            for page in 0..512 {
                let number = (table * 512 + page) % 4096;
                self.poke(pages + page * 8, entry(0x200_0000 + number * PAGE_SIZE));
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

    /// Every slot an invalidation of one domain.
    fn fill_ring(&self) {
        let flush = IotlbDescriptor::new().with_granularity(2).with_domain(1).into_bits();
        for slot in 0..self.descriptors() {
            let at = GuestAddress(RING + slot * 16);
            self.memory.write_obj(flush, at).expect("inside memory");
        }
    }

    /// Has `count` pages translated, so that they are cached.
    fn touch_pages(&mut self, count: u64) {
        for page in 0..count {
            let address = self.unit.dma(&request(page * PAGE_SIZE), &self.memory, NOW);
            black_box(address.expect("mapped"));
        }
    }

    fn queue_off(&mut self) {
        let off = GlobalBits::new().with_translation(true);
        self.write32(offset::GCMD, off.into_bits());
    }

    /// Invalidates the whole IOTLB by register.
    fn flush_all(&mut self) {
        let flush = IotlbCommand::new().with_granularity(1).with_start(true).into_bits();
        self.write32(offset::IOTLB + 4, (flush >> 32) as u32);
    }
}

/// A read of FUNCTION.
fn request(address: u64) -> DmaRequest {
    DmaRequest {
        requester: FUNCTION,
        pasid: None,
        privileged: false,
        address: Iova(address),
        address_type: AddressType::Untranslated,
        access: Access::Read,
    }
}

/// A wait that writes 1 to STATUS.
fn wait() -> u128 {
    WaitDescriptor::new()
        .with_status_write(true)
        .with_status_data(1)
        .with_status_dword(STATUS >> 2)
        .into_bits()
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
    let flush: u128 = machine.memory.read_obj(GuestAddress(RING)).expect("inside memory");
    let mut tail = 0;
    for (name, cached) in [("empty", 0), ("with 4096 entries", 4096)] {
        group.bench_function(format!("full ring, IOTLB and one wait, caches {name}"), |b| {
            b.iter_custom(|rounds| {
                let mut elapsed = std::time::Duration::ZERO;
                for _ in 0..rounds {
                    machine.touch_pages(cached);
                    let last = GuestAddress(RING + (tail + batch - 1) % slots * 16);
                    machine.memory.write_obj(wait(), last).expect("inside memory");
                    tail = (tail + batch) % slots;
                    let start = std::time::Instant::now();
                    machine.write32(offset::IQT, (tail * 16) as u32);
                    elapsed += start.elapsed();
                    machine.memory.write_obj(flush, last).expect("inside memory");
                }
                let status = machine.memory.read_obj::<u32>(GuestAddress(STATUS));
                assert_eq!(status.ok(), Some(1), "the wait has completed");
                elapsed
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("doorbell");
    group.bench_function("one invalidation and one wait", |b| {
        b.iter(|| {
            let at = |slot: u64| GuestAddress(RING + slot % slots * 16);
            machine.memory.write_obj(wait(), at(tail + 1)).expect("inside memory");
            tail = (tail + 2) % slots;
            machine.write32(offset::IQT, (tail * 16) as u32);
            machine.memory.write_obj(flush, at(tail + slots - 1)).expect("inside memory");
        });
    });
    group.bench_function("the two writes of the driver alone", |b| {
        b.iter(|| {
            let at = GuestAddress(RING + tail * 16);
            machine.memory.write_obj(wait(), at).expect("inside memory");
            machine.memory.write_obj(black_box(flush), at).expect("inside memory");
        });
    });
    group.finish();
}

/// A linear congruential generator: any page of 4096.
fn next_page(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 52) * PAGE_SIZE
}

fn translation(c: &mut Criterion) {
    let mut machine = Machine::new();
    let mut group = c.benchmark_group("translation");
    group.bench_function("read_obj, 8 bytes", |b| {
        b.iter(|| machine.memory.read_obj::<u64>(black_box(GuestAddress(TABLES))).expect("inside"));
    });
    let port = machine.unit.translator().port();
    let dma = |memory: &Memory, address| {
        port.translate(&request(address), memory).expect("mapped").address()
    };
    group.bench_function("cached, the same page", |b| {
        b.iter(|| dma(&machine.memory, black_box(0x1008)));
    });
    (0..4096).for_each(|page| {
        dma(&machine.memory, page * PAGE_SIZE);
    });
    let mut state = 0;
    group.bench_function("cached, random among 4096", |b| {
        b.iter(|| dma(&machine.memory, next_page(&mut state)));
    });
    // Not cached: each round begins with an invalidation, whose cost is measured alone too.
    machine.queue_off();
    group.bench_function("global invalidation alone", |b| b.iter(|| machine.flush_all()));
    group.bench_function("global invalidation, then 4-level walk", |b| {
        b.iter(|| {
            machine.flush_all();
            dma(&machine.memory, black_box(0x1008))
        });
    });
    // As many pages as the IOTLB cannot hold, all below a few last-level tables.
    let mut page = 0;
    machine.flush_all();
    group.bench_function("not cached, paging-structure cache warm", |b| {
        b.iter(|| {
            page = (page + 1) % (16 * 4096);
            dma(&machine.memory, page * PAGE_SIZE)
        });
    });
    group.finish();
}

fn threads(c: &mut Criterion) {
    const ROUNDS: u64 = 1000;
    let machine = Machine::new();
    let mut group = c.benchmark_group("threads");
    for threads in [1_u64, 2] {
        group.throughput(Throughput::Elements(ROUNDS * threads));
        group.bench_function(format!("{threads} translating together"), |b| {
            b.iter_custom(|rounds| {
                let start = std::time::Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| translate_many(&machine, rounds * ROUNDS));
                    }
                });
                start.elapsed()
            });
        });
    }
    group.finish();
}

fn translate_many(machine: &Machine, count: u64) {
    let port = machine.unit.translator().port();
    let mut state = 0;
    for _ in 0..count {
        let address = next_page(&mut state);
        black_box(port.translate(&request(address), &machine.memory).expect("mapped").address());
    }
}

criterion_group!(benches, queue, translation, threads);
criterion_main!(benches);
