//! Everything below the unit that software drives: the host side, the hierarchy, and the schedule
//! of faults that act on them.
//!
//! ```text
//!              submit                                   verdict: Status
//!                 v                                        ^
//!   HostSide: policy, physical unit -------------------> HostSide
//!                 | poll_request: Request                  ^ deliver_completion: Invalidation
//!                 v                                        |
//!   Hierarchy: deliver_request: Completion ----------> poll_message
//! ```
//!
//! The words behind the colons are the [`Point`]s of the protocol that each step reaches; a fault
//! of the schedule acts there. The root complex does all steps at one moment; the simulation lets
//! time pass between them. Both therefore see the same faults at the same points.
//!
//! - `functions`: the answers of functions to the host's drivers, and resets.
//! - `faults`: points, pauses, DMA counts, and what a fault does.

mod faults;
mod functions;

use iommu::ats::{InvalidateCompletion, InvalidateRequest};
use iommu::event::{Tracer, UnitRole};
use iommu::submit::{Conclusion, Flush, HostSide, Ticket};
use iommu::time::Instant;

use crate::fault::{Fault, Point, Schedule, ScheduleError};
use crate::pcie::Hierarchy;
pub use functions::{Drivers, Functions, NoDrivers};

/// Host side, hierarchy and schedule, with what drivers know of the functions.
#[derive(Debug)]
pub struct Downstream<D> {
    /// Policy and physical unit. Submit, and take requests and verdicts, by [`Downstream`]: faults
    /// count those.
    pub host: HostSide,
    /// Ports, links and functions.
    pub hierarchy: Hierarchy,
    /// The drivers of the functions.
    pub drivers: D,
    schedule: Schedule,
    /// The unit that software drives: faults count its descriptors, and can take it away.
    driven: UnitRole,
    /// The guest's unit reads as all ones.
    guest_unit_is_gone: bool,
    tracer: Tracer,
}

impl<D: Drivers> Downstream<D> {
    /// Joins the parts. `driven` is the unit that the machine's software drives: for
    /// [`UnitRole::Guest`] the caller has that unit, and asks [`Self::next_pause`] when it stops.
    ///
    /// # Errors
    /// A fault that is not possible in this hierarchy.
    pub fn new(
        host: HostSide,
        hierarchy: Hierarchy,
        drivers: D,
        faults: &[Fault],
        driven: UnitRole,
        tracer: Tracer,
    ) -> Result<Self, ScheduleError> {
        let schedule = Schedule::new(faults, &hierarchy.port_infos())?;
        let guest_unit_is_gone = false;
        let mut downstream =
            Self { host, hierarchy, drivers, schedule, driven, guest_unit_is_gone, tracer };
        downstream.check_dma(Instant::START);
        if driven == UnitRole::Host {
            let count = downstream.next_pause();
            downstream.host.dma_path().0.pause_after(count);
        }
        Ok(downstream)
    }

    /// The host side, and its access to functions at `now`.
    pub fn host(&mut self, now: Instant) -> (&mut HostSide, Functions<'_, D>) {
        let Self { host, hierarchy, drivers, .. } = self;
        (host, Functions { hierarchy, drivers, now })
    }

    /// A caller wants `flush` carried out, and begins to wait.
    pub fn submit(&mut self, flush: impl Into<Flush>, now: Instant) -> Ticket {
        let (host, mut functions) = self.host(now);
        host.submit(flush, &mut functions, now)
    }

    /// Takes the oldest Invalidate Request that the physical unit has sent.
    pub fn poll_request(&mut self, now: Instant) -> Option<InvalidateRequest> {
        let request = self.host.poll_request()?;
        self.reach(Point::Request, now);
        Some(request)
    }

    /// An Invalidate Request arrives at its function, if the links carry it. Collect messages next.
    pub fn deliver_request(&mut self, request: InvalidateRequest, now: Instant) {
        self.hierarchy.invalidate_request(request, now);
        self.reach(Point::Completion, now);
    }

    /// An Invalidate Completion arrives at the physical unit.
    pub fn deliver_completion(&mut self, completion: InvalidateCompletion, now: Instant) {
        let (host, mut functions) = self.host(now);
        host.handle_completion(completion, &mut functions, now);
        self.reach(Point::Invalidation, now);
    }

    /// Takes the oldest verdict. A caller that is told of success is one more for
    /// [`Point::Status`].
    pub fn poll_verdict(&mut self, now: Instant) -> Option<Conclusion> {
        let conclusion = self.host.poll_verdict()?;
        if conclusion.verdict.is_success() {
            self.reach(Point::Status, now);
        }
        Some(conclusion)
    }

    /// When something is due next. Timers of functions are not among it:
    /// [`Hierarchy::poll_timeout`] knows those.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Instant::earliest([
            self.host.poll_timeout(),
            self.hierarchy.poll_link_timeout(),
            self.schedule.poll_timeout(),
        ])
    }

    /// Time has passed for the host side.
    pub fn handle_host_timeout(&mut self, now: Instant) {
        let (host, mut functions) = self.host(now);
        host.handle_timeout(&mut functions, now);
    }
}
