//! Back pressure: callers that wait outside the ring, and functions that get no invalidation.

use super::Submitter;
use crate::ids::Bdf;
use crate::submit::fields::{OnIte, OnTimeout};
use crate::submit::hardware::Hardware;
use crate::submit::timers::{DueTimes, Timer};
use crate::submit::waiter::{Stage, Waiter};
use crate::submit::{Ticket, Verdict};
use crate::time::Instant;

impl Submitter {
    /// The functions that get no invalidation until they are reset.
    pub(in crate::submit) fn withheld(&self) -> impl Iterator<Item = Bdf> {
        self.queue.pressure.withheld().chain(self.ports.waived()).chain(self.recoveries.failed())
    }

    /// Waives the Device-TLBs of functions that get no invalidation. With a policy that fences, those
    /// functions are fenced instead.
    pub(super) fn waive_withheld(
        &mut self,
        waiter: &mut Waiter,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) {
        for index in waiter.remaining() {
            let function = waiter.function_at(index);
            if !self.queue.pressure.is_withheld(function) || self.quarantine.is_fencing(function) {
                continue;
            }
            let on_timeout = self.policy.on_timeout;
            match on_timeout {
                OnTimeout::Quarantine | OnTimeout::QuarantinePosted => {
                    self.begin_quarantine(function, hw, now);
                }
                OnTimeout::Recover => self.begin_recovery(function, now),
                OnTimeout::Port(fence) if self.fence_port(function, fence, hw, now) => {}
                _ => waiter.waive(Verdict::Withheld, |other| other == function),
            }
        }
        waiter.waive(Verdict::Quarantined, |function| self.quarantine.is_blocked(function));
        self.waive_below_fences(waiter);
        self.waive_recovering(waiter);
    }

    /// A new waiter that may not be put in the ring yet. It does not spin, and its deadline does not
    /// count. Returns whether there is such a limit.
    pub(super) fn hold_outside(&mut self, waiter: &mut Waiter) -> bool {
        let is_held_back = waiter.stage == Stage::Queued && !self.queue.pressure.admits(waiter);
        if is_held_back {
            (waiter.is_outside, waiter.due) = (true, DueTimes::default());
            self.counters.held_back += 1;
        }
        is_held_back
    }

    /// There is no room in the ring. Starts the deadlines of waiters that could be there otherwise.
    pub(super) fn let_inside(&mut self, now: Instant) {
        if !self.queue.pressure.is_on() {
            return;
        }
        let Self { waiters, queue, timers, .. } = self;
        for waiter in waiters.iter_mut() {
            let waits_outside = waiter.is_outside && waiter.stage == Stage::Queued;
            if waits_outside && queue.pressure.admits(waiter) {
                waiter.is_outside = false;
                waiter.start(Timer::Deadline, timers, now);
                waiter.start(Timer::HardLockup, timers, now);
            }
        }
    }

    /// The deadline of `ticket` has passed: its functions get no further invalidation, unless the waiter
    /// stands behind those of others.
    pub(super) fn withhold_functions(&mut self, ticket: Ticket, now: Instant) {
        let Some(waiter) = self.waiters.get(ticket) else { return };
        if !self.queue.pressure.is_on()
            || !waiter.is_polling()
            || !self.queue.pressure.blames(waiter)
        {
            return;
        }
        let functions: Vec<Bdf> = waiter.functions().collect();
        for function in functions {
            self.withhold(function, now);
        }
    }

    /// ITE names `function`, which gets no further invalidation. Policies that fence do so instead.
    pub(super) fn withhold_on_ite(&mut self, function: Bdf, now: Instant) {
        let is_fenced = self.ports.covers(function)
            || self.quarantine.isolated().any(|isolated| isolated == function);
        let fences = self.policy.on_ite == OnIte::Quarantine;
        if self.queue.pressure.is_on()
            && !fences
            && !is_fenced
            && self.queue.pressure.is_new_ite(function)
        {
            self.withhold(function, now);
        }
    }

    /// `function` gets no further invalidation. Callers that wait outside the ring go on without it.
    pub(super) fn withhold(&mut self, function: Bdf, now: Instant) {
        if !self.queue.pressure.withhold(function) {
            return;
        }
        let mut at = 0;
        while let Some(mut waiter) = self.waiters.entry_at(at) {
            if waiter.stage == Stage::Queued {
                waiter.waive(Verdict::Withheld, |other| other == function);
                if waiter.is_satisfied() {
                    let waiter = waiter.remove();
                    self.conclude(waiter, Verdict::Withheld, now);
                    continue;
                }
            }
            at += 1;
        }
    }
}
