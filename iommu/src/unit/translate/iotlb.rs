//! The IOTLB: 4-way set-associative, tagged by domain and page, large pages in one entry.
//!
//! Invalidating a domain, or everything, only raises a generation number: an entry is valid while
//! its numbers are the current ones. A page-selective invalidation looks at the few sets in which
//! its pages can be, or through all entries if that is less.

use super::{Mapping, with_offset};
use crate::ats::PageRange;
use crate::ids::{DomainId, Iova};
use crate::spec::descriptor::IotlbScope;

const WAYS: usize = 4;
const SETS: usize = 1024;
/// Page sizes that an entry can have, as log2.
const ORDERS: [u8; 3] = [12, 21, 30];

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Generations of the IOTLB and of the domain when it was filled; 0 is never current.
    generation: u64,
    domain_generation: u64,
    /// Input page number, in units of the page's own size.
    page: u64,
    output: u64,
    domain: DomainId,
    order: u8,
    read: bool,
    write: bool,
}

#[derive(Debug)]
pub(super) struct Iotlb {
    entries: Vec<[Entry; WAYS]>,
    /// Which way of a set is replaced next.
    victims: Vec<u8>,
    generation: u64,
    domain_generations: Vec<u64>,
    /// How many valid entries of each size there may be, so that a lookup skips unused sizes.
    filled: [bool; ORDERS.len()],
}

/// Spreads page numbers and domains over the sets; neighbouring pages go to neighbouring sets.
const fn set_of(domain: DomainId, page: u64, order: u8) -> usize {
    let mix = page ^ (page >> 10) ^ (domain.0 as u64).wrapping_mul(0x9e5) ^ ((order as u64) << 5);
    (mix as usize) % SETS
}

impl Iotlb {
    pub(super) fn new() -> Self {
        Self {
            entries: vec![[Entry::default(); WAYS]; SETS],
            victims: vec![0; SETS],
            generation: 1,
            domain_generations: vec![1; 1 << 16],
            filled: [false; ORDERS.len()],
        }
    }

    fn domain_generation(&self, domain: DomainId) -> u64 {
        self.domain_generations[usize::from(domain.0)]
    }

    pub(super) fn lookup(&self, domain: DomainId, address: Iova) -> Option<Mapping> {
        let domain_generation = self.domain_generation(domain);
        for (order, _) in ORDERS.into_iter().zip(self.filled).filter(|(_, filled)| *filled) {
            let page = address.0 >> order;
            let hit = self.entries[set_of(domain, page, order)].iter().find(|entry| {
                entry.page == page
                    && entry.domain == domain
                    && entry.order == order
                    && entry.generation == self.generation
                    && entry.domain_generation == domain_generation
            });
            if let Some(entry) = hit {
                let output = with_offset(entry.output, address, order);
                return Some(Mapping { output, order, read: entry.read, write: entry.write });
            }
        }
        None
    }

    /// Keeps a mapping that grants something.
    pub(super) fn insert(&mut self, domain: DomainId, address: Iova, mapping: Mapping) {
        let Some(size) = ORDERS.iter().position(|order| *order == mapping.order) else { return };
        if !mapping.read && !mapping.write {
            return;
        }
        self.filled[size] = true;
        let page = address.0 >> mapping.order;
        let set = set_of(domain, page, mapping.order);
        let way = usize::from(self.victims[set]) % WAYS;
        self.victims[set] = self.victims[set].wrapping_add(1);
        self.entries[set][way] = Entry {
            generation: self.generation,
            domain_generation: self.domain_generation(domain),
            page,
            output: with_offset(mapping.output.0, Iova(0), mapping.order).0,
            domain,
            order: mapping.order,
            read: mapping.read,
            write: mapping.write,
        };
    }

    pub(super) fn invalidate(&mut self, scope: IotlbScope) {
        match scope {
            IotlbScope::Global => {
                self.generation += 1;
                self.filled = [false; ORDERS.len()];
            }
            IotlbScope::Domain(domain) => {
                self.domain_generations[usize::from(domain.0)] += 1;
            }
            IotlbScope::Pages(domain, range) => self.invalidate_pages(domain, range),
        }
    }

    fn invalidate_pages(&mut self, domain: DomainId, range: PageRange) {
        for (order, _) in ORDERS.into_iter().zip(self.filled).filter(|(_, filled)| *filled) {
            let (first, last) = (range.start().0 >> order, range.last().0 >> order);
            if last - first >= SETS as u64 {
                // Cheaper to look at every set once; other sizes are settled by the same pass.
                let sets = self.entries.iter_mut();
                sets.for_each(|set| drop_overlapping(set, domain, range));
                return;
            }
            for page in first..=last {
                let set = &mut self.entries[set_of(domain, page, order)];
                drop_overlapping(set, domain, range);
            }
        }
    }
}

fn drop_overlapping(set: &mut [Entry; WAYS], domain: DomainId, range: PageRange) {
    for entry in set.iter_mut().filter(|entry| entry.domain == domain) {
        let covered = PageRange::containing(Iova(entry.page << entry.order), entry.order);
        if covered.overlaps(range) {
            entry.generation = 0;
        }
    }
}
