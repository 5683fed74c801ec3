//! The memory of the simulated machine: the driver's own pages, tables, and what devices write to.
//!
//! ```text
//!   0        HostSide: root table, ring, status words
//!   16 KiB   one page that stands for all data
//!   20 KiB   context tables and page tables, as they are needed
//!
//!   legacy mode     context entry ----------------> second stage: root, directory, leaves
//!   scalable mode   context entry --> PASID n+1 --> first stage of space n: two more, directory, leaves
//! ```

use std::cell::Cell;

use iommu::Memory;
use iommu::ids::{Bdf, DomainId, Gpa, Iova, PAGE_SIZE, Pasid};
use iommu::spec::tables::{
    ContextHigh, ContextLow, FirstStageEntry, PasidDirectoryEntry, PasidFirstStage, PasidHigh,
    PasidLow, RootEntry, ScalableContextLow, SecondStageEntry,
};
use iommu::submit::{HostError, HostSide};
use vm_memory::{Bytes, GuestAddress};

/// Pages that one table of the lowest level maps.
const ENTRIES: u64 = 512;
/// The first IOVA.
const FIRST_IOVA: u64 = 0x1000_0000;
/// Width of second-stage tables as context entries say it: 39 bits, three levels.
const THREE_LEVELS: u8 = 1;
/// Context entry: untranslated requests, translation requests and translated ones.
const WITH_DEVICE_TLB: u8 = 1;

/// PASID table entry: translation by first-stage or by second-stage tables.
const FIRST_STAGE: u8 = 1;
const SECOND_STAGE: u8 = 2;
/// PASIDs that each device has; 0 is that of requests without one.
pub(super) const PASIDS: u64 = 64;

/// The address to which all data goes. The content of a page does not matter, only its writers do.
pub(super) const DATA: GuestAddress = GuestAddress(HostSide::MEMORY);

/// Memory beyond which a run's is not worth clearing for the next one, in bytes.
const KEPT: u64 = 1 << 20;

thread_local! {
    /// The memory of the run that this thread has done last, and its size: all zero. To map and
    /// unmap it costs a tenth of a short run.
    static SPARE: Cell<Option<(u64, Memory)>> = const { Cell::new(None) };
}

/// IOVAs that one user of a device has for itself, and their users.
#[derive(Debug)]
struct Space {
    /// The table above the leaves.
    directory: u64,
    /// Tables of the lowest level.
    leaves: Vec<u64>,
    /// The one given back last is given out first, as allocators do.
    free: Vec<Iova>,
    /// The number of IOVAs that were ever given out.
    given: u64,
}

/// By which tables requests are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Those of the domain.
    Second,
    /// Those of an address space, which its PASID names.
    First,
}

/// All tables, and whose they are.
#[derive(Debug)]
pub(super) struct Tables {
    next: u64,
    end: u64,
    stage: Stage,
    /// Tables of the lowest level that each user can have.
    leaves: u64,
    /// Users of each device.
    users: u64,
    /// Device by device, user by user.
    spaces: Vec<Vec<Space>>,
}

impl Tables {
    /// Memory for that many devices, and its tables: none yet. Each device has `users`, 1 or, with
    /// tables of the first stage, up to [`PASIDS`] - 1, which have up to `pages` pages each.
    pub(super) fn new(
        devices: u16,
        stage: Stage,
        users: u64,
        pages: u64,
    ) -> Result<(Memory, Self), HostError> {
        // A context table, if no other function of the card has it; PASID directory and PASID
        // table.
        const OF_DEVICE: u64 = 3;
        let leaves = pages.div_ceil(ENTRIES);
        let of_devices = u64::from(devices) * (OF_DEVICE + users * (stage.upper() + leaves));
        let next = DATA.0 + PAGE_SIZE;
        let end = next + of_devices * PAGE_SIZE;
        let tables = Self { next, end, stage, leaves, users, spaces: Vec::new() };
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
        let domain = Self::domain(self.spaces.len() as u16);
        let devfn = u64::from(function.devfn());
        let roots: Vec<(u64, Space)> = (0..self.users).map(|_| self.space(memory)).collect();
        if scalable {
            let pasids = self.pasids(roots.iter().map(|(root, _)| *root), domain, memory);
            let low = ScalableContextLow::new()
                .with_present(true)
                .with_device_tlb(true)
                .with_pasid(true)
                .with_page(pasids / PAGE_SIZE);
            store(memory, context + devfn % 128 * 32, low.into_bits());
        } else if let Some((root, _)) = roots.first() {
            let low = ContextLow::new()
                .with_present(true)
                .with_translation_type(WITH_DEVICE_TLB)
                .with_page(root / PAGE_SIZE);
            let high = ContextHigh::new().with_width(THREE_LEVELS).with_domain(domain.0);
            store(memory, context + devfn * 16, low.into_bits());
            store(memory, context + devfn * 16 + 8, high.into_bits());
        }
        self.spaces.push(roots.into_iter().map(|(_, space)| space).collect());
    }

    /// An empty address space, and the root of its tables.
    fn space(&mut self, memory: &Memory) -> (u64, Space) {
        let root = self.page();
        let mut directory = root;
        for _ in 1..self.stage.upper() {
            let below = self.page();
            store(memory, directory, self.stage.entry(below));
            directory = below;
        }
        (root, Space { directory, leaves: Vec::new(), free: Vec::new(), given: 0 })
    }

    /// The context table that has the entry of `function`: that of its bus, or of half of it in
    /// scalable mode.
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

    /// A PASID directory whose PASIDs, from 1 on, lead to the address spaces with these roots; or,
    /// with tables of the second stage, one for requests without PASID.
    fn pasids(
        &mut self,
        roots: impl Iterator<Item = u64>,
        DomainId(domain): DomainId,
        memory: &Memory,
    ) -> u64 {
        let (directory, entries) = (self.page(), self.page());
        let entry = PasidDirectoryEntry::new().with_present(true).with_page(entries / PAGE_SIZE);
        store(memory, directory, entry.into_bits());
        let low = PasidLow::new().with_present(true).with_width(THREE_LEVELS);
        for (user, root) in roots.enumerate() {
            let root = root / PAGE_SIZE;
            let (pasid, low, first) = match self.stage {
                Stage::Second => (0, low.with_translation_type(SECOND_STAGE).with_page(root), 0),
                Stage::First => {
                    let first = PasidFirstStage::new().with_page(root).into_bits();
                    (user as u64 + 1, low.with_translation_type(FIRST_STAGE), first)
                }
            };
            let high = PasidHigh::new().with_domain(domain).with_walk_snoop(true);
            let words = [low.into_bits(), high.into_bits(), first];
            for (word, at) in words.into_iter().zip((entries + pasid * 64..).step_by(8)) {
                store(memory, at, word);
            }
        }
        directory
    }

    /// An IOVA for a user of the device, whom `pasid` names; `None` while it uses all that it can
    /// have.
    pub(super) fn allocate(
        &mut self,
        device: u16,
        pasid: Option<Pasid>,
        memory: &Memory,
    ) -> Option<Iova> {
        let most = self.leaves;
        let space = self.space_of(device, pasid);
        if let Some(iova) = space.free.pop() {
            return Some(iova);
        }
        let (leaf, index) = (space.given / ENTRIES, space.given % ENTRIES);
        if leaf == most {
            return None;
        }
        space.given += 1;
        if index == 0 {
            let slot = space.directory + (FIRST_IOVA / PAGE_SIZE / ENTRIES + leaf) * 8;
            let table = self.page();
            store(memory, slot, self.stage.entry(table));
            self.space_of(device, pasid).leaves.push(table);
        }
        Some(Iova(FIRST_IOVA + (leaf * ENTRIES + index) * PAGE_SIZE))
    }

    /// `iova` has no user any more.
    pub(super) fn free(&mut self, device: u16, pasid: Option<Pasid>, iova: Iova) {
        self.space_of(device, pasid).free.push(iova);
    }

    /// Maps `iova`, which [`Self::allocate`] has given out, to `output`.
    pub(super) fn map(
        &mut self,
        device: u16,
        pasid: Option<Pasid>,
        iova: Iova,
        output: Gpa,
        memory: &Memory,
    ) {
        let entry = self.stage.entry(output.0);
        self.set(device, pasid, iova, entry, memory);
    }

    /// Takes the mapping of `iova` away.
    pub(super) fn unmap(&mut self, device: u16, pasid: Option<Pasid>, iova: Iova, memory: &Memory) {
        self.set(device, pasid, iova, 0, memory);
    }

    fn set(&mut self, device: u16, pasid: Option<Pasid>, iova: Iova, entry: u64, memory: &Memory) {
        let page = (iova.0 - FIRST_IOVA) / PAGE_SIZE;
        let leaf = self.space_of(device, pasid).leaves[(page / ENTRIES) as usize];
        store(memory, leaf + page % ENTRIES * 8, entry);
    }

    fn space_of(&mut self, device: u16, pasid: Option<Pasid>) -> &mut Space {
        let user = pasid.map_or(0, |pasid| pasid.get() as usize - 1);
        &mut self.spaces[usize::from(device)][user]
    }

    fn page(&mut self) -> u64 {
        let page = self.next;
        self.next += PAGE_SIZE;
        page
    }
}

impl Stage {
    /// Tables above the leaves: of 39 bits, or of 48.
    const fn upper(self) -> u64 {
        match self {
            Self::Second => 2,
            Self::First => 3,
        }
    }

    /// An entry of any level that leads to `next`, and permits everything.
    fn entry(self, next: u64) -> u64 {
        let page = next / PAGE_SIZE;
        match self {
            Self::Second => {
                SecondStageEntry::new().with_read(true).with_write(true).with_page(page).into_bits()
            }
            Self::First => {
                let entry = FirstStageEntry::new().with_present(true).with_write(true);
                entry.with_user(true).with_page(page).into_bits()
            }
        }
    }
}

/// The machine's own memory: what is laid out lies inside it.
fn store(memory: &Memory, at: u64, value: u64) {
    let _ = memory.write_obj(value.to_le(), GuestAddress(at));
}
