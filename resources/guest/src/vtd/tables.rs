//! Root, context and PASID tables, and second-stage page tables (VT-d 9).

use crate::machine::memory::Pages;
use crate::pci::Bdf;

const PRESENT: u64 = 1 << 0;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Permission of a page: the device may read.
pub const READ: u64 = 1 << 0;
/// Permission of a page: the device may write.
pub const WRITE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;

/// Sizes of pages, by the level of the table that maps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageSize {
    /// 4 KiB.
    Small = 1,
    /// 2 MiB.
    Large = 2,
    /// 1 GiB.
    Huge = 3,
}

impl PageSize {
    /// In bytes.
    pub const fn bytes(self) -> u64 {
        1 << shift(self as u8)
    }
}

/// Position of the index into a table of `level`, in an address.
const fn shift(level: u8) -> u32 {
    12 + 9 * (level as u32 - 1)
}

fn index(address: u64, level: u8) -> usize {
    (address >> shift(level)) as usize & 0x1ff
}

/// The page tables of one domain.
#[derive(Clone, Copy)]
pub struct SecondStage {
    root: Pages,
    levels: u8,
}

impl SecondStage {
    /// An empty domain with tables of `levels` levels.
    pub fn new(levels: u8) -> Self {
        Self { root: Pages::one(), levels }
    }

    /// Maps the page at `iova` to the one at `address`, both aligned to `size`. Replaces the entry,
    /// also if it is a table.
    pub fn map(&self, iova: u64, address: u64, size: PageSize, permissions: u64) {
        let large = if size == PageSize::Small { 0 } else { LARGE };
        self.set(iova, size, address | large | permissions);
    }

    /// Unmaps a page.
    pub fn unmap(&self, iova: u64, size: PageSize) {
        self.set(iova, size, 0);
    }

    /// Walks down to the table that maps pages of `size`, and makes missing tables. The walk reads
    /// the entries, as the unit does.
    fn set(&self, iova: u64, size: PageSize, entry: u64) {
        let mut table = self.root;
        let leaf = size as u8;
        for level in (leaf + 1..=self.levels).rev() {
            let next = table.read(index(iova, level));
            table = match Pages::at(next & ADDRESS) {
                Some(child) if next & (READ | WRITE) != 0 && next & LARGE == 0 => child,
                _ => {
                    let child = Pages::one();
                    table.write(index(iova, level), child.address() | READ | WRITE);
                    child
                }
            };
        }
        table.write(index(iova, leaf), entry);
    }

    /// The address-width code of context and PASID entries.
    fn width_code(&self) -> u64 {
        u64::from(self.levels) - 2
    }
}

/// Root and context tables of legacy mode.
#[derive(Clone, Copy)]
pub struct LegacyTables {
    root: Pages,
}

/// The requests that a context entry permits (its TT field).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Requests {
    /// Untranslated requests only.
    Untranslated = 0,
    /// Also translation requests and translated requests.
    WithAts = 1,
}

impl LegacyTables {
    /// Tables in which no device is present.
    pub fn new() -> Self {
        Self { root: Pages::one() }
    }

    /// The value of RTADDR: translation table mode 0.
    pub fn root_register(&self) -> u64 {
        self.root.address()
    }

    /// Puts a device into a domain.
    pub fn attach(&self, device: Bdf, domain: &SecondStage, id: u16, requests: Requests) {
        let root = usize::from(device.bus()) * 2;
        let context = Pages::at(self.root.read(root) & ADDRESS).unwrap_or_else(|| {
            let table = Pages::one();
            self.root.write(root, table.address() | PRESENT);
            table
        });
        let entry = usize::from(device.devfn()) * 2;
        context.write(entry + 1, u64::from(id) << 8 | domain.width_code());
        context.write(entry, domain.root.address() | (requests as u64) << 2 | PRESENT);
    }
}

/// The PASID of devices that may use PASIDs.
pub const PASID: u32 = 5;

/// Bits of a scalable-mode context entry that permit more than untranslated requests without PASID.
pub mod rights {
    /// DTE: translation requests and translated requests.
    pub const DEVICE_TLB: u64 = 1 << 2;
    /// PASIDE: requests with PASID.
    pub const PASIDS: u64 = 1 << 3;
    /// PRE: page requests.
    pub const PAGE_REQUESTS: u64 = 1 << 4;
}

/// Root, context and PASID tables of scalable mode. Requests without PASID use PASID 0.
#[derive(Clone, Copy)]
pub struct ScalableTables {
    root: Pages,
}

impl ScalableTables {
    /// Tables in which no device is present.
    pub fn new() -> Self {
        Self { root: Pages::one() }
    }

    /// The value of RTADDR: translation table mode 1.
    pub fn root_register(&self) -> u64 {
        const SCALABLE: u64 = 1 << 10;
        self.root.address() | SCALABLE
    }

    /// Puts a device into a domain by second-stage translation, with and without [`PASID`]. Each
    /// call makes new tables, so each half of a bus can have one device.
    pub fn attach(&self, device: Bdf, domain: &SecondStage, id: u16, rights: u64) {
        const SECOND_STAGE: u64 = 0b010 << 6;
        const HALF: u8 = 0x80;
        let (context, directory, table) = (Pages::one(), Pages::one(), Pages::one());

        let entry = domain.root.address() | SECOND_STAGE | domain.width_code() << 2;
        for pasid in [0, PASID as usize] {
            table.write(pasid * 8 + 1, id.into());
            table.write(pasid * 8, entry | PRESENT);
        }
        directory.write(0, table.address() | PRESENT);
        let entry = directory.address() | rights | PRESENT;
        context.write(usize::from(device.devfn() % HALF) * 4, entry);
        let half = usize::from(device.devfn() / HALF);
        self.root.write(usize::from(device.bus()) * 2 + half, context.address() | PRESENT);
    }
}
