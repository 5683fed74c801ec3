//! The IOTLB: 4-way set-associative, tagged by domain, PASID and page, large pages in one entry.
//!
//! Invalidating a domain, or everything, only notes when that was: an entry is valid while it is
//! younger than the last invalidation of its domain and of everything. A page-selective
//! invalidation looks at the few sets in which its pages can be, or through all entries if that is
//! less.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Mapping;
use crate::ats::PageRange;
use crate::ids::{DomainId, Gpa, Iova, PAGE_SIZE, Pasid};

/// A point in the sequence of invalidations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Age(u64);

impl Age {
    /// Older than anything valid.
    const STALE: Self = Self(0);
}

/// When everything, and each domain, was invalidated last. Shared by all shards.
#[derive(Debug)]
pub(super) struct Invalidations {
    /// Counts them. What is found now is as old as this.
    now: AtomicU64,
    all: AtomicU64,
    domains: Vec<AtomicU64>,
}

impl Invalidations {
    /// For domain ids of `domain_bits` bits. Larger ones, which tables may hold all the same, share
    /// with smaller ones: too much is invalidated then, which is always allowed.
    pub(super) fn new(domain_bits: u8) -> Self {
        let domains = (0..1 << domain_bits).map(|_| AtomicU64::new(0)).collect();
        Self { now: AtomicU64::new(1), all: AtomicU64::new(1), domains }
    }

    fn of(&self, DomainId(domain): DomainId) -> &AtomicU64 {
        &self.domains[usize::from(domain) % self.domains.len()]
    }

    // Relaxed: what orders a reader against an invalidation is the lock of its shard, which
    // `Translator::drain` takes before the invalidation completes.

    /// The age of what is read from the tables from now on.
    pub(super) fn now(&self) -> Age {
        Age(self.now.load(Ordering::Relaxed))
    }

    /// The oldest age at which an entry of `domain` is valid.
    pub(super) fn oldest_valid(&self, domain: DomainId) -> Age {
        let domain = self.of(domain).load(Ordering::Relaxed);
        Age(domain.max(self.all.load(Ordering::Relaxed)))
    }

    /// Counts one more. Only the unit does, which is borrowed mutably for it: there are no two
    /// writers, and a locked increment would be a third of what a descriptor costs.
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

/// Whose translation an entry is (`VT-d 6.2.1`): second-stage ones belong to a domain, those of a
/// first stage to a PASID in it, and to privileged requests or the others. Domain in bits 15:0, PASID
/// in 35:16; bit 36 says that there is one, bit 37 privileged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tag(u64);

impl Tag {
    const HAS_PASID: u64 = 1 << 36;
    const PRIVILEGED: u64 = 1 << 37;

    pub(super) fn new(domain: DomainId, pasid: Option<Pasid>) -> Self {
        let pasid = pasid.map_or(0, |pasid| Self::HAS_PASID | u64::from(pasid.get()) << 16);
        Self(u64::from(domain.0) | pasid)
    }

    /// The same for privileged requests, where a first stage tells them from others.
    pub(super) const fn privileged(self, privileged: bool) -> Self {
        match privileged && self.0 & Self::HAS_PASID != 0 {
            true => Self(self.0 | Self::PRIVILEGED),
            false => self,
        }
    }

    /// Whether a first stage has a part in translations with this tag.
    pub(super) fn is_first_stage(self) -> bool {
        self.0 & Self::HAS_PASID != 0
    }

    /// The same for `domain`'s.
    pub(super) fn is_first_stage_of(self, domain: DomainId) -> bool {
        self.is_first_stage() && self.0 as u16 == domain.0
    }

    /// Spreads over sets and slots.
    pub(super) const fn mix(self) -> u64 {
        (self.0 & 0xffff) * 0x9e5 + (self.0 >> 16) * 0x3d7
    }
}

const WAYS: usize = 4;
const SETS: usize = 1024;
/// Page sizes that an entry can have, as log2.
const ORDERS: [u8; 3] = [12, 21, 30];

const READ: u64 = 1;
const WRITE: u64 = 2;
const DIRTY: u64 = 4;

/// 32 bytes, so that a set is two cache lines.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// First input address, with log2 of the page's size in the low bits.
    key: u64,
    tag: Tag,
    age: Age,
    /// First output address, with permissions in the low bits.
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

/// The entries of one shard. Takes its memory when the first one comes.
#[derive(Debug, Default)]
pub(super) struct Iotlb {
    sets: Vec<[Entry; WAYS]>,
    /// Which way of a set is replaced next.
    victims: Vec<u8>,
    /// Which page sizes there may be, so that a lookup skips the others.
    filled: [bool; ORDERS.len()],
    /// There may be entries that a first stage has a part in.
    has_first_stage: bool,
}

/// Neighbouring pages go to neighbouring sets.
const fn set_of(tag: Tag, address: Iova, order: u8) -> usize {
    let page = address.0 >> order;
    (page ^ (page >> 10) ^ tag.mix() ^ ((order as u64) << 5)) as usize % SETS
}

impl Iotlb {
    /// The page of `tag` that holds `address`, if it is no older than `oldest`.
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

    /// Keeps a mapping that grants something and that the tables held at `age`.
    pub(super) fn insert(&mut self, tag: Tag, address: Iova, age: Age, mapping: Mapping) {
        let Some(size) = ORDERS.iter().position(|order| *order == mapping.order) else { return };
        if !mapping.read && !mapping.write {
            return;
        }
        if self.sets.is_empty() {
            self.sets = vec![[Entry::default(); WAYS]; SETS];
            self.victims = vec![0; SETS];
        }
        self.filled[size] = true;
        self.has_first_stage |= tag.is_first_stage();
        let set = set_of(tag, address, mapping.order);
        let key = Entry::key(address, mapping.order);
        // The same page may be there already, stale or with a clear dirty bit.
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

    /// Drops all of `domain` that a first stage has a part in, and second-stage entries in `range`
    /// (`VT-d 6.5.2.3`).
    pub(super) fn invalidate_pages(&mut self, domain: DomainId, range: PageRange) {
        self.drop_in_range(Tag::new(domain, None), range);
        if self.has_first_stage {
            self.drop_if(|entry| entry.tag.is_first_stage_of(domain));
        }
    }

    /// Drops what belongs to `tag`: all, or what overlaps `range`.
    pub(super) fn invalidate_tag(&mut self, tag: Tag, range: Option<PageRange>) {
        match range {
            Some(range) => self.drop_in_range(tag, range),
            None => self.drop_if(|entry| entry.tag == tag),
        }
    }

    fn drop_if(&mut self, condition: impl Fn(&Entry) -> bool) {
        for entry in self.sets.iter_mut().flatten().filter(|entry| condition(entry)) {
            entry.age = Age::STALE;
        }
    }

    fn drop_in_range(&mut self, tag: Tag, range: PageRange) {
        let hit = |entry: &Entry| entry.tag == tag && entry.range().overlaps(range);
        for (order, _) in ORDERS.into_iter().zip(self.filled).filter(|(_, filled)| *filled) {
            let (first, last) = (range.start().0 >> order, range.last().0 >> order);
            if last - first >= SETS as u64 {
                // Cheaper to look at everything once; other sizes are settled by the same pass.
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
