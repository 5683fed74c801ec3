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
//! - [`hierarchy`]: routes by what the guest has programmed.
//! - [`host_bridge`]: 00:00.0. [`function`]: what else there can be, below a port or on bus 0.
//! - [`config`], [`header`], [`caps`]: configuration space, its headers and its capabilities.
//! - [`port`]: what decides which way a port lets requests through.

pub mod caps;
pub mod client;
pub mod config;
pub mod function;
pub mod function_core;
pub mod header;
pub mod hierarchy;
pub mod host_bridge;
pub mod port;
pub mod reset;
pub mod spec;

use iommu::ats::{
    DmaRequest, InvalidateCompletion, Msi, PageRequest, RequestError, Translation,
    TranslationRequest,
};
use iommu::event::Lost;
use iommu::ids::{Bdf, Gpa};
use iommu::time::Instant;

pub use client::{ConfigAccess, ConfigClient};
pub use function::Function;
pub use function_core::FunctionCore;
pub use hierarchy::Hierarchy;
pub use reset::Reset;

/// What a function can ask of whatever is above it: in the end, of the root complex.
pub trait Upstream {
    /// A memory read of `data.len()` bytes.
    ///
    /// # Errors
    /// How it failed; `data` then holds nothing of use.
    fn read(
        &mut self,
        request: DmaRequest,
        data: &mut [u8],
        now: Instant,
    ) -> Result<(), RequestError>;

    /// A memory write: posted, so that nobody tells the function what became of it.
    fn write(&mut self, request: DmaRequest, data: &[u8], now: Instant);

    /// An ATS Translation Request.
    ///
    /// # Errors
    /// How it failed. "There is no translation" is not a failure, see [`Translation`].
    fn translate(
        &mut self,
        request: TranslationRequest,
        now: Instant,
    ) -> Result<Translation, RequestError>;

    /// A memory write whose outcome the function is told, as test devices of emulators are.
    ///
    /// # Errors
    /// How it failed.
    fn write_observed(
        &mut self,
        request: DmaRequest,
        data: &[u8],
        now: Instant,
    ) -> Result<(), RequestError>;

    /// What is in memory at `address`, past the remapping unit, as test devices of emulators look at
    /// it. Returns whether there is memory.
    fn peek(&self, address: Gpa, data: &mut [u8]) -> bool;
}

/// Posted messages that came up a link, drained by the root complex after every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamMessage {
    /// An interrupt.
    Msi {
        /// Who sends it.
        requester: Bdf,
        /// Its address and data.
        msi: Msi,
    },
    /// The answer to one or more Invalidate Requests.
    InvalidateCompletion(InvalidateCompletion),
    /// A function wants a page.
    PageRequest(PageRequest),
}

impl UpstreamMessage {
    /// How the loss of such a message is called.
    fn kind(&self) -> Lost {
        match self {
            Self::Msi { .. } => Lost::Msi,
            Self::InvalidateCompletion(_) => Lost::InvalidateCompletion,
            Self::PageRequest(_) => Lost::PageRequest,
        }
    }
}
