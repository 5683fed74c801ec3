//! The memory of the simulated machine: the driver's own pages, tables, and what devices write to.
//!
//! ```text
//!   0        HostSide: root table, ring, status words
//!   16 KiB   one page that stands for all data
//!   20 KiB   context tables and second-stage tables, as they are needed
//! ```

use iommu::Memory;
use iommu::ids::{Bdf, DomainId, Gpa, Iova, PAGE_SIZE};
use iommu::spec::tables::{ContextHigh, ContextLow, RootEntry, SecondStageEntry};
use iommu::submit::{HostError, HostSide};
use vm_memory::{Bytes, GuestAddress};

/// Pages that one table of the lowest level maps.
const ENTRIES: u64 = 512;
/// Where IOVAs begin.
const FIRST_IOVA: u64 = 0x1000_0000;
/// Width of second-stage tables as context entries say it: 39 bits, three levels.
const THREE_LEVELS: u8 = 1;
/// Context entry: untranslated requests, translation requests and translated ones.
const WITH_DEVICE_TLB: u8 = 1;

/// Where data goes: what a page holds is of no interest, only who writes to it.
pub(super) const DATA: GuestAddress = GuestAddress(HostSide::MEMORY);

/// Bytes of tables for one device: context table, root, directory, and lowest tables for as many
/// IOVAs as anybody uses at once.
const PER_DEVICE: u64 = 16 * PAGE_SIZE;

/// The tables of one device's domain, and which of its IOVAs are free.
#[derive(Debug)]
pub(super) struct Domain {
    directory: u64,
    /// Tables of the lowest level.
    leaves: Vec<u64>,
    /// The one given back last is given out first, as allocators do.
    free: Vec<Iova>,
    next: u64,
}

/// All tables, and whose they are.
#[derive(Debug)]
pub(super) struct Tables {
    next: u64,
    end: u64,
    domains: Vec<Domain>,
}

impl Tables {
    /// Memory for that many devices, and its tables: none yet.
    pub(super) fn new(devices: u16) -> Result<(Memory, Self), HostError> {
        let next = DATA.0 + PAGE_SIZE;
        let end = next + u64::from(devices) * PER_DEVICE;
        Ok((HostSide::map_memory(end)?, Self { next, end, domains: Vec::new() }))
    }

    /// The domain of a device. 0 is none.
    pub(super) fn domain(device: u16) -> DomainId {
        DomainId(device + 1)
    }

    /// Gives the next device, which is `function`, an empty domain of its own. Each function is on a bus of its own.
    pub(super) fn attach(&mut self, function: Bdf, memory: &Memory) {
        let context = self.page();
        let (root, directory) = (self.page(), self.page());
        let DomainId(domain) = Self::domain(self.domains.len() as u16);
        let bus = u64::from(function.bus());
        let entry = RootEntry::new().with_present(true).with_page(context / PAGE_SIZE);
        store(memory, bus * 16, entry.into_bits());
        let low = ContextLow::new()
            .with_present(true)
            .with_translation_type(WITH_DEVICE_TLB)
            .with_page(root / PAGE_SIZE);
        let high = ContextHigh::new().with_width(THREE_LEVELS).with_domain(domain);
        let at = context + u64::from(function.devfn()) * 16;
        store(memory, at, low.into_bits());
        store(memory, at + 8, high.into_bits());
        store(memory, root, table(directory));
        let (leaves, free) = (Vec::new(), Vec::new());
        self.domains.push(Domain { directory, leaves, free, next: 0 });
    }

    /// An IOVA that nobody uses; `None` while there are no pages for its table.
    pub(super) fn allocate(&mut self, device: u16, memory: &Memory) -> Option<Iova> {
        let is_full = self.next >= self.end;
        let domain = &mut self.domains[usize::from(device)];
        if let Some(iova) = domain.free.pop() {
            return Some(iova);
        }
        let index = domain.next;
        if index == domain.leaves.len() as u64 * ENTRIES {
            if is_full {
                return None;
            }
            let leaf = self.page();
            let domain = &mut self.domains[usize::from(device)];
            let slot = FIRST_IOVA / PAGE_SIZE / ENTRIES + domain.leaves.len() as u64;
            store(memory, domain.directory + slot * 8, table(leaf));
            domain.leaves.push(leaf);
        }
        self.domains[usize::from(device)].next += 1;
        Some(Iova(FIRST_IOVA + index * PAGE_SIZE))
    }

    /// Nobody uses `iova` any more.
    pub(super) fn free(&mut self, device: u16, iova: Iova) {
        self.domains[usize::from(device)].free.push(iova);
    }

    /// Maps `iova`, which [`Self::allocate`] has given out, to `output`.
    pub(super) fn map(&self, device: u16, iova: Iova, output: Gpa, memory: &Memory) {
        let entry = SecondStageEntry::new().with_read(true).with_write(true);
        self.set(device, iova, entry.with_page(output.0 / PAGE_SIZE).into_bits(), memory);
    }

    /// Takes the mapping of `iova` away.
    pub(super) fn unmap(&self, device: u16, iova: Iova, memory: &Memory) {
        self.set(device, iova, 0, memory);
    }

    fn set(&self, device: u16, iova: Iova, entry: u64, memory: &Memory) {
        let index = (iova.0 - FIRST_IOVA) / PAGE_SIZE;
        let leaf = self.domains[usize::from(device)].leaves[(index / ENTRIES) as usize];
        store(memory, leaf + index % ENTRIES * 8, entry);
    }

    fn page(&mut self) -> u64 {
        let page = self.next;
        self.next += PAGE_SIZE;
        page
    }
}

/// An entry that leads to the next table.
fn table(next: u64) -> u64 {
    let entry = SecondStageEntry::new().with_read(true).with_write(true);
    entry.with_page(next / PAGE_SIZE).into_bits()
}

/// The machine's own memory: what is laid out lies inside it.
fn store(memory: &Memory, at: u64, value: u64) {
    let _ = memory.write_obj(value.to_le(), GuestAddress(at));
}
