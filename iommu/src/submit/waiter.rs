//! One CPU that waits: for what, and how far it is.

use super::flush::{self, Flush};
use super::status::Token;
use super::{Ticket, Verdict};
use crate::ats::InvalidateRequest;
use crate::ids::{Bdf, DomainId};
use crate::time::Instant;

/// What somebody waits for.
#[derive(Debug)]
pub(super) enum Job {
    /// A caller's flush.
    Flush(Flush),
    /// That the unit blocks a function, of this domain.
    Fence(Bdf, DomainId),
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not on the ring: it is full.
    Queued,
    /// On the ring.
    Polling(Token),
    /// Until a fence is done.
    Fencing,
    /// Until a function has had its time after a reset.
    Resetting(Instant),
}

/// One CPU that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) job: Job,
    pub(super) stage: Stage,
    /// The Device-TLBs of the flush that need no invalidation, a bit for each, and what the caller is
    /// told because of them.
    pub(super) waived: u16,
    pub(super) waived_as: Verdict,
    pub(super) since: Instant,
    /// When this attempt was made: Linux lets interrupts in between two.
    pub(super) attempted: Instant,
    /// When it has lasted long enough.
    pub(super) deadline: Option<Instant>,
    /// How many of the lock-up detectors have spoken during this attempt.
    pub(super) detected: usize,
    /// From 1.
    pub(super) attempt: u32,
    pub(super) retries_left: u32,
    /// Where in the ring its wait descriptor is.
    pub(super) wait_slot: u32,
    /// Its wait descriptor, counted over all of this queue's.
    pub(super) wait: u64,
    /// Submissions of it that the unit's ITE has aborted.
    pub(super) aborts: u32,
    /// The unit has dropped its wait descriptor, and it knows.
    pub(super) aborted: bool,
}

impl Waiter {
    /// Somebody who has just come, and has no deadline yet.
    pub(super) fn new(ticket: Ticket, job: Job, retries_left: u32, now: Instant) -> Self {
        Self {
            ticket,
            job,
            stage: Stage::Queued,
            waived: 0,
            waived_as: Verdict::Completed,
            since: now,
            attempted: now,
            detected: 0,
            deadline: None,
            attempt: 0,
            retries_left,
            wait_slot: 0,
            wait: 0,
            aborts: 0,
            aborted: false,
        }
    }

    /// The Device-TLBs of its flush, waived ones too.
    fn device_tlbs(&self) -> &[InvalidateRequest] {
        match &self.job {
            Job::Flush(flush) => flush.device_tlbs(),
            Job::Fence(..) => &[],
        }
    }

    /// The places in its flush of the Device-TLBs that still have to be invalidated. The iterator
    /// does not borrow the waiter, which may be waived meanwhile.
    pub(super) fn remaining(&self) -> impl Iterator<Item = usize> + use<> {
        let waived = self.waived;
        (0..self.device_tlbs().len()).filter(move |index| waived & 1 << index == 0)
    }

    /// The function at one of those places.
    pub(super) fn function_at(&self, index: usize) -> Bdf {
        self.device_tlbs()[index].destination
    }

    /// The functions whose Device-TLBs still have to be invalidated.
    pub(super) fn functions(&self) -> impl Iterator<Item = Bdf> {
        self.remaining().map(|index| self.function_at(index))
    }

    /// Nothing has to be done for these functions any more.
    pub(super) fn waive(&mut self, verdict: Verdict, is_meant: impl Fn(Bdf) -> bool) {
        for index in self.remaining() {
            if is_meant(self.function_at(index)) {
                self.waived |= 1 << index;
                self.waived_as = verdict;
            }
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_satisfied(&self) -> bool {
        match &self.job {
            Job::Flush(flush) => flush.iotlb().is_none() && self.functions().next().is_none(),
            Job::Fence(..) => false,
        }
    }

    /// The function by which events know it.
    pub(super) fn function(&self) -> Bdf {
        match &self.job {
            Job::Flush(flush) => flush.function(),
            Job::Fence(function, _) => *function,
        }
    }

    /// Its descriptors, but for the wait, and how many.
    pub(super) fn descriptors(&self, max_mask: Option<u8>, out: &mut [u128]) -> usize {
        let mut count = 0;
        let mut put = |descriptor| {
            out[count] = descriptor;
            count += 1;
        };
        match &self.job {
            Job::Flush(flush) => flush.descriptors(self.waived, max_mask).for_each(&mut put),
            Job::Fence(function, domain) => {
                flush::fence(*function, *domain).into_iter().for_each(&mut put);
            }
        }
        count
    }
}
