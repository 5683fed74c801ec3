//! Faults of a machine with a guest: injected from outside, rung for, waited for on the console,
//! and those that count what the guest's unit does.

use iommu::spec::offset;
use iommu::time::Instant;

use super::RootComplex;
use super::units::GuestUnit;
use crate::fault::{FaultMode, GuestConsole, Point};

impl RootComplex {
    /// Lets `mode` happen now, to the port with index `port`.
    pub fn inject(&mut self, port: usize, mode: FaultMode, now: Instant) {
        self.downstream.inject(port, mode, now);
        self.settle(now);
    }

    /// Ends `mode` now, at the port with index `port`.
    pub fn lift(&mut self, port: usize, mode: FaultMode, now: Instant) {
        self.downstream.lift(port, mode, now);
        self.settle(now);
    }

    /// The guest rings the bench's doorbell.
    pub fn doorbell(&mut self, now: Instant) {
        self.downstream.doorbell(now);
        self.settle(now);
    }

    /// The regular expressions for lines of `console` that faults wait for, each with what
    /// [`Self::console_matched`] is to be told when it matches.
    pub fn console_expressions(
        &self,
        console: GuestConsole,
    ) -> impl Iterator<Item = (usize, &str)> {
        self.downstream.console_expressions(console)
    }

    /// A console has shown what a fault waits for.
    pub fn console_matched(&mut self, fault: usize, now: Instant) {
        self.downstream.console_matched(fault, now);
        self.settle(now);
    }

    /// The guest writes to the unit: maybe the lower half of the tail of its queue.
    pub(super) fn reach_tail(&mut self, at: u64, now: Instant) {
        if at == u64::from(offset::IQT) {
            self.downstream.reach(Point::Tail, now);
        }
    }

    /// Lets the guest's units go on that have stopped behind a descriptor that a fault waits for.
    /// Returns whether there were any. Faults count the descriptors of all units together.
    pub(super) fn pass_pause(&mut self, now: Instant) -> bool {
        let several = self.units.len() > 1;
        // A bit for each unit that has stopped.
        let (mut stopped, mut fetched) = (0_u8, 0);
        for (index, GuestUnit { unit, .. }) in self.units.iter_mut().enumerate() {
            match unit.take_pause() {
                Some(count) => (stopped, fetched) = (stopped | 1 << index, fetched + count),
                None if several => fetched += unit.fetched(),
                None => {}
            }
        }
        if stopped == 0 && fetched == 0 {
            return false;
        }
        self.downstream.note_descriptors(fetched, now);
        self.pause_units();
        let is_stopped = |(index, _): &(usize, _)| stopped & 1 << index != 0;
        for (_, GuestUnit { unit, .. }) in self.units.iter_mut().enumerate().filter(is_stopped) {
            unit.resume(&self.memory, now);
        }
        stopped != 0
    }

    /// Lets each unit stop behind the descriptor that a fault waits for.
    pub(super) fn pause_units(&mut self) {
        let next = self.downstream.next_pause();
        self.units.iter_mut().for_each(|GuestUnit { unit, .. }| unit.pause_after(next));
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod every_point_tests;
