//! Requests and messages from below: they pass each link and each port above the function.

use iommu::ats::{AddressType, DmaRequest, RequestError, Translation, TranslationRequest};
use iommu::event::Lost;
use iommu::ids::{Bdf, Gpa, Iova, Pasid};
use iommu::time::Instant;

use super::PortNode;
use crate::pcie::port::ErrorOutcome;
use crate::pcie::spec::aer::Uncorrectable;
use crate::pcie::{Upstream, UpstreamMessage};

/// The path from the bus below the port `above` to the root complex.
pub(super) struct Uplink<'a> {
    pub(super) ports: &'a mut [PortNode],
    pub(super) above: Option<usize>,
    /// The port that has contained an error of a request.
    pub(super) contained: &'a mut Option<usize>,
    pub(super) upstream: &'a mut dyn Upstream,
}

impl Uplink<'_> {
    fn passes(
        &mut self,
        kind: Lost,
        requester: Bdf,
        address_type: AddressType,
        now: Instant,
    ) -> Result<(), RequestError> {
        let request = Some((requester, address_type));
        passes(self.ports, self.above, kind, request, self.contained, now)
    }
}

/// Whether a TLP from below the port `above` reaches the root complex. Ports check the requester of
/// memory requests; they forward all other messages.
fn passes(
    ports: &mut [PortNode],
    above: Option<usize>,
    kind: Lost,
    request: Option<(Bdf, AddressType)>,
    contained: &mut Option<usize>,
    now: Instant,
) -> Result<(), RequestError> {
    let mut above = above;
    while let Some(port) = above {
        let node = &mut ports[port];
        let carries = match (&mut node.link, kind) {
            (Some(link), Lost::Dma) => link.carries_dma(now),
            (Some(link), _) => link.carries(kind, now),
            (None, _) => true,
        };
        if !carries {
            return Err(RequestError::CompletionTimeout);
        }
        if let Some((requester, address_type)) = request {
            let admitted = node.port.admits(requester, address_type);
            if admitted == Err(RequestError::CompleterAbort) {
                report_violation(ports, port, contained);
            }
            admitted?;
        }
        above = ports[port].above;
    }
    Ok(())
}

/// A port has blocked a request: it logs an ACS Violation, and contains it or reports it to its root
/// port (`PCIe 6.12.4`).
#[cold]
fn report_violation(ports: &mut [PortNode], port: usize, contained: &mut Option<usize>) {
    match ports[port].port.detect(Uncorrectable::AcsViolation) {
        ErrorOutcome::Logged => {}
        ErrorOutcome::Contained => *contained = Some(port),
        ErrorOutcome::Reported { fatal } => {
            let source = ports[port].port.id();
            let mut root = port;
            while let Some(above) = ports[root].above {
                root = above;
            }
            ports[root].port.receive_error(source, fatal);
        }
    }
}

/// Whether `message` from the bus below the port `above` reaches the root complex.
pub(super) fn passes_message(
    ports: &mut [PortNode],
    above: Option<usize>,
    message: &UpstreamMessage,
    now: Instant,
) -> bool {
    let request = match message {
        UpstreamMessage::Msi { requester, .. } => Some((*requester, AddressType::Untranslated)),
        _ => None,
    };
    passes(ports, above, message.kind(), request, &mut None, now).is_ok()
}

impl Upstream for Uplink<'_> {
    fn read(
        &mut self,
        request: DmaRequest,
        data: &mut [u8],
        now: Instant,
    ) -> Result<(), RequestError> {
        self.passes(Lost::Dma, request.requester, request.address_type, now)?;
        self.upstream.read(request, data, now)
    }

    fn write(&mut self, request: DmaRequest, data: &[u8], now: Instant) {
        if self.passes(Lost::Dma, request.requester, request.address_type, now).is_ok() {
            self.upstream.write(request, data, now);
        }
    }

    fn write_observed(
        &mut self,
        request: DmaRequest,
        data: &[u8],
        now: Instant,
    ) -> Result<(), RequestError> {
        self.passes(Lost::Dma, request.requester, request.address_type, now)?;
        self.upstream.write_observed(request, data, now)
    }

    fn note_origin(&mut self, pasid: Option<Pasid>, address: Iova) {
        self.upstream.note_origin(pasid, address);
    }

    fn peek(&self, address: Gpa, data: &mut [u8]) -> bool {
        self.upstream.peek(address, data)
    }

    fn translate(
        &mut self,
        request: TranslationRequest,
        now: Instant,
    ) -> Result<Translation, RequestError> {
        self.passes(Lost::TranslationRequest, request.requester, AddressType::Translated, now)?;
        self.upstream.translate(request, now)
    }
}

#[cfg(test)]
mod tests;
