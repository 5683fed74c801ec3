//! Accessed and dirty bits (`VT-d 3.6.2`, `VT-d 3.7.2`).
//!
//! A walk notes the entries that lack a bit. The bits are set after the walk, if the request is
//! allowed: a blocked request sets none. Each update is a compare-exchange of the whole entry. It
//! fails if software has changed the entry since it was read, and the walk then starts again.
//! Software that clears an entry and flushes thus finds it clear.

use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileMemory};

use super::paging::Trail;
use crate::Memory;

/// The most entries of a walk: in nested mode five first-stage entries and the page, and for the
/// address of each of them five second-stage entries.
const MOST: usize = 5 + 6 * 5;

/// The tables that an entry belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum TableStage {
    #[default]
    First,
    Second,
}

#[derive(Debug, Clone, Copy, Default)]
struct Update {
    slot: u64,
    /// The entry as the walk has read it.
    seen: u64,
    /// The bits to set.
    wanted: u64,
    stage: TableStage,
}

/// The entries of one walk that lack an accessed or dirty bit, and the tables that it has passed.
#[derive(Debug)]
pub(super) struct Updates {
    pub(super) trail: Trail,
    entries: [Update; MOST],
    count: usize,
}

impl Default for Updates {
    fn default() -> Self {
        Self { trail: Trail::default(), entries: [Update::default(); MOST], count: 0 }
    }
}

/// The reasons for which [`Updates::commit`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpdateError {
    /// An entry has changed since it was read.
    Changed(TableStage),
    /// An entry cannot be written.
    Inaccessible(TableStage),
}

impl Updates {
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// The stage of the first entry that lacks a bit.
    pub(super) fn first(&self) -> Option<TableStage> {
        self.entries[..self.count].first().map(|update| update.stage)
    }

    /// Notes the bits `wanted` of the entry at `slot`, which was read as `seen`, unless all of them
    /// are set.
    pub(super) fn add(&mut self, stage: TableStage, slot: u64, seen: u64, wanted: u64) {
        if seen & wanted == wanted {
            return;
        }
        // A nested walk visits second-stage tables several times.
        let noted = self.entries[..self.count].iter_mut().find(|update| update.slot == slot);
        if let Some(update) = noted {
            update.wanted |= wanted;
        } else if let Some(free) = self.entries.get_mut(self.count) {
            *free = Update { slot, seen, wanted, stage };
            self.count += 1;
        }
    }

    /// Sets the bits, in the order of the walk.
    pub(super) fn commit(&self, memory: &Memory) -> Result<(), UpdateError> {
        for update in &self.entries[..self.count] {
            let slot = GuestAddress(update.slot);
            let slice = GuestMemoryBackend::get_slice(memory, slot, 8).ok();
            let entry = slice.as_ref().and_then(|slice| slice.get_atomic_ref::<AtomicU64>(0).ok());
            let entry = entry.ok_or(UpdateError::Inaccessible(update.stage))?;
            let (old, new) = (update.seen.to_le(), (update.seen | update.wanted).to_le());
            entry
                .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
                .map_err(|_| UpdateError::Changed(update.stage))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn an_entry_that_has_changed_is_left_alone() {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let poke = |at, value: u64| memory.write_obj(value, GuestAddress(at)).unwrap();
        let peek = |at| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
        let mut updates = Updates::default();
        poke(0x10, 0x8003);
        updates.add(TableStage::Second, 0x10, 0x8003, 0x100);
        poke(0x10, 0);
        let changed = Err(UpdateError::Changed(TableStage::Second));
        assert_eq!((updates.commit(&memory), peek(0x10)), (changed, 0));
        poke(0x10, 0x8003);
        assert_eq!((updates.commit(&memory), peek(0x10)), (Ok(()), 0x8103));
    }

    #[test]
    fn entries_with_all_bits_and_entries_noted_twice_take_no_room() {
        let mut updates = Updates::default();
        updates.add(TableStage::First, 8, 0x61, 0x60);
        assert_eq!(updates.first(), None);
        for _ in 0..100 {
            updates.add(TableStage::Second, 8, 3, 0x100);
            updates.add(TableStage::Second, 8, 3, 0x200);
        }
        assert_eq!((updates.count, updates.entries[0].wanted), (1, 0x300));
        updates.clear();
        assert_eq!(updates.first(), None);
    }

    #[test]
    fn an_entry_outside_memory_cannot_be_updated() {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let mut updates = Updates::default();
        updates.add(TableStage::First, 0x1000, 1, 0x20);
        let failed = Err(UpdateError::Inaccessible(TableStage::First));
        assert_eq!(updates.commit(&memory), failed);
    }
}
