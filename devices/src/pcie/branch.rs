//! One root port, its link, and the device below.
//!
//! ```text
//!            Branch
//!   bus 0 -- RootPort -- Link -- AtsEndpoint (device 0, function 0)
//! ```
//!
//! What goes down passes the port's routing first, then the link; what comes up passes the link
//! first, then the port. Nothing reaches the other side by any other road.

use std::collections::VecDeque;

use iommu::ats::{
    AddressType, DmaRequest, InvalidateRequest, PageGroupResponse, RequestError, Translation,
    TranslationRequest,
};
use iommu::event::{LinkState, Lost, Tracer};
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::root_port::RootPort;
use super::{Upstream, UpstreamMessage};
use crate::Error;
use crate::endpoint::AtsEndpoint;
use crate::link::Link;

/// A root port with what is below it.
#[derive(Debug)]
pub struct Branch {
    port: RootPort,
    link: Link,
    endpoint: AtsEndpoint,
}

impl Branch {
    /// The port `id` with an ATS test endpoint in its slot `slot`.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if a function's capabilities do not fit.
    pub fn new(id: Bdf, slot: u8, tracer: Tracer) -> Result<Self, Error> {
        Ok(Self {
            port: RootPort::new(id, slot)?,
            link: Link::new(id, tracer.clone()),
            endpoint: AtsEndpoint::new(tracer)?,
        })
    }

    /// The port.
    pub fn port(&self) -> &RootPort {
        &self.port
    }

    /// The port, for the guest's writes to its configuration space.
    pub fn port_mut(&mut self) -> &mut RootPort {
        &mut self.port
    }

    /// Changes what the link does.
    pub fn set_link(&mut self, state: LinkState, now: Instant) {
        self.link.set_state(state, now);
    }

    /// A configuration read of `function`, whose bus the port owns. What is absent or cannot be
    /// reached leaves `data` as it is.
    pub fn config_read(&self, function: Bdf, offset: u16, data: &mut [u8], now: Instant) {
        if self.is_device_0(function)
            && self.link.carries(Lost::ConfigRead, now)
            && self.is_endpoint(function)
        {
            self.endpoint.config_read(offset, data);
        }
    }

    /// A configuration write to `function`, whose bus the port owns.
    pub fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant) {
        if self.is_device_0(function)
            && self.link.carries(Lost::ConfigWrite, now)
            && self.is_endpoint(function)
        {
            self.endpoint.config_write(function, offset, data, now);
        }
    }

    /// A memory read from the port's windows. What no BAR claims leaves `data` as it is.
    pub fn memory_read(&self, address: u64, data: &mut [u8], now: Instant) {
        if self.link.carries(Lost::MemoryRead, now) {
            self.endpoint.memory_read(address, data);
        }
    }

    /// A memory write to the port's windows.
    pub fn memory_write(
        &mut self,
        address: u64,
        data: &[u8],
        upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        if self.link.carries(Lost::MemoryWrite, now) {
            let Self { port, link, endpoint } = self;
            endpoint.memory_write(address, data, &mut Uplink { port, link, upstream }, now);
        }
    }

    /// An Invalidate Request to a bus that the port owns.
    pub fn invalidate_request(&mut self, request: InvalidateRequest, now: Instant) {
        if self.link.carries(Lost::InvalidateRequest, now) {
            self.endpoint.invalidate_request(request, now);
        }
    }

    /// A PRG Response to a bus that the port owns.
    pub fn page_group_response(&mut self, response: PageGroupResponse, now: Instant) {
        if self.link.carries(Lost::PageGroupResponse, now) {
            self.endpoint.page_group_response(response);
        }
    }

    /// When [`Self::handle_timeout`] must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, upstream: &mut dyn Upstream, now: Instant) {
        let Self { port, link, endpoint } = self;
        endpoint.handle_timeout(&mut Uplink { port, link, upstream }, now);
    }

    /// Moves the messages that the endpoint has sent up the link.
    pub fn collect_messages(&mut self, messages: &mut VecDeque<UpstreamMessage>, now: Instant) {
        while let Some(message) = self.endpoint.poll_message() {
            if !self.link.carries(message.kind(), now) {
                continue;
            }
            if let UpstreamMessage::Msi { requester, .. } = message
                && self.port.admits(requester, AddressType::Untranslated).is_err()
            {
                continue;
            }
            messages.push_back(message);
        }
    }

    /// Whether a request to `function` goes down the link: on the secondary bus there is only
    /// device 0 (`PCIe 7.3.1`), and the port itself says so.
    fn is_device_0(&self, function: Bdf) -> bool {
        function.bus() != self.port.secondary_bus() || function.device() == 0
    }

    /// Whether `function` is what is at the other end: one function, and no bridge to more buses.
    fn is_endpoint(&self, function: Bdf) -> bool {
        function.bus() == self.port.secondary_bus() && function.devfn() == 0
    }
}

/// The way up for what the endpoint asks: through the link, then through the port.
struct Uplink<'a> {
    port: &'a RootPort,
    link: &'a Link,
    upstream: &'a mut dyn Upstream,
}

impl Upstream for Uplink<'_> {
    fn read(
        &mut self,
        request: DmaRequest,
        data: &mut [u8],
        now: Instant,
    ) -> Result<(), RequestError> {
        if !self.link.carries(Lost::Dma, now) {
            return Err(RequestError::CompletionTimeout);
        }
        self.port.admits(request.requester, request.address_type)?;
        self.upstream.read(request, data, now)
    }

    fn write(&mut self, request: DmaRequest, data: &[u8], now: Instant) {
        if self.link.carries(Lost::Dma, now)
            && self.port.admits(request.requester, request.address_type).is_ok()
        {
            self.upstream.write(request, data, now);
        }
    }

    fn translate(
        &mut self,
        request: TranslationRequest,
        now: Instant,
    ) -> Result<Translation, RequestError> {
        if !self.link.carries(Lost::TranslationRequest, now) {
            return Err(RequestError::CompletionTimeout);
        }
        self.port.admits(request.requester, AddressType::Translated)?;
        self.upstream.translate(request, now)
    }
}

#[cfg(test)]
mod tests;
