//! Resets for which the driver blocks the function in the unit: how the block begins, which callers
//! it spares, and how it ends.

use super::Submitter;
use crate::event::Event;
use crate::ids::Bdf;
use crate::submit::flush::Flush;
use crate::submit::hardware::Hardware;
use crate::submit::timers::Timer;
use crate::submit::waiter::{Job, Stage, Waiter};
use crate::submit::{Ticket, Verdict};
use crate::time::Instant;

impl Submitter {
    /// A driver is about to reset the function of `flush`: it gets no other invalidation from now on.
    pub(super) fn block_for_reset(
        &mut self,
        flush: &mut Flush,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) {
        let function = flush.function();
        if let Some(domain) = self.resets.begin(function, hw) {
            flush.set_cached_domain(domain);
            self.tracer.emit(now, || Event::ResetBlockBegan { function });
        }
    }

    /// The reset of `function` is over.
    pub(in crate::submit) fn end_reset_block(
        &mut self,
        function: Bdf,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) {
        if self.resets.end(function, &mut self.quarantine, hw.memory) {
            self.tracer.emit(now, || Event::ResetBlockEnded { function });
            hw.functions.end_reset(function, now);
        }
    }

    /// A reset of the policy's own is over.
    pub(super) fn end_own_block(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        if self.policy.reset_prepare {
            self.end_reset_block(function, hw, now);
        }
    }

    /// A caller does not wait for functions that are reset, unless it is the one that resets them.
    pub(super) fn waive_blocked(&self, waiter: &mut Waiter) {
        if !self.resets.is_empty() && !waiter.is_before_reset() {
            waiter.waive(Verdict::Blocked, |function| self.resets.covers(function));
        }
    }

    /// A reset that is about to begin waits for the invalidations of its function that are under way.
    pub(super) fn hold_for_drain(&self, waiter: &mut Waiter) {
        if waiter.is_before_reset() && waiter.stage == Stage::Queued {
            waiter.stage = Stage::Draining;
        }
    }

    /// Lets resets go on whose functions have no other invalidation under way.
    pub(super) fn finish_drains(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        if self.resets.is_empty() {
            return;
        }
        let mut at = 0;
        while let Some(entry) = self.waiters.entry_at(at) {
            let (ticket, function, stage) = (entry.ticket, entry.function(), entry.stage);
            if stage != Stage::Draining || self.is_under_way(function, ticket) {
                at += 1;
                continue;
            }
            let Some(entry) = self.waiters.entry_at(at) else { return };
            let mut waiter = entry.remove();
            waiter.stage = Stage::Queued;
            self.waive_withheld(&mut waiter, hw, now);
            self.waiters.put_back(at, waiter);
            at += 1;
        }
    }

    /// Whether a caller other than `ticket` waits for `function`, and for none before it.
    fn is_under_way(&self, function: Bdf, ticket: Ticket) -> bool {
        let waits = |waiter: &&Waiter| {
            waiter.ticket != ticket
                && waiter.is_caller()
                && !waiter.is_before_reset()
                && waiter.functions().any(|other| other == function)
        };
        self.waiters.iter().any(|waiter| waits(&waiter))
    }

    /// The policy resets the functions of a waiter, and blocks them before. The reset begins when the
    /// unit has confirmed that, or when a further deadline has passed.
    pub(super) fn block_then_reset(&mut self, ticket: Ticket, hw: &mut Hardware<'_>, now: Instant) {
        let Some(mut waiter) = self.waiters.entry(ticket) else { return };
        waiter.start(Timer::Deadline, &mut self.timers, now);
        let functions: Vec<Bdf> = waiter.functions().collect();
        let mut all_blocked = true;
        for function in functions {
            all_blocked &= !self.fence_for_reset(function, hw, now);
        }
        if all_blocked {
            return self.reset_now(ticket, hw, now);
        }
        self.enqueue_backlog(hw, now);
    }

    /// Blocks `function`, and submits the descriptors after which the unit notices, unless they were
    /// submitted before. Returns whether that is still to be confirmed.
    pub(super) fn fence_for_reset(
        &mut self,
        function: Bdf,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) -> bool {
        let Some(domain) = self.resets.begin(function, hw) else {
            return !self.resets.is_blocked(function);
        };
        self.tracer.emit(now, || Event::ResetBlockBegan { function });
        let fence = self.new_waiter(Job::Fence(function, domain), now);
        self.waiters.push(fence);
        true
    }

    /// The unit blocks `function`. Resets that waited for that begin.
    pub(super) fn block_confirmed(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        if !self.resets.confirm(function) {
            return;
        }
        self.recoveries.expedite(function, now);
        let waits = |waiter: &&Waiter| {
            waiter.stage == Stage::Resetting
                && waiter.due[Timer::Reset].is_none()
                && waiter.functions().any(|other| other == function)
        };
        let ready: Vec<Ticket> =
            self.waiters.iter().filter(waits).map(|waiter| waiter.ticket).collect();
        for ticket in ready {
            self.reset_now(ticket, hw, now);
        }
    }
}
