//! The tables of the two functions: legacy mode, three levels, a few pages each.
//!
//! ```text
//!   0          HostSide: root table, ring, status words
//!   MEMORY     context table of bus 1, of bus 2
//!              three levels of second-stage tables for each
//! ```

use iommu::Memory;
use iommu::ids::{Bdf, Gpa, Iova, PAGE_SIZE};
use iommu::spec::tables::{ContextHigh, ContextLow, RootEntry, SecondStageEntry};
use iommu::submit::{HostError, HostSide};
use vm_memory::{Bytes, GuestAddress};

/// Pages for one function: a context table, and one table of each level.
const PER_FUNCTION: u64 = 4 * PAGE_SIZE;
/// Bytes of memory for two.
const SIZE: u64 = HostSide::MEMORY + 2 * PER_FUNCTION;

/// The machine's memory, with tables in which nothing is mapped.
pub(super) fn new(functions: [Bdf; 2]) -> Result<Memory, HostError> {
    let memory = HostSide::map_memory(SIZE)?;
    for (function, domain) in functions.into_iter().zip(1..) {
        let context = context_table(function);
        let root = RootEntry::new().with_present(true).with_page(context / PAGE_SIZE);
        store(&memory, u64::from(function.bus()) * 16, root.into_bits());
        let [top, middle, leaf] = [1, 2, 3].map(|table| context + table * PAGE_SIZE);
        let low = ContextLow::new().with_present(true).with_translation_type(1);
        let slot = context + u64::from(function.devfn()) * 16;
        store(&memory, slot, low.with_page(top / PAGE_SIZE).into_bits());
        let high = ContextHigh::new().with_width(1).with_domain(domain);
        store(&memory, slot + 8, high.into_bits());
        store(&memory, top, entry(middle));
        store(&memory, middle, entry(leaf));
    }
    Ok(memory)
}

/// Maps `iova`, below 2 MiB, to `output`, or to nothing.
pub(super) fn set(memory: &Memory, function: Bdf, iova: Iova, output: Option<Gpa>) {
    let leaf = context_table(function) + 3 * PAGE_SIZE;
    let slot = leaf + iova.0 / PAGE_SIZE % 512 * 8;
    store(memory, slot, output.map_or(0, |output| entry(output.0)));
}

/// Bus 1 is the first.
fn context_table(function: Bdf) -> u64 {
    HostSide::MEMORY + (u64::from(function.bus()) - 1) * PER_FUNCTION
}

fn entry(address: u64) -> u64 {
    let entry = SecondStageEntry::new().with_read(true).with_write(true);
    entry.with_page(address / PAGE_SIZE).into_bits()
}

/// The machine's own memory: what is laid out lies inside it.
fn store(memory: &Memory, at: u64, value: u64) {
    let _ = memory.write_obj(value.to_le(), GuestAddress(at));
}
