//! Functions that the host isolates until they are reset: those in quarantine, which the unit blocks,
//! and those treated as removed, which the unit does not block. Functions whose ATS the host has turned
//! off for good are here too.

use std::collections::{BTreeMap, BTreeSet};

use vm_memory::{Bytes, GuestAddress};

use super::hardware::Hardware;
use super::waiter::{Stage, Waiter};
use crate::Memory;
use crate::ids::{Bdf, DomainId, Gpa, PAGE_SIZE};
use crate::spec::control::{RootTableAddress, TableMode};
use crate::spec::offset;
use crate::spec::tables::{ContextHigh, ContextLow, RootEntry};
use crate::time::Instant;

/// A function in quarantine.
#[derive(Debug)]
struct Blocked {
    since: Instant,
    /// The unit has executed the fence, or the policy does not wait for it.
    is_done: bool,
    /// The address and the former low half of its context entry; `None` if the tables have no entry.
    entry: Option<(Gpa, u64)>,
    /// The unit may still time out requests that it sent to the function before the fence.
    has_requests_in_unit: bool,
}

/// All isolated functions.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    blocked: BTreeMap<Bdf, Blocked>,
    removed: BTreeSet<Bdf>,
    /// Functions without ATS from now on. A reset does not end that.
    broken: BTreeSet<Bdf>,
    /// Functions that were reset while the unit held requests to them. The unit may still name them
    /// once in ITE.
    ignore_next_ite: BTreeSet<Bdf>,
    /// Functions in `blocked` that are not done.
    fences: usize,
    changes: u64,
}

impl Quarantine {
    /// Whether no function is isolated, and all have ATS.
    pub(super) fn is_empty(&self) -> bool {
        self.blocked.is_empty() && self.removed.is_empty() && self.broken.is_empty()
    }

    /// Whether the unit blocks `function`.
    pub(super) fn is_blocked(&self, function: Bdf) -> bool {
        self.blocked.get(&function).is_some_and(|blocked| blocked.is_done)
    }

    /// Whether callers wait for the fence of `function`.
    pub(super) fn is_fencing(&self, function: Bdf) -> bool {
        self.blocked.get(&function).is_some_and(|blocked| !blocked.is_done)
    }

    /// Whether callers wait for any fence.
    pub(super) fn is_any_fencing(&self) -> bool {
        self.fences > 0
    }

    pub(super) fn is_removed(&self, function: Bdf) -> bool {
        self.removed.contains(&function)
    }

    /// Whether `function` gets no invalidations: it is treated as removed, or has no ATS any more.
    pub(super) fn is_skipped(&self, function: Bdf) -> bool {
        self.removed.contains(&function) || self.broken.contains(&function)
    }

    /// The host turns ATS off in `function` for good. Returns whether that is new.
    pub(super) fn break_ats(&mut self, function: Bdf) -> bool {
        self.broken.insert(function)
    }

    /// All isolated functions, also those whose fence is not done.
    pub(super) fn isolated(&self) -> impl Iterator<Item = Bdf> {
        self.blocked.keys().chain(&self.removed).copied()
    }

    /// How often the answer of [`Self::is_blocked`] or [`Self::isolated`] may have changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The stage of a waiter that is not in the ring.
    pub(super) fn stage(&self, waiter: &Waiter) -> Stage {
        match self.fences > 0 && waiter.functions().any(|function| self.is_fencing(function)) {
            true => Stage::Fencing,
            false => Stage::Queued,
        }
    }

    /// Clears P in the context entry of `function`. Returns the domain under which the unit may have
    /// cached the entry; `None` if the function is in quarantine already.
    pub(super) fn begin(
        &mut self,
        function: Bdf,
        waits_for_fence: bool,
        hw: &Hardware<'_>,
        now: Instant,
    ) -> Option<DomainId> {
        if self.blocked.contains_key(&function) {
            return None;
        }
        let (entry, domain) = clear_present(function, hw);
        let is_done = !waits_for_fence;
        let blocked = Blocked { since: now, is_done, entry, has_requests_in_unit: false };
        self.blocked.insert(function, blocked);
        self.fences += usize::from(waits_for_fence);
        self.changes += 1;
        Some(domain)
    }

    /// The unit has executed the fence of `function`. Returns when the quarantine began.
    pub(super) fn finish_fence(&mut self, function: Bdf) -> Option<Instant> {
        let blocked = self.blocked.get_mut(&function)?;
        self.fences -= usize::from(!std::mem::replace(&mut blocked.is_done, true));
        self.changes += 1;
        Some(blocked.since)
    }

    /// Ends quarantine and removal of `function`, which was reset, and restores its context entry.
    /// Returns whether the function was in quarantine.
    pub(super) fn end(&mut self, function: Bdf, memory: &Memory) -> bool {
        self.removed.remove(&function);
        let Some(blocked) = self.blocked.remove(&function) else { return false };
        self.fences -= usize::from(!blocked.is_done);
        self.changes += 1;
        if blocked.has_requests_in_unit {
            self.ignore_next_ite.insert(function);
        }
        if let Some((address, value)) = blocked.entry {
            // The entry was read from there, so that the write cannot fail.
            let _ = memory.write_obj(value.to_le(), GuestAddress(address.0));
        }
        true
    }

    /// Gives the context entry of `function`, which is not present now, to its quarantine, which
    /// restores it at its end. Returns whether the function is in quarantine.
    pub(super) fn adopt(&mut self, function: Bdf, entry: (Gpa, u64)) -> bool {
        let Some(blocked) = self.blocked.get_mut(&function) else { return false };
        blocked.entry = Some(entry);
        true
    }

    /// Treats `function` as removed. Returns whether that is new.
    pub(super) fn remove(&mut self, function: Bdf) -> bool {
        let is_new = self.removed.insert(function);
        self.changes += u64::from(is_new);
        is_new
    }

    /// `waiter` stops waiting for `function`, whose requests the unit may still hold.
    pub(super) fn leave_in_unit(&mut self, function: Bdf, waiter: &Waiter) {
        if let Some(blocked) = self.blocked.get_mut(&function) {
            let is_sent = waiter.submitted_functions().any(|sent| sent == function);
            blocked.has_requests_in_unit |= waiter.is_in_unit() && is_sent;
        }
    }

    /// ITE names `function`. Returns whether that is about a request that the unit sent after the last
    /// reset, and the function is not in quarantine yet.
    pub(super) fn is_new_ite(&mut self, function: Bdf) -> bool {
        match self.blocked.get_mut(&function) {
            Some(blocked) => {
                // The unit may have timed out all requests at once, and reports that once.
                blocked.has_requests_in_unit = false;
                false
            }
            None => !self.ignore_next_ite.remove(&function),
        }
    }
}

/// Clears P in the context entry of `function`. Returns the entry's address and former low half, if
/// there is an entry, and the domain under which the unit may have cached it.
pub(super) fn clear_present(function: Bdf, hw: &Hardware<'_>) -> (Option<(Gpa, u64)>, DomainId) {
    let read =
        |address: u64| hw.memory.read_obj::<u64>(GuestAddress(address)).map_or(0, u64::from_le);
    let root = RootTableAddress::from_bits(hw.read_qword(offset::RTADDR));
    let scalable = root.mode() == TableMode::Scalable as u8;
    let (bus, devfn) = (u64::from(function.bus()), u64::from(function.devfn()));
    // Each half of a scalable-mode root entry serves 16 devices.
    let half = if scalable { devfn >> 7 } else { 0 };
    let table = RootEntry::from_bits(read(root.page() * PAGE_SIZE + bus * 16 + half * 8));
    if !table.present() {
        return (None, DomainId(0));
    }
    let slot = if scalable { (devfn & 0x7f) * 32 } else { devfn * 16 };
    let address = table.page() * PAGE_SIZE + slot;
    let low = read(address);
    let domain = if scalable { 0 } else { ContextHigh::from_bits(read(address + 8)).domain() };
    let blocked = ContextLow::from_bits(low).with_present(false);
    let written = hw.memory.write_obj(blocked.into_bits().to_le(), GuestAddress(address)).is_ok();
    (written.then_some((Gpa(address), low)), DomainId(domain))
}
