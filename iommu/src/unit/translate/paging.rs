//! The paging-structure cache (`VT-d 6.2.5`). It holds the last table of a walk, so that the next
//! walk in the same 2 MiB reads one entry instead of four or five.

use super::iotlb::{Age, Tag};
use crate::ats::PageRange;
use crate::ids::{DomainId, Iova};

/// Address bits that a last-level table covers.
const ORDER: u8 = 21;
const SLOTS: usize = 256;

/// A last-level table, and the permissions of the levels above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastTable {
    pub(super) address: u64,
    pub(super) read: bool,
    pub(super) write: bool,
    /// First stage: U/S of all levels above it.
    pub(super) user: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    age: Age,
    tag: Tag,
    prefix: u64,
    table: LastTable,
}

/// The cache, direct-mapped. Memory is allocated with the first entry.
#[derive(Debug, Default)]
pub(super) struct PagingCache {
    slots: Vec<Option<Entry>>,
    /// Whether first-stage entries may be present.
    has_first_stage: bool,
}

fn slot_of(tag: Tag, prefix: u64) -> usize {
    (prefix ^ (prefix >> 8) ^ tag.mix()) as usize % SLOTS
}

impl PagingCache {
    pub(super) fn lookup(&self, tag: Tag, address: Iova, oldest: Age) -> Option<LastTable> {
        let prefix = address.0 >> ORDER;
        let entry = (*self.slots.get(slot_of(tag, prefix))?)?;
        let hit = entry.prefix == prefix && entry.tag == tag && entry.age >= oldest;
        hit.then_some(entry.table)
    }

    pub(super) fn insert(&mut self, tag: Tag, address: Iova, age: Age, table: LastTable) {
        if self.slots.is_empty() {
            self.slots = vec![None; SLOTS];
        }
        self.has_first_stage |= tag.is_first_stage();
        let prefix = address.0 >> ORDER;
        self.slots[slot_of(tag, prefix)] = Some(Entry { age, tag, prefix, table });
    }

    /// Drops second-stage entries of `domain` that overlap `range`.
    pub(super) fn drop_pages(&mut self, domain: DomainId, range: PageRange) {
        let tag = Tag::new(domain, None);
        let (first, last) = (range.start().0 >> ORDER, range.last().0 >> ORDER);
        if first != last {
            self.drop_if(Some(range), |other| other == tag);
        } else if let Some(slot) = self.slots.get_mut(slot_of(tag, first))
            && slot.is_some_and(|entry| entry.tag == tag && entry.prefix == first)
        {
            *slot = None;
        }
    }

    /// Drops the first-stage entries of `domain`.
    pub(super) fn drop_first_stage(&mut self, domain: DomainId) {
        if self.has_first_stage {
            self.drop_if(None, |tag| tag.is_first_stage_of(domain));
        }
    }

    /// Drops the entries for which `condition` holds, all of them or those that overlap `range`.
    pub(super) fn drop_if(&mut self, range: Option<PageRange>, condition: impl Fn(Tag) -> bool) {
        for slot in &mut self.slots {
            let hit = slot.is_some_and(|entry| {
                let reach = PageRange::containing(Iova(entry.prefix << ORDER), ORDER);
                condition(entry.tag) && range.is_none_or(|range| range.overlaps(reach))
            });
            if hit {
                *slot = None;
            }
        }
    }
}
