//! A waiter: its job, and the state of the job.

use super::flush::{self, Flush, Limits};
use super::status::Token;
use super::timers::{DueTimes, Timer, Timers};
use super::{Ticket, Verdict};
use crate::ats::InvalidateRequest;
use crate::ids::{Bdf, DomainId};
use crate::time::Instant;

/// The job of a waiter.
#[derive(Debug)]
pub(super) enum Job {
    /// The flush of a caller.
    Flush(Flush),
    /// The fence of a function, which the unit may have cached under this domain.
    Fence(Bdf, DomainId),
}

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for room in the ring.
    Queued,
    /// It is in the ring, and the waiter polls its status word.
    Polling(Token),
    /// It waits until no invalidation of its function is under way.
    Draining,
    /// It waits for the fence of one of its functions.
    Fencing,
    /// It waits for functions that were reset.
    Resetting,
}

/// A caller that waits, or a fence.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) job: Job,
    pub(super) stage: Stage,
    /// The Device-TLBs of the flush that need no invalidation any more, a bit for each.
    waived: u16,
    /// The verdict if the rest of the flush completes.
    pub(super) waived_as: Verdict,
    /// Each descriptor of the flush is submitted with a wait of its own, one after the other.
    pub(super) is_split: bool,
    /// The invalidation of the IOTLB is complete, and the Device-TLBs of a split flush follow.
    iotlb_done: bool,
    /// The next submission has no invalidations, only a wait descriptor.
    pub(super) repeats_wait: bool,
    pub(super) since: Instant,
    /// When the current attempt began. Linux lets interrupts in between two attempts.
    pub(super) attempted: Instant,
    pub(super) due: DueTimes,
    /// How often the job was put in the ring.
    pub(super) attempt: u32,
    pub(super) retries_left: u32,
    /// The ring slot of its wait descriptor.
    pub(super) wait_slot: u32,
    /// The number of its wait descriptor among all that the queue has had.
    pub(super) wait: u64,
    /// How many of its attempts the unit's ITE has aborted.
    pub(super) aborts: u32,
    /// The unit has dropped its wait descriptor, and the driver has noticed.
    pub(super) is_aborted: bool,
    /// It may not be put in the ring yet: it does not spin, and its deadline does not count.
    pub(super) is_outside: bool,
}

impl Waiter {
    /// A waiter whose timers do not run yet.
    pub(super) fn new(ticket: Ticket, job: Job, retries_left: u32, now: Instant) -> Self {
        Self {
            ticket,
            job,
            stage: Stage::Queued,
            waived: 0,
            waived_as: Verdict::Completed,
            is_split: false,
            iotlb_done: false,
            repeats_wait: false,
            since: now,
            attempted: now,
            due: DueTimes::default(),
            attempt: 0,
            retries_left,
            wait_slot: 0,
            wait: 0,
            aborts: 0,
            is_aborted: false,
            is_outside: false,
        }
    }

    /// Starts `timer` at `from`.
    pub(super) fn start(&mut self, timer: Timer, timers: &mut Timers, from: Instant) {
        self.due[timer] = timers.start(timer, self.ticket, from);
    }

    /// An attempt begins at `now`: the lock-up detectors start again, unless the waiter has come just
    /// now and they have not reported it. No CPU spins for a fence.
    pub(super) fn begin_attempt(&mut self, timers: &mut Timers, now: Instant) {
        if self.is_caller() && (self.attempted != now || self.due[Timer::HardLockup].is_none()) {
            self.attempted = now;
            self.due[Timer::SoftLockup] = None;
            self.start(Timer::HardLockup, timers, now);
        }
    }

    /// Whether a caller waits.
    pub(super) fn is_caller(&self) -> bool {
        matches!(self.job, Job::Flush(_))
    }

    /// Whether its function is to be reset when it ends.
    pub(super) fn is_before_reset(&self) -> bool {
        matches!(&self.job, Job::Flush(flush) if flush.is_before_reset())
    }

    /// Whether this is the fence of `function`.
    pub(super) fn is_fence_of(&self, function: Bdf) -> bool {
        matches!(self.job, Job::Fence(of, _) if of == function)
    }

    pub(super) fn is_polling(&self) -> bool {
        matches!(self.stage, Stage::Polling(_))
    }

    /// Whether the unit may hold its descriptors, as far as the driver knows.
    pub(super) fn is_in_unit(&self) -> bool {
        self.is_polling() && !self.is_aborted
    }

    /// The Device-TLBs of its flush, waived ones included.
    fn device_tlbs(&self) -> &[InvalidateRequest] {
        match &self.job {
            Job::Flush(flush) => flush.device_tlbs(),
            Job::Fence(..) => &[],
        }
    }

    /// The indices of the Device-TLBs that still have to be invalidated. The iterator does not borrow
    /// the waiter, which may be waived meanwhile.
    pub(super) fn remaining(&self) -> impl Iterator<Item = usize> + use<> {
        let waived = self.waived;
        (0..self.device_tlbs().len()).filter(move |index| waived & 1 << index == 0)
    }

    /// The function at one of these indices.
    pub(super) fn function_at(&self, index: usize) -> Bdf {
        self.device_tlbs()[index].destination
    }

    /// The functions whose Device-TLBs still have to be invalidated.
    pub(super) fn functions(&self) -> impl Iterator<Item = Bdf> {
        self.remaining().map(|index| self.function_at(index))
    }

    /// Waives the Device-TLBs of the functions for which `is_meant` holds.
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
        !self.needs_iotlb() && self.functions().next().is_none() && self.is_caller()
    }

    /// Whether its flush has an invalidation of the unit itself, as of the IOTLB, that is not known to be
    /// complete.
    pub(super) fn needs_iotlb(&self) -> bool {
        matches!(&self.job, Job::Flush(flush) if flush.has_unit_part() && !self.iotlb_done)
    }

    /// The Device-TLBs in its next submission, or in that which is in the ring, a bit for each.
    fn submitted(&self) -> u16 {
        let remaining = self.remaining().fold(0, |bits, index| bits | 1 << index);
        match (self.is_split, self.needs_iotlb()) {
            (false, _) => remaining,
            (true, true) => 0,
            // The lowest bit.
            (true, false) => remaining & remaining.wrapping_neg(),
        }
    }

    /// Whether its submission has an invalidation of a Device-TLB.
    pub(super) fn submits_device_tlb(&self) -> bool {
        self.submitted() != 0
    }

    /// The functions whose Device-TLBs its submission invalidates.
    pub(super) fn submitted_functions(&self) -> impl Iterator<Item = Bdf> {
        let submitted = self.submitted();
        self.remaining()
            .filter(move |index| submitted & 1 << index != 0)
            .map(|index| self.function_at(index))
    }

    /// The wait of a submission of a split flush has ended. Returns whether another one follows.
    pub(super) fn finish_part(&mut self) -> bool {
        self.waived |= self.submitted();
        self.iotlb_done = true;
        self.repeats_wait = false;
        self.functions().next().is_some()
    }

    /// The function that stands for the job in events.
    pub(super) fn function(&self) -> Bdf {
        match &self.job {
            Job::Flush(flush) => flush.function(),
            Job::Fence(function, _) => *function,
        }
    }

    /// Writes its descriptors except the wait to `out`, and returns their number.
    pub(super) fn descriptors(&self, limits: Limits, out: &mut [u128]) -> usize {
        let mut count = 0;
        let mut put = |descriptor| {
            out[count] = descriptor;
            count += 1;
        };
        match &self.job {
            Job::Flush(_) if self.repeats_wait => {}
            Job::Flush(flush) => {
                let (with_iotlb, left_out) = match self.is_split {
                    true => (self.needs_iotlb(), !self.submitted()),
                    false => (true, self.waived),
                };
                flush.descriptors(with_iotlb, left_out, limits).for_each(&mut put);
            }
            Job::Fence(function, domain) => {
                flush::fence(*function, *domain).into_iter().for_each(&mut put);
            }
        }
        count
    }
}
