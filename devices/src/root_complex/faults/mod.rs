//! Faults, at their points of the protocol.
//!
//! ```text
//!   guest writes IQT   before=tail
//!     fetch            after=descriptors
//!     host submits, physical unit sends   after=requests      (lost here, the ATC keeps its entry)
//!       function has dropped the entry    before=completion   (lost here, nobody learns of it)
//!     physical unit has the completion    after=invalidations
//!     verdict for the guest's unit        before=status
//!   guest reads its status word
//! ```

use iommu::event::Event;
use iommu::time::Instant;

use super::RootComplex;
use crate::fault::schedule::Action;
use crate::fault::{FaultMode, Point};

/// The lower half of the Invalidation Queue Tail register (`VT-d 11.4.9.2`).
const QUEUE_TAIL: u64 = 0x88;

impl RootComplex {
    /// Lets `mode` happen now, to the port with index `port`.
    pub fn inject(&mut self, port: usize, mode: FaultMode, now: Instant) {
        self.change(port, mode, false, now);
        self.settle(now);
    }

    /// Ends `mode` now, at the port with index `port`.
    pub fn lift(&mut self, port: usize, mode: FaultMode, now: Instant) {
        self.change(port, mode, true, now);
        self.settle(now);
    }

    /// The guest rings the bench's doorbell.
    pub fn doorbell(&mut self, now: Instant) {
        while let Some(action) = self.schedule.doorbell(now) {
            self.act(action, now);
        }
        self.settle(now);
    }

    /// The regular expressions for lines of the console that faults wait for, each with what
    /// [`Self::console_matched`] is to be told when it matches.
    pub fn console_expressions(&self) -> impl Iterator<Item = (usize, &str)> {
        self.schedule.expressions()
    }

    /// The console has shown what a fault waits for.
    pub fn console_matched(&mut self, fault: usize, now: Instant) {
        if let Some(action) = self.schedule.matched(fault, now) {
            self.act(action, now);
        }
        self.settle(now);
    }

    /// What is due because of the time.
    pub(super) fn run_schedule(&mut self, now: Instant) {
        while let Some(action) = self.schedule.handle_timeout(now) {
            self.act(action, now);
        }
    }

    /// A point of the protocol is reached.
    pub(super) fn reach(&mut self, point: Point, now: Instant) {
        self.schedule.count(point);
        while let Some(action) = self.schedule.reached(point, now) {
            self.act(action, now);
        }
    }

    /// The guest writes to the unit: maybe the tail of its queue.
    pub(super) fn reach_tail(&mut self, offset: u64, now: Instant) {
        if offset == QUEUE_TAIL {
            self.reach(Point::Tail, now);
        }
    }

    /// Lets the guest's unit go on if it has stopped behind a descriptor that a fault waits for.
    /// What it had begun before is under way, or done. Returns whether it had.
    pub(super) fn pass_pause(&mut self, now: Instant) -> bool {
        let Some(fetched) = self.unit.take_pause() else { return false };
        for _ in 0..fetched {
            self.reach(Point::Descriptor, now);
        }
        self.unit.pause_after(self.schedule.next_count(Point::Descriptor));
        self.unit.resume(&self.memory, now);
        true
    }

    /// Looks how much DMA has passed the links that faults count it on.
    pub(super) fn check_dma(&mut self, now: Instant) {
        for port in 0..self.hierarchy.port_count() {
            if self.schedule.waiting_for_dma(port).next().is_none() {
                continue;
            }
            let count = self.hierarchy.dma_count(port);
            while let Some(action) = self.schedule.dma(port, count, now) {
                self.act(action, now);
            }
            self.hierarchy.stop_dma(port, self.schedule.waiting_for_dma(port));
        }
    }

    fn act(&mut self, action: Action, now: Instant) {
        let Action { fault, port, mode, ends } = action;
        self.tracer.emit(now, || {
            let fault = self.schedule.text(fault);
            if ends { Event::FaultEnded { fault } } else { Event::FaultInjected { fault } }
        });
        self.change(port, mode, ends, now);
    }

    fn change(&mut self, port: usize, mode: FaultMode, ends: bool, now: Instant) {
        match mode {
            FaultMode::AllOnesUnit => self.unit_is_gone = !ends,
            _ if ends => self.hierarchy.lift(port, mode, now),
            _ => self.hierarchy.inject(port, mode, now),
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod every_point_tests;
