//! The address translation cache (ATC) of a function: what the specification of the remapping unit
//! calls its Device-TLB (`PCIe 10.1`, `VT-d 4.1`).
//!
//! Entries with and without a PASID do not meet: each address space has its own. Within one no two
//! entries overlap, and there are never more than [`Atc::CAPACITY`] in all.

use std::collections::VecDeque;

use iommu::ats::{InvalidateRequest, PageRange, Translation};
use iommu::ids::{Iova, Pasid};

/// A function's cached translations, oldest first.
#[derive(Debug, Default)]
pub struct Atc {
    entries: VecDeque<Entry>,
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
    /// Ranges that it holds at most.
    pub const CAPACITY: usize = 64;

    /// The translation that covers `address` in the address space of `pasid`.
    pub fn lookup(&self, pasid: Option<Pasid>, address: Iova) -> Option<Translation> {
        let covers =
            |entry: &&Entry| entry.pasid == pasid && entry.translation.range.contains(address);
        self.entries.iter().find(covers).map(|entry| entry.translation)
    }

    /// Caches `translation` in place of all that it overlaps, and of the oldest one if there is no
    /// room left.
    pub fn insert(&mut self, pasid: Option<Pasid>, translation: Translation) {
        self.invalidate(Spaces::One(pasid), translation.range);
        if self.entries.len() == Self::CAPACITY {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { pasid, translation });
    }

    /// Drops every entry of `spaces` that has an address in common with `range`; returns how many.
    pub fn invalidate(&mut self, spaces: Spaces, range: PageRange) -> u32 {
        let before = self.entries.len();
        self.entries.retain(|entry| {
            !(spaces.contain(entry.pasid) && entry.translation.range.overlaps(range))
        });
        count(before - self.entries.len())
    }

    /// Drops everything; returns how many entries that was.
    pub fn clear(&mut self) -> u32 {
        self.invalidate(Spaces::All, PageRange::ALL)
    }

    /// Entries that it holds now.
    pub fn len(&self) -> u32 {
        count(self.entries.len())
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A number of entries, which [`Atc::CAPACITY`] bounds.
fn count(entries: usize) -> u32 {
    u32::try_from(entries).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iommu::ids::Gpa;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(Option<Pasid>, PageRange),
        Invalidate(Spaces, PageRange),
        Lookup(Option<Pasid>, Iova),
        Clear,
    }

    fn pasid() -> impl Strategy<Value = Option<Pasid>> {
        prop::option::weighted(0.2, (0_u32..2).prop_map(Pasid::new))
    }

    fn spaces() -> impl Strategy<Value = Spaces> {
        prop_oneof![1 => Just(Spaces::EveryPasid), 4 => pasid().prop_map(Spaces::One)]
    }

    /// Ranges in 1 MiB, so that steps meet, and mostly single pages, so that they fill the cache.
    fn step() -> impl Strategy<Value = Step> {
        let range = (0_u64..1 << 20, prop_oneof![9 => Just(12_u8), 1 => 13_u8..16])
            .prop_map(|(address, order)| PageRange::containing(Iova(address), order));
        prop_oneof![
            40 => (pasid(), range.clone()).prop_map(|(pasid, range)| Step::Insert(pasid, range)),
            4 => (spaces(), range).prop_map(|(spaces, range)| Step::Invalidate(spaces, range)),
            1 => spaces().prop_map(|spaces| Step::Invalidate(spaces, PageRange::ALL)),
            20 => (pasid(), 0_u64..1 << 20).prop_map(|(p, address)| Step::Lookup(p, Iova(address))),
            1 => Just(Step::Clear),
        ]
    }

    fn translation(range: PageRange, serial: usize) -> Translation {
        let output = Gpa((serial as u64) << 40 | range.start().0);
        Translation {
            range,
            output,
            read: true,
            write: false,
            untranslated_only: false,
            privileged: false,
        }
    }

    /// One slot per page; every translation also knows when it came.
    #[derive(Default)]
    struct Naive(Vec<(usize, Option<Pasid>, Translation)>);

    impl Naive {
        fn insert(&mut self, serial: usize, pasid: Option<Pasid>, translation: Translation) {
            self.0.retain(|(_, p, old)| *p != pasid || !old.range.overlaps(translation.range));
            self.0.push((serial, pasid, translation));
            while self.0.len() > Atc::CAPACITY {
                let oldest = self.0.iter().map(|(serial, ..)| *serial).min();
                self.0.retain(|(serial, ..)| Some(*serial) != oldest);
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_naive_model(steps in prop::collection::vec(step(), 0..400)) {
            let (mut atc, mut naive) = (Atc::default(), Naive::default());
            for (serial, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(pasid, range) => {
                        atc.insert(pasid, translation(range, serial));
                        naive.insert(serial, pasid, translation(range, serial));
                    }
                    Step::Invalidate(spaces, range) => {
                        let before = naive.0.len();
                        let meant = |pasid: &Option<Pasid>| match spaces {
                            Spaces::One(one) => *pasid == one,
                            _ => pasid.is_some(),
                        };
                        naive.0.retain(|(_, p, entry)| !meant(p) || !entry.range.overlaps(range));
                        let dropped = atc.invalidate(spaces, range) as usize;
                        prop_assert_eq!(dropped, before - naive.0.len());
                    }
                    Step::Lookup(pasid, address) => {
                        let mut hits = naive
                            .0
                            .iter()
                            .filter(|(_, p, entry)| *p == pasid && entry.range.contains(address));
                        let hit = hits.next().map(|(.., hit)| *hit);
                        prop_assert_eq!(atc.lookup(pasid, address), hit);
                        prop_assert!(hits.next().is_none());
                    }
                    Step::Clear => {
                        prop_assert_eq!(atc.clear() as usize, naive.0.len());
                        naive.0.clear();
                    }
                }
                prop_assert_eq!(atc.len() as usize, naive.0.len());
                prop_assert_eq!(atc.is_empty(), naive.0.is_empty());
                prop_assert!(atc.len() as usize <= Atc::CAPACITY);
            }
        }

        #[test]
        fn nothing_in_an_invalidated_range_hits(
            ranges in prop::collection::vec((0_u64..1 << 20, 12_u8..18), 0..80),
            address in 0_u64..1 << 20,
            order in 12_u8..22,
        ) {
            let mut atc = Atc::default();
            for (address, order) in ranges {
                atc.insert(None, translation(PageRange::containing(Iova(address), order), 0));
            }
            let gone = PageRange::containing(Iova(address), order);
            atc.invalidate(Spaces::One(None), gone);
            for page in (gone.start().0..=gone.last().0).step_by(4096) {
                prop_assert_eq!(atc.lookup(None, Iova(page)), None);
            }
        }
    }
}
