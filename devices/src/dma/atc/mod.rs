//! The address translation cache (ATC) of a function: what the specification of the remapping unit
//! calls its Device-TLB (`PCIe 10.1`, `VT-d 4.1`).
//!
//! ```text
//!   address --(bits above the range's size)--> set: at most `ways` ranges, oldest first
//! ```
//!
//! Entries with and without a PASID do not meet: each address space has its own. Within one no two
//! entries overlap. Ranges have many sizes, so that a lookup looks into a set for each size that there is.

use iommu::ats::{InvalidateRequest, PageRange, Translation};
use iommu::ids::{Iova, Pasid};

/// How many ranges an ATC holds, and in how many places each of them can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    entries: u16,
    ways: u16,
}

impl Geometry {
    /// The largest ATC.
    pub const MAX_ENTRIES: u16 = 4096;

    /// `entries` (1 to [`Self::MAX_ENTRIES`]) in sets of `ways`; with as many ways as entries it is
    /// fully associative, with one way direct mapped. `None` if that makes no power of two of whole
    /// sets.
    pub const fn new(entries: u16, ways: u16) -> Option<Self> {
        if entries > Self::MAX_ENTRIES || ways == 0 || !entries.is_multiple_of(ways) {
            return None;
        }
        if (entries / ways).is_power_of_two() { Some(Self { entries, ways }) } else { None }
    }

    /// Ranges in all.
    pub const fn entries(self) -> u16 {
        self.entries
    }

    /// Ranges in a set.
    pub const fn ways(self) -> u16 {
        self.ways
    }

    /// Sets, a power of two.
    const fn sets(self) -> usize {
        (self.entries / self.ways) as usize
    }

    /// The set that holds the range of 2^`order` bytes around `address`.
    fn set(self, address: Iova, order: u8) -> usize {
        let number = address.0.checked_shr(order.into()).unwrap_or(0);
        number as usize & (self.sets() - 1)
    }
}

/// Fully associative, with 64 entries.
impl Default for Geometry {
    fn default() -> Self {
        Self { entries: 64, ways: 64 }
    }
}

/// A function's cached translations.
#[derive(Debug)]
pub struct Atc {
    geometry: Geometry,
    /// Each oldest first.
    sets: Vec<Vec<Entry>>,
    /// Entries of each size, by the log2 of that.
    orders: [u16; 65],
    len: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    pasid: Option<Pasid>,
    translation: Translation,
}

/// Which address spaces an invalidation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spaces {
    /// All of them.
    All,
    /// Those that have a PASID.
    EveryPasid,
    /// The one with this PASID, or the one without.
    One(Option<Pasid>),
}

impl Spaces {
    /// Those that an Invalidate Request is about (`PCIe 10.3.8`).
    pub const fn of(request: &InvalidateRequest) -> Self {
        if request.global { Self::EveryPasid } else { Self::One(request.pasid) }
    }

    fn contain(self, pasid: Option<Pasid>) -> bool {
        match self {
            Self::All => true,
            Self::EveryPasid => pasid.is_some(),
            Self::One(one) => one == pasid,
        }
    }
}

impl Atc {
    /// An empty one.
    pub fn new(geometry: Geometry) -> Self {
        let sets = vec![Vec::new(); geometry.sets()];
        Self { geometry, sets, orders: [0; 65], len: 0 }
    }

    /// How big it is.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The translation that covers `address` in the address space of `pasid`.
    pub fn lookup(&self, pasid: Option<Pasid>, address: Iova) -> Option<Translation> {
        let mut left = self.len;
        for (order, count) in (0..).zip(&self.orders) {
            if left == 0 {
                break;
            }
            if *count == 0 {
                continue;
            }
            left -= u32::from(*count);
            let set = &self.sets[self.geometry.set(address, order)];
            let covers =
                |entry: &&Entry| entry.pasid == pasid && entry.translation.range.contains(address);
            if let Some(entry) = set.iter().find(covers) {
                return Some(entry.translation);
            }
        }
        None
    }

    /// Whether an entry of `spaces` has an address in common with `range`.
    pub fn holds(&self, spaces: Spaces, range: PageRange) -> bool {
        let meant =
            |entry: &Entry| spaces.contain(entry.pasid) && entry.translation.range.overlaps(range);
        self.sets.iter().flatten().any(meant)
    }

    /// Caches `translation` in place of all that it overlaps, and of the oldest one of its set if
    /// there is no room left in it.
    pub fn insert(&mut self, pasid: Option<Pasid>, translation: Translation) {
        self.invalidate(Spaces::One(pasid), translation.range);
        let order = translation.range.order();
        let set = &mut self.sets[self.geometry.set(translation.range.start(), order)];
        if set.len() == usize::from(self.geometry.ways) {
            let oldest = set.remove(0);
            self.orders[usize::from(oldest.translation.range.order())] -= 1;
            self.len -= 1;
        }
        set.push(Entry { pasid, translation });
        self.orders[usize::from(order)] += 1;
        self.len += 1;
    }

    /// Drops every entry of `spaces` that has an address in common with `range`; returns how many.
    pub fn invalidate(&mut self, spaces: Spaces, range: PageRange) -> u32 {
        let Self { sets, orders, len, .. } = self;
        let before = *len;
        let mut keeps = |entry: &Entry| {
            let cached = entry.translation.range;
            let meant = spaces.contain(entry.pasid) && cached.overlaps(range);
            if meant {
                orders[usize::from(cached.order())] -= 1;
                *len -= 1;
            }
            !meant
        };
        sets.iter_mut().for_each(|set| set.retain(&mut keeps));
        before - self.len
    }

    /// Drops everything; returns how many entries that was.
    pub fn clear(&mut self) -> u32 {
        self.invalidate(Spaces::All, PageRange::ALL)
    }

    /// Entries that it holds now.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests;
