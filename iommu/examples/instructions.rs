//! Runs a case for a number of rounds, to count its instructions:
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!     target/release/examples/instructions CASE ROUNDS
//! ```
//!
//! Run it with two numbers of rounds. The difference in instructions, divided by the difference in
//! rounds, is the cost of a round.

#[path = "../benches/machine/mod.rs"]
mod machine;

use std::hint::black_box;

use iommu::ids::PAGE_SIZE;
use iommu::spec::offset;
use machine::{Machine, RING, TABLES, next_page, request, wait};
use vm_memory::{Bytes, GuestAddress};

/// The number of pages that the IOTLB holds.
const CACHED: u64 = 4096;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let case = arguments.next().unwrap_or_default();
    let rounds: u64 = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(1000);
    let mut machine = Machine::new();
    match case.as_str() {
        "read-8" => (0..rounds).for_each(|_| {
            let at = black_box(GuestAddress(TABLES));
            black_box(machine.memory.read_obj::<u64>(at).expect("inside"));
        }),
        "read-16" => (0..rounds).for_each(|_| {
            let at = black_box(GuestAddress(RING));
            black_box(machine.memory.read_obj::<u128>(at).expect("inside"));
        }),
        "ring" => ring(&mut machine, rounds, 0),
        "ring-4096" => ring(&mut machine, rounds, CACHED),
        "doorbell" | "doorbell-writes" => doorbell(&mut machine, rounds, case == "doorbell"),
        "same-page" => translate(&machine, rounds, |_| 0x1008),
        "random" => {
            let mut state = 0;
            machine.touch_pages(CACHED);
            translate(&machine, rounds + CACHED, |round| match round < CACHED {
                true => round * PAGE_SIZE,
                false => next_page(&mut state),
            });
        }
        "warm" => translate(&machine, rounds, |round| round % (16 * CACHED) * PAGE_SIZE),
        "flush" | "cold" => {
            machine.queue_off();
            let port = machine.unit.translator().port();
            for _ in 0..rounds {
                machine.flush_all();
                if case == "cold" {
                    let address = request(black_box(0x1008));
                    let mapped = port.translate(&address, &machine.memory);
                    black_box(mapped.expect("mapped").address());
                }
            }
        }
        _ => eprintln!(
            "cases: read-8, read-16, ring, ring-4096, doorbell, doorbell-writes, same-page, \
             random, warm, flush, cold"
        ),
    }
}

fn translate(machine: &Machine, rounds: u64, mut next: impl FnMut(u64) -> u64) {
    let port = machine.unit.translator().port();
    for round in 0..rounds {
        let address = request(next(round));
        black_box(port.translate(&address, &machine.memory).expect("mapped").address());
    }
}

/// A round is one descriptor.
fn ring(machine: &mut Machine, rounds: u64, cached: u64) {
    machine.fill_ring();
    machine.touch_pages(cached);
    let slots = machine.descriptors();
    let (mut tail, mut left) = (0, rounds);
    while left > 0 {
        let batch = left.min(slots - 1);
        tail = (tail + batch) % slots;
        machine.write32(offset::IQT, (tail * 16) as u32);
        left -= batch;
    }
}

fn doorbell(machine: &mut Machine, rounds: u64, rings: bool) {
    machine.fill_ring();
    let slots = machine.descriptors();
    let flush: u128 = machine.memory.read_obj(GuestAddress(RING)).expect("inside memory");
    let mut tail = 0;
    for _ in 0..rounds {
        let at = |slot: u64| GuestAddress(RING + slot % slots * 16);
        machine.memory.write_obj(wait(), at(tail + 1)).expect("inside memory");
        tail = (tail + 2) % slots;
        if rings {
            machine.write32(offset::IQT, (tail * 16) as u32);
        }
        machine.memory.write_obj(flush, at(tail + slots - 1)).expect("inside memory");
    }
}
