//! CPUs: the state of each, and the lock that those of one device share.

use std::collections::VecDeque;
use std::time::Duration;

use iommu::ats::PageRange;
use iommu::submit::Ticket;
use iommu::time::Instant;

use super::oracle::MappingId;

/// The state of a CPU, which lasts until the CPU's task comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It begins an I/O next.
    Idle,
    /// The device has the page. The CPU goes on when it is done, or when the driver gives up.
    Io(MappingId),
    /// It has initiated a Function Level Reset, and gives the device its time.
    Resetting,
    /// The ring holds as many invalidations of the device as the policy allows. Interrupts are on.
    Outside,
    /// It spins on the domain's lock, or has just got it.
    Locking,
    /// It holds the lock, has made the policy's presence check, and writes descriptors.
    Submitting {
        /// The result of the presence check, `None` if the policy makes none.
        present: Option<bool>,
    },
    /// It polls.
    Waiting,
    /// It has seen how its wait ended.
    Returning,
    /// It has nothing to do: its device has no driver, or it is a helper without work.
    Retired,
}

/// The purpose of an invalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Pages are given back, and work goes on.
    Reuse,
    /// A helper flushes what was put off.
    Deferred,
    /// A helper lets the device go.
    Unbind,
    /// The device is blocked, and is reset then.
    Prepare,
}

/// An invalidation that a CPU wants, and what is given back after it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) purpose: Purpose,
    /// `None` for everything in the domain.
    pub(super) range: Option<PageRange>,
    pub(super) pages: Vec<MappingId>,
    /// When it was wanted.
    pub(super) since: Instant,
    /// Since when interrupts have been off: since it was wanted, unless the CPU had to wait outside.
    pub(super) off: Instant,
    /// When the CPU got the lock.
    pub(super) locked: Option<Instant>,
    /// The caller was told that it is complete.
    pub(super) told_success: bool,
    /// The ATC still held something of the range when the caller was told.
    pub(super) held_by_atc: bool,
}

/// A CPU that does I/O, or a helper of a device: the context in which deferred flushes run, and the
/// hot-plug driver's thread.
#[derive(Debug)]
pub(super) struct Cpu {
    pub(super) device: u16,
    pub(super) state: State,
    pub(super) is_helper: bool,
    /// The generation of its current task. Tasks of older generations have no effect.
    pub(super) generation: u32,
    /// I/Os that it has begun.
    pub(super) begun: u32,
    /// Pages whose I/O is done, and that it keeps until there are enough of them.
    pub(super) held: Vec<MappingId>,
    /// Its I/O is done.
    pub(super) done: bool,
    /// The driver has given its last I/O up.
    pub(super) timed_out: bool,
    /// Time with interrupts off so far.
    pub(super) interrupts_off: Duration,
    pub(super) job: Job,
}

impl Cpu {
    pub(super) fn new(device: u16, is_helper: bool) -> Self {
        let job = Job {
            purpose: Purpose::Reuse,
            range: None,
            pages: Vec::new(),
            since: Instant::START,
            off: Instant::START,
            locked: None,
            told_success: false,
            held_by_atc: false,
        };
        let state = if is_helper { State::Retired } else { State::Idle };
        Self {
            device,
            state,
            is_helper,
            generation: 0,
            begun: 0,
            held: Vec::new(),
            done: false,
            timed_out: false,
            interrupts_off: Duration::ZERO,
            job,
        }
    }

    /// Whether it is between wanting an invalidation and going on.
    pub(super) fn is_stuck(&self) -> bool {
        matches!(
            self.state,
            State::Outside
                | State::Locking
                | State::Submitting { .. }
                | State::Waiting
                | State::Returning
        )
    }

    /// Whether it uses its device.
    pub(super) fn is_active(&self) -> bool {
        !matches!(self.state, State::Idle | State::Retired)
    }
}

/// The CPU that waits for each ticket. Tickets are numbers that rise by one.
#[derive(Debug, Default)]
pub(super) struct Tickets(Vec<Option<u16>>);

impl Tickets {
    pub(super) fn insert(&mut self, ticket: Ticket, cpu: u16) {
        let index = ticket.0 as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        self.0[index] = Some(cpu);
    }

    /// Ends the wait for a ticket, and returns the CPU that waited.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<u16> {
        self.0.get_mut(ticket.0 as usize)?.take()
    }
}

/// The CPUs that may put an invalidation of a device in the ring, and those that wait for others to
/// be done.
#[derive(Debug, Default)]
pub(super) struct Gate {
    inside: u16,
    outside: VecDeque<u16>,
}

impl Gate {
    /// Whether `cpu` may go in now, with at most `limit` inside; else it is in the queue.
    pub(super) fn enter(&mut self, cpu: u16, limit: u16) -> bool {
        if self.inside < limit {
            self.inside += 1;
            return true;
        }
        self.outside.push_back(cpu);
        false
    }

    /// A CPU leaves. Returns the one that goes in instead.
    pub(super) fn leave(&mut self) -> Option<u16> {
        let next = self.outside.pop_front();
        self.inside -= u16::from(next.is_none());
        next
    }
}

/// The lock of a domain or of the unit, held over the whole of an invalidation, as Linux holds
/// `domain->cache_lock`. First come, first served.
#[derive(Debug, Default)]
pub(super) struct Lock {
    holder: Option<u16>,
    queue: VecDeque<u16>,
}

impl Lock {
    /// Whether `cpu` has it now; else it is in the queue.
    pub(super) fn acquire(&mut self, cpu: u16) -> bool {
        if self.holder.is_none() {
            self.holder = Some(cpu);
            return true;
        }
        self.queue.push_back(cpu);
        false
    }

    /// Lets go. Returns the CPU that has it now.
    pub(super) fn release(&mut self) -> Option<u16> {
        self.holder = self.queue.pop_front();
        self.holder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_as_many_in_as_its_limit() {
        let mut gate = Gate::default();
        assert!(gate.enter(0, 2) && gate.enter(1, 2) && !gate.enter(2, 2) && !gate.enter(3, 2));
        assert_eq!([gate.leave(), gate.leave(), gate.leave()], [Some(2), Some(3), None]);
        assert!(gate.enter(4, 2) && !gate.enter(5, 2));
    }

    #[test]
    fn a_lock_goes_round_in_the_order_of_asking() {
        let mut lock = Lock::default();
        assert!(lock.acquire(3));
        assert!(!lock.acquire(1) && !lock.acquire(2));
        assert_eq!([lock.release(), lock.release(), lock.release()], [Some(1), Some(2), None]);
        assert!(lock.acquire(1));
    }
}
