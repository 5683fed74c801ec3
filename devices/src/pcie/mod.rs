//! The PCIe hierarchy: a host bridge, root ports, links, and the functions below them.
//!
//! ```text
//!   root complex  --- config, memory, Invalidate Requests --->  Hierarchy
//!                 <-- Upstream: DMA, Translation Requests ----     | bus 0
//!                 <-- UpstreamMessage: MSIs, completions ------    +- 00:00.0 host bridge
//!                                                                  +- 00:01.0 port === link === endpoint
//!                                                                  +- 00:02.0 port === link === endpoint
//! ```
//!
//! - [`spec`]: layouts of configuration space. [`config`], [`header`], [`caps`]: their behaviour.
//! - [`client`], [`reset`]: what firmware and drivers do in configuration space.
//! - [`hierarchy`]: routes requests by what the guest has programmed.
//! - [`host_bridge`]: 00:00.0. [`port`]: root ports and the ports of switches. [`link`]: the link
//!   below a port.
//! - [`readiness`]: how long functions take to become ready.
//! - [`function`]: all other functions. [`function_core`]: what functions have in common.
//! - [`physical_function`]: functions with SR-IOV, of any kind.

pub mod caps;
pub mod client;
pub mod config;
pub mod function;
pub mod function_core;
pub mod header;
pub mod hierarchy;
pub mod host_bridge;
pub mod link;
pub mod physical_function;
pub mod port;
pub mod readiness;
pub mod reset;
pub mod spec;

use iommu::ats::{
    DmaRequest, InvalidateCompletion, Msi, PageRequest, RequestError, Translation,
    TranslationRequest,
};
use iommu::event::Lost;
use iommu::ids::{Bdf, Gpa, Iova, Pasid};
use iommu::time::Instant;

pub use client::{ConfigAccess, ConfigClient};
pub use function::Function;
pub use function_core::FunctionCore;
pub use hierarchy::Hierarchy;
pub use physical_function::{Inherited, PhysicalFunction, SriovFunction};
pub use reset::Reset;

/// The requests that a function can send up its link: in the end, to the root complex.
pub trait Upstream {
    /// A memory read of `data.len()` bytes.
    ///
    /// # Errors
    /// How the read failed; the contents of `data` are then undefined.
    fn read(
        &mut self,
        request: DmaRequest,
        data: &mut [u8],
        now: Instant,
    ) -> Result<(), RequestError>;

    /// A memory write. It is posted: the function does not learn its outcome.
    fn write(&mut self, request: DmaRequest, data: &[u8], now: Instant);

    /// An ATS Translation Request.
    ///
    /// # Errors
    /// How the request failed. A page without a translation is not a failure, see [`Translation`].
    fn translate(
        &mut self,
        request: TranslationRequest,
        now: Instant,
    ) -> Result<Translation, RequestError>;

    /// A memory write that reports its outcome, for a test device that hardware could not be.
    ///
    /// # Errors
    /// [`RequestError`], if the write failed.
    fn write_observed(
        &mut self,
        request: DmaRequest,
        data: &[u8],
        now: Instant,
    ) -> Result<(), RequestError>;

    /// The next request of this function is translated, and its ATC has translated `address` of the
    /// address space `pasid`. No TLP says that: it is for an oracle outside of the machine.
    fn note_origin(&mut self, _pasid: Option<Pasid>, _address: Iova) {}

    /// Reads memory at `address` without the remapping unit, for a test device that hardware could
    /// not be. Returns whether there is memory.
    fn peek(&self, address: Gpa, data: &mut [u8]) -> bool;
}

/// Posted messages that functions and ports send. The root complex drains them after each call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamMessage {
    /// An interrupt.
    Msi {
        /// The function that sends it.
        requester: Bdf,
        /// Address and data.
        msi: Msi,
    },
    /// The answer to one or more Invalidate Requests.
    InvalidateCompletion(InvalidateCompletion),
    /// A Page Request.
    PageRequest(PageRequest),
    /// `ERR_FATAL` or `ERR_NONFATAL` (`PCIe 2.2.8.3`). The root port above receives it.
    Error {
        /// The function that has detected the error.
        source: Bdf,
        /// `ERR_FATAL`.
        fatal: bool,
    },
}

impl UpstreamMessage {
    /// The event's name for the loss of this message.
    fn kind(&self) -> Lost {
        match self {
            Self::Msi { .. } => Lost::Msi,
            Self::InvalidateCompletion(_) => Lost::InvalidateCompletion,
            Self::PageRequest(_) => Lost::PageRequest,
            Self::Error { .. } => Lost::ErrorMessage,
        }
    }
}
