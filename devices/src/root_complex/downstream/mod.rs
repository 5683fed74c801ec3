//! Everything below the unit that software drives: the host side if there is one, the hierarchy, and
//! the schedule of faults that act on them.
//!
//! With a host side:
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
//! Without one the driven unit is the physical unit, and the same steps lead from it to the links
//! and back: [`Downstream::send_request`], [`Downstream::deliver_request`],
//! [`Downstream::note_completion`].
//!
//! The words behind the colons are the [`Point`]s of the protocol that each step reaches; a fault
//! of the schedule acts there. The root complex does all steps at one moment; the simulation lets
//! time pass between them. Both therefore see the same faults at the same points.
//!
//! - `fences`: fences at ports, by configuration writes.
//! - `functions`: the answers of functions to the host's drivers, and resets.
//! - `hot_plug`: what the host's hot-plug driver knows.
//! - `faults`: points, pauses, DMA counts, and what a fault does.

mod faults;
mod fences;
mod functions;
mod hot_plug;

use iommu::ats::{InvalidateCompletion, InvalidateRequest};
use iommu::event::{Tracer, UnitRole};
use iommu::submit::{Conclusion, Flush, HostSide, Ticket};
use iommu::time::Instant;

use crate::fault::{Fault, Point, Schedule, ScheduleError};
use crate::pcie::Hierarchy;
pub use functions::{Drivers, Functions};
pub use hot_plug::HotPlugDriver;

/// A host side, or the possibility of one: what stands between the unit that software drives and
/// the links.
pub trait HostLayer {
    /// The host side, if there is one.
    fn side(&self) -> Option<&HostSide>;

    /// The host side, if there is one.
    fn side_mut(&mut self) -> Option<&mut HostSide>;
}

/// A machine whose software is above the host side, or is the host.
impl HostLayer for HostSide {
    fn side(&self) -> Option<&HostSide> {
        Some(self)
    }

    fn side_mut(&mut self) -> Option<&mut HostSide> {
        Some(self)
    }
}

/// A machine with a guest: without a host side the guest's unit is the physical one.
impl HostLayer for Option<HostSide> {
    fn side(&self) -> Option<&HostSide> {
        self.as_ref()
    }

    fn side_mut(&mut self) -> Option<&mut HostSide> {
        self.as_mut()
    }
}

/// Host side, hierarchy and schedule, with what drivers know of the functions.
#[derive(Debug)]
pub struct Downstream<H, D> {
    /// Policy and physical unit. Submit, and take requests and verdicts, by [`Downstream`]: faults
    /// count those.
    pub host: H,
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

impl<H: HostLayer, D: Drivers> Downstream<H, D> {
    /// Joins the parts. `driven` is the unit that the machine's software drives: for
    /// [`UnitRole::Guest`] the caller has that unit, and asks [`Self::next_pause`] when it stops.
    ///
    /// # Errors
    /// A fault that is not possible in this hierarchy.
    pub fn new(
        host: H,
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
        let count = downstream.next_pause();
        if driven == UnitRole::Host
            && let Some(host) = downstream.host.side_mut()
        {
            host.dma_path().0.pause_after(count);
        }
        Ok(downstream)
    }

    /// The host side if there is one, and its access to functions at `now`.
    pub fn host(&mut self, now: Instant) -> Option<(&mut HostSide, Functions<'_, D>)> {
        let Self { host, hierarchy, drivers, .. } = self;
        Some((host.side_mut()?, Functions { hierarchy, drivers, now }))
    }

    /// Takes the oldest Invalidate Request that the host's unit has sent.
    pub fn poll_request(&mut self, now: Instant) -> Option<InvalidateRequest> {
        let request = self.host.side_mut()?.poll_request()?;
        self.send_request(now);
        Some(request)
    }

    /// The physical unit has sent an Invalidate Request. [`Self::poll_request`] calls this for the
    /// host's unit.
    pub fn send_request(&mut self, now: Instant) {
        self.reach(Point::Request, now);
    }

    /// An Invalidate Request arrives at its function, if the links carry it. Collect messages next.
    pub fn deliver_request(&mut self, request: InvalidateRequest, now: Instant) {
        self.hierarchy.invalidate_request(request, now);
        self.reach(Point::Completion, now);
    }

    /// An Invalidate Completion arrives at the host's unit. Without a host side it is for the
    /// caller's unit: see [`Self::note_completion`].
    pub fn deliver_completion(&mut self, completion: InvalidateCompletion, now: Instant) {
        if let Some((host, mut functions)) = self.host(now) {
            host.handle_completion(completion, &mut functions, now);
            self.reach(Point::Invalidation, now);
        }
    }

    /// The caller's unit, which is the physical one, has taken an Invalidate Completion that has
    /// ended `requests` of its requests. Their waits complete after this call.
    pub fn note_completion(&mut self, requests: u32, now: Instant) {
        self.reach(Point::Invalidation, now);
        for _ in 0..requests {
            self.reach(Point::Status, now);
        }
    }

    /// Takes the oldest verdict of the host side. A caller that is told of success is one more for
    /// [`Point::Status`].
    pub fn poll_verdict(&mut self, now: Instant) -> Option<Conclusion> {
        let conclusion = self.host.side_mut()?.poll_verdict()?;
        if conclusion.verdict.is_success() {
            self.reach(Point::Status, now);
        }
        Some(conclusion)
    }

    /// When something is due next. Timers of functions are not among it:
    /// [`Hierarchy::poll_timeout`] knows those.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Instant::earliest([
            self.host.side().and_then(HostSide::poll_timeout),
            self.hierarchy.poll_link_timeout(),
            self.schedule.poll_timeout(),
        ])
    }

    /// Time has passed for the host side.
    pub fn handle_host_timeout(&mut self, now: Instant) {
        if let Some((host, mut functions)) = self.host(now) {
            host.handle_timeout(&mut functions, now);
        }
    }
}

impl<D: Drivers> Downstream<HostSide, D> {
    /// A caller wants `flush` carried out, and begins to wait.
    pub fn submit(&mut self, flush: impl Into<Flush>, now: Instant) -> Ticket {
        let Self { host, hierarchy, drivers, .. } = self;
        host.submit(flush, &mut Functions { hierarchy, drivers, now }, now)
    }
}
