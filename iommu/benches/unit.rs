//! The cost of descriptors and translations, next to a read of the same bytes with vm-memory.
//!
//! Run `cargo bench -p iommu`. docs/performance.md has the figures.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

mod machine;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iommu::Memory;
use iommu::ids::PAGE_SIZE;
use iommu::spec::offset;
use machine::{Machine, RING, STATUS, TABLES, next_page, request, wait};
use vm_memory::{Bytes, GuestAddress};

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
    // Not cached: each round begins with an invalidation, whose cost is also measured alone.
    machine.queue_off();
    group.bench_function("global invalidation alone", |b| b.iter(|| machine.flush_all()));
    group.bench_function("global invalidation, then 4-level walk", |b| {
        b.iter(|| {
            machine.flush_all();
            dma(&machine.memory, black_box(0x1008))
        });
    });
    // More pages than the IOTLB holds, below a few last-level tables.
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
        // The speed-up of as many threads that share nothing.
        group.bench_function(format!("{threads} doing arithmetic"), |b| {
            b.iter_custom(|rounds| {
                let start = std::time::Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| {
                            let mut state = 0;
                            (0..rounds * ROUNDS).for_each(|_| {
                                black_box(next_page(&mut state));
                            });
                        });
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
