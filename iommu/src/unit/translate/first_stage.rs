//! The walk through first-stage tables, which have the CPU's format (`VT-d 3.6`, `VT-d 9.7`). In
//! nested mode every address in them is translated by the second stage (`VT-d 3.8`).

use super::super::config::UnitConfig;
use super::context::read_qword;
use super::failure::{CA, Failure, S0};
use super::paging::Table;
use super::pasid::FirstStage;
use super::second_stage::{Walk, WalkError, Walked};
use super::update::{TableStage, Updates};
use super::{Mapping, with_offset};
use crate::Memory;
use crate::ats::Access;
use crate::ids::{Gpa, PAGE_SIZE};
use crate::spec::fault::FaultReason as R;
use crate::spec::tables::FirstStageEntry;

/// The access that a walk is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) address: u64,
    /// The access writes: the page needs the dirty bit.
    pub(super) write: bool,
    /// The access is privileged, and SRE is set.
    pub(super) privileged: bool,
    /// A Translation Request, which is allowed if the page grants any permission.
    pub(super) translation: bool,
}

impl Request {
    /// The access for which a cached page must serve.
    pub(super) const fn access(&self) -> Access {
        if self.write { Access::Write } else { Access::Read }
    }

    /// Whether the permissions of the page allow the request.
    pub(super) const fn is_allowed(&self, mapping: &Mapping) -> bool {
        match self.translation {
            true => mapping.read || mapping.write,
            false => mapping.grants(self.access()),
        }
    }
}

/// The first-stage tables of an address space.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstStageWalk<'a> {
    pub(super) config: &'a UnitConfig,
    pub(super) memory: &'a Memory,
    pub(super) tables: FirstStage,
    /// The second stage of nested translation.
    pub(super) second: Option<Walk<'a>>,
    pub(super) fault_disable: bool,
    /// The walk notes the entries that lack an accessed or dirty bit.
    pub(super) updates: bool,
}

/// A visited entry.
#[derive(Debug, Clone, Copy, Default)]
struct Visited {
    slot: u64,
    /// The address of its table in the entry above.
    table: u64,
    bits: u64,
}

impl FirstStageWalk<'_> {
    fn fail(&self, reason: R) -> Failure {
        Failure::qualified(reason, S0, self.fault_disable)
    }

    /// Walks from the root to the page of the request. `updates` gets the entries that lack an
    /// accessed or dirty bit.
    pub(super) fn run(&self, request: &Request, updates: &mut Updates) -> Result<Walked, Failure> {
        let unused = 64 - (12 + 9 * u32::from(self.tables.levels));
        let extended = (request.address << unused).cast_signed() >> unused;
        if extended.cast_unsigned() != request.address {
            return Err(self.fail(R::FIRST_STAGE_NOT_CANONICAL));
        }
        let FirstStage { root: Gpa(address), levels: level, .. } = self.tables;
        let top = Table { address, level, read: true, write: true, user: true };
        self.resume(request, top, updates)
    }

    /// Continues from a table of an earlier walk.
    pub(super) fn resume(
        &self,
        request: &Request,
        mut table: Table,
        updates: &mut Updates,
    ) -> Result<Walked, Failure> {
        let mut visited = [Visited::default(); 5];
        loop {
            let level = table.level;
            let order = 12 + 9 * (level - 1);
            let index = (request.address >> order) & 0x1ff;
            let slot = self.entry_address(table.address, level, updates)? + index * 8;
            let bits = read_qword(self.memory, slot).ok_or_else(|| {
                let root = level == self.tables.levels;
                self.fail(match root {
                    true => R::FIRST_STAGE_ROOT_INACCESSIBLE,
                    false => R::FIRST_STAGE_INACCESSIBLE,
                })
            })?;
            let entry = FirstStageEntry::from_bits(bits);
            if !entry.present() {
                return Err(self.fail(R::FIRST_STAGE_NOT_PRESENT));
            }
            let leaf = level == 1 || (entry.large() && level <= 3);
            if self.has_reserved_bits(entry, level, leaf) {
                return Err(self.fail(R::FIRST_STAGE_RESERVED));
            }
            visited[usize::from(level) - 1] = Visited { slot, table: table.address, bits };
            let below = Table {
                address: entry.page() * PAGE_SIZE,
                level: level - 1,
                read: true,
                write: table.write && entry.write(),
                user: table.user && entry.user(),
            };
            if leaf {
                let last = (level == 1).then_some(table);
                return Ok((self.finish(request, &visited, order, below, updates)?, last));
            }
            table = below;
            if self.config.honor_hint {
                updates.trail.add(table);
            }
        }
    }

    /// The address of an entry in a table, after the second stage if nested.
    ///
    /// With SSADE reading a table needs the write permission too (`VT-d 3.8.1`).
    fn entry_address(&self, table: u64, level: u8, updates: &mut Updates) -> Result<u64, Failure> {
        let Some(second) = &self.second else { return Ok(table) };
        let denied = match level == self.tables.levels {
            true => R::NESTED_ROOT_DENIED,
            false => R::NESTED_TABLE_DENIED,
        };
        match second.run(table, false, updates) {
            Ok((Mapping { read: true, write, output, .. }, _)) if write || !second.dirty => {
                Ok(output.0)
            }
            Ok(_) => Err(self.fail(denied)),
            Err(WalkError::BeyondWidth) => Err(self.fail(R::NESTED_ADDRESS_BEYOND_WIDTH)),
            Err(error) => Err(self.second_stage_failure(error)),
        }
    }

    pub(super) fn second_stage_failure(&self, error: WalkError) -> Failure {
        let (reason, answer) = match error {
            WalkError::BeyondWidth => (R::SM_ADDRESS_BEYOND_WIDTH, S0),
            WalkError::RootInaccessible => (R::SM_PAGE_ROOT_INACCESSIBLE, CA),
            WalkError::TableInaccessible => (R::SM_PAGE_TABLE_INACCESSIBLE, CA),
            WalkError::Reserved => (R::SM_PAGE_TABLE_RESERVED, CA),
        };
        Failure::qualified(reason, answer, self.fault_disable)
    }

    fn has_reserved_bits(&self, entry: FirstStageEntry, level: u8, leaf: bool) -> bool {
        const ADDRESS: u64 = ((1 << 52) - 1) & !(PAGE_SIZE - 1);
        // In a large page bit 12 is PAT, and the bits up to the page's size are zero.
        let below_page = if leaf && level > 1 { ((1 << (9 * (level - 1))) - 1) & !1 } else { 0 };
        let largest = if self.config.first_stage_1g { 3 } else { 2 };
        entry.into_bits() & ADDRESS & self.config.beyond_host() != 0
            || (level > largest && entry.large())
            || entry.page() & below_page != 0
    }

    /// Checks privileges, translates the page by the second stage, and notes the entries that lack
    /// an accessed or dirty bit.
    fn finish(
        &self,
        request: &Request,
        visited: &[Visited; 5],
        order: u8,
        granted: Table,
        updates: &mut Updates,
    ) -> Result<Mapping, Failure> {
        if !granted.user && !request.privileged {
            return Err(self.fail(R::FIRST_STAGE_SUPERVISOR_PAGE));
        }
        let unprotected = request.privileged && !self.tables.write_protect;
        let write = granted.write || unprotected;
        let output = with_offset(granted.address, request.address, order);
        let mut mapping = Mapping { output, order, read: true, write, dirty: false };
        if let Some(second) = &self.second {
            let (below, _) = second
                .run(output.0, request.write && write, updates)
                .map_err(|error| self.second_stage_failure(error))?;
            mapping.output = below.output;
            mapping.order = order.min(below.order);
            (mapping.read, mapping.write) = (below.read, write && below.write);
            if !below.read && !below.write {
                return Err(self.fail(R::SM_PAGE_NOT_PRESENT));
            }
        }
        let writes = request.write && mapping.write;
        self.note_updates(visited, writes, updates)?;
        let leaf = FirstStageEntry::from_bits(leaf_bits(visited));
        mapping.dirty = writes || leaf.dirty();
        Ok(mapping)
    }

    fn note_updates(
        &self,
        visited: &[Visited; 5],
        writes: bool,
        updates: &mut Updates,
    ) -> Result<(), Failure> {
        if !self.updates {
            return Ok(());
        }
        let accessed = FirstStageEntry::new()
            .with_accessed(true)
            .with_extended_accessed(self.tables.extended_accessed);
        let leaf = visited.iter().position(|entry| entry.slot != 0);
        // The root comes first, and the entry that maps the page last.
        for (index, entry) in visited.iter().enumerate().rev().filter(|(_, entry)| entry.slot != 0)
        {
            let wanted = accessed.with_dirty(writes && leaf == Some(index)).into_bits();
            self.permit_update(entry, wanted, updates)?;
            updates.add(TableStage::First, entry.slot, entry.bits, wanted);
        }
        Ok(())
    }

    /// Checks that the second stage permits the update of a first-stage entry.
    fn permit_update(
        &self,
        entry: &Visited,
        wanted: u64,
        updates: &mut Updates,
    ) -> Result<(), Failure> {
        let Some(second) = self.second.filter(|_| entry.bits & wanted != wanted) else {
            return Ok(());
        };
        match second.run(entry.table, true, updates) {
            Ok((table, _)) if table.write => Ok(()),
            Ok(_) => Err(self.fail(R::NESTED_UPDATE_DENIED)),
            Err(error) => Err(self.second_stage_failure(error)),
        }
    }
}

/// The entry that maps the page, which is the last one visited.
fn leaf_bits(visited: &[Visited; 5]) -> u64 {
    visited.iter().find(|entry| entry.slot != 0).map_or(0, |entry| entry.bits)
}

/// A mapping without permissions.
pub(super) const NOTHING: Mapping =
    Mapping { output: Gpa(0), order: 12, read: false, write: false, dirty: false };
