//! The IOTLB: 4-way set-associative, tagged by domain, PASID and page, large pages in one entry.
//!
//! An invalidation of a domain, or of all domains, only advances a counter: an entry is valid if it
//! is more recent than the last such invalidation. A page-selective invalidation visits the few
//! sets that its pages belong to, or all entries if that is less.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Mapping;
use crate::ats::PageRange;
use crate::ids::{DomainId, Gpa, Iova, PAGE_SIZE, Pasid};

/// A time, counted in invalidations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Age(u64);

impl Age {
    /// Older than any valid entry.
    const STALE: Self = Self(0);
}

/// The time of the last global invalidation, and of the last one of each domain. All shards share
/// it.
#[derive(Debug)]
pub(super) struct Invalidations {
    /// The current age, which new entries get.
    now: AtomicU64,
    all: AtomicU64,
    domains: Vec<AtomicU64>,
}

impl Invalidations {
    /// For domain ids of `domain_bits` bits. Tables may hold larger ids, which share a counter with
    /// smaller ones. The unit then invalidates more than it must, which is always allowed.
    pub(super) fn new(domain_bits: u8) -> Self {
        let domains = (0..1 << domain_bits).map(|_| AtomicU64::new(0)).collect();
        Self { now: AtomicU64::new(1), all: AtomicU64::new(1), domains }
    }

    fn of(&self, DomainId(domain): DomainId) -> &AtomicU64 {
        &self.domains[usize::from(domain) % self.domains.len()]
    }

    // Relaxed is enough: `Translator::drain` takes the lock of each shard before an invalidation
    // completes, and that lock orders readers and invalidations.

    /// The age of table entries that are read from now on.
    pub(super) fn now(&self) -> Age {
        Age(self.now.load(Ordering::Relaxed))
    }

    /// The oldest age of a valid entry of `domain`.
    pub(super) fn oldest_valid(&self, domain: DomainId) -> Age {
        let domain = self.of(domain).load(Ordering::Relaxed);
        Age(domain.max(self.all.load(Ordering::Relaxed)))
    }

    /// Advances the age. Only the unit calls this, under a mutable borrow, so that there is one
    /// writer. A locked increment would be a third of the cost of a descriptor.
    fn advance(&self) -> u64 {
        let now = self.now.load(Ordering::Relaxed) + 1;
        self.now.store(now, Ordering::Relaxed);
        now
    }

    pub(super) fn add_all(&self) {
        self.all.store(self.advance(), Ordering::Relaxed);
    }

    pub(super) fn add(&self, domain: DomainId) {
        let now = self.advance();
        self.of(domain).store(now, Ordering::Relaxed);
    }
}

/// The tag of an entry (`VT-d 6.2.1`). A second-stage entry belongs to a domain. A first-stage
/// entry belongs to a PASID in a domain, and to privileged or other requests. Bits 15:0 are the
/// domain, 35:16 the PASID, 36 is set with a PASID, 37 is set if privileged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tag(u64);

impl Tag {
    const HAS_PASID: u64 = 1 << 36;
    const PRIVILEGED: u64 = 1 << 37;

    pub(super) fn new(domain: DomainId, pasid: Option<Pasid>) -> Self {
        let pasid = pasid.map_or(0, |pasid| Self::HAS_PASID | u64::from(pasid.get()) << 16);
        Self(u64::from(domain.0) | pasid)
    }

    /// The tag of privileged requests, if a first stage distinguishes them.
    pub(super) const fn privileged(self, privileged: bool) -> Self {
        match privileged && self.0 & Self::HAS_PASID != 0 {
            true => Self(self.0 | Self::PRIVILEGED),
            false => self,
        }
    }

    /// Whether first-stage tables have a part in translations with this tag.
    pub(super) fn is_first_stage(self) -> bool {
        self.0 & Self::HAS_PASID != 0
    }

    /// Whether this is a first-stage tag of `domain`.
    pub(super) fn is_first_stage_of(self, domain: DomainId) -> bool {
        self.is_first_stage() && self.0 as u16 == domain.0
    }

    /// Spreads tags over sets and slots.
    pub(super) const fn mix(self) -> u64 {
        (self.0 & 0xffff) * 0x9e5 + (self.0 >> 16) * 0x3d7
    }
}

const WAYS: usize = 4;
const SETS: usize = 1024;
/// The page sizes of entries, as log2.
const ORDERS: [u8; 3] = [12, 21, 30];

const READ: u64 = 1;
const WRITE: u64 = 2;
const DIRTY: u64 = 4;

/// An entry. It has 32 bytes, so that a set fills two cache lines.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// The first input address; the low bits hold log2 of the page's size.
    key: u64,
    tag: Tag,
    age: Age,
    /// The first output address; the low bits hold permissions.
    value: u64,
}

impl Entry {
    const fn key(address: Iova, order: u8) -> u64 {
        address.0 >> order << order | order as u64
    }

    const fn order(&self) -> u8 {
        self.key as u8 & 0x3f
    }

    fn mapping(&self, address: Iova) -> Mapping {
        let (order, value) = (self.order(), self.value);
        Mapping {
            output: Gpa((value & !(PAGE_SIZE - 1)) | (address.0 & ((1 << order) - 1))),
            order,
            read: value & READ != 0,
            write: value & WRITE != 0,
            dirty: value & DIRTY != 0,
        }
    }

    fn range(&self) -> PageRange {
        PageRange::containing(Iova(self.key & !0x3f), self.order())
    }
}

/// The entries of a shard. Memory is allocated with the first entry.
#[derive(Debug, Default)]
pub(super) struct Iotlb {
    sets: Vec<[Entry; WAYS]>,
    /// The way of each set that is replaced next.
    victims: Vec<u8>,
    /// The page sizes that may be present; a lookup skips the others.
    filled: [bool; ORDERS.len()],
    /// Whether first-stage entries may be present.
    has_first_stage: bool,
}

/// Neighboring pages belong to neighboring sets.
const fn set_of(tag: Tag, address: Iova, order: u8) -> usize {
    let page = address.0 >> order;
    (page ^ (page >> 10) ^ tag.mix() ^ ((order as u64) << 5)) as usize % SETS
}

impl Iotlb {
    /// The page of `tag` that contains `address`, unless it is older than `oldest`.
    pub(super) fn lookup(&self, tag: Tag, address: Iova, oldest: Age) -> Option<Mapping> {
        for (order, filled) in ORDERS.into_iter().zip(self.filled) {
            if !filled {
                continue;
            }
            let key = Entry::key(address, order);
            let mut ways = self.sets[set_of(tag, address, order)].iter();
            let hit = ways.find(|entry| entry.key == key && entry.tag == tag);
            if let Some(entry) = hit.filter(|entry| entry.age >= oldest) {
                return Some(entry.mapping(address));
            }
        }
        None
    }

    /// Caches a mapping that the tables held at `age`.
    pub(super) fn insert(&mut self, tag: Tag, address: Iova, age: Age, mapping: Mapping) {
        let Some(size) = ORDERS.iter().position(|order| *order == mapping.order) else { return };
        if self.sets.is_empty() {
            self.sets = vec![[Entry::default(); WAYS]; SETS];
            self.victims = vec![0; SETS];
        }
        self.filled[size] = true;
        self.has_first_stage |= tag.is_first_stage();
        let set = set_of(tag, address, mapping.order);
        let key = Entry::key(address, mapping.order);
        // The page may be cached already, as stale or with a clear dirty bit.
        let known = self.sets[set].iter().position(|entry| entry.key == key && entry.tag == tag);
        let victim = &mut self.victims[set];
        let way = known.unwrap_or_else(|| {
            *victim = (*victim + 1) % WAYS as u8;
            usize::from(*victim)
        });
        let flag = |set: bool, bit| if set { bit } else { 0 };
        let value = mapping.output.0 >> mapping.order << mapping.order
            | flag(mapping.read, READ)
            | flag(mapping.write, WRITE)
            | flag(mapping.dirty, DIRTY);
        self.sets[set][way] = Entry { key, tag, age, value };
    }

    /// Drops second-stage entries of `domain` in `range`, and all its first-stage entries (`VT-d
    /// 6.5.2.3`). With `exact` a large page stays unless `range` has all of it.
    pub(super) fn invalidate_pages(&mut self, domain: DomainId, range: PageRange, exact: bool) {
        self.drop_in_range(Tag::new(domain, None), range, exact);
        if self.has_first_stage {
            self.drop_if(|entry| entry.tag.is_first_stage_of(domain));
        }
    }

    /// Drops the entries of `tag`, all of them or those in `range`, as [`Self::invalidate_pages`].
    pub(super) fn invalidate_tag(&mut self, tag: Tag, range: Option<PageRange>, exact: bool) {
        match range {
            Some(range) => self.drop_in_range(tag, range, exact),
            None => self.drop_if(|entry| entry.tag == tag),
        }
    }

    fn drop_if(&mut self, condition: impl Fn(&Entry) -> bool) {
        for entry in self.sets.iter_mut().flatten().filter(|entry| condition(entry)) {
            entry.age = Age::STALE;
        }
    }

    fn drop_in_range(&mut self, tag: Tag, range: PageRange, exact: bool) {
        let hit = |entry: &Entry| {
            let page = entry.range();
            let whole = page.start() >= range.start() && page.last() <= range.last();
            entry.tag == tag && page.overlaps(range) && (whole || !exact)
        };
        for (order, _) in ORDERS.into_iter().zip(self.filled).filter(|(_, filled)| *filled) {
            let (first, last) = (range.start().0 >> order, range.last().0 >> order);
            if last - first >= SETS as u64 {
                // One pass over all entries is cheaper, and covers the other page sizes too.
                return self.drop_if(hit);
            }
            for page in first..=last {
                let set = &mut self.sets[set_of(tag, Iova(page << order), order)];
                for entry in set.iter_mut().filter(|entry| hit(entry)) {
                    entry.age = Age::STALE;
                }
            }
        }
    }
}
