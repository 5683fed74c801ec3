//! More CPUs that use a device. They flush other pages of its domain, and wait for its lock meanwhile.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::bench::{self, Metric};
use crate::drop::rig::Target;
use crate::machine::time::{Ticks, poll};
use crate::println;
use crate::vtd::{Outcome, Queue};

/// The victim's CPUs but for the first. Each makes one flush while the first makes the measured one.
pub struct Crowd<'a> {
    queue: &'a Queue,
    target: &'a Target,
    give_up: Ticks,
    has_begun: AtomicBool,
    longest: AtomicU64,
}

impl<'a> Crowd<'a> {
    /// CPUs that wait for the measured flush.
    pub fn new(queue: &'a Queue, target: &'a Target, give_up: Ticks) -> Self {
        let (has_begun, longest) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { queue, target, give_up, has_begun, longest }
    }

    /// The measured flush holds the lock of the domain.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
    }

    /// Flushes page `number` of the target when the measured flush has begun.
    pub fn run(&self, number: u64) {
        if poll(Ticks::from_ms(10_000), || self.has_begun.load(Ordering::Acquire)) {
            let waited = self.target.flush_after_others(self.queue, number, self.give_up).0;
            self.longest.fetch_max(waited.0, Ordering::Relaxed);
        }
    }

    /// Prints and reports the longest of these flushes, with its wait for the lock.
    pub fn report(&self) {
        let longest = Ticks(self.longest.load(Ordering::Relaxed));
        println!("# the victim's other CPUs: longest {longest}");
        bench::report(Metric::CrowdStallNs, longest.as_ns());
    }
}

/// Flushes page `number` of the neighbour again and again until `has_ended`, or after a stall.
pub fn disturb(
    target: &Target,
    queue: &Queue,
    number: u64,
    give_up: Ticks,
    has_ended: &AtomicBool,
) {
    loop {
        let (_, outcome) = target.flush_after_others(queue, number, give_up);
        if outcome == Outcome::Stalled || has_ended.load(Ordering::Acquire) {
            return;
        }
    }
}
