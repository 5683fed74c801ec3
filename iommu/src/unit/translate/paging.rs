//! The paging-structure caches (`VT-d 6.2.5`). They hold tables of earlier walks, so that the next
//! walk in the same part of the address space begins there.
//!
//! The cache of last-level tables is always there: a walk in the same 2 MiB reads one entry instead
//! of four or five. Those of upper levels are used with `honor_hint` only. Software cannot see them
//! as long as each invalidation drops them, and with IH=1 it can.

use super::iotlb::{Age, Tag};
use crate::ats::PageRange;
use crate::ids::{DomainId, Iova};

const SLOTS: usize = 256;
/// The levels of tables: 1 is the last.
pub(super) const LEVELS: usize = 5;

/// A table, and the permissions of the levels above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) address: u64,
    /// The level of its entries; those of level 1 are pages of 4 KiB.
    pub(super) level: u8,
    pub(super) read: bool,
    pub(super) write: bool,
    /// First stage: U/S of all levels above it.
    pub(super) user: bool,
}

/// The tables below the root that a walk has passed, if they are to be cached.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trail {
    tables: [Option<Table>; LEVELS],
}

impl Trail {
    #[cold]
    pub(super) fn clear(&mut self) {
        self.tables = [None; LEVELS];
    }

    #[cold]
    pub(super) fn add(&mut self, table: Table) {
        if let Some(slot) = self.tables.get_mut(usize::from(table.level)) {
            *slot = Some(table);
        }
    }

    /// The tables above the last level.
    fn upper(&self) -> impl Iterator<Item = Table> {
        self.tables.into_iter().flatten().filter(|table| table.level > 1)
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    age: Age,
    tag: Tag,
    prefix: u64,
    table: Table,
}

/// A direct-mapped cache of tables that cover 2^`ORDER` bytes each. Memory is allocated with the
/// first entry.
#[derive(Debug, Default)]
struct Cache<const ORDER: u8> {
    slots: Vec<Option<Entry>>,
}

fn slot_of(tag: Tag, prefix: u64) -> usize {
    (prefix ^ (prefix >> 8) ^ tag.mix()) as usize % SLOTS
}

impl<const ORDER: u8> Cache<ORDER> {
    #[inline]
    fn lookup(&self, tag: Tag, address: Iova, oldest: Age) -> Option<Table> {
        let prefix = address.0 >> ORDER;
        let entry = (*self.slots.get(slot_of(tag, prefix))?)?;
        let hit = entry.prefix == prefix && entry.tag == tag && entry.age >= oldest;
        hit.then_some(entry.table)
    }

    fn insert(&mut self, tag: Tag, address: Iova, age: Age, table: Table) {
        if self.slots.is_empty() {
            self.slots = vec![None; SLOTS];
        }
        let prefix = address.0 >> ORDER;
        self.slots[slot_of(tag, prefix)] = Some(Entry { age, tag, prefix, table });
    }

    #[inline]
    fn drop_pages(&mut self, tag: Tag, range: PageRange) {
        let (first, last) = (range.start().0 >> ORDER, range.last().0 >> ORDER);
        if first != last {
            self.drop_if(Some(range), |other| other == tag);
        } else if let Some(slot) = self.slots.get_mut(slot_of(tag, first))
            && slot.is_some_and(|entry| entry.tag == tag && entry.prefix == first)
        {
            *slot = None;
        }
    }

    #[inline]
    fn drop_if(&mut self, range: Option<PageRange>, condition: impl Fn(Tag) -> bool) {
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

/// The caches of the levels above the last one.
#[derive(Debug, Default)]
struct UpperCaches {
    level_2: Cache<30>,
    level_3: Cache<39>,
    level_4: Cache<48>,
}

// Most units do not have them, and pay as little as can be for that.
impl UpperCaches {
    #[cold]
    fn lookup(&self, tag: Tag, address: Iova, oldest: Age) -> Option<Table> {
        let level_2 = self.level_2.lookup(tag, address, oldest);
        level_2
            .or_else(|| self.level_3.lookup(tag, address, oldest))
            .or_else(|| self.level_4.lookup(tag, address, oldest))
    }

    #[cold]
    fn drop_pages(&mut self, tag: Tag, range: PageRange) {
        self.level_2.drop_pages(tag, range);
        self.level_3.drop_pages(tag, range);
        self.level_4.drop_pages(tag, range);
    }

    #[cold]
    fn drop_if(&mut self, range: Option<PageRange>, condition: &dyn Fn(Tag) -> bool) {
        self.level_2.drop_if(range, condition);
        self.level_3.drop_if(range, condition);
        self.level_4.drop_if(range, condition);
    }
}

/// The paging-structure caches of all levels.
#[derive(Debug, Default)]
pub(super) struct PagingCache {
    last: Cache<21>,
    /// Allocated with the first entry.
    upper: Option<Box<UpperCaches>>,
    /// Whether first-stage entries may be present.
    has_first_stage: bool,
}

impl PagingCache {
    /// The lowest cached table on the way to `address`.
    pub(super) fn lookup(&self, tag: Tag, address: Iova, oldest: Age) -> Option<Table> {
        let last = self.last.lookup(tag, address, oldest);
        match &self.upper {
            Some(upper) if last.is_none() => upper.lookup(tag, address, oldest),
            _ => last,
        }
    }

    /// Caches a last-level table that the tables held at `age`.
    pub(super) fn insert(&mut self, tag: Tag, address: Iova, age: Age, table: Table) {
        self.has_first_stage |= tag.is_first_stage();
        self.last.insert(tag, address, age, table);
    }

    /// Caches the upper tables that a walk has passed.
    #[cold]
    pub(super) fn insert_upper(&mut self, tag: Tag, address: Iova, age: Age, trail: &Trail) {
        self.has_first_stage |= tag.is_first_stage();
        let upper = self.upper.get_or_insert_default();
        for table in trail.upper() {
            match table.level {
                2 => upper.level_2.insert(tag, address, age, table),
                3 => upper.level_3.insert(tag, address, age, table),
                _ => upper.level_4.insert(tag, address, age, table),
            }
        }
    }

    /// Drops second-stage entries of `domain` that overlap `range`.
    pub(super) fn drop_pages(&mut self, domain: DomainId, range: PageRange) {
        let tag = Tag::new(domain, None);
        self.last.drop_pages(tag, range);
        if let Some(upper) = &mut self.upper {
            upper.drop_pages(tag, range);
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
        self.last.drop_if(range, &condition);
        if let Some(upper) = &mut self.upper {
            upper.drop_if(range, &condition);
        }
    }
}
