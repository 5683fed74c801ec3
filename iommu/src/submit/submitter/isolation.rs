//! How a function is isolated, and how its waiters end.
//!
//! ```text
//!   context entry: P = 0
//!   ring:          [context cache] [IOTLB] [wait]     the fence
//!   wait done:     the unit blocks the function; its callers end with success
//!   reset:         the context entry is restored
//! ```
//!
//! The fence goes through the queue in which the invalidation is stuck. A unit that completes waits in
//! order (`Ordering::Serial`) thus completes the fence only after its own time-out.

use super::Submitter;
use crate::event::Event;
use crate::ids::Bdf;
use crate::submit::Verdict;
use crate::submit::fields::OnTimeout;
use crate::submit::hardware::Hardware;
use crate::submit::timers::Timer;
use crate::submit::waiter::{Job, Stage};
use crate::time::Instant;

impl Submitter {
    /// Quarantines `function`, unless it is in quarantine already.
    pub(super) fn begin_quarantine(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        let waits_for_fence = self.policy.on_timeout != OnTimeout::QuarantinePosted;
        let Some(domain) = self.quarantine.begin(function, waits_for_fence, hw, now) else {
            return;
        };
        self.tracer.emit(now, || Event::QuarantineBegan { function });
        let fence = self.new_waiter(Job::Fence(function, domain), now);
        self.waiters.push(fence);
        self.enqueue_backlog(hw, now);
        if waits_for_fence {
            self.hold_back(function);
        } else {
            self.release(function, Verdict::Quarantined, now);
        }
    }

    /// The unit has executed the fence of `function`, and blocks it. Deadlines begin anew, since other
    /// callers stood behind the fence.
    pub(super) fn fence_done(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        self.block_confirmed(function, hw, now);
        let Some(since) = self.quarantine.finish_fence(function) else { return };
        let waited = now - since;
        self.tracer.emit(now, || Event::Quarantined { function, waited });
        self.release(function, Verdict::Quarantined, now);
        self.restart_deadlines(now);
        self.enqueue_backlog(hw, now);
    }

    /// `function` was reset and holds no translations. This ends its quarantine or removal.
    pub(in crate::submit) fn handle_reset(
        &mut self,
        function: Bdf,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) {
        self.queue.pressure.reset(function);
        self.end_port_fence(function, hw, now);
        if self.recoveries.end_failed(function) {
            self.end_own_block(function, hw, now);
        }
        let was_fencing = self.quarantine.is_fencing(function);
        if !self.quarantine.end(function, hw.memory) {
            return;
        }
        self.tracer.emit(now, || Event::QuarantineEnded { function });
        if let Some(fence) = self.waiters.first(|waiter| waiter.is_fence_of(function)) {
            self.queue.withdraw(&mut fence.remove());
        }
        if was_fencing {
            self.restart_deadlines(now);
        }
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.stage == Stage::Fencing) {
            waiter.stage = self.quarantine.stage(waiter);
        }
        self.enqueue_backlog(hw, now);
    }

    /// Treats `function` as removed.
    pub(super) fn remove(&mut self, function: Bdf, now: Instant) {
        if self.quarantine.remove(function) {
            self.tracer.emit(now, || Event::RemovalSimulated { function });
        }
        self.release(function, Verdict::Removed, now);
    }

    /// Deadlines did not count while a fence was under way.
    fn restart_deadlines(&mut self, now: Instant) {
        let waiters = self.waiters.iter_mut();
        for waiter in waiters.filter(|waiter| waiter.due[Timer::Deadline].is_some()) {
            waiter.start(Timer::Deadline, &mut self.timers, now);
        }
    }

    /// Callers no longer wait for `function`. Waiters that need other functions too are submitted again.
    /// The others end: a fence has invalidated the whole IOTLB, and a removal gives up the rest.
    fn release(&mut self, function: Bdf, verdict: Verdict, now: Instant) {
        let mut at = 0;
        while let Some(mut waiter) = self.waiters.entry_at(at) {
            if waiter.functions().all(|other| other != function) {
                at += 1;
                continue;
            }
            self.quarantine.leave_in_unit(function, &waiter);
            self.queue.withdraw(&mut waiter);
            waiter.waive(verdict, |other| other == function);
            if waiter.functions().next().is_none() {
                let waiter = waiter.remove();
                self.conclude(waiter, verdict, now);
            } else {
                waiter.stage = self.quarantine.stage(&waiter);
                at += 1;
            }
        }
    }

    /// The waiters of `function` wait for its fence instead.
    fn hold_back(&mut self, function: Bdf) {
        for waiter in self.waiters.iter_mut() {
            if waiter.functions().any(|other| other == function) {
                self.quarantine.leave_in_unit(function, waiter);
                self.queue.withdraw(waiter);
                waiter.stage = Stage::Fencing;
            }
        }
    }
}
