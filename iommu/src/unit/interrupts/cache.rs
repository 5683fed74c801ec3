//! The interrupt entry cache. An entry stays until software invalidates it, or another entry takes
//! its slot, even if the table has changed. With CAP.CM the cache also has faulty entries.
//!
//! The cache is direct-mapped: an index shares its slot with every 256th other index.

use super::Failure;
use super::entry::Entry;

/// The number of slots, a power of two.
const SLOTS: usize = 256;

/// The slot of an index.
const fn slot(index: u16) -> usize {
    index as usize % SLOTS
}

/// A cached entry, or the fault of one that is not present or not valid.
pub(super) type Cached = Result<Entry, Failure>;

/// Cached entries by slot.
#[derive(Debug)]
pub(super) struct EntryCache(Box<[Option<(u16, Cached)>; SLOTS]>);

impl Default for EntryCache {
    fn default() -> Self {
        Self(Box::new([None; SLOTS]))
    }
}

impl EntryCache {
    pub(super) fn lookup(&self, index: u16) -> Option<Cached> {
        self.0[slot(index)].filter(|(tag, _)| *tag == index).map(|(_, entry)| entry)
    }

    pub(super) fn insert(&mut self, index: u16, entry: Cached) {
        self.0[slot(index)] = Some((index, entry));
    }

    /// Drops all entries.
    pub(super) fn clear(&mut self) {
        self.0.fill(None);
    }

    /// Drops the entries whose index differs from `first` only in the low `mask` bits (`VT-d
    /// 6.5.2.8`), of which there are at most 15.
    pub(super) fn invalidate(&mut self, first: u16, mask: u8) {
        let ignored = (1_u16 << mask.min(15)) - 1;
        let first = first & !ignored;
        // These indexes are contiguous, and so are their slots.
        let count = (usize::from(ignored) + 1).min(SLOTS);
        let from = slot(first);
        for held in &mut self.0[from..from + count] {
            if held.is_some_and(|(index, _)| index & !ignored == first) {
                *held = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::interrupt::Irte;
    use proptest::prelude::*;

    fn entry(vector: u8) -> Cached {
        let irte = Irte::new().with_present(true).with_vector(vector);
        Ok(Entry::decode(irte, false).unwrap())
    }

    #[test]
    fn an_index_replaces_another_one_in_its_slot() {
        let mut cache = EntryCache::default();
        cache.insert(3, entry(0x31));
        assert_eq!(cache.lookup(3 + SLOTS as u16), None);
        cache.insert(3 + SLOTS as u16, entry(0x32));
        assert_eq!(cache.lookup(3), None);
        assert_eq!(cache.lookup(3 + SLOTS as u16), Some(entry(0x32)));
    }

    proptest! {
        #[test]
        fn an_invalidation_drops_the_selected_entries_only(
            held in proptest::collection::btree_set(any::<u16>(), 1..200),
            first: u16,
            mask in 0_u8..=15,
        ) {
            let mut cache = EntryCache::default();
            for index in &held {
                cache.insert(*index, entry(*index as u8));
            }
            let before: Vec<_> = held.iter().copied().filter(|i| cache.lookup(*i).is_some()).collect();
            cache.invalidate(first, mask);
            for index in before {
                let named = index >> mask == first >> mask;
                prop_assert_eq!(cache.lookup(index).is_none(), named, "{} {} {}", index, first, mask);
            }
        }
    }
}
