//! The path of DMA: through the physical unit's tables, past the oracle, into memory.

use devices::pcie::Upstream;
use iommu::Memory;
use iommu::ats::{DmaRequest, RequestError, Translation, TranslationRequest};
use iommu::event::{Event, Tracer};
use iommu::ids::{Gpa, PAGE_SIZE};
use iommu::time::Instant;
use iommu::unit::Unit;
use vm_memory::{Bytes, GuestAddress};

use super::memory::DATA;
use super::oracle::{MappingId, Oracle, Stale};

/// The path of one request.
pub(super) struct DmaPath<'a> {
    pub(super) unit: &'a mut Unit,
    pub(super) memory: &'a Memory,
    pub(super) oracle: &'a Oracle,
    pub(super) tracer: &'a Tracer,
    /// The mapping by which the request has reached memory, if it has.
    pub(super) arrived: Option<(MappingId, Option<Stale>)>,
    /// The device has asked for a translation, which its ATC may hold now in place of another.
    pub(super) translated: bool,
    #[cfg(test)]
    pub(super) check: &'a mut super::check::Check,
}

impl DmaPath<'_> {
    /// The address in memory to which the request goes.
    fn resolve(
        &mut self,
        request: &DmaRequest,
        length: usize,
        now: Instant,
    ) -> Result<GuestAddress, RequestError> {
        let address = self.unit.dma(request, self.memory, now)?;
        self.arrived = self.oracle.judge(address, now);
        let Some((_by, _stale)) = self.arrived else {
            return Err(RequestError::UnsupportedRequest);
        };
        #[cfg(test)]
        if request.address_type == iommu::ats::AddressType::Translated {
            let output = Gpa(address.0 & !(PAGE_SIZE - 1));
            let by = (self.oracle.get(_by), _stale);
            self.check.access(request.requester, output, by, (self.unit, self.memory));
        }
        self.tracer.emit(now, || Event::Dma {
            function: request.requester,
            address: request.address,
            address_type: request.address_type,
            access: request.access,
            length: u32::try_from(length).unwrap_or(u32::MAX),
        });
        Ok(GuestAddress(DATA.0 + address.0 % PAGE_SIZE))
    }
}

impl Upstream for DmaPath<'_> {
    fn read(
        &mut self,
        request: DmaRequest,
        data: &mut [u8],
        now: Instant,
    ) -> Result<(), RequestError> {
        let at = self.resolve(&request, data.len(), now)?;
        self.memory.read_slice(data, at).map_err(|_| RequestError::UnsupportedRequest)
    }

    fn write(&mut self, request: DmaRequest, data: &[u8], now: Instant) {
        // A posted write that is refused is lost.
        let _ = self.write_observed(request, data, now);
    }

    fn write_observed(
        &mut self,
        request: DmaRequest,
        data: &[u8],
        now: Instant,
    ) -> Result<(), RequestError> {
        let at = self.resolve(&request, data.len(), now)?;
        self.memory.write_slice(data, at).map_err(|_| RequestError::UnsupportedRequest)
    }

    fn peek(&self, _address: Gpa, _data: &mut [u8]) -> bool {
        false
    }

    fn translate(
        &mut self,
        request: TranslationRequest,
        now: Instant,
    ) -> Result<Translation, RequestError> {
        self.translated = true;
        let translation = self.unit.translation_request(&request, self.memory, now)?;
        #[cfg(test)]
        self.check.translated(&request, &translation, (self.unit, self.memory));
        Ok(translation)
    }
}
