//! The address translation cache (ATC) of a function, which VT-d calls Device-TLB (`PCIe 10.1`,
//! `VT-d 4.1`).
//!
//! ```text
//!   address --(bits above the range's size)--> set: at most `ways` ranges, oldest first
//! ```
//!
//! Each address space, with a PASID or without, has entries of its own, which do not overlap. A
//! lookup searches a set for each size of range that the ATC holds.

use iommu::ats::{InvalidateRequest, PageRange, Translation};
use iommu::ids::{Iova, Pasid};

/// The size and associativity of an ATC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    entries: u16,
    ways: u16,
}

impl Geometry {
    /// Entries in the largest ATC.
    pub const MAX_ENTRIES: u16 = 4096;

    /// `entries` (1 to [`Self::MAX_ENTRIES`]) in sets of `ways`. With as many ways as entries the
    /// ATC is fully associative, with one way it is direct mapped. `None` if the number of sets is
    /// not a power of two.
    pub const fn new(entries: u16, ways: u16) -> Option<Self> {
        if entries > Self::MAX_ENTRIES || ways == 0 || !entries.is_multiple_of(ways) {
            return None;
        }
        if (entries / ways).is_power_of_two() { Some(Self { entries, ways }) } else { None }
    }

    /// Entries in all.
    pub const fn entries(self) -> u16 {
        self.entries
    }

    /// Entries in a set.
    pub const fn ways(self) -> u16 {
        self.ways
    }

    /// Number of sets, a power of two.
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
    /// The entries of each set, oldest first.
    sets: Vec<Vec<Entry>>,
    /// How many entries have each size, by its log2.
    orders: [u16; 65],
    len: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    pasid: Option<Pasid>,
    translation: Translation,
}

/// The address spaces that an invalidation covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spaces {
    /// All of them.
    All,
    /// All with a PASID.
    EveryPasid,
    /// The one with this PASID, or the one without PASID.
    One(Option<Pasid>),
}

impl Spaces {
    /// The address spaces that an Invalidate Request covers (`PCIe 10.3.8`).
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
    /// An empty ATC.
    pub fn new(geometry: Geometry) -> Self {
        let sets = vec![Vec::new(); geometry.sets()];
        Self { geometry, sets, orders: [0; 65], len: 0 }
    }

    /// Its size and associativity.
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

    /// Whether an entry of `spaces` overlaps `range`.
    pub fn holds(&self, spaces: Spaces, range: PageRange) -> bool {
        let meant =
            |entry: &Entry| spaces.contain(entry.pasid) && entry.translation.range.overlaps(range);
        self.sets.iter().flatten().any(meant)
    }

    /// Caches `translation`. It replaces the entries that it overlaps, and the oldest entry of its
    /// set if the set is full.
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

    /// Drops each entry of `spaces` that overlaps `range`. Returns how many.
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

    /// Drops all entries. Returns how many.
    pub fn clear(&mut self) -> u32 {
        self.invalidate(Spaces::All, PageRange::ALL)
    }

    /// Entries that the ATC holds now.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the ATC holds no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests;
