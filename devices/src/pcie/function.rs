//! A function: what answers configuration requests and has registers of its own, be it below a
//! port or on bus 0, inside of the root complex (a Root Complex Integrated Endpoint,
//! `PCIe 1.3.2.3`).
//!
//! A function knows nothing of what is above it: it goes on living when its link is gone.

use std::fmt;

use iommu::ats::{InvalidateRequest, PageGroupResponse};
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::reset::Reset;
use super::{FunctionCore, Upstream, UpstreamMessage};

/// A function. What most functions do not have, ATS say, has a default that ignores it.
pub trait Function: fmt::Debug + Send {
    /// What it has in common with all functions.
    fn core(&self) -> &FunctionCore;

    /// As [`Self::core`].
    fn core_mut(&mut self) -> &mut FunctionCore;

    /// Reads configuration space.
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.core().config.read(offset, data);
    }

    /// The virtual function `id` of this one, if it is there now.
    fn virtual_function(&self, _id: Bdf) -> Option<&dyn Function> {
        None
    }

    /// Writes configuration space. `id` is the function's address, which it takes as its own from
    /// now on and by which it signs its requests (`PCIe 2.2.6.2`); or that of one of its virtual
    /// functions.
    fn config_write(&mut self, id: Bdf, offset: u16, data: &[u8], now: Instant) {
        if self.core_mut().config_write(id, offset, data) {
            self.reset(Reset::Function, now);
        }
    }

    /// Whether a BAR covers all `length` bytes at `address` and is switched on.
    fn claims(&self, address: u64, length: usize) -> bool {
        self.core().claim(address, length).is_some()
    }

    /// Reads memory that it [claims](Self::claims).
    fn memory_read(
        &mut self,
        address: u64,
        data: &mut [u8],
        upstream: &mut dyn Upstream,
        now: Instant,
    );

    /// Writes memory that it [claims](Self::claims).
    fn memory_write(
        &mut self,
        address: u64,
        data: &[u8],
        upstream: &mut dyn Upstream,
        now: Instant,
    );

    /// An Invalidate Request. It goes to every function of a device: whom it means is up to them.
    fn invalidate_request(&mut self, _request: InvalidateRequest, _now: Instant) {}

    /// Whether its ATC holds something that `request` would drop, for those who judge what software
    /// believes. Nothing in PCIe asks that.
    fn caches(&self, _request: &InvalidateRequest) -> bool {
        false
    }

    /// A PRG Response, to every function of a device.
    fn page_group_response(&mut self, _response: PageGroupResponse) {}

    /// When [`Self::handle_timeout`] must be called next, `None` if nothing is due.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, _upstream: &mut dyn Upstream, _now: Instant) {}

    /// The next message that it has sent, `None` when there are no more.
    fn poll_message(&mut self) -> Option<UpstreamMessage> {
        self.core_mut().poll_message()
    }

    /// Whether it asserts INTA (`PCIe 6.1.2`).
    fn asserts_inta(&self) -> bool {
        false
    }

    /// It is reset, from outside unless that is a [`Reset::Function`].
    fn reset(&mut self, reset: Reset, now: Instant);

    /// The id of a function that has been reset since this was asked last, `None` when there are no
    /// more: the answers that it still owed do not come any more.
    fn poll_reset(&mut self) -> Option<Bdf> {
        self.core_mut().poll_reset()
    }
}
