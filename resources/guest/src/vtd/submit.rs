//! Submit and wait, as Linux's driver does it: interrupts off, a wait descriptor behind the batch,
//! and a loop that polls its status word and reads the fault status. The loop ends in one of four
//! ways:
//!
//! ```text
//!   status word is DONE            completed
//!   own wait was marked ABORT      submitted again, from the start
//!   ITE, its device is gone        timed out
//!   IQE at the first descriptor    rejected
//! ```
//!
//! Without an answer and without ITE, Linux polls for ever. This program has to end, so it gives up
//! after a time: the flush is *stalled*. Its slots stay in use, since the unit may still write to
//! them.

use crate::machine::cpu::InterruptsOff;
use crate::machine::sync::Guard;
use crate::machine::time::{Deadline, Ticks};
use crate::pci::{Bdf, config};
use crate::vtd::descriptor::Descriptor;
use crate::vtd::queue::{ABORT, Batch, DONE, Queue, SLOTS, Slots};
use crate::vtd::registers as reg;

/// The outcome of a flush. The numbers are those of the bench port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum Outcome {
    /// The unit has completed all descriptors.
    #[default]
    Completed = 0,
    /// ITE came, and the function of its source id is gone.
    TimedOut = 1,
    /// No answer and no ITE came until this program gave up.
    Stalled = 2,
    /// The unit refused the first descriptor.
    Rejected = 3,
}

impl Outcome {
    /// The outcome with that number; an unknown number is `Rejected`.
    pub fn from_code(code: u32) -> Self {
        match code {
            0 => Self::Completed,
            1 => Self::TimedOut,
            2 => Self::Stalled,
            _ => Self::Rejected,
        }
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::TimedOut => "timed_out",
            Self::Stalled => "stalled",
            Self::Rejected => "rejected",
        }
    }
}

/// The outcome of a flush, and its measurements.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flush {
    /// Its outcome.
    pub outcome: Outcome,
    /// Its time, with interrupts off.
    pub time: Ticks,
    /// The time of its first submission, whatever the outcome.
    pub first_attempt: Ticks,
    /// The time from the start of the flush until its last submission was in the ring.
    pub filled: Ticks,
    /// The time from the start of the flush until the doorbell for it was written.
    pub rung: Ticks,
    /// How often the batch was submitted again.
    pub resubmissions: u32,
    /// Time-outs (ITE) that this flush handled.
    pub timeouts: u32,
    /// Source id of the first of these time-outs.
    pub first_source: u16,
    /// Source id of the last of these time-outs.
    pub last_source: u16,
    /// Wait descriptors that this flush marked as aborted, its own included.
    pub waits_aborted: u32,
    /// Reason of the last queue error.
    pub queue_error: u8,
}

impl Flush {
    /// Whether the first submission completed.
    pub fn is_healthy(&self) -> bool {
        self.outcome == Outcome::Completed && self.resubmissions == 0
    }
}

/// The flush that ends as timed out after ITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutPolicy {
    /// The first flush that reads ITE, whatever its device, as in Linux. If the flush for the dead
    /// device is another one, it submits again, and waits for the time-out once more.
    Finder,
    /// The flushes for the device that is gone. All others submit again.
    Owner,
    /// Each flush that is aborted, whether its device is gone or not. None submits again.
    First,
}

/// The end of one submission.
enum End {
    Done(Outcome),
    Aborted,
}

impl Queue {
    /// Submits `descriptors` and a wait, and comes back when they are done, or after `give_up`.
    pub fn flush(&self, descriptors: &[Descriptor], give_up: Ticks) -> Flush {
        let _interrupts = InterruptsOff::enter();
        let deadline = Deadline::after(give_up);
        let mut flush = Flush::default();
        flush.outcome = loop {
            let end = self.submit(descriptors, deadline, &mut flush);
            if flush.resubmissions == 0 {
                flush.first_attempt = deadline.elapsed();
            }
            match end {
                End::Done(outcome) => break outcome,
                End::Aborted if self.is_owner_of_dead(descriptors) => break Outcome::TimedOut,
                End::Aborted if self.timeout_policy == TimeoutPolicy::First => {
                    break Outcome::TimedOut;
                }
                End::Aborted if deadline.passed() => break Outcome::Stalled,
                End::Aborted => flush.resubmissions += 1,
            }
        };
        flush.time = deadline.elapsed();
        flush
    }

    fn submit(&self, descriptors: &[Descriptor], deadline: Deadline, flush: &mut Flush) -> End {
        let mut slots = self.slots.lock();
        // One slot for the wait, and one always empty: a full ring would look like an empty one.
        while slots.free < descriptors.len() + 2 {
            if deadline.passed() {
                return End::Done(Outcome::Stalled);
            }
            slots = slots.yield_turn();
        }
        let own = self.fill(&mut slots, descriptors);
        flush.filled = deadline.elapsed();
        self.ring_doorbell(&slots);
        flush.rung = deadline.elapsed();
        let (mut slots, end) = self.wait(slots, own, deadline, flush);
        if !matches!(end, End::Done(Outcome::Stalled)) {
            self.release(&mut slots, own);
        }
        end
    }

    fn wait<'a>(
        &'a self,
        mut slots: Guard<'a, Slots>,
        own: Batch<'_>,
        deadline: Deadline,
        flush: &mut Flush,
    ) -> (Guard<'a, Slots>, End) {
        loop {
            if self.state(own.wait) == DONE {
                return (slots, End::Done(Outcome::Completed));
            }
            if let Some(end) = self.check_faults(own, flush) {
                return (slots, end);
            }
            if deadline.passed() {
                return (slots, End::Done(Outcome::Stalled));
            }
            slots = slots.yield_turn();
        }
    }

    /// Checks for errors by which the wait may never be done. Called under the lock.
    fn check_faults(&self, own: Batch<'_>, flush: &mut Flush) -> Option<End> {
        if self.state(own.wait) == ABORT {
            return Some(End::Aborted);
        }
        let registers = self.unit.registers();
        let status = registers.read32(reg::FSTS);
        if status & reg::QUEUE_ERROR != 0 && self.head() == own.first {
            flush.queue_error = reg::queue_error_reason(registers.read64(reg::IQERCD));
            // The unit continues with the descriptor that is in the slot now.
            self.replace(own.first, self.wait_for(own.wait));
            registers.write32(reg::FSTS, reg::QUEUE_ERROR);
            return Some(End::Done(Outcome::Rejected));
        }
        if status & reg::TIME_OUT_ERROR != 0 {
            return self.handle_time_out(own, flush);
        }
        if status & reg::COMPLETION_ERROR != 0 {
            registers.write32(reg::FSTS, reg::COMPLETION_ERROR);
        }
        None
    }

    /// Handles ITE for all submissions: the unit never completes the descriptors that it had
    /// fetched.
    fn handle_time_out(&self, own: Batch<'_>, flush: &mut Flush) -> Option<End> {
        let registers = self.unit.registers();
        let (head, tail) = (self.head(), self.tail());
        let source = reg::time_out_source(registers.read64(reg::IQERCD));
        // The unit fetches again after this write.
        registers.write32(reg::FSTS, reg::TIME_OUT_ERROR);
        if flush.timeouts == 0 {
            flush.first_source = source;
        }
        flush.timeouts += 1;
        flush.last_source = source;
        flush.waits_aborted += self.abort_fetched(head, tail);
        // A unit that does not report the source has 0.
        if source != 0 && self.ends_as_timed_out(own, source) && !config::is_present(Bdf(source)) {
            return Some(End::Done(Outcome::TimedOut));
        }
        (self.state(own.wait) == ABORT).then_some(End::Aborted)
    }

    fn ends_as_timed_out(&self, own: Batch<'_>, source: u16) -> bool {
        let mut devices = own.descriptors.iter().filter_map(Descriptor::device);
        self.timeout_policy == TimeoutPolicy::Finder || devices.any(|device| device.0 == source)
    }

    /// Whether another submission would time out as well, after another flush has handled the ITE.
    fn is_owner_of_dead(&self, descriptors: &[Descriptor]) -> bool {
        let mut devices = descriptors.iter().filter_map(Descriptor::device);
        self.timeout_policy == TimeoutPolicy::Owner
            && devices.any(|device| !config::is_present(device))
    }

    /// Marks the slots in use before the head, back to the tail, and counts the waits among them.
    fn abort_fetched(&self, head: usize, tail: usize) -> u32 {
        let mut waits = 0;
        let mut slot = head;
        loop {
            slot = (slot + SLOTS - 1) % SLOTS;
            if self.abort(slot) && self.is_wait(slot) {
                waits += 1;
            }
            if slot == tail {
                return waits;
            }
        }
    }
}
