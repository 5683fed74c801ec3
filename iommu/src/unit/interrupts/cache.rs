//! The interrupt entry cache: what was found in the table, until software invalidates it.
//!
//! Each index has one slot that it shares with every 256th other. An entry that is pushed out is
//! read again; one that is not stays as it is, whatever the table says by then.

use super::entry::Entry;

/// Entries that are held at the most; a power of two.
const SLOTS: usize = 256;

/// Which slot an index has.
const fn slot(index: u16) -> usize {
    index as usize % SLOTS
}

/// The cache.
#[derive(Debug)]
pub(super) struct EntryCache(Box<[Option<(u16, Entry)>; SLOTS]>);

impl Default for EntryCache {
    fn default() -> Self {
        Self(Box::new([None; SLOTS]))
    }
}

impl EntryCache {
    pub(super) fn lookup(&self, index: u16) -> Option<Entry> {
        self.0[slot(index)].filter(|(tag, _)| *tag == index).map(|(_, entry)| entry)
    }

    pub(super) fn insert(&mut self, index: u16, entry: Entry) {
        self.0[slot(index)] = Some((index, entry));
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.0.fill(None);
    }

    /// Drops the entries whose index differs from `first` in its `mask` low bits at the most
    /// (`VT-d 6.5.2.8`); `mask` is at most 15.
    pub(super) fn invalidate(&mut self, first: u16, mask: u8) {
        let ignored = (1_u16 << mask.min(15)) - 1;
        let first = first & !ignored;
        // Their slots lie side by side: a range as long as it is aligned, or all.
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

    fn entry(vector: u8) -> Entry {
        let irte = Irte::new().with_present(true).with_vector(vector);
        Entry::decode(irte, false).unwrap()
    }

    #[test]
    fn indexes_that_share_a_slot_push_each_other_out_and_are_never_mixed_up() {
        let mut cache = EntryCache::default();
        cache.insert(3, entry(0x31));
        assert_eq!(cache.lookup(3 + SLOTS as u16), None);
        cache.insert(3 + SLOTS as u16, entry(0x32));
        assert_eq!(cache.lookup(3), None);
        assert_eq!(cache.lookup(3 + SLOTS as u16), Some(entry(0x32)));
    }

    proptest! {
        #[test]
        fn an_invalidation_drops_exactly_what_it_names(
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
