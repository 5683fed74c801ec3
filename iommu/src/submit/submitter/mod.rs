//! The submit-and-wait loop: submit, poll, and handle the result. It follows Linux's `qi_submit_sync` and
//! `qi_check_fault`, with the policy where Linux has none.
//!
//! ```text
//!             queued ----> polling ----> done
//!  ring full    ^             |  deadline, ITE: see time_outs
//!               +-------------+----> fencing ----> quarantined     (see isolation)
//!                             +----> resetting --> reset, or failed
//! ```

mod isolation;
mod ports;
mod pressure;
mod recovery;
mod reset_blocks;
mod time_outs;

use std::collections::VecDeque;

use super::fields::{FlushPath, OnTimeout, Precheck};
use super::flush::Flush;
use super::hardware::Hardware;
use super::policy::Policy;
use super::port_fences::PortFences;
use super::quarantine::Quarantine;
use super::queue::{QueueLayout, SubmissionQueue};
use super::recovery::Recoveries;
use super::reset_blocks::ResetBlocks;
use super::timers::{Timer, Timers};
use super::waiter::{Job, Stage, Waiter};
use super::waiters::Waiters;
use super::{Conclusion, Counters, Ticket, Verdict};
use crate::event::{Event, Tracer};
use crate::ids::Bdf;
use crate::spec::fault::FaultStatus;
use crate::spec::offset;
use crate::time::Instant;

/// All waiters, and the queue that they share.
#[derive(Debug)]
pub(super) struct Submitter {
    policy: Policy,
    tracer: Tracer,
    queue: SubmissionQueue,
    waiters: Waiters,
    timers: Timers,
    quarantine: Quarantine,
    ports: PortFences,
    recoveries: Recoveries,
    resets: ResetBlocks,
    verdicts: VecDeque<Conclusion>,
    next_ticket: u64,
    counters: Counters,
    /// A CPU walks the ring without end, with the lock of the queue held: see
    /// [`super::fields::IteMarks::OddWalk`].
    is_walking: bool,
}

impl Submitter {
    pub(super) fn new(policy: Policy, layout: QueueLayout, tracer: Tracer) -> Self {
        Self {
            queue: SubmissionQueue::new(&policy, layout),
            waiters: Waiters::default(),
            timers: Timers::new(&policy),
            quarantine: Quarantine::default(),
            ports: PortFences::default(),
            recoveries: Recoveries::default(),
            resets: ResetBlocks::default(),
            verdicts: VecDeque::new(),
            next_ticket: 0,
            counters: Counters::default(),
            is_walking: false,
            policy,
            tracer,
        }
    }

    /// Takes the oldest verdict.
    pub(super) fn poll_verdict(&mut self) -> Option<Conclusion> {
        self.verdicts.pop_front()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    pub(super) fn ports(&self) -> &PortFences {
        &self.ports
    }

    pub(super) fn resets(&self) -> &ResetBlocks {
        &self.resets
    }

    /// Timer entries, void ones included.
    #[cfg(test)]
    pub(super) fn timer_entries(&self) -> usize {
        self.timers.len()
    }

    /// Whether wait descriptors have FN set from now on, even if the policy leaves FN clear.
    pub(super) fn set_fenced_waits(&mut self, fenced: bool) {
        self.queue.set_fenced_waits(fenced || self.policy.fenced_waits);
    }

    /// The Invalidate Queue Depth of all functions from now on, 1 to 32.
    pub(super) fn set_queue_depth(&mut self, depth: u8) {
        self.queue.set_queue_depth(depth);
    }

    /// A caller submits an invalidation, and begins to wait.
    pub(super) fn submit(
        &mut self,
        mut flush: Flush,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) -> Ticket {
        let path = flush.path();
        if flush.is_before_reset() {
            self.block_for_reset(&mut flush, hw, now);
        }
        let mut waiter = self.new_waiter(Job::Flush(flush), now);
        waiter.is_split = self.policy.splits(path);
        let ticket = waiter.ticket;
        self.waive_unneeded(&mut waiter, path, hw, now);
        if waiter.is_satisfied() {
            let verdict = waiter.waived_as;
            self.conclude(waiter, verdict, now);
            return ticket;
        }
        waiter.stage = self.quarantine.stage(&waiter);
        if self.policy.other_deadline.is_some() {
            self.restart_deadline(&mut waiter, now);
        }
        let is_held_back = self.hold_outside(&mut waiter);
        self.hold_for_drain(&mut waiter);
        self.waiters.push(waiter);
        self.enqueue_backlog(hw, now);
        let is_queued = |waiter: &Waiter| waiter.ticket == ticket && waiter.stage == Stage::Queued;
        let is_queued = !is_held_back && self.waiters.last().is_some_and(is_queued);
        self.counters.queue_full += u64::from(is_queued);
        ticket
    }

    /// A waiter that begins to wait now. A fence has no deadline, and no CPU spins for it.
    fn new_waiter(&mut self, job: Job, now: Instant) -> Waiter {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let retries_left = match self.policy.on_timeout {
            OnTimeout::Retry(times) => times,
            _ => 0,
        };
        let mut waiter = Waiter::new(ticket, job, retries_left, now);
        if waiter.is_caller() {
            waiter.start(Timer::Deadline, &mut self.timers, now);
            waiter.start(Timer::HardLockup, &mut self.timers, now);
        }
        waiter
    }

    /// Waives the Device-TLBs of functions that are isolated, or gone by the policy's precheck.
    fn waive_unneeded(
        &mut self,
        waiter: &mut Waiter,
        path: FlushPath,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) {
        if !self.quarantine.is_empty() {
            waiter.waive(Verdict::Quarantined, |function| self.quarantine.is_blocked(function));
            waiter.waive(Verdict::Skipped, |function| self.quarantine.is_skipped(function));
        }
        if !self.ports.is_empty() {
            self.waive_below_fences(waiter);
        }
        if !self.recoveries.is_empty() {
            self.waive_recovering(waiter);
        }
        self.waive_blocked(waiter);
        if self.queue.pressure.is_on() {
            self.waive_withheld(waiter, hw, now);
        }
        let precheck = self.policy.precheck_on(path);
        // The check comes directly before the submission with the Device-TLBs.
        if precheck != Precheck::None && !(waiter.is_split && waiter.needs_iotlb()) {
            self.waive_gone(waiter, precheck, hw, now);
        }
    }

    fn waive_gone(
        &mut self,
        waiter: &mut Waiter,
        precheck: Precheck,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) {
        for index in waiter.remaining() {
            let function = waiter.function_at(index);
            if self.is_gone(function, precheck, hw, now) {
                waiter.waive(Verdict::Skipped, |other| other == function);
            }
        }
    }

    fn is_gone(
        &mut self,
        function: Bdf,
        precheck: Precheck,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) -> bool {
        match precheck {
            Precheck::None => false,
            Precheck::Disconnected => hw.functions.is_disconnected(function),
            Precheck::Present => !self.check_presence(function, hw, now),
        }
    }

    fn check_presence(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) -> bool {
        let present = hw.functions.is_present(function);
        self.counters.presence_checks += 1;
        self.tracer.emit(now, || Event::PresenceChecked { function, present });
        present
    }

    /// Every waiter polls once: status words, FSTS, its timers.
    pub(super) fn poll(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        if self.is_walking {
            return self.report_lockups(now);
        }
        self.collect_completed(hw, now);
        self.queue.recall(hw.memory);
        if FaultStatus::from_bits(hw.read(offset::FSTS)).timeout_error() {
            self.handle_timeout_error(hw, now);
        }
        self.finish_resets(hw, now);
        if !self.recoveries.is_empty() {
            self.run_recoveries(hw, now);
        }
        self.handle_deadlines(hw, now);
        self.finish_drains(hw, now);
        self.report_lockups(now);
        // The unit may answer a submission at once, and the next part of a split flush follows.
        loop {
            self.enqueue_backlog(hw, now);
            if !self.collect_completed(hw, now) {
                break;
            }
            self.finish_drains(hw, now);
        }
        let waiters = &self.waiters;
        self.timers.drop_void(waiters.len(), |timer, at, ticket| {
            waiters.get(ticket).is_some_and(|waiter| waiter.due[timer] == Some(at))
        });
    }

    /// When the next timer ends. Deadlines do not count while callers wait for a fence.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.next_timeout(!self.quarantine.is_any_fencing() && !self.is_walking);
        Instant::earliest([timer, self.recoveries.poll_timeout()])
    }

    /// Ends the waits whose status words the unit has written since the last call. Returns whether
    /// another part of a split flush is to be submitted.
    fn collect_completed(&mut self, hw: &mut Hardware<'_>, now: Instant) -> bool {
        if !self.queue.has_news(hw) {
            return false;
        }
        let mut has_parts = false;
        while let Some(function) = self.collect_until_fence(&mut has_parts, hw, now) {
            self.fence_done(function, hw, now);
        }
        has_parts
    }

    /// Ends waits whose status words are written, oldest first. Stops after a fence, and returns its
    /// function.
    fn collect_until_fence(
        &mut self,
        has_parts: &mut bool,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) -> Option<Bdf> {
        let memory = hw.memory;
        let words = self.queue.words(memory);
        let (mut at, mut left) = (0, self.queue.polling());
        while left > 0
            && let Some(entry) = self.waiters.entry_at(at)
        {
            let Stage::Polling(token) = entry.stage else {
                at += 1;
                continue;
            };
            left -= 1;
            if !self.queue.is_done(token, &words) {
                at += 1;
                continue;
            }
            let mut waiter = entry.remove();
            self.queue.complete(&waiter);
            if hw.unit.is_wait_pending(waiter.wait) {
                self.counters.false_completions += 1;
                let ticket = waiter.ticket;
                self.tracer.emit(now, || Event::FalseCompletion { ticket });
            }
            if let Job::Fence(function, _) = waiter.job {
                return Some(function);
            }
            if waiter.is_before_reset() {
                self.resets.confirm(waiter.function());
            }
            if waiter.is_split && self.begin_next_part(&mut waiter, hw, now) {
                self.waiters.put_back(at, waiter);
                (*has_parts, at) = (true, at + 1);
                continue;
            }
            let verdict = waiter.waived_as;
            self.conclude(waiter, verdict, now);
        }
        None
    }

    /// A wait of a split flush has ended. Returns `false` if it was the last one.
    #[cold]
    fn begin_next_part(
        &mut self,
        waiter: &mut Waiter,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) -> bool {
        if !waiter.finish_part() {
            return false;
        }
        if let Job::Flush(flush) = &waiter.job {
            let path = flush.path();
            self.waive_unneeded(waiter, path, hw, now);
        }
        if waiter.is_satisfied() {
            return false;
        }
        waiter.stage = self.quarantine.stage(waiter);
        self.restart_deadline(waiter, now);
        true
    }

    /// The deadline of the submission that comes next begins now.
    fn restart_deadline(&mut self, waiter: &mut Waiter, now: Instant) {
        waiter.due[Timer::Deadline] = match self.policy.other_deadline {
            Some(other) if !waiter.submits_device_tlb() => {
                self.timers.start_for(other, waiter.ticket, now)
            }
            _ => self.timers.start(Timer::Deadline, waiter.ticket, now),
        };
    }

    /// Puts queued jobs in the ring, oldest first, until one does not fit.
    fn enqueue_backlog(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        if self.queue.polling() == self.waiters.len() || self.is_walking {
            return;
        }
        if !self.queue.make_room(hw) {
            return self.let_inside(now);
        }
        let mut has_pushed = false;
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.stage == Stage::Queued) {
            if !self.queue.pressure.admits(waiter) {
                continue;
            }
            if !self.queue.push(waiter, hw.memory) {
                break;
            }
            has_pushed = true;
            if std::mem::take(&mut waiter.is_outside) {
                waiter.start(Timer::Deadline, &mut self.timers, now);
            }
            waiter.begin_attempt(&mut self.timers, now);
            self.counters.submitted += 1;
            self.counters.resubmitted += u64::from(waiter.attempt > 1);
            trace_submission(&self.tracer, waiter, now);
        }
        if has_pushed {
            self.queue.ring_doorbell(hw, now);
        }
    }

    /// Gives the caller of `waiter` its verdict. A fence has no caller.
    fn conclude(&mut self, waiter: Waiter, verdict: Verdict, now: Instant) {
        let (ticket, function) = (waiter.ticket, waiter.function());
        let Job::Flush(flush) = waiter.job else { return };
        let (attempts, aborts) = (waiter.attempt, waiter.aborts);
        self.verdicts.push_back(Conclusion { ticket, flush, verdict, attempts, aborts });
        let waited = now - waiter.since;
        self.tracer.emit(now, || Event::Verdict { ticket, function, verdict, waited });
    }
}

fn trace_submission(tracer: &Tracer, waiter: &Waiter, now: Instant) {
    let (ticket, attempt, function) = (waiter.ticket, waiter.attempt, waiter.function());
    tracer.emit(now, || match waiter.job {
        Job::Flush(_) => Event::Submitted { ticket, function, attempt },
        Job::Fence(..) => Event::FenceSubmitted { function, attempt },
    });
}
