//! When waiters want to be looked at: deadlines, lock-up detectors, functions that have had their time
//! after a reset.
//!
//! Each of them lies a fixed time after the moment at which it begins, so that each kind is a queue in the
//! order of time, however many wait. An entry whose waiter has gone, or has begun anew, is void: it is dropped
//! when it comes to the front, or when there are too many of its like.

use std::collections::VecDeque;

use super::Ticket;
use super::submitter::Submitter;
use super::waiter::{Job, Stage, Waiter};
use crate::event::{Event, LockupDetector};
use crate::time::Instant;

/// Entries beyond two for each waiter that are kept although they may be void.
const SLACK: usize = 64;

type Queue = VecDeque<(Instant, Ticket)>;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Timers {
    deadlines: Queue,
    /// In the order of [`LockupDetector::ALL`].
    detectors: [Queue; LockupDetector::ALL.len()],
    resets: Queue,
}

#[cfg(test)]
impl Timers {
    /// Entries, void ones too.
    pub(super) fn len(&self) -> usize {
        let queues = self.detectors.iter().chain([&self.deadlines, &self.resets]);
        queues.map(Queue::len).sum()
    }
}

impl Submitter {
    /// When the first deadline passes, or the first lock-up detector speaks. While a fence is under
    /// way deadlines do not count.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let Timers { deadlines, detectors, resets } = &self.timers;
        let deadlines = Some(deadlines).filter(|_| !self.is_fencing());
        let queues = detectors.iter().chain([resets]).chain(deadlines);
        queues.filter_map(|queue| Some(queue.front()?.0)).min()
    }

    /// The time of `waiter` begins now.
    pub(super) fn set_deadline(&mut self, waiter: &mut Waiter, now: Instant) {
        waiter.deadline = self.policy.deadline.expires(now);
        self.timers.deadlines.extend(waiter.deadline.map(|at| (at, waiter.ticket)));
    }

    /// The lock-up detectors begin to count for `waiter`, if it is a caller, and unless the loop pets
    /// them.
    pub(super) fn start_detectors(&mut self, waiter: &Waiter) {
        if matches!(waiter.job, Job::Flush(_)) && !self.policy.watchdog {
            let at = waiter.attempted + LockupDetector::ALL[0].threshold();
            self.timers.detectors[0].push_back((at, waiter.ticket));
        }
    }

    /// `waiter` waits for a function that has been reset.
    pub(super) fn start_reset(&mut self, waiter: &mut Waiter, until: Instant) {
        (waiter.stage, waiter.deadline) = (Stage::Resetting(until), None);
        self.timers.resets.push_back((until, waiter.ticket));
    }

    /// Takes the next deadline that has passed: where its waiter is.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<usize> {
        self.take(now, |timers| &mut timers.deadlines, has_deadline)
    }

    /// The same for a reset.
    pub(super) fn take_reset(&mut self, now: Instant) -> Option<usize> {
        self.take(now, |timers| &mut timers.resets, is_resetting)
    }

    /// Lets the lock-up detectors speak that have something to say.
    pub(super) fn run_detectors(&mut self, now: Instant) {
        for (index, detector) in LockupDetector::ALL.into_iter().enumerate() {
            let counts = |waiter: &Waiter, at| is_watched(waiter, index, at);
            while let Some(at) = self.take(now, |timers| &mut timers.detectors[index], counts) {
                let waiter = &mut self.waiters[at];
                waiter.detected += 1;
                let (ticket, since) = (waiter.ticket, waiter.attempted);
                if let Some(next) = LockupDetector::ALL.get(index + 1) {
                    let next = (since + next.threshold(), ticket);
                    self.timers.detectors[index + 1].push_back(next);
                }
                self.tracer.emit(now, || Event::HostLockup { ticket, detector });
            }
        }
    }

    /// Drops void entries from the front, so that what is there is what comes next.
    pub(super) fn tidy_timers(&mut self) {
        let Self { waiters, timers, .. } = self;
        tidy(&mut timers.deadlines, waiters, has_deadline);
        tidy(&mut timers.resets, waiters, is_resetting);
        for (index, queue) in timers.detectors.iter_mut().enumerate() {
            tidy(queue, waiters, |waiter, at| is_watched(waiter, index, at));
        }
    }

    fn take(
        &mut self,
        now: Instant,
        queue: impl Fn(&mut Timers) -> &mut Queue,
        is_valid: impl Fn(&Waiter, Instant) -> bool,
    ) -> Option<usize> {
        loop {
            let (at, ticket) = queue(&mut self.timers).pop_front_if(|(at, _)| *at <= now)?;
            let found = find(&self.waiters, ticket);
            if let Some(place) = found.filter(|place| is_valid(&self.waiters[*place], at)) {
                return Some(place);
            }
        }
    }
}

/// Tickets rise along the list of waiters.
fn find(waiters: &VecDeque<Waiter>, ticket: Ticket) -> Option<usize> {
    waiters.binary_search_by_key(&ticket.0, |waiter| waiter.ticket.0).ok()
}

fn tidy(
    queue: &mut Queue,
    waiters: &VecDeque<Waiter>,
    is_valid: impl Fn(&Waiter, Instant) -> bool,
) {
    let counts = |(at, ticket): &(Instant, Ticket)| {
        find(waiters, *ticket).is_some_and(|place| is_valid(&waiters[place], *at))
    };
    while queue.front().is_some_and(|front| !counts(front)) {
        queue.pop_front();
    }
    if queue.len() > 2 * waiters.len() + SLACK {
        queue.retain(counts);
    }
}

fn has_deadline(waiter: &Waiter, at: Instant) -> bool {
    waiter.deadline == Some(at)
}

fn is_resetting(waiter: &Waiter, at: Instant) -> bool {
    waiter.stage == Stage::Resetting(at)
}

/// Whether the detector with that index speaks of `waiter` next, at that time.
fn is_watched(waiter: &Waiter, index: usize, at: Instant) -> bool {
    waiter.detected == index && waiter.attempted + LockupDetector::ALL[index].threshold() == at
}
