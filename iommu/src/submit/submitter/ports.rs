//! Fences at ports: how they begin, which callers they release, and how they end.

use super::Submitter;
use crate::event::Event;
use crate::ids::Bdf;
use crate::submit::Verdict;
use crate::submit::hardware::Hardware;
use crate::submit::port_fences::PortFence;
use crate::submit::timers::Timer;
use crate::submit::waiter::{Stage, Waiter};
use crate::time::Instant;

impl Submitter {
    /// Sets up `fence` at the port above `function`, unless there is one. Returns `false` if no port
    /// above the function has such a fence.
    pub(super) fn fence_port(
        &mut self,
        function: Bdf,
        fence: PortFence,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) -> bool {
        if self.ports.covers(function) {
            return true;
        }
        let Some(buses) = hw.functions.fence_port(function, fence, now) else { return false };
        self.ports.begin(function, fence, buses);
        self.tracer.emit(now, || Event::PortFenced { function, fence });
        self.release_below_fences(now);
        true
    }

    /// Callers do not wait for functions below a fence. What they want of the unit's own caches is
    /// submitted again, with a new deadline: it may stand behind the request that is stuck.
    fn release_below_fences(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(mut waiter) = self.waiters.entry_at(at) {
            let Self { ports, queue, timers, .. } = self;
            if !waiter.is_caller() || waiter.functions().all(|function| !ports.covers(function)) {
                at += 1;
                continue;
            }
            queue.withdraw(&mut waiter);
            for index in waiter.remaining() {
                let function = waiter.function_at(index);
                if ports.covers(function) {
                    ports.waive(function);
                    waiter.waive(Verdict::Fenced, |other| other == function);
                }
            }
            if waiter.is_satisfied() {
                let waiter = waiter.remove();
                self.conclude(waiter, Verdict::Fenced, now);
            } else {
                waiter.stage = Stage::Queued;
                waiter.start(Timer::Deadline, timers, now);
                at += 1;
            }
        }
    }

    /// A new caller does not wait for functions below a fence.
    pub(super) fn waive_below_fences(&mut self, waiter: &mut Waiter) {
        for index in waiter.remaining() {
            let function = waiter.function_at(index);
            if self.ports.covers(function) {
                self.ports.waive(function);
                waiter.waive(Verdict::Fenced, |other| other == function);
            }
        }
    }

    /// `function` was reset, and holds no translations. A fence above it ends if no other function
    /// below it may hold any.
    pub(super) fn end_port_fence(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        if let Some((function, fence)) = self.ports.reset(function) {
            hw.functions.unfence_port(function, fence, now);
            self.tracer.emit(now, || Event::PortFenceEnded { function, fence });
        }
    }
}
