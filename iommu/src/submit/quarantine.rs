//! Quarantine: the unit blocks a function that does not answer, until it is reset.
//!
//! ```text
//!   context entry: P = 0
//!   ring:          [context cache] [IOTLB] [wait]     the fence
//!   wait done:     nothing that the function holds is of use; callers hear that all is well
//!   reset:         context entry as it was
//! ```
//!
//! The fence goes through the same queue as the invalidation that got stuck. A unit that completes
//! waits in order (`Ordering::Serial`) does not say that the fence is done before it has given up on
//! the function by itself.

use vm_memory::{Bytes, GuestAddress};

use super::Verdict;
use super::fields::OnTimeout;
use super::submitter::{Hardware, Submitter};
use super::waiter::{Job, Stage, Waiter};
use crate::event::Event;
use crate::ids::{Bdf, DomainId, Gpa, PAGE_SIZE};
use crate::spec::control::{RootTableAddress, TableMode};
use crate::spec::offset;
use crate::spec::tables::{ContextHigh, ContextLow, RootEntry};
use crate::time::Instant;

/// A function that may not use what it holds.
#[derive(Debug)]
pub(super) struct Blocked {
    since: Instant,
    /// The unit has said that it blocks it, or nobody waits for that.
    is_done: bool,
    /// Where its context entry is, and what it was; none if the tables have none.
    entry: Option<(Gpa, u64)>,
    /// The unit may still give up on requests to it from before it was blocked.
    has_requests_in_unit: bool,
}

impl Submitter {
    /// Whether the unit blocks `function`.
    pub(super) fn is_blocked(&self, function: Bdf) -> bool {
        self.blocked.get(&function).is_some_and(|blocked| blocked.is_done)
    }

    /// Whether a fence for `function` is under way that somebody waits for.
    pub(super) fn is_being_blocked(&self, function: Bdf) -> bool {
        self.blocked.get(&function).is_some_and(|blocked| !blocked.is_done)
    }

    /// Whether any fence is under way that somebody waits for.
    pub(super) fn is_fencing(&self) -> bool {
        self.fences > 0
    }

    /// Functions in quarantine, also those whose fence is still under way, and removed ones.
    pub(super) fn isolated(&self) -> impl Iterator<Item = Bdf> {
        self.blocked.keys().chain(&self.removed).copied()
    }

    /// The unit's ITE names `function`, which is blocked for that; but not if it has been reset since
    /// the unit sent the request that it means.
    pub(super) fn quarantine_on_ite(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        if let Some(blocked) = self.blocked.get_mut(&function) {
            // It may have given up on all of them at once, and says so only once.
            blocked.has_requests_in_unit = false;
        } else if !self.ignore_next_ite.remove(&function) {
            self.quarantine(function, hw, now);
        }
    }

    /// Blocks `function`, if it is not blocked already.
    pub(super) fn quarantine(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        if self.blocked.contains_key(&function) {
            return;
        }
        let (entry, domain) = block(function, hw);
        let is_done = self.policy.on_timeout == OnTimeout::QuarantinePosted;
        self.blocked
            .insert(function, Blocked { since: now, is_done, entry, has_requests_in_unit: false });
        self.fences += usize::from(!is_done);
        self.block_changes += 1;
        self.tracer.emit(now, || Event::QuarantineBegan { function });
        let fence = self.waiter(Job::Fence(function, domain), now);
        self.waiters.push_back(fence);
        self.enqueue_backlog(hw, now);
        if is_done {
            self.release_blocked(function, now);
        } else {
            self.hold_back(function);
        }
    }

    /// The unit says that it blocks `function`. The others have stood behind it: their time begins
    /// anew.
    pub(super) fn fence_done(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        let Some(blocked) = self.blocked.get_mut(&function) else { return };
        self.fences -= usize::from(!std::mem::replace(&mut blocked.is_done, true));
        self.block_changes += 1;
        let waited = now - blocked.since;
        self.tracer.emit(now, || Event::Quarantined { function, waited });
        self.release_blocked(function, now);
        self.restart_deadlines(now);
        self.enqueue_backlog(hw, now);
    }

    /// `function` was reset: it holds nothing any more. It ends a quarantine, and a removal.
    pub(super) fn handle_reset(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        self.removed.remove(&function);
        let Some(blocked) = self.blocked.remove(&function) else { return };
        self.fences -= usize::from(!blocked.is_done);
        self.block_changes += 1;
        if blocked.has_requests_in_unit {
            self.ignore_next_ite.insert(function);
        }
        if let Some((address, value)) = blocked.entry {
            // It was there when it was read.
            let _ = hw.memory.write_obj(value.to_le(), GuestAddress(address.0));
        }
        self.tracer.emit(now, || Event::QuarantineEnded { function });
        let is_fence = |waiter: &Waiter| matches!(waiter.job, Job::Fence(of, _) if of == function);
        let at = self.waiters.iter().position(is_fence);
        if let Some(mut fence) = at.and_then(|at| self.waiters.remove(at)) {
            self.withdraw(&mut fence);
        }
        if !blocked.is_done {
            self.restart_deadlines(now);
        }
        for at in 0..self.waiters.len() {
            let waiter = &self.waiters[at];
            let is_held = waiter.functions().any(|function| self.is_being_blocked(function));
            if waiter.stage == Stage::Fencing && !is_held {
                self.waiters[at].stage = Stage::Queued;
            }
        }
        self.enqueue_backlog(hw, now);
    }

    /// A fence was under way, and deadlines did not count.
    fn restart_deadlines(&mut self, now: Instant) {
        let mut waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters.iter_mut().filter(|waiter| waiter.deadline.is_some()) {
            self.set_deadline(waiter, now);
        }
        self.waiters = waiters;
    }

    /// `function` is taken for removed: nobody waits for it any more.
    pub(super) fn remove(&mut self, function: Bdf, now: Instant) {
        if self.removed.insert(function) {
            self.tracer.emit(now, || Event::RemovalSimulated { function });
        }
        self.release(function, Verdict::Removed, now);
    }

    fn release_blocked(&mut self, function: Bdf, now: Instant) {
        self.release(function, Verdict::Quarantined, now);
    }

    /// Whoever waits for `function` has nothing more to wait for, as far as it is concerned. Its part
    /// in the IOTLB the fence has done, or nobody waits for anything.
    fn release(&mut self, function: Bdf, verdict: Verdict, now: Instant) {
        let mut at = 0;
        while let Some(waiter) = self.waiters.get(at) {
            if waiter.functions().all(|other| other != function) {
                at += 1;
                continue;
            }
            let Some(mut waiter) = self.waiters.remove(at) else { return };
            self.leave_unanswered(function, &waiter);
            self.withdraw(&mut waiter);
            waiter.waive(verdict, |other| other == function);
            if waiter.functions().next().is_none() {
                self.conclude(waiter, verdict, now);
                continue;
            }
            let fencing = waiter.functions().any(|other| self.is_being_blocked(other));
            waiter.stage = if fencing { Stage::Fencing } else { Stage::Queued };
            self.waiters.insert(at, waiter);
            at += 1;
        }
    }

    /// Whoever waits for `function` waits for its fence instead.
    fn hold_back(&mut self, function: Bdf) {
        for at in 0..self.waiters.len() {
            if self.waiters[at].functions().any(|other| other == function)
                && let Some(mut waiter) = self.waiters.remove(at)
            {
                self.leave_unanswered(function, &waiter);
                self.withdraw(&mut waiter);
                waiter.stage = Stage::Fencing;
                self.waiters.insert(at, waiter);
            }
        }
    }

    /// Nobody will wait for the requests to `function` that `waiter` has in the unit.
    fn leave_unanswered(&mut self, function: Bdf, waiter: &Waiter) {
        let is_in_unit = matches!(waiter.stage, Stage::Polling(_)) && !waiter.aborted;
        if let Some(blocked) = self.blocked.get_mut(&function) {
            blocked.has_requests_in_unit |= is_in_unit;
        }
    }
}

/// Clears P in the context entry of `function`. Returns where it is and what it was, if there is one,
/// and the domain under which the unit may have cached it.
fn block(function: Bdf, hw: &Hardware<'_>) -> (Option<(Gpa, u64)>, DomainId) {
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
