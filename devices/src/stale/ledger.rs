//! What caches may hold, and which of it should be gone: one record for each translation.
//!
//! ```text
//!   cached --> fresh --- invalidation reported complete --> concluded with success
//!                |  ^
//!        given up|  |asked for again
//!                v  |
//!              failed --- invalidation reported complete -> concluded with success
//! ```
//!
//! A translation that is cached again begins anew. The memory is bounded: the record that was made
//! first makes room, and an access by its translation cannot be judged any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use iommu::ats::{Access, PageRange, Translation};
use iommu::ids::{Bdf, DomainId, Gpa, Iova, Pasid};
use iommu::spec::descriptor::IotlbScope;
use iommu::time::Instant;
use iommu::unit::TableEntry;

/// The end of an invalidation for the software that asked for it. A translation is stale from then
/// on: this is the definition that KVM, qtest and the simulation share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concluded {
    /// When software was told, or gave up.
    pub at: Instant,
    /// Whether it was told that the invalidation is complete.
    pub success: bool,
}

impl Concluded {
    /// For how long a translation has been stale.
    pub fn age(self, now: Instant) -> Duration {
        now - self.at
    }
}

/// The address space of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// Of a function's ATC.
    Atc(Bdf, Option<Pasid>),
    /// Of the IOTLB: second-stage translations of a domain, or first-stage ones of a PASID in it.
    Iotlb(DomainId, Option<Pasid>),
}

/// An invalidation, by what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalidation {
    /// Of a function's ATC.
    Atc {
        /// The function.
        function: Bdf,
        /// The address space.
        pasid: Option<Pasid>,
        /// All address spaces that have a PASID.
        global: bool,
        /// The range.
        range: PageRange,
    },
    /// Of the IOTLB.
    Iotlb(IotlbScope),
}

type Part = (RangeInclusive<Space>, PageRange);

impl Invalidation {
    /// The spaces that it covers, and the range in them.
    fn parts(self) -> [Option<Part>; 2] {
        const FIRST: Option<Pasid> = Some(Pasid::new(0));
        const LAST: Option<Pasid> = Some(Pasid::new(u32::MAX));
        let atc = Space::Atc;
        let iotlb = Space::Iotlb;
        match self {
            Self::Atc { function, global: true, range, .. } => {
                [Some((atc(function, FIRST)..=atc(function, LAST), range)), None]
            }
            Self::Atc { function, pasid, range, .. } => {
                [Some((atc(function, pasid)..=atc(function, pasid), range)), None]
            }
            Self::Iotlb(IotlbScope::Global) => {
                let all = iotlb(DomainId(0), None)..=iotlb(DomainId(u16::MAX), LAST);
                [Some((all, PageRange::ALL)), None]
            }
            Self::Iotlb(IotlbScope::Domain(domain)) => {
                [Some((iotlb(domain, None)..=iotlb(domain, LAST), PageRange::ALL)), None]
            }
            // First-stage translations of the domain go too (VT-d 6.5.2.3).
            Self::Iotlb(IotlbScope::Pages(domain, range)) => [
                Some((iotlb(domain, None)..=iotlb(domain, None), range)),
                Some((iotlb(domain, FIRST)..=iotlb(domain, LAST), PageRange::ALL)),
            ],
            Self::Iotlb(IotlbScope::Pasid(domain, pasid, range)) => {
                let space = iotlb(domain, Some(pasid));
                [Some((space..=space, range.unwrap_or(PageRange::ALL))), None]
            }
        }
    }
}

/// A number of the ledger's: invalidations that software has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

#[derive(Debug, Clone, Copy)]
struct Record {
    range: PageRange,
    output: Gpa,
    /// Tells it from earlier records of the same range.
    id: u64,
    /// Later invalidations are about it, earlier ones are not.
    cached: Generation,
    concluded: Option<Concluded>,
}

/// The records of one space, by their first address. They do not overlap.
#[derive(Debug, Default)]
struct Records {
    all: BTreeMap<u64, Record>,
    /// Those without a conclusion.
    fresh: BTreeSet<u64>,
    /// Those whose invalidation was given up.
    failed: BTreeSet<u64>,
}

impl Records {
    /// Those of `starts` that overlap `range`.
    fn overlapping(&self, starts: &BTreeSet<u64>, range: PageRange) -> Vec<u64> {
        let reaches =
            |start: &&u64| self.all.get(*start).is_some_and(|record| record.range.overlaps(range));
        starts.range(..=range.last().0).rev().take_while(reaches).copied().collect()
    }

    fn remove(&mut self, start: u64) -> bool {
        self.fresh.remove(&start);
        self.failed.remove(&start);
        self.all.remove(&start).is_some()
    }

    fn conclude(&mut self, range: PageRange, before: Generation, end: Concluded) {
        let mut starts = self.overlapping(&self.fresh, range);
        if end.success {
            starts.extend(self.overlapping(&self.failed, range));
        }
        for start in starts {
            let Some(record) = self.all.get_mut(&start) else { continue };
            if record.cached >= before {
                continue;
            }
            record.concluded = Some(end);
            self.fresh.remove(&start);
            match end.success {
                true => _ = self.failed.remove(&start),
                false => _ = self.failed.insert(start),
            }
        }
    }

    fn ask_again(&mut self, range: PageRange) {
        for start in self.overlapping(&self.failed, range) {
            self.failed.remove(&start);
            self.fresh.insert(start);
            if let Some(record) = self.all.get_mut(&start) {
                record.concluded = None;
            }
        }
    }
}

/// All records.
#[derive(Debug)]
pub struct Ledger {
    spaces: BTreeMap<Space, Records>,
    /// The records by age, oldest first, and some that are gone.
    order: VecDeque<(Space, u64, u64)>,
    len: usize,
    next_id: u64,
    generation: Generation,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            spaces: BTreeMap::new(),
            order: VecDeque::new(),
            len: 0,
            next_id: 0,
            generation: Generation(0),
        }
    }
}

impl Ledger {
    /// The most records: four of the largest ATCs.
    pub const CAPACITY: usize = 1 << 14;

    /// A cache has been given a translation: it begins anew, and replaces those it overlaps.
    pub fn cached(&mut self, space: Space, range: PageRange, output: Gpa) {
        let start = range.start().0;
        let records = self.spaces.entry(space).or_default();
        if let Some(known) = records.all.get(&start)
            && (known.range, known.output, known.cached, known.concluded)
                == (range, output, self.generation, None)
        {
            return;
        }
        let reaches = |(_, record): &(&u64, &Record)| record.range.overlaps(range);
        let old = records.all.range(..=range.last().0).rev().take_while(reaches);
        for start in old.map(|(start, _)| *start).collect::<Vec<_>>() {
            self.len -= usize::from(records.remove(start));
        }
        let (id, cached) = (self.next_id, self.generation);
        self.next_id += 1;
        records.all.insert(start, Record { range, output, id, cached, concluded: None });
        records.fresh.insert(start);
        self.len += 1;
        self.order.push_back((space, start, id));
        self.make_room();
    }

    /// A function has been given a translation, for which `tables` has what the tables hold at that
    /// moment. If they do not have it any more, it comes from the IOTLB, and is as old as there.
    pub fn translated(
        &mut self,
        (function, pasid): (Bdf, Option<Pasid>),
        translation: &Translation,
        tables: Option<TableEntry>,
    ) {
        let Translation { range, output, read, .. } = *translation;
        let atc = Space::Atc(function, pasid);
        self.cached(atc, range, output);
        let Some(entry) = tables else { return };
        let iotlb = Space::Iotlb(entry.domain, entry.pasid);
        let access = if read { Access::Read } else { Access::Write };
        if entry.permits(access, output) {
            self.cached(iotlb, range, output);
        } else if let Some(older) = self.record(iotlb, range.start()).copied() {
            self.inherit(atc, range.start().0, older);
        }
    }

    fn inherit(&mut self, space: Space, start: u64, from: Record) {
        let Some(records) = self.spaces.get_mut(&space) else { return };
        let Some(record) = records.all.get_mut(&start) else { return };
        (record.cached, record.concluded) = (from.cached, from.concluded);
        if let Some(end) = from.concluded {
            records.fresh.remove(&start);
            if !end.success {
                records.failed.insert(start);
            }
        }
    }

    /// Software asks for an invalidation. Returns its number for [`Self::conclude`].
    pub fn ask(&mut self, invalidation: Invalidation) -> Generation {
        self.generation.0 += 1;
        for (spaces, range) in invalidation.parts().into_iter().flatten() {
            for (_, records) in self.spaces.range_mut(spaces) {
                records.ask_again(range);
            }
        }
        self.generation
    }

    /// Software was told how an invalidation has ended, which it had asked for as number `asked`.
    /// Translations that were cached later are not stale by it.
    pub fn conclude(&mut self, invalidation: Invalidation, asked: Generation, end: Concluded) {
        for (spaces, range) in invalidation.parts().into_iter().flatten() {
            for (_, records) in self.spaces.range_mut(spaces) {
                records.conclude(range, asked, end);
            }
        }
    }

    /// The cached translation of `address`: its output, and its end if it is stale. `None` if there
    /// is no record of one.
    pub fn find(&self, space: Space, address: Iova) -> Option<(Gpa, Option<Concluded>)> {
        let record = self.record(space, address)?;
        let output = record.output.0.wrapping_add(address.0 - record.range.start().0);
        Some((Gpa(output), record.concluded))
    }

    fn record(&self, space: Space, address: Iova) -> Option<&Record> {
        let (_, record) = self.spaces.get(&space)?.all.range(..=address.0).next_back()?;
        record.range.contains(address).then_some(record)
    }

    fn make_room(&mut self) {
        while self.len > Self::CAPACITY {
            let Some((space, start, id)) = self.order.pop_front() else { return };
            self.forget(space, start, id);
        }
        if self.order.len() > 2 * Self::CAPACITY {
            let Self { spaces, order, .. } = self;
            order.retain(|(space, start, id)| {
                let record = spaces.get(space).and_then(|records| records.all.get(start));
                record.is_some_and(|record| record.id == *id)
            });
        }
    }

    fn forget(&mut self, space: Space, start: u64, id: u64) {
        let Some(records) = self.spaces.get_mut(&space) else { return };
        if records.all.get(&start).is_some_and(|record| record.id == id) {
            self.len -= usize::from(records.remove(start));
            if records.all.is_empty() {
                self.spaces.remove(&space);
            }
        }
    }
}
