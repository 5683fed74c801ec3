//! The walk through second-stage tables (`VT-d 3.7`, `VT-d 9.8`).

use super::super::config::UnitConfig;
use super::super::values::LargePages;
use super::context::read_qword;
use super::paging::Table;
use super::update::{TableStage, Updates};
use super::{Mapping, with_offset};
use crate::Memory;
use crate::ids::{Gpa, PAGE_SIZE};
use crate::spec::tables::SecondStageEntry;

/// The second-stage tables of a domain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) config: &'a UnitConfig,
    pub(super) memory: &'a Memory,
    pub(super) root: Gpa,
    /// Levels: 3, 4 or 5.
    pub(super) levels: u8,
    /// The walk notes the entries that lack an accessed or dirty bit.
    pub(super) dirty: bool,
}

/// The reasons for which a second-stage walk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WalkError {
    /// The input address is beyond the width of the tables.
    BeyondWidth,
    /// The root table cannot be read.
    RootInaccessible,
    /// A lower table cannot be read.
    TableInaccessible,
    /// Reserved bits are set.
    Reserved,
}

/// The mapping, and the last-level table if the walk has reached one.
pub(super) type Walked = (Mapping, Option<Table>);

impl Walk<'_> {
    /// Walks from the root to the page of `address`. An entry without permissions ends the walk
    /// with a mapping without permissions. With `write` the page needs the dirty bit. `updates`
    /// gets the entries that lack a bit.
    pub(super) fn run(
        &self,
        address: u64,
        write: bool,
        updates: &mut Updates,
    ) -> Result<Walked, WalkError> {
        if address >> (12 + 9 * u32::from(self.levels)) != 0 {
            return Err(WalkError::BeyondWidth);
        }
        let (level, root) = (self.levels, self.root.0);
        let top = Table { address: root, level, read: true, write: true, user: true };
        self.resume(address, write, top, updates)
    }

    /// Continues from a table of an earlier walk.
    pub(super) fn resume(
        &self,
        address: u64,
        writes: bool,
        mut table: Table,
        updates: &mut Updates,
    ) -> Result<Walked, WalkError> {
        loop {
            let level = table.level;
            let order = 12 + 9 * (level - 1);
            let slot = table.address + ((address >> order) & 0x1ff) * 8;
            let inaccessible = match level == self.levels {
                true => WalkError::RootInaccessible,
                false => WalkError::TableInaccessible,
            };
            let bits = read_qword(self.memory, slot).ok_or(inaccessible)?;
            let entry = SecondStageEntry::from_bits(bits);
            let (read, write) = (table.read && entry.read(), table.write && entry.write());
            if !entry.read() && !entry.write() {
                let nothing =
                    Mapping { output: Gpa(0), order: 12, read: false, write: false, dirty: false };
                return Ok((nothing, None));
            }
            let leaf = level == 1 || (entry.large() && level <= 3);
            // A usual entry has none of the bits that may be reserved.
            let suspicious = bits & self.config.second_stage_suspects() != 0;
            if suspicious && self.has_reserved_bits(entry, level, leaf) {
                return Err(WalkError::Reserved);
            }
            let dirty = leaf && writes && write;
            if self.dirty {
                let wanted = SecondStageEntry::new().with_accessed(true).with_dirty(dirty);
                updates.add(TableStage::Second, slot, bits, wanted.into_bits());
            }
            if leaf {
                let output = with_offset(entry.page() * PAGE_SIZE, address, order);
                let dirty = !self.dirty || dirty || entry.dirty();
                let last = (level == 1).then_some(table);
                return Ok((Mapping { output, order, read, write, dirty }, last));
            }
            let below = entry.page() * PAGE_SIZE;
            table = Table { address: below, level: level - 1, read, write, user: true };
            if self.config.honor_hint {
                updates.trail.add(table);
            }
        }
    }

    fn has_reserved_bits(&self, entry: SecondStageEntry, level: u8, leaf: bool) -> bool {
        const ADDRESS: u64 = ((1 << 52) - 1) & !(PAGE_SIZE - 1);
        // The address bits below the page's size must be zero.
        let below_page = if leaf { (1 << (9 * (level - 1))) - 1 } else { 0 };
        let largest = match self.config.large_pages {
            LargePages::None => 1,
            LargePages::TwoMiB => 2,
            LargePages::OneGiB => 3,
        };
        entry.into_bits() & ADDRESS & self.config.beyond_host() != 0
            || entry.transient()
            || (entry.snoop() && !(leaf && self.config.snoop_control))
            || (level > 1 && level > largest && entry.large())
            || entry.page() & below_page != 0
    }
}
