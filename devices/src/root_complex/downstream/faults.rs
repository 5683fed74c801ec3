//! Faults, at their points of the protocol.
//!
//! ```text
//!   software writes IQT   before=tail
//!     fetch               after=descriptors
//!     physical unit sends after=requests      (lost here, the ATC keeps its entry)
//!       function has dropped the entry        before=completion   (lost here, no completion comes)
//!     physical unit has the completion        after=invalidations
//!     verdict for the caller                  before=status
//!   software reads its status word
//! ```
//!
//! Without a host side the driven unit is the physical one, and `before=status` comes when it has
//! the completion and is about to complete the wait.

use iommu::event::{Event, UnitRole};
use iommu::time::Instant;

use super::{Downstream, Drivers, HostLayer};
use crate::fault::schedule::Action;
use crate::fault::{FaultMode, GuestConsole, Point};

impl<H: HostLayer, D: Drivers> Downstream<H, D> {
    /// Lets `mode` happen to the port with index `port`.
    pub fn inject(&mut self, port: usize, mode: FaultMode, now: Instant) {
        let effect = mode.effect();
        if effect.unit_is_gone {
            return self.set_unit_gone(true, now);
        }
        self.hierarchy.inject(port, effect, now);
    }

    /// Ends `mode` at the port with index `port`.
    pub fn lift(&mut self, port: usize, mode: FaultMode, now: Instant) {
        let effect = mode.effect();
        if effect.unit_is_gone {
            return self.set_unit_gone(false, now);
        }
        self.hierarchy.lift(port, effect, now);
    }

    /// A point of the protocol is reached.
    pub fn reach(&mut self, point: Point, now: Instant) {
        self.schedule.count(point);
        while let Some(action) = self.schedule.reached(point, now) {
            self.act(action, now);
        }
    }

    /// Lets the faults begin and end that are due because of the time.
    pub fn run_schedule(&mut self, now: Instant) {
        while let Some(action) = self.schedule.handle_timeout(now) {
            self.act(action, now);
        }
    }

    /// The guest rings the bench's doorbell.
    pub fn doorbell(&mut self, now: Instant) {
        while let Some(action) = self.schedule.doorbell(now) {
            self.act(action, now);
        }
    }

    /// The expressions that faults wait for on `console`, each with the number of its fault.
    pub fn console_expressions(
        &self,
        console: GuestConsole,
    ) -> impl Iterator<Item = (usize, &str)> {
        self.schedule.expressions(console)
    }

    /// A console has shown what the fault with that number waits for.
    pub fn console_matched(&mut self, fault: usize, now: Instant) {
        if let Some(action) = self.schedule.matched(fault, now) {
            self.act(action, now);
        }
    }

    /// The guest's unit reads as all ones, and takes no writes.
    pub fn guest_unit_is_gone(&self) -> bool {
        self.guest_unit_is_gone
    }

    /// The faults of the schedule that have happened, in its order: to which port, and which.
    pub fn happened(&self) -> impl Iterator<Item = (usize, FaultMode)> {
        self.schedule.happened()
    }

    /// After how many descriptors the driven unit must stop, since a fault waits for that.
    pub fn next_pause(&self) -> Option<u64> {
        self.schedule.next_count(Point::Descriptor)
    }

    /// The driven unit has stopped behind `fetched` descriptors. What it had begun before is under
    /// way, or done. Resume it, to be stopped at [`Self::next_pause`].
    pub fn note_descriptors(&mut self, fetched: u64, now: Instant) {
        for _ in 0..fetched {
            self.reach(Point::Descriptor, now);
        }
    }

    /// Lets the physical unit go on if it has stopped behind a descriptor that a fault waits for.
    /// Returns whether it had.
    pub fn pass_host_pause(&mut self, now: Instant) -> bool {
        let paused = self.host.side_mut().and_then(|host| host.dma_path().0.take_pause());
        let Some(fetched) = paused else { return false };
        self.note_descriptors(fetched, now);
        let next = self.next_pause();
        if let Some(host) = self.host.side_mut() {
            let (unit, memory) = host.dma_path();
            unit.pause_after(next);
            unit.resume(memory, now);
        }
        self.handle_host_timeout(now);
        true
    }

    /// Lets faults happen that wait for DMA, as far as the links have carried that much. Links then
    /// carry no more than the remaining ones allow.
    #[inline]
    pub fn check_dma(&mut self, now: Instant) {
        if self.schedule.counts_dma() {
            self.run_dma_faults(now);
        }
    }

    fn run_dma_faults(&mut self, now: Instant) {
        let mut from = 0;
        while let Some(port) = self.schedule.next_dma_port(from) {
            let count = self.hierarchy.dma_count(port);
            while let Some(action) = self.schedule.dma(port, count, now) {
                self.act(action, now);
            }
            self.hierarchy.stop_dma(port, self.schedule.waiting_for_dma(port));
            from = port + 1;
        }
    }

    fn act(&mut self, action: Action, now: Instant) {
        let Action { fault, port, mode, ends } = action;
        self.tracer.emit(now, || {
            let fault = self.schedule.text(fault);
            if ends { Event::FaultEnded { fault } } else { Event::FaultInjected { fault } }
        });
        match ends {
            true => self.lift(port, mode, now),
            false => self.inject(port, mode, now),
        }
    }

    /// The driven unit's registers are gone, or back.
    fn set_unit_gone(&mut self, is_gone: bool, now: Instant) {
        match self.driven {
            UnitRole::Guest => self.guest_unit_is_gone = is_gone,
            UnitRole::Host => {
                if let Some((host, mut functions)) = self.host(now) {
                    host.set_unit_gone(is_gone, &mut functions, now);
                }
            }
        }
    }
}
