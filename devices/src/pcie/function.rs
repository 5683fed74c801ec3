//! What a function must be able to do to sit on bus 0, inside of the root complex: a Root Complex
//! Integrated Endpoint (`PCIe 1.3.2.3`). There is no link between it and the unit.

use std::fmt;

use iommu::ids::Bdf;
use iommu::time::Instant;

use super::{Upstream, UpstreamMessage};

/// A function on bus 0.
pub trait Function: fmt::Debug + Send {
    /// Reads configuration space.
    fn config_read(&self, offset: u16, data: &mut [u8]);

    /// Writes configuration space. `id` is the function's address, by which it signs its requests.
    fn config_write(&mut self, id: Bdf, offset: u16, data: &[u8]);

    /// Whether a BAR covers all `length` bytes at `address` and is switched on.
    fn claims(&self, address: u64, length: usize) -> bool;

    /// Reads memory that it [claims](Self::claims).
    fn memory_read(&self, address: u64, data: &mut [u8]);

    /// Writes memory that it [claims](Self::claims).
    fn memory_write(&mut self, address: u64, data: &[u8], now: Instant);

    /// When [`Self::handle_timeout`] must be called next, `None` if nothing is due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, upstream: &mut dyn Upstream, now: Instant);

    /// The next message that it has sent, `None` when there are no more.
    fn poll_message(&mut self) -> Option<UpstreamMessage>;

    /// Whether it asserts INTA (`PCIe 6.1.2`).
    fn asserts_inta(&self) -> bool;
}
