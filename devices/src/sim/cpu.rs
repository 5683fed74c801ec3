//! CPUs: what each is about, and the lock that those of one device share.

use std::collections::VecDeque;

use iommu::ats::PageRange;
use iommu::submit::Verdict;
use iommu::time::Instant;

use super::oracle::MappingId;

/// What a CPU is about. It goes on when its task comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It begins an I/O next.
    Idle,
    /// The device has the page. The CPU goes on when it is done, or when the driver gives up.
    Io(MappingId),
    /// It spins on the domain's lock, or has just got it.
    Locking,
    /// It holds the lock, has looked whether the device is there if the policy says so, and writes
    /// descriptors.
    Submitting {
        /// What the look has said.
        present: Option<bool>,
    },
    /// It polls.
    Waiting,
    /// It has seen how its wait ended.
    Returning(Verdict),
    /// It has nothing to do: its device has no driver.
    Retired,
}

/// An invalidation that a CPU wants, and what is given back after it.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) range: PageRange,
    pub(super) pages: Vec<MappingId>,
    /// When it was wanted. Interrupts are off from then on.
    pub(super) since: Instant,
}

/// A CPU.
#[derive(Debug)]
pub(super) struct Cpu {
    pub(super) device: u16,
    pub(super) state: State,
    /// Which of the tasks for it counts; older ones are void.
    pub(super) generation: u32,
    /// I/Os that it has begun.
    pub(super) begun: u32,
    pub(super) job: Job,
}

impl Cpu {
    pub(super) fn new(device: u16) -> Self {
        let job = Job { range: PageRange::ALL, pages: Vec::new(), since: Instant::START };
        Self { device, state: State::Idle, generation: 0, begun: 0, job }
    }

    /// Whether it is between wanting an invalidation and going on, with interrupts off.
    pub(super) fn is_stuck(&self) -> bool {
        matches!(
            self.state,
            State::Locking | State::Submitting { .. } | State::Waiting | State::Returning(_)
        )
    }
}

/// The lock of a domain, held over the whole of an invalidation, as Linux holds
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

    /// Lets go, and says who has it now.
    pub(super) fn release(&mut self) -> Option<u16> {
        self.holder = self.queue.pop_front();
        self.holder
    }
}
