//! A function below a port, or on bus 0 inside of the root complex (a Root Complex Integrated
//! Endpoint, `PCIe 1.3.2.3`).
//!
//! A function does not know its link. It keeps its state and goes on when the link is down.

use std::fmt;

use iommu::ats::{InvalidateRequest, PageGroupResponse, Translation};
use iommu::ids::{Bdf, Iova, Pasid};
use iommu::time::Instant;

use super::reset::Reset;
use super::{FunctionCore, Upstream, UpstreamMessage};

/// A function. Features that few functions have, such as ATS, have a default that ignores them.
pub trait Function: fmt::Debug + Send {
    /// The state that it has in common with all functions.
    fn core(&self) -> &FunctionCore;

    /// As [`Self::core`].
    fn core_mut(&mut self) -> &mut FunctionCore;

    /// The state of the function `id`, which is this one or one of its virtual functions.
    fn core_of(&mut self, id: Bdf) -> Option<&mut FunctionCore> {
        Some(self.core_mut()).filter(|core| core.id == id)
    }

    /// Calls `act` with the state of the function, and with that of each of its virtual functions,
    /// enabled or not.
    fn for_each_core(&mut self, act: &mut dyn FnMut(&mut FunctionCore)) {
        act(self.core_mut());
    }

    /// Reads configuration space.
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.core().config.read(offset, data);
    }

    /// The virtual function `id` of this one, if it is enabled.
    fn virtual_function(&self, _id: Bdf) -> Option<&dyn Function> {
        None
    }

    /// Writes configuration space. `id` is the address of the function, which captures it as its
    /// requester id (`PCIe 2.2.6.2`), or of one of its virtual functions.
    fn config_write(&mut self, id: Bdf, offset: u16, data: &[u8], now: Instant) {
        if self.core_mut().config_write(id, offset, data) {
            self.reset(Reset::Function, now);
        }
    }

    /// Whether a BAR covers all `length` bytes at `address`, and is enabled.
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

    /// An Invalidate Request to the function, or to one of its virtual functions. Returns whether the
    /// function sends a completion, which it does at once. [`Self::obey`] follows.
    fn invalidate_request(&mut self, _request: InvalidateRequest) -> bool {
        false
    }

    /// The ATC obeys an earlier `request`: it drops the range of `dropped`, which is `request` unless
    /// the function has a fault.
    fn obey(
        &mut self,
        _request: InvalidateRequest,
        _dropped: Option<InvalidateRequest>,
        _now: Instant,
    ) {
    }

    /// Invalidate Requests that the function can take at once, 1 to 32 (`PCIe 10.3.5`).
    fn invalidate_queue_depth(&self) -> u8 {
        32
    }

    /// Whether the ATC holds an entry that `request` would drop. Only the checks of a test or a
    /// simulation ask: PCIe has no such request.
    fn caches(&self, _request: &InvalidateRequest) -> bool {
        false
    }

    /// The ATC's translation of `address` in the address space of `pasid`. As for
    /// [`Self::caches`], only checks ask.
    fn cached(&self, _pasid: Option<Pasid>, _address: Iova) -> Option<Translation> {
        None
    }

    /// A PRG Response. Each function of a device gets it, and compares the destination.
    fn page_group_response(&mut self, _response: PageGroupResponse) {}

    /// When [`Self::handle_timeout`] must be called next, `None` if nothing is due.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, _upstream: &mut dyn Upstream, _now: Instant) {}

    /// The next message that the function has sent, `None` if there is no more.
    fn poll_message(&mut self) -> Option<UpstreamMessage> {
        self.core_mut().poll_message()
    }

    /// Whether the function asserts INTA (`PCIe 6.1.2`).
    fn asserts_inta(&self) -> bool {
        false
    }

    /// Resets the function.
    fn reset(&mut self, reset: Reset, now: Instant);

    /// The id of a function that has been reset since the last call, `None` if there is no more.
    /// Invalidate Completions of it that are delayed are dropped.
    fn poll_reset(&mut self) -> Option<Bdf> {
        self.core_mut().poll_reset()
    }
}
