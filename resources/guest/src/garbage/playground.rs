//! The memory that the unit and the devices may access and overwrite. It holds descriptors and
//! tables that are almost valid, since random ones fail the first check.

use crate::garbage::random::Random;
use crate::machine::memory::{PAGE_SIZE, Pages};
use crate::pci::Bdf;

/// One page each: the ring, the root table, a context table, page tables, data.
const RING: u64 = 0;
const ROOT: u64 = 1;
const CONTEXTS: u64 = 2;
const TABLES: core::ops::Range<u64> = 3..7;
const PAGES: u64 = 8;

const WORDS: u64 = PAGE_SIZE / 8;
/// Table entries in use, from 0 up; IOVAs are made of such indices.
const USED_ENTRIES: u64 = 4;
/// An address without RAM.
const NO_RAM: u64 = 1 << 40;

/// The pages of the playground.
pub(super) struct Playground(Pages);

impl Playground {
    /// Allocates the pages.
    pub(super) fn new() -> Self {
        Self(Pages::new(PAGES as usize))
    }

    fn page(&self, index: u64) -> u64 {
        self.0.address() + index * PAGE_SIZE
    }

    /// The address of the ring.
    pub(super) fn ring(&self) -> u64 {
        self.page(RING)
    }

    /// The address of the root table.
    pub(super) fn root(&self) -> u64 {
        self.page(ROOT)
    }

    /// The address of a page of the playground, or one without RAM.
    pub(super) fn address(&self, random: &mut Random) -> u64 {
        if random.one_in(8) {
            return NO_RAM + (random.bits() >> 20 & !0xfff);
        }
        self.page(random.below(PAGES))
    }

    /// An I/O virtual address: mostly with indices that the tables use, else any address.
    pub(super) fn iova(&self, random: &mut Random) -> u64 {
        let offset = random.below(PAGE_SIZE);
        match random.below(8) {
            0 => self.address(random) | offset,
            1 => NO_RAM + (random.bits() >> 16),
            _ => {
                let mut index = || random.below(USED_ENTRIES);
                index() << 39 | index() << 30 | index() << 21 | index() << 12 | offset
            }
        }
    }

    /// Writes a word. A value that could be an address in this program's memory is changed, also
    /// one for a large page: no page of the playground has that alignment.
    fn write(&self, page: u64, word: u64, value: u64) {
        const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
        const LARGE: u64 = 1 << 7;
        const BELOW: u64 = 1 << 32;
        let address = value & ADDRESS;
        let none = address == 0 && value & LARGE == 0;
        let harmless = none || address >= BELOW || Pages::at(address).is_some();
        let value = if harmless { value } else { value | NO_RAM << 1 };
        self.0.write((page * WORDS + word % WORDS) as usize, value);
    }

    /// Writes a descriptor into `slot` of the ring.
    pub(super) fn write_descriptor(&self, slot: u64, random: &mut Random) {
        let fields = random.bits();
        // Mostly an endpoint: a function that does not exist never answers.
        let bus = if random.one_in(16) { random.below(256) } else { 1 + random.below(2) };
        let device = bus << 40;
        let granularity = random.below(4) << 4;
        let (low, high) = match random.below(10) {
            0 | 1 => (1 | granularity | fields & 0x0003_ffff_ffff_0000, 0),
            2 | 3 => (2 | granularity | fields & 0xffff_00c0, self.iova(random) & !0xfc0),
            4 | 5 => (3 | device | fields & 0x001f_0000, self.iova(random) & !0xffe),
            6 => (4 | fields & 0x0000_ffff_f800_0010, 0),
            7 | 8 => {
                (5 | fields & 0xffff_ffff_0000_0070, self.address(random) | fields >> 40 & 0xffc)
            }
            _ => (random.value(), random.value()),
        };
        self.write(RING, 2 * slot, random.spoil(low));
        self.write(RING, 2 * slot + 1, random.spoil(high));
    }

    /// Writes an entry of a root, context or page table.
    pub(super) fn write_table(&self, device: Bdf, random: &mut Random) {
        const PRESENT: u64 = 1;
        let table = random.below(TABLES.end - TABLES.start) + TABLES.start;
        match random.below(6) {
            0 => {
                let entry = random.spoil(self.page(CONTEXTS) | PRESENT);
                self.write(ROOT, 2 * u64::from(device.bus()), entry);
            }
            1 => {
                let word = 2 * u64::from(device.devfn());
                let requests = random.below(3) << 2;
                let entry = random.spoil(self.page(table) | requests | PRESENT);
                self.write(CONTEXTS, word, entry);
                let domain_and_width = random.below(4) << 8 | (1 + random.below(2));
                self.write(CONTEXTS, word + 1, random.spoil(domain_and_width));
            }
            _ => {
                let entry = self.address(random) | random.below(4);
                let index = random.below(USED_ENTRIES);
                self.write(table, index, random.spoil(entry));
            }
        }
    }
}
