//! The healthy neighbour: another processor, which flushes another device's page by the same queue.

use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::bench::{self, Metric};
use crate::drop::crowd;
use crate::drop::rig::Target;
use crate::drop::settings::Settings;
use crate::machine::time::{Ticks, poll};
use crate::println;
use crate::vtd::{Flush, Outcome, Queue};

/// A loop of flushes, and its statistics, which only the processor in the loop writes.
pub struct Neighbor<'a> {
    queue: &'a Queue,
    target: &'a Target,
    give_up: Ticks,
    /// It uses pages of its own, one for each flush.
    uses_pages: bool,
    stop: AtomicBool,
    longest: AtomicU64,
    flushes: AtomicU32,
    resubmissions: AtomicU32,
    waits_aborted: AtomicU32,
    timeouts: AtomicU32,
    first_source: AtomicU16,
    /// An [`Outcome`].
    worst: AtomicU32,
}

impl<'a> Neighbor<'a> {
    /// A loop that does not run yet.
    pub fn new(queue: &'a Queue, target: &'a Target, settings: &Settings) -> Self {
        Self {
            queue,
            target,
            give_up: settings.give_up,
            uses_pages: settings.unmap,
            stop: AtomicBool::new(false),
            longest: AtomicU64::new(0),
            flushes: AtomicU32::new(0),
            resubmissions: AtomicU32::new(0),
            waits_aborted: AtomicU32::new(0),
            timeouts: AtomicU32::new(0),
            first_source: AtomicU16::new(0),
            worst: AtomicU32::new(Outcome::Completed as u32),
        }
    }

    /// Flushes until [`Neighbor::stop`], and ends after the flush in flight. Ends also after a
    /// stall, since the slots of that flush never return to the ring.
    pub fn run(&self) {
        for turn in 0.. {
            let flush = match self.uses_pages {
                true => self.target.take_turn(self.queue, turn, self.give_up),
                false => self.target.flush(self.queue, self.give_up),
            };
            self.record(&flush);
            if self.stop.load(Ordering::Acquire) || flush.outcome == Outcome::Stalled {
                break;
            }
        }
    }

    fn record(&self, flush: &Flush) {
        self.longest.fetch_max(flush.time.0, Ordering::Relaxed);
        self.resubmissions.fetch_add(flush.resubmissions, Ordering::Relaxed);
        self.waits_aborted.fetch_add(flush.waits_aborted, Ordering::Relaxed);
        if flush.timeouts > 0 && self.timeouts.fetch_add(flush.timeouts, Ordering::Relaxed) == 0 {
            self.first_source.store(flush.first_source, Ordering::Relaxed);
        }
        self.worst.fetch_max(flush.outcome as u32, Ordering::Relaxed);
        self.flushes.fetch_add(1, Ordering::Release);
    }

    /// Another CPU of the same device, with a page of its own.
    pub fn disturb(&self, number: u64) {
        crowd::disturb(self.target, self.queue, number, self.give_up, &self.stop);
    }

    /// Returns when the loop has made two flushes.
    pub fn wait_until_busy(&self) {
        poll(Ticks::from_ms(1000), || self.flushes.load(Ordering::Acquire) >= 2);
    }

    /// Ends the loop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Number of invalidation time-outs (ITE) that this loop handled.
    pub fn timeouts(&self) -> u32 {
        self.timeouts.load(Ordering::Relaxed)
    }

    /// Source id of the first of these time-outs.
    pub fn first_source(&self) -> u16 {
        self.first_source.load(Ordering::Relaxed)
    }

    /// Wait descriptors that this loop marked as aborted.
    pub fn waits_aborted(&self) -> u32 {
        self.waits_aborted.load(Ordering::Relaxed)
    }

    /// Prints and reports the statistics.
    pub fn report(&self) {
        let longest = Ticks(self.longest.load(Ordering::Relaxed));
        let flushes = self.flushes.load(Ordering::Relaxed);
        let resubmissions = self.resubmissions.load(Ordering::Relaxed);
        let worst = self.worst.load(Ordering::Relaxed);
        let outcome = Outcome::from_code(worst).name();
        println!("# neighbor: {flushes} flushes, at worst {outcome}, longest {longest},");
        println!("#   {} ITE, {resubmissions} resubmissions", self.timeouts());
        bench::report(Metric::NeighborStallNs, longest.as_ns());
        bench::report(Metric::NeighborFlushes, flushes.into());
        bench::report(Metric::NeighborResubmissions, resubmissions.into());
        bench::report(Metric::NeighborOutcome, worst.into());
    }
}
