//! The loop itself: submit, poll, and take what comes. It follows Linux's `qi_submit_sync` and
//! `qi_check_fault`, with the policy where Linux has none.
//!
//! ```text
//!             queued ----> polling ----> done
//!  ring full    ^             |  deadline, ITE: see time_outs
//!               +-------------+----> fencing ----> quarantined     (see quarantine)
//!                             +----> resetting --> reset, or told
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::fields::{OnTimeout, Precheck};
use super::flush::Flush;
use super::policy::Policy;
use super::quarantine::Blocked;
use super::ring::Ring;
use super::status::StatusWords;
use super::timers::Timers;
use super::waiter::{Job, Stage, Waiter};
use super::{Conclusion, Counters, FunctionAccess, Ticket, Verdict};
use crate::Memory;
use crate::event::{Event, Tracer};
use crate::ids::{Bdf, Gpa};
use crate::spec::descriptor::WaitDescriptor;
use crate::spec::fault::FaultStatus;
use crate::spec::offset;
use crate::time::Instant;
use crate::unit::Unit;

/// What the loop works with: the physical unit, the memory that both share, and the way to
/// functions' configuration space.
pub(super) struct Hardware<'a> {
    pub(super) unit: &'a mut Unit,
    pub(super) memory: &'a Memory,
    pub(super) functions: &'a mut dyn FunctionAccess,
    /// The unit's registers read as all ones, and take no writes.
    pub(super) is_gone: bool,
}

impl Hardware<'_> {
    pub(super) fn read(&self, at: u16) -> u32 {
        let mut data = [0xff; 4];
        if !self.is_gone {
            self.unit.read(u64::from(at), &mut data);
        }
        u32::from_le_bytes(data)
    }

    pub(super) fn read_qword(&self, at: u16) -> u64 {
        let mut data = [0xff; 8];
        if !self.is_gone {
            self.unit.read(u64::from(at), &mut data);
        }
        u64::from_le_bytes(data)
    }

    pub(super) fn write(&mut self, at: u16, value: u32, now: Instant) {
        if !self.is_gone {
            self.unit.write(u64::from(at), &value.to_le_bytes(), self.memory, now);
        }
    }
}

/// Descriptors of one submission, at most: IOTLB, Device-TLBs, wait.
const MAX_SLOTS: usize = Flush::MAX + 2;
/// And at least.
const MIN_SLOTS: u32 = 2;

/// All callers that wait, and the ring that they share.
#[derive(Debug)]
pub(super) struct Submitter {
    pub(super) policy: Policy,
    pub(super) tracer: Tracer,
    pub(super) ring: Ring,
    pub(super) status: StatusWords,
    /// Oldest first, which is in the order of their tickets.
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) timers: Timers,
    /// How many of them poll.
    polling: usize,
    /// How many waits the unit had completed when status words were looked at last.
    seen: u64,
    /// Functions that may not use what they hold.
    pub(super) blocked: BTreeMap<Bdf, Blocked>,
    /// Fences under way that somebody waits for.
    pub(super) fences: usize,
    /// How often the answer of [`Self::is_blocked`] may have changed.
    pub(super) block_changes: u64,
    /// Functions that have been reset while requests to them were in the unit, which may still give up
    /// on those.
    pub(super) ignore_next_ite: BTreeSet<Bdf>,
    /// Functions that are taken for removed.
    pub(super) removed: BTreeSet<Bdf>,
    verdicts: VecDeque<Conclusion>,
    next_ticket: u64,
    /// Wait descriptors that have been put on the ring.
    waits: u64,
    pub(super) counters: Counters,
    /// Whether waits have FN set.
    pub(super) fenced_waits: bool,
    /// log2 of the pages that the unit can name in one IOTLB invalidation, if it can name any.
    max_mask: Option<u8>,
}

impl Submitter {
    pub(super) fn new(
        policy: Policy,
        ring: Ring,
        status: Gpa,
        max_mask: Option<u8>,
        tracer: Tracer,
    ) -> Self {
        let status = StatusWords::new(policy.completion, status);
        Self {
            policy,
            tracer,
            ring,
            status,
            waiters: VecDeque::new(),
            timers: Timers::default(),
            polling: 0,
            seen: 0,
            blocked: BTreeMap::new(),
            fences: 0,
            block_changes: 0,
            ignore_next_ite: BTreeSet::new(),
            removed: BTreeSet::new(),
            verdicts: VecDeque::new(),
            next_ticket: 0,
            waits: 0,
            counters: Counters::default(),
            fenced_waits: false,
            max_mask,
        }
    }

    /// Takes the oldest verdict.
    pub(super) fn poll_verdict(&mut self) -> Option<Conclusion> {
        self.verdicts.pop_front()
    }

    /// What has been done so far.
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A caller asks for an invalidation and begins to wait.
    pub(super) fn submit(&mut self, flush: Flush, hw: &mut Hardware<'_>, now: Instant) -> Ticket {
        let mut waiter = self.waiter(Job::Flush(flush), now);
        let ticket = waiter.ticket;
        self.waive_what_needs_nothing(&mut waiter, hw, now);
        if waiter.is_satisfied() {
            let verdict = waiter.waived_as;
            self.conclude(waiter, verdict, now);
            return ticket;
        }
        if waiter.functions().any(|function| self.is_being_blocked(function)) {
            waiter.stage = Stage::Fencing;
        }
        self.waiters.push_back(waiter);
        self.enqueue_backlog(hw, now);
        let waits_for_room =
            |waiter: &Waiter| waiter.ticket == ticket && waiter.stage == Stage::Queued;
        self.counters.queue_full += u64::from(self.waiters.back().is_some_and(waits_for_room));
        ticket
    }

    /// Somebody who begins to wait now.
    pub(super) fn waiter(&mut self, job: Job, now: Instant) -> Waiter {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let retries_left = match self.policy.on_timeout {
            OnTimeout::Retry(times) => times,
            _ => 0,
        };
        let mut waiter = Waiter::new(ticket, job, retries_left, now);
        if matches!(waiter.job, Job::Flush(_)) {
            self.set_deadline(&mut waiter, now);
        }
        self.start_detectors(&waiter);
        waiter
    }

    fn waive_what_needs_nothing(
        &mut self,
        waiter: &mut Waiter,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) {
        waiter.waive(Verdict::Quarantined, |function| self.is_blocked(function));
        waiter.waive(Verdict::Skipped, |function| self.removed.contains(&function));
        if self.policy.precheck == Precheck::None {
            return;
        }
        for index in waiter.remaining() {
            let function = waiter.function_at(index);
            if self.is_gone(function, hw, now) {
                waiter.waive(Verdict::Skipped, |other| other == function);
            }
        }
    }

    fn is_gone(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) -> bool {
        match self.policy.precheck {
            Precheck::None => false,
            Precheck::Disconnected => hw.functions.is_disconnected(function),
            Precheck::Present => !self.check_presence(function, hw, now),
        }
    }

    pub(super) fn check_presence(
        &mut self,
        function: Bdf,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) -> bool {
        let present = hw.functions.is_present(function);
        self.counters.presence_checks += 1;
        self.tracer.emit(now, || Event::PresenceChecked { function, present });
        present
    }

    /// Every waiter looks once at what it polls, and acts on it.
    pub(super) fn poll(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        self.collect_completed(hw, now);
        if FaultStatus::from_bits(hw.read(offset::FSTS)).timeout_error() {
            self.handle_timeout_error(hw, now);
        }
        self.settle_deadlines(hw, now);
        self.run_detectors(now);
        self.enqueue_backlog(hw, now);
        // A submission may have been answered at once.
        self.collect_completed(hw, now);
        self.tidy_timers();
    }

    /// Ends the waits whose status words the unit has written since this was called last.
    fn collect_completed(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        let completed = hw.unit.completed_waits();
        if completed == std::mem::replace(&mut self.seen, completed) {
            return;
        }
        let words = self.status.words(hw.memory);
        let (mut at, mut left) = (0, self.polling);
        while left > 0
            && let Some(waiter) = self.waiters.get(at)
        {
            let Stage::Polling(token) = waiter.stage else {
                at += 1;
                continue;
            };
            left -= 1;
            if !self.status.is_done(token, &words) {
                at += 1;
                continue;
            }
            self.status.release(token);
            let Some(waiter) = self.waiters.remove(at) else { return };
            self.polling -= 1;
            self.ring.release(waiter.ticket, waiter.attempt);
            if hw.unit.is_wait_pending(waiter.wait) {
                self.counters.false_completions += 1;
                let ticket = waiter.ticket;
                self.tracer.emit(now, || Event::FalseCompletion { ticket });
            }
            match waiter.job {
                Job::Flush(_) => {
                    let verdict = waiter.waived_as;
                    self.conclude(waiter, verdict, now);
                }
                Job::Fence(function, _) => {
                    self.fence_done(function, hw, now);
                    (at, left) = (0, self.polling);
                }
            }
        }
    }

    /// Nobody waits for this attempt any more. If the unit has not dropped it, it is still there.
    pub(super) fn withdraw(&mut self, waiter: &mut Waiter) {
        let Stage::Polling(token) = waiter.stage else { return };
        self.polling -= 1;
        self.ring.release(waiter.ticket, waiter.attempt);
        if waiter.aborted {
            self.status.release(token);
        } else {
            self.status.abandon(token);
        }
        waiter.stage = Stage::Queued;
        waiter.aborted = false;
    }

    /// Puts everything on the ring that is not there and fits.
    pub(super) fn enqueue_backlog(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        if self.polling == self.waiters.len() {
            return;
        }
        self.ring.reclaim(hw.read(offset::IQH));
        if !self.ring.has_room(MIN_SLOTS) {
            return;
        }
        let tail = self.ring.tail_bytes();
        let mut waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters.iter_mut().filter(|waiter| waiter.stage == Stage::Queued) {
            if !self.enqueue(waiter, hw, now) {
                break;
            }
        }
        self.waiters = waiters;
        if self.ring.tail_bytes() != tail {
            hw.write(offset::IQT, self.ring.tail_bytes(), now);
        }
    }

    fn enqueue(&mut self, waiter: &mut Waiter, hw: &Hardware<'_>, now: Instant) -> bool {
        let mut descriptors = [0; MAX_SLOTS];
        let count = waiter.descriptors(self.max_mask, &mut descriptors);
        let slots = count as u32 + 1;
        if !self.ring.has_room(slots) {
            return false;
        }
        let wait_slot = self.ring.slot(slots - 1);
        let Some(token) = self.status.take(wait_slot, hw.memory) else {
            return false;
        };
        waiter.attempt += 1;
        if (waiter.attempted, waiter.detected) != (now, 0) {
            (waiter.attempted, waiter.detected) = (now, 0);
            self.start_detectors(waiter);
        }
        (waiter.stage, waiter.wait_slot) = (Stage::Polling(token), wait_slot);
        self.polling += 1;
        waiter.wait = self.waits;
        self.waits += 1;
        self.counters.submitted += 1;
        self.counters.resubmitted += u64::from(waiter.attempt > 1);
        let wait = WaitDescriptor::new()
            .with_status_write(true)
            .with_fence(self.fenced_waits)
            .with_status_data(token.data)
            .with_status_dword(self.status.address(token).0 >> 2);
        descriptors[count] = wait.into_bits();
        self.ring.push(waiter.ticket, waiter.attempt, &descriptors[..=count], hw.memory);
        let (ticket, attempt, function) = (waiter.ticket, waiter.attempt, waiter.function());
        self.tracer.emit(now, || match waiter.job {
            Job::Flush(_) => Event::Submitted { ticket, function, attempt },
            Job::Fence(..) => Event::FenceSubmitted { function, attempt },
        });
        true
    }

    /// The caller is told, and gone.
    pub(super) fn conclude(&mut self, waiter: Waiter, verdict: Verdict, now: Instant) {
        let (ticket, function) = (waiter.ticket, waiter.function());
        let Job::Flush(flush) = waiter.job else { return };
        let (attempts, aborts) = (waiter.attempt, waiter.aborts);
        self.verdicts.push_back(Conclusion { ticket, flush, verdict, attempts, aborts });
        let waited = now - waiter.since;
        self.tracer.emit(now, || Event::Verdict { ticket, function, verdict, waited });
    }
}
