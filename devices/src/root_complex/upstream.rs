//! Requests of functions: DMA through the unit's tables into memory, interrupts through its
//! interrupt remapping to the CPUs. The address decides which it is.
//!
//! If a host is below the guest, its unit comes first. It lets everything through as it is, but for
//! functions that the host has put into quarantine: their context entries there are not present, and
//! neither are the entries for their interrupts.

use std::collections::VecDeque;

use iommu::Memory;
use iommu::ats::{
    Access, AddressType, DmaRequest, Msi, RequestError, Translation, TranslationRequest,
};
use iommu::event::{Event, Tracer, UnitRole};
use iommu::ids::{Bdf, Gpa, Iova, Pasid};
use iommu::spec::fault::FaultReason;
use iommu::submit::HostSide;
use iommu::time::Instant;
use iommu::unit::in_interrupt_range;
use vm_memory::{Bytes, GuestAddress};

use super::IO_APIC_ID;
use super::units::{GuestUnit, Units};
use crate::pcie::Upstream;

/// The path of a function's requests through the unit into memory.
pub(super) struct ToMemory<'a> {
    pub(super) units: &'a mut Units,
    pub(super) host: Option<&'a HostSide>,
    pub(super) memory: &'a Memory,
    pub(super) tracer: &'a Tracer,
    /// What the function's ATC has translated for its next request.
    pub(super) origin: Option<(Option<Pasid>, Iova)>,
    /// The interrupts that reach the CPUs.
    pub(super) interrupts: &'a mut VecDeque<Msi>,
}

impl ToMemory<'_> {
    /// An interrupt of a device of the chipset that is no PCI function, which is the first unit's. It
    /// may have no requester id.
    pub(super) fn platform_interrupt(&mut self, requester: Option<Bdf>, msi: Msi, now: Instant) {
        self.interrupt(0, requester, msi, now);
    }

    /// An interrupt goes through remapping by the unit with this index to the CPUs, or nowhere.
    fn interrupt(&mut self, unit: usize, requester: Option<Bdf>, msi: Msi, now: Instant) {
        self.tracer.emit(now, || Event::Interrupt {
            requester: requester.unwrap_or(IO_APIC_ID),
            address: msi.address,
            data: msi.data,
        });
        let Some(GuestUnit { unit, .. }) = self.units.get_mut(unit) else { return };
        if let Ok(msi) = unit.remap_interrupt(requester, msi, self.memory, now) {
            self.interrupts.push_back(msi);
        }
    }

    /// A function's MSI is a write like any other: what it does is up to the address.
    pub(super) fn message(&mut self, requester: Bdf, msi: Msi, now: Instant) {
        let request = DmaRequest {
            requester,
            pasid: None,
            privileged: false,
            address: Iova(msi.address),
            address_type: AddressType::Untranslated,
            access: Access::Write,
        };
        self.write(request, &msi.data.to_le_bytes(), now);
    }

    /// Whether the host's unit lets a request through.
    pub(super) fn admit(
        &self,
        requester: Bdf,
        address: Iova,
        now: Instant,
    ) -> Result<(), RequestError> {
        if self.host.is_none_or(|host| !host.is_blocked(requester)) {
            return Ok(());
        }
        let unit = UnitRole::Host;
        self.tracer.emit(now, || {
            if in_interrupt_range(address.0) {
                let reason = FaultReason::IR_ENTRY_NOT_PRESENT;
                let requester = Some(requester);
                Event::InterruptFault { unit, requester, index: None, reason, recorded: false }
            } else {
                let reason = FaultReason::CONTEXT_NOT_PRESENT;
                Event::DmaFault { unit, function: requester, address, reason, recorded: false }
            }
        });
        Err(RequestError::UnsupportedRequest)
    }

    /// A request has reached memory.
    fn record(&mut self, request: &DmaRequest, target: Gpa, length: usize, now: Instant) {
        self.tracer.emit(now, || Event::Dma {
            function: request.requester,
            address: request.address,
            address_type: request.address_type,
            access: request.access,
            length: u32::try_from(length).unwrap_or(u32::MAX),
        });
        let origin = self.origin.take();
        let GuestUnit { unit, oracle } = self.units.of(request.requester);
        if let Some(oracle) = oracle
            && let Some(event) = oracle.judge(request, origin, target, (unit, self.memory), now)
        {
            self.tracer.emit(now, || event);
        }
    }

    /// A request to the interrupt range that is no interrupt.
    fn refuse(&mut self, request: &DmaRequest, now: Instant) -> RequestError {
        let function = request.requester;
        self.units.of(function).unit.refuse_in_interrupt_range(function, now)
    }

    /// Whether a request is for interrupt remapping, whatever the tables map there (`VT-d 3.15`).
    fn is_for_interrupts(request: &DmaRequest) -> bool {
        request.address_type == AddressType::Untranslated
            && request.pasid.is_none()
            && in_interrupt_range(request.address.0)
    }

    /// A write to the interrupt range: an aligned dword is an interrupt, anything else is refused.
    fn interrupt_write(&mut self, request: &DmaRequest, data: &[u8], now: Instant) {
        match <[u8; 4]>::try_from(data) {
            Ok(data) if request.address.0.is_multiple_of(4) => {
                let msi = Msi { address: request.address.0, data: u32::from_le_bytes(data) };
                self.interrupt(
                    self.units.index(request.requester),
                    Some(request.requester),
                    msi,
                    now,
                );
            }
            _ => _ = self.refuse(request, now),
        }
    }
}

impl Upstream for ToMemory<'_> {
    fn read(
        &mut self,
        request: DmaRequest,
        data: &mut [u8],
        now: Instant,
    ) -> Result<(), RequestError> {
        self.admit(request.requester, request.address, now)?;
        if Self::is_for_interrupts(&request) {
            return Err(self.refuse(&request, now));
        }
        let unit = &mut self.units.of(request.requester).unit;
        let address = unit.dma(&request, self.memory, now)?;
        self.memory
            .read_slice(data, GuestAddress::from(address))
            .map_err(|_| RequestError::UnsupportedRequest)?;
        self.record(&request, address, data.len(), now);
        Ok(())
    }

    fn write(&mut self, request: DmaRequest, data: &[u8], now: Instant) {
        // A posted write that is refused, or to where there is no memory, is lost.
        let _ = self.write_observed(request, data, now);
    }

    fn write_observed(
        &mut self,
        request: DmaRequest,
        data: &[u8],
        now: Instant,
    ) -> Result<(), RequestError> {
        self.admit(request.requester, request.address, now)?;
        if Self::is_for_interrupts(&request) {
            self.interrupt_write(&request, data, now);
            return Ok(());
        }
        let unit = &mut self.units.of(request.requester).unit;
        let address = unit.dma(&request, self.memory, now)?;
        self.memory
            .write_slice(data, GuestAddress::from(address))
            .map_err(|_| RequestError::UnsupportedRequest)?;
        self.record(&request, address, data.len(), now);
        Ok(())
    }

    fn note_origin(&mut self, pasid: Option<Pasid>, address: Iova) {
        self.origin = Some((pasid, address));
    }

    fn peek(&self, address: Gpa, data: &mut [u8]) -> bool {
        self.memory.read_slice(data, GuestAddress::from(address)).is_ok()
    }

    fn translate(
        &mut self,
        request: TranslationRequest,
        now: Instant,
    ) -> Result<Translation, RequestError> {
        self.admit(request.requester, request.address, now)?;
        let GuestUnit { unit, oracle } = self.units.of(request.requester);
        let translation = unit.translation_request(&request, self.memory, now)?;
        if let Some(oracle) = oracle {
            oracle.translated(&request, &translation, (unit, self.memory));
        }
        Ok(translation)
    }
}
