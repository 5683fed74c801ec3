//! Submit and wait, as Linux's driver does it: interrupts off, a wait descriptor behind the batch, and a
//! loop that polls its status word and looks at the fault status. Such a loop ends in one of four ways:
//!
//! ```text
//!   status word is DONE            completed
//!   own wait was marked ABORT      submitted again, from the start
//!   ITE, its device is gone        timed out
//!   IQE at the first descriptor    rejected
//! ```
//!
//! Linux has no fifth way: without an answer and without ITE it polls for ever. This program must come
//! to an end, so it gives up after a time, and calls that *stalled*. The slots stay taken then: the unit
//! may still write to them.

use crate::machine::cpu::InterruptsOff;
use crate::machine::sync::Guard;
use crate::machine::time::{Deadline, Ticks};
use crate::pci::{Bdf, config};
use crate::vtd::descriptor::Descriptor;
use crate::vtd::queue::{ABORT, Batch, DONE, Queue, SLOTS, Slots};
use crate::vtd::registers as reg;

/// How a flush ended. The numbers are those of the bench port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum Outcome {
    /// The unit says that everything is done.
    #[default]
    Completed = 0,
    /// A time-out whose device is gone.
    TimedOut = 1,
    /// Nothing happened until this program gave up.
    Stalled = 2,
    /// The unit refused the first descriptor.
    Rejected = 3,
}

impl Outcome {
    /// The outcome with that number; a number that none has is the last one's.
    pub fn from_code(code: u32) -> Self {
        match code {
            0 => Self::Completed,
            1 => Self::TimedOut,
            2 => Self::Stalled,
            _ => Self::Rejected,
        }
    }

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::TimedOut => "timed_out",
            Self::Stalled => "stalled",
            Self::Rejected => "rejected",
        }
    }
}

/// What a flush went through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flush {
    /// How it ended.
    pub outcome: Outcome,
    /// How long the processor was in it, interrupts off.
    pub time: Ticks,
    /// How long its first submission took, however that ended.
    pub first_attempt: Ticks,
    /// When its last submission was in the ring, counted from the start of the flush.
    pub filled: Ticks,
    /// When the doorbell had been rung for it.
    pub rung: Ticks,
    /// How often the batch had to be submitted again.
    pub resubmissions: u32,
    /// Time-outs (ITE) that this flush handled.
    pub timeouts: u32,
    /// Source id of the first of them.
    pub first_source: u16,
    /// Source id of the last of them.
    pub last_source: u16,
    /// Wait descriptors that it marked aborted, its own among them.
    pub waits_aborted: u32,
    /// Reason of the last queue error.
    pub queue_error: u8,
}

impl Flush {
    /// Done, at the first attempt.
    pub fn is_healthy(&self) -> bool {
        self.outcome == Outcome::Completed && self.resubmissions == 0
    }
}

/// Which flush ends as timed out when ITE names a device that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The one that sees ITE first, whatever device it is for, as in Linux. The flush for the dead device,
    /// if it is another, submits again, and waits for the same time-out once more.
    Finder,
    /// Those for the device that is gone. All others submit again.
    Owner,
}

/// How one submission ended.
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

    /// Looks for reasons why the wait might never be done. Under the lock.
    fn check_faults(&self, own: Batch<'_>, flush: &mut Flush) -> Option<End> {
        if self.state(own.wait) == ABORT {
            return Some(End::Aborted);
        }
        let registers = self.unit.registers();
        let status = registers.read32(reg::FSTS);
        if status & reg::QUEUE_ERROR != 0 && self.head() == own.first {
            flush.queue_error = reg::queue_error_reason(registers.read64(reg::IQERCD));
            // The unit goes on with what stands there now.
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

    /// Whoever sees ITE first handles it for all: what the unit had fetched will never be done.
    fn handle_time_out(&self, own: Batch<'_>, flush: &mut Flush) -> Option<End> {
        let registers = self.unit.registers();
        let (head, tail) = (self.head(), self.tail());
        let source = reg::time_out_source(registers.read64(reg::IQERCD));
        // From here on the unit fetches again.
        registers.write32(reg::FSTS, reg::TIME_OUT_ERROR);
        if flush.timeouts == 0 {
            flush.first_source = source;
        }
        flush.timeouts += 1;
        flush.last_source = source;
        flush.waits_aborted += self.abort_fetched(head, tail);
        // 0 says that the unit does not report the source.
        if source != 0 && self.is_blamed(own, source) && !config::is_present(Bdf(source)) {
            return Some(End::Done(Outcome::TimedOut));
        }
        (self.state(own.wait) == ABORT).then_some(End::Aborted)
    }

    fn is_blamed(&self, own: Batch<'_>, source: u16) -> bool {
        let mut devices = own.descriptors.iter().filter_map(Descriptor::device);
        self.blame == Blame::Finder || devices.any(|device| device.0 == source)
    }

    /// Whether there is no use in submitting again: somebody else has handled the time-out.
    fn is_owner_of_dead(&self, descriptors: &[Descriptor]) -> bool {
        let mut devices = descriptors.iter().filter_map(Descriptor::device);
        self.blame == Blame::Owner && devices.any(|device| !config::is_present(device))
    }

    /// Marks the slots in use behind the head, back to the tail, and counts the waits among them.
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
