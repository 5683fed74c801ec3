//! Recovery by a worker: the callers of a function that has timed out go on at once.

use super::Submitter;
use crate::event::Event;
use crate::ids::Bdf;
use crate::submit::Verdict;
use crate::submit::hardware::Hardware;
use crate::submit::recovery::Step;
use crate::submit::timers::Timer;
use crate::submit::waiter::{Stage, Waiter};
use crate::time::Instant;

impl Submitter {
    /// A worker is to reset `function`. Its callers go on; what they want of the unit's own caches is
    /// submitted again, with a new deadline.
    pub(super) fn begin_recovery(&mut self, function: Bdf, now: Instant) {
        let first = if self.policy.reset_prepare { Step::Block } else { Step::Reset };
        if !self.recoveries.begin(function, first, now) {
            return;
        }
        self.tracer.emit(now, || Event::RecoveryBegan { function });
        let mut at = 0;
        while let Some(mut waiter) = self.waiters.entry_at(at) {
            if !waiter.is_caller() || waiter.functions().all(|other| other != function) {
                at += 1;
                continue;
            }
            self.queue.withdraw(&mut waiter);
            waiter.waive(Verdict::Recovering, |other| other == function);
            if waiter.is_satisfied() {
                let waiter = waiter.remove();
                self.conclude(waiter, Verdict::Recovering, now);
            } else {
                waiter.stage = Stage::Queued;
                waiter.start(Timer::Deadline, &mut self.timers, now);
                at += 1;
            }
        }
    }

    /// A new caller does not wait for functions that are being recovered.
    pub(super) fn waive_recovering(&self, waiter: &mut Waiter) {
        waiter.waive(Verdict::Recovering, |function| self.recoveries.covers(function));
    }

    /// Does the steps of recoveries that are due.
    pub(super) fn run_recoveries(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        while let Some((function, step)) = self.recoveries.take_due(now) {
            match step {
                Step::Block => {
                    // Without a bound only a wait of the unit's own caches can have timed out.
                    let bound = self.policy.deadline.expires(now).unwrap_or(now);
                    let is_blocked = !self.fence_for_reset(function, hw, now);
                    self.recoveries.reset_at(function, if is_blocked { now } else { bound });
                    self.enqueue_backlog(hw, now);
                    continue;
                }
                Step::Reset => {
                    hw.functions.begin_recovery(function, now);
                    self.tracer.emit(now, || Event::FunctionResetByHost { function });
                    continue;
                }
                Step::Check => {}
            }
            let succeeded = self.check_presence(function, hw, now);
            if succeeded {
                self.recoveries.end(function);
                self.queue.pressure.reset(function);
                hw.functions.end_recovery(function, now);
                self.end_own_block(function, hw, now);
            }
            self.tracer.emit(now, || Event::RecoveryEnded { function, succeeded });
        }
    }
}
