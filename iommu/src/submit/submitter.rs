//! The loop itself: submit, poll, and what to do when nothing comes. It follows Linux's
//! `qi_submit_sync` and `qi_check_fault`, with the policy where Linux has none.

use std::collections::VecDeque;

use super::policy::{OnTimeout, Policy, Precheck};
use super::ring::Ring;
use super::status::{StatusWords, Token};
use super::{Conclusion, Counters, Presence, Ticket, Verdict};
use crate::Memory;
use crate::ats::InvalidateRequest;
use crate::event::{Event, LockupDetector, Tracer};
use crate::ids::{Bdf, Gpa};
use crate::spec::descriptor::{DeviceTlbDescriptor, PasidDeviceTlbDescriptor, WaitDescriptor};
use crate::spec::fault::FaultStatus;
use crate::spec::offset;
use crate::spec::queue::QueueErrorRecord;
use crate::time::Instant;
use crate::unit::Unit;

/// What the loop works with: the physical unit, the memory that both share, and the way to ask
/// functions whether they are there.
pub(super) struct Hardware<'a> {
    pub(super) unit: &'a mut Unit,
    pub(super) memory: &'a Memory,
    pub(super) presence: &'a mut dyn Presence,
}

impl Hardware<'_> {
    fn read(&self, at: u16) -> u32 {
        let mut data = [0; 4];
        self.unit.read(u64::from(at), &mut data);
        u32::from_le_bytes(data)
    }

    pub(super) fn write(&mut self, at: u16, value: u32, now: Instant) {
        self.unit.write(u64::from(at), &value.to_le_bytes(), self.memory, now);
    }

    fn error_record(&self) -> QueueErrorRecord {
        let mut data = [0; 8];
        self.unit.read(u64::from(offset::IQERCD), &mut data);
        QueueErrorRecord::from_bits(u64::from_le_bytes(data))
    }
}

/// One caller that waits.
#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    request: InvalidateRequest,
    since: Instant,
    /// When this attempt was made: Linux lets interrupts in between two.
    attempted: Instant,
    /// When it has lasted long enough.
    deadline: Option<Instant>,
    /// How many of the lock-up detectors have spoken during this attempt.
    detected: usize,
    /// From 1.
    attempt: u32,
    retries_left: u32,
    /// `None` while the ring is full.
    token: Option<Token>,
    /// Its wait descriptor, counted over all of this queue's.
    wait: u64,
    /// Submissions of it that the unit's ITE has aborted.
    aborts: u32,
    /// The unit has dropped its wait descriptor.
    aborted: bool,
}

/// Descriptors of one submission: the invalidation and its wait.
const SLOTS: u32 = 2;

/// All callers that wait, and the ring that they share.
#[derive(Debug)]
pub(super) struct Submitter {
    policy: Policy,
    tracer: Tracer,
    ring: Ring,
    status: StatusWords,
    /// Oldest first.
    waiters: Vec<Waiter>,
    verdicts: VecDeque<Conclusion>,
    next_ticket: u64,
    /// Wait descriptors that have been put on the ring.
    waits: u64,
    counters: Counters,
}

impl Submitter {
    pub(super) fn new(policy: Policy, ring: Ring, status: Gpa, tracer: Tracer) -> Self {
        let status = StatusWords::new(policy.completion, status);
        Self {
            policy,
            tracer,
            ring,
            status,
            waiters: Vec::new(),
            verdicts: VecDeque::new(),
            next_ticket: 0,
            waits: 0,
            counters: Counters::default(),
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

    /// When the first deadline passes, or the first lock-up detector speaks.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self.waiters.iter().filter_map(|waiter| waiter.deadline);
        let detectors = self.waiters.iter().filter_map(|waiter| Some(self.detector(waiter)?.1));
        deadlines.chain(detectors).min()
    }

    /// The lock-up detector that speaks next of `waiter`, and when; none if the loop pets them.
    fn detector(&self, waiter: &Waiter) -> Option<(LockupDetector, Instant)> {
        let detector = *LockupDetector::ALL.get(waiter.detected)?;
        (!self.policy.watchdog).then(|| (detector, waiter.attempted + detector.threshold()))
    }

    fn run_detectors(&mut self, now: Instant) {
        for index in 0..self.waiters.len() {
            while let Some((detector, _)) =
                self.detector(&self.waiters[index]).filter(|(_, at)| *at <= now)
            {
                self.waiters[index].detected += 1;
                let ticket = self.waiters[index].ticket;
                self.tracer.emit(now, || Event::HostLockup { ticket, detector });
            }
        }
    }

    /// A caller asks for an invalidation and begins to wait.
    pub(super) fn submit(
        &mut self,
        request: InvalidateRequest,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) -> Ticket {
        let retries_left = match self.policy.on_timeout {
            OnTimeout::Report => 0,
            OnTimeout::Retry(times) => times,
        };
        let waiter = Waiter {
            ticket: Ticket(self.next_ticket),
            request,
            since: now,
            attempted: now,
            detected: 0,
            deadline: self.policy.deadline.expires(now),
            attempt: 0,
            retries_left,
            token: None,
            wait: 0,
            aborts: 0,
            aborted: false,
        };
        let ticket = waiter.ticket;
        self.next_ticket += 1;
        if self.is_gone(request.destination, hw, now) {
            self.conclude(&waiter, Verdict::Skipped, now);
            return ticket;
        }
        self.waiters.push(waiter);
        self.enqueue_backlog(hw, now);
        let waits_for_room = |waiter: &Waiter| waiter.ticket == ticket && waiter.token.is_none();
        self.counters.queue_full += u64::from(self.waiters.last().is_some_and(waits_for_room));
        ticket
    }

    fn is_gone(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) -> bool {
        match self.policy.precheck {
            Precheck::None => false,
            Precheck::Disconnected => hw.presence.is_disconnected(function),
            Precheck::Present => !self.check_presence(function, hw, now),
        }
    }

    fn check_presence(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) -> bool {
        let present = hw.presence.is_present(function);
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
        self.settle_deadlines(now);
        self.run_detectors(now);
        self.enqueue_backlog(hw, now);
        // A submission may have been answered at once.
        self.collect_completed(hw, now);
    }

    fn collect_completed(&mut self, hw: &Hardware<'_>, now: Instant) {
        let mut waiters = std::mem::take(&mut self.waiters);
        waiters.retain(|waiter| {
            let token = waiter.token.filter(|token| self.status.is_done(*token, hw.memory));
            if let Some(token) = token {
                self.status.release(token);
                if hw.unit.is_wait_pending(waiter.wait) {
                    self.counters.false_completions += 1;
                    let ticket = waiter.ticket;
                    self.tracer.emit(now, || Event::FalseCompletion { ticket });
                }
                self.conclude(waiter, Verdict::Completed, now);
            }
            token.is_none()
        });
        self.waiters = waiters;
    }

    /// ITE, as Linux takes it: clear it, mark what the unit has fetched as aborted, and if the
    /// function that it names is gone, the waiter that saw it gives up. All others submit again.
    fn handle_timeout_error(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        if self.waiters.is_empty() {
            // Nobody polls, nobody sees it: it stays until the next one who does.
            return;
        }
        let head = hw.read(offset::IQH);
        let source = Bdf::from_bits(hw.error_record().timeout_source());
        let mut count = 0;
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.token.is_some()) {
            if self.ring.is_fetched(waiter.ticket, waiter.attempt, head) {
                waiter.aborted = true;
                waiter.aborts += 1;
                count += 1;
            }
        }
        // The unit has dropped every wait that it had fetched, abandoned ones among them.
        self.status.forget_leaked();
        self.counters.aborted += u64::from(count);
        self.tracer.emit(now, || Event::HostWaitsAborted { count });
        let cleared = FaultStatus::new().with_timeout_error(true);
        hw.write(offset::FSTS, cleared.into_bits(), now);
        if source != Bdf::default() && !self.check_presence(source, hw, now) {
            // The one that sees it first is the one that has polled longest.
            let waiter = self.waiters.remove(0);
            self.withdraw(&waiter);
            self.conclude(&waiter, Verdict::UnitTimedOut, now);
        }
        let mut waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters.iter_mut().filter(|waiter| waiter.aborted) {
            self.withdraw(waiter);
            waiter.token = None;
            waiter.aborted = false;
        }
        self.waiters = waiters;
    }

    fn settle_deadlines(&mut self, now: Instant) {
        let mut waiters = std::mem::take(&mut self.waiters);
        waiters.retain_mut(|waiter| {
            if waiter.deadline.is_none_or(|deadline| deadline > now) {
                return true;
            }
            self.withdraw(waiter);
            waiter.token = None;
            if waiter.retries_left > 0 {
                waiter.retries_left -= 1;
                waiter.deadline = self.policy.deadline.expires(now);
                return true;
            }
            self.conclude(waiter, Verdict::DeadlinePassed, now);
            false
        });
        self.waiters = waiters;
    }

    /// Nobody waits for this attempt any more. If the unit has not dropped it, it is still there.
    fn withdraw(&mut self, waiter: &Waiter) {
        let Some(token) = waiter.token else { return };
        self.ring.release(waiter.ticket, waiter.attempt);
        if waiter.aborted {
            self.status.release(token);
        } else {
            self.status.abandon(token);
        }
    }

    /// Puts everything on the ring that is not there and fits.
    fn enqueue_backlog(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        if self.waiters.iter().all(|waiter| waiter.token.is_some()) {
            return;
        }
        self.ring.reclaim(hw.read(offset::IQH));
        let mut waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters.iter_mut().filter(|waiter| waiter.token.is_none()) {
            if !self.enqueue(waiter, hw, now) {
                break;
            }
        }
        self.waiters = waiters;
        hw.write(offset::IQT, self.ring.tail_bytes(), now);
    }

    fn enqueue(&mut self, waiter: &mut Waiter, hw: &Hardware<'_>, now: Instant) -> bool {
        if !self.ring.has_room(SLOTS) {
            return false;
        }
        let Some(token) = self.status.take(self.ring.slot(SLOTS - 1), hw.memory) else {
            return false;
        };
        waiter.attempt += 1;
        (waiter.attempted, waiter.detected) = (now, 0);
        waiter.token = Some(token);
        waiter.wait = self.waits;
        self.waits += 1;
        self.counters.submitted += 1;
        self.counters.resubmitted += u64::from(waiter.attempt > 1);
        let wait = WaitDescriptor::new()
            .with_status_write(true)
            .with_status_data(token.data)
            .with_status_dword(self.status.address(token).0 >> 2);
        let descriptors = [device_tlb_descriptor(&waiter.request), wait.into_bits()];
        self.ring.push(waiter.ticket, waiter.attempt, &descriptors, hw.memory);
        let (ticket, attempt) = (waiter.ticket, waiter.attempt);
        let function = waiter.request.destination;
        self.tracer.emit(now, || Event::Submitted { ticket, function, attempt });
        true
    }

    fn conclude(&mut self, waiter: &Waiter, verdict: Verdict, now: Instant) {
        self.ring.release(waiter.ticket, waiter.attempt);
        self.verdicts.push_back(Conclusion {
            ticket: waiter.ticket,
            request: waiter.request,
            verdict,
            attempts: waiter.attempt,
            aborts: waiter.aborts,
        });
        let (ticket, function) = (waiter.ticket, waiter.request.destination);
        let waited = now - waiter.since;
        self.tracer.emit(now, || Event::Verdict { ticket, function, verdict, waited });
    }
}

/// The descriptor that makes the unit send `request`.
fn device_tlb_descriptor(request: &InvalidateRequest) -> u128 {
    let source = request.destination.into_bits();
    let (address, size) = request.range.encode();
    if request.pasid.is_none() && !request.global {
        return DeviceTlbDescriptor::new()
            .with_source_id(source)
            .with_size(size)
            .with_page(address >> 12)
            .into_bits();
    }
    PasidDeviceTlbDescriptor::new()
        .with_source_id(source)
        .with_pasid(request.pasid.map_or(0, |pasid| pasid.get()))
        .with_global(request.global)
        .with_size(size)
        .with_page(address >> 12)
        .into_bits()
}
