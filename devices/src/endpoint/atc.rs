//! The address translation cache (ATC) of a function: what the specification of the remapping unit
//! calls its Device-TLB (`PCIe 10.1`, `VT-d 4.1`).
//!
//! No two entries overlap, and there are never more than [`Atc::CAPACITY`].

use std::collections::VecDeque;

use iommu::ats::{PageRange, Translation};
use iommu::ids::Iova;

/// A function's cached translations, oldest first.
#[derive(Debug, Default)]
pub struct Atc {
    entries: VecDeque<Translation>,
}

impl Atc {
    /// Ranges that it holds at most.
    pub const CAPACITY: usize = 64;

    /// The translation that covers `address`.
    pub fn lookup(&self, address: Iova) -> Option<Translation> {
        self.entries.iter().copied().find(|entry| entry.range.contains(address))
    }

    /// Caches `translation` in place of all that it overlaps, and of the oldest one if there is no
    /// room left.
    pub fn insert(&mut self, translation: Translation) {
        self.invalidate(translation.range);
        if self.entries.len() == Self::CAPACITY {
            self.entries.pop_front();
        }
        self.entries.push_back(translation);
    }

    /// Drops every entry that has an address in common with `range`; returns how many.
    pub fn invalidate(&mut self, range: PageRange) -> u32 {
        let before = self.entries.len();
        self.entries.retain(|entry| !entry.range.overlaps(range));
        count(before - self.entries.len())
    }

    /// Drops everything; returns how many entries that was.
    pub fn clear(&mut self) -> u32 {
        self.invalidate(PageRange::ALL)
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
        Insert(PageRange),
        Invalidate(PageRange),
        Lookup(Iova),
        Clear,
    }

    /// Ranges in 1 MiB, so that steps meet, and mostly single pages, so that they fill the cache.
    fn step() -> impl Strategy<Value = Step> {
        let range = (0_u64..1 << 20, prop_oneof![9 => Just(12_u8), 1 => 13_u8..16])
            .prop_map(|(address, order)| PageRange::containing(Iova(address), order));
        prop_oneof![
            40 => range.clone().prop_map(Step::Insert),
            4 => range.prop_map(Step::Invalidate),
            1 => Just(Step::Invalidate(PageRange::ALL)),
            20 => (0_u64..1 << 20).prop_map(|address| Step::Lookup(Iova(address))),
            1 => Just(Step::Clear),
        ]
    }

    fn translation(range: PageRange, serial: usize) -> Translation {
        let output = Gpa((serial as u64) << 40 | range.start().0);
        Translation { range, output, read: true, write: false, untranslated_only: false }
    }

    /// One slot per page; every translation also knows when it came.
    #[derive(Default)]
    struct Naive(Vec<(usize, Translation)>);

    impl Naive {
        fn insert(&mut self, serial: usize, translation: Translation) {
            self.0.retain(|(_, old)| !old.range.overlaps(translation.range));
            self.0.push((serial, translation));
            while self.0.len() > Atc::CAPACITY {
                let oldest = self.0.iter().map(|(serial, _)| *serial).min();
                self.0.retain(|(serial, _)| Some(*serial) != oldest);
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_naive_model(steps in prop::collection::vec(step(), 0..400)) {
            let (mut atc, mut naive) = (Atc::default(), Naive::default());
            for (serial, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(range) => {
                        atc.insert(translation(range, serial));
                        naive.insert(serial, translation(range, serial));
                    }
                    Step::Invalidate(range) => {
                        let before = naive.0.len();
                        naive.0.retain(|(_, entry)| !entry.range.overlaps(range));
                        prop_assert_eq!(atc.invalidate(range) as usize, before - naive.0.len());
                    }
                    Step::Lookup(address) => {
                        let mut hits =
                            naive.0.iter().filter(|(_, entry)| entry.range.contains(address));
                        prop_assert_eq!(atc.lookup(address), hits.next().map(|(_, hit)| *hit));
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
                atc.insert(translation(PageRange::containing(Iova(address), order), 0));
            }
            let gone = PageRange::containing(Iova(address), order);
            atc.invalidate(gone);
            for page in (gone.start().0..=gone.last().0).step_by(4096) {
                prop_assert_eq!(atc.lookup(Iova(page)), None);
            }
        }
    }
}
