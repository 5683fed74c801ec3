//! The memory of the simulated machine: the driver's own pages, tables, and what devices write to.
//!
//! ```text
//!   0        HostSide: root table, ring, status words
//!   16 KiB   one page that stands for all data
//!   20 KiB   context tables and second-stage tables, as they are needed
//! ```

use std::cell::Cell;

use iommu::Memory;
use iommu::ids::{Bdf, DomainId, Gpa, Iova, PAGE_SIZE};
use iommu::spec::tables::{
    ContextHigh, ContextLow, PasidDirectoryEntry, PasidHigh, PasidLow, RootEntry,
    ScalableContextLow, SecondStageEntry,
};
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

/// PASID table entry: second-stage tables.
const SECOND_STAGE: u8 = 2;
/// PASIDs that each device has.
pub(super) const PASIDS: u64 = 64;

/// Where data goes: what a page holds is of no interest, only who writes to it.
pub(super) const DATA: GuestAddress = GuestAddress(HostSide::MEMORY);

/// Memory beyond which a run's is not worth clearing for the next one, in bytes.
const KEPT: u64 = 1 << 20;

thread_local! {
    /// The memory of the run that this thread has done last, and its size: all zero. To map and unmap it costs
    /// a tenth of a short run.
    static SPARE: Cell<Option<(u64, Memory)>> = const { Cell::new(None) };
}

/// The tables of one device's domain.
#[derive(Debug)]
struct Domain {
    directory: u64,
    spaces: Vec<Space>,
}

/// IOVAs that one user of a domain has for itself, and who uses which.
#[derive(Debug, Clone, Default)]
struct Space {
    /// Tables of the lowest level.
    leaves: Vec<u64>,
    /// The one given back last is given out first, as allocators do.
    free: Vec<Iova>,
    /// How many were ever given out.
    given: u64,
}

/// All tables, and whose they are.
#[derive(Debug)]
pub(super) struct Tables {
    next: u64,
    end: u64,
    /// Tables of the lowest level that each user can have.
    leaves: u64,
    spaces: u64,
    domains: Vec<Domain>,
}

impl Tables {
    /// Memory for that many devices, and its tables: none yet. Each device has `spaces` users, 1 to
    /// [`PASIDS`], which have up to `pages` pages each.
    pub(super) fn new(devices: u16, spaces: u64, pages: u64) -> Result<(Memory, Self), HostError> {
        // A context table, if no other function of the card has it; root, directory; PASID directory
        // and PASID table.
        const UPPER: u64 = 5;
        let leaves = pages.div_ceil(ENTRIES);
        let next = DATA.0 + PAGE_SIZE;
        let end = next + u64::from(devices) * (UPPER + spaces * leaves) * PAGE_SIZE;
        let tables = Self { next, end, leaves, spaces, domains: Vec::new() };
        let spare = SPARE.take().filter(|(bytes, _)| *bytes == end);
        let memory = spare.map_or_else(|| HostSide::map_memory(end), |(_, memory)| Ok(memory))?;
        Ok((memory, tables))
    }

    /// The run is over: `memory` is for the next one on this thread.
    pub(super) fn give_back(&self, memory: &Memory) {
        let used = (0..self.next).step_by(PAGE_SIZE as usize);
        let mut clear =
            used.map(|page| memory.write_slice(&[0; PAGE_SIZE as usize], GuestAddress(page)));
        if self.end <= KEPT && clear.all(|result| result.is_ok()) {
            SPARE.set(Some((self.end, memory.clone())));
        }
    }

    /// The domain of a device. 0 is none.
    pub(super) fn domain(device: u16) -> DomainId {
        DomainId(device + 1)
    }

    /// Gives the next device, which is `function`, an empty domain of its own.
    pub(super) fn attach(&mut self, function: Bdf, scalable: bool, memory: &Memory) {
        let context = self.context_table(function, scalable, memory);
        let (root, directory) = (self.page(), self.page());
        let DomainId(domain) = Self::domain(self.domains.len() as u16);
        let devfn = u64::from(function.devfn());
        if scalable {
            let pasids = self.pasids(root, domain, memory);
            let low = ScalableContextLow::new()
                .with_present(true)
                .with_device_tlb(true)
                .with_pasid(true)
                .with_page(pasids / PAGE_SIZE);
            store(memory, context + devfn % 128 * 32, low.into_bits());
        } else {
            let low = ContextLow::new()
                .with_present(true)
                .with_translation_type(WITH_DEVICE_TLB)
                .with_page(root / PAGE_SIZE);
            let high = ContextHigh::new().with_width(THREE_LEVELS).with_domain(domain);
            store(memory, context + devfn * 16, low.into_bits());
            store(memory, context + devfn * 16 + 8, high.into_bits());
        }
        store(memory, root, table(directory));
        let spaces = vec![Space::default(); self.spaces as usize];
        self.domains.push(Domain { directory, spaces });
    }

    /// The context table that has the entry of `function`: that of its bus, or of half of it in scalable
    /// mode.
    fn context_table(&mut self, function: Bdf, scalable: bool, memory: &Memory) -> u64 {
        let half = if scalable { u64::from(function.devfn()) >> 7 } else { 0 };
        let at = u64::from(function.bus()) * 16 + half * 8;
        let known = memory.read_obj::<u64>(GuestAddress(at)).map_or(0, u64::from_le);
        let known = RootEntry::from_bits(known);
        if known.present() {
            return known.page() * PAGE_SIZE;
        }
        let table = self.page();
        let entry = RootEntry::new().with_present(true).with_page(table / PAGE_SIZE);
        store(memory, at, entry.into_bits());
        table
    }

    /// A PASID directory whose PASIDs all lead to the same second-stage tables: their users keep to
    /// addresses of their own.
    fn pasids(&mut self, root: u64, domain: u16, memory: &Memory) -> u64 {
        let (directory, entries) = (self.page(), self.page());
        let entry = PasidDirectoryEntry::new().with_present(true).with_page(entries / PAGE_SIZE);
        store(memory, directory, entry.into_bits());
        let low = PasidLow::new()
            .with_present(true)
            .with_width(THREE_LEVELS)
            .with_translation_type(SECOND_STAGE)
            .with_page(root / PAGE_SIZE);
        let high = PasidHigh::new().with_domain(domain);
        for pasid in 0..PASIDS {
            store(memory, entries + pasid * 64, low.into_bits());
            store(memory, entries + pasid * 64 + 8, high.into_bits());
        }
        directory
    }

    /// An IOVA of a user of the device's domain; `None` while it uses all that it can have.
    pub(super) fn allocate(&mut self, device: u16, user: u16, memory: &Memory) -> Option<Iova> {
        let first = u64::from(user) * self.leaves;
        let space = &mut self.domains[usize::from(device)].spaces[usize::from(user)];
        if let Some(iova) = space.free.pop() {
            return Some(iova);
        }
        let (leaf, index) = (space.given / ENTRIES, space.given % ENTRIES);
        if leaf == self.leaves || self.next >= self.end && index == 0 {
            return None;
        }
        space.given += 1;
        if index == 0 {
            let table_page = self.page();
            let domain = &mut self.domains[usize::from(device)];
            let slot = FIRST_IOVA / PAGE_SIZE / ENTRIES + first + leaf;
            store(memory, domain.directory + slot * 8, table(table_page));
            domain.spaces[usize::from(user)].leaves.push(table_page);
        }
        Some(Iova(FIRST_IOVA + ((first + leaf) * ENTRIES + index) * PAGE_SIZE))
    }

    /// Nobody uses `iova` any more.
    pub(super) fn free(&mut self, device: u16, iova: Iova) {
        let (user, ..) = self.place(iova);
        self.domains[usize::from(device)].spaces[user].free.push(iova);
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
        let (user, leaf, index) = self.place(iova);
        let leaf = self.domains[usize::from(device)].spaces[user].leaves[leaf];
        store(memory, leaf + index * 8, entry);
    }

    /// The user that `iova` belongs to, which of its tables, and where in that.
    fn place(&self, iova: Iova) -> (usize, usize, u64) {
        let page = (iova.0 - FIRST_IOVA) / PAGE_SIZE;
        let leaf = page / ENTRIES;
        ((leaf / self.leaves) as usize, (leaf % self.leaves) as usize, page % ENTRIES)
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
