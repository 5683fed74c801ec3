//! The function's requests for memory: cut at page boundaries, and translated by the ATC where the
//! command says so.
//!
//! ```text
//!                      untranslated (AT=00) -----------------------------> Upstream
//!   address, length -> pieces <
//!                      ATC: hit --------------------- translated (AT=10) -> Upstream
//!                           miss -> Translation Request (AT=01) ---------> Upstream
//! ```

use iommu::ats::{Access, AddressType, DmaRequest, Translation, TranslationRequest};
use iommu::event::{Event, Tracer};
use iommu::ids::{Bdf, Gpa, Iova, PAGE_SIZE, Pasid};
use iommu::time::Instant;

use super::atc::Atc;
use super::regs::Status;
use crate::pcie::Upstream;
use crate::pcie::caps::pasid::PasidControl;

/// What the function is allowed to send now, as its configuration space says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rights {
    /// The id that it has captured.
    pub(super) requester: Bdf,
    /// Bus Master Enable, in D0.
    pub(super) bus_master: bool,
    /// ATS is enabled.
    pub(super) ats: bool,
    /// What PASIDs may be used for.
    pub(super) pasid: PasidControl,
}

/// How an operation reaches memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Road {
    /// By translated requests, with a Translation Request on a miss.
    pub(super) use_atc: bool,
    /// In which address space.
    pub(super) pasid: Option<Pasid>,
}

/// The way out of the function during one call.
pub(super) struct Bus<'a> {
    pub(super) rights: Rights,
    pub(super) upstream: &'a mut dyn Upstream,
    pub(super) tracer: &'a Tracer,
    pub(super) now: Instant,
}

/// The data of an operation, and which way it goes.
pub(super) enum Transfer<'a> {
    /// From memory.
    Read(&'a mut [u8]),
    /// To memory.
    Write(&'a [u8]),
}

impl Transfer<'_> {
    fn access(&self) -> Access {
        match self {
            Self::Read(_) => Access::Read,
            Self::Write(_) => Access::Write,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Read(data) => data.len(),
            Self::Write(data) => data.len(),
        }
    }
}

/// The requests that a function has made so far, and its ATC.
#[derive(Debug, Default)]
pub(super) struct Dma {
    pub(super) atc: Atc,
    /// Requests done. A posted write is done when it is sent: what becomes of it nobody tells.
    pub(super) done: u32,
    /// Requests that failed.
    pub(super) failed: u32,
    /// Where the last translation that was used led.
    pub(super) translated: Gpa,
}

impl Dma {
    /// Moves `transfer` from or to `address`, page by page, until a piece fails.
    ///
    /// # Errors
    /// How that piece failed; those before it are done.
    pub(super) fn run(
        &mut self,
        address: Iova,
        mut transfer: Transfer<'_>,
        road: Road,
        bus: &mut Bus<'_>,
    ) -> Result<(), Status> {
        let mut done = 0;
        while done < transfer.len() {
            let at = Iova(address.0.wrapping_add(done as u64));
            let to_page_end = (PAGE_SIZE - at.0 % PAGE_SIZE) as usize;
            let end = transfer.len().min(done.saturating_add(to_page_end));
            let piece = match &mut transfer {
                Transfer::Read(data) => Transfer::Read(&mut data[done..end]),
                Transfer::Write(data) => Transfer::Write(&data[done..end]),
            };
            let outcome = self.piece(at, piece, road, bus);
            let counter = if outcome.is_ok() { &mut self.done } else { &mut self.failed };
            *counter = counter.wrapping_add(1);
            outcome?;
            done = end;
        }
        Ok(())
    }

    /// Makes sure that the ATC holds a translation of `address`, with whatever permissions it has.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn translate(
        &mut self,
        address: Iova,
        pasid: Option<Pasid>,
        bus: &mut Bus<'_>,
    ) -> Result<(), Status> {
        let translation = match self.atc.lookup(pasid, address) {
            Some(hit) => hit,
            None => self.request_translation(address, pasid, false, bus)?,
        };
        self.use_translation(translation, address);
        Ok(())
    }

    /// One request, within a page.
    fn piece(
        &mut self,
        address: Iova,
        transfer: Transfer<'_>,
        road: Road,
        bus: &mut Bus<'_>,
    ) -> Result<(), Status> {
        if !bus.rights.bus_master {
            return Err(Status::BusMasterOff);
        }
        let access = transfer.access();
        if road.pasid.is_some() && !bus.rights.pasid.enable() {
            return Err(Status::PasidOff);
        }
        let (address, address_type) = match road.use_atc {
            true => self.resolve(address, road.pasid, access, bus)?,
            false => (address, AddressType::Untranslated),
        };
        // The address space is in the translation already; units refuse it beside AT=10.
        let pasid = road.pasid.filter(|_| address_type == AddressType::Untranslated);
        let requester = bus.rights.requester;
        let request =
            DmaRequest { requester, pasid, privileged: false, address, address_type, access };
        match transfer {
            Transfer::Read(data) => bus.upstream.read(request, data, bus.now)?,
            Transfer::Write(data) => bus.upstream.write(request, data, bus.now),
        }
        Ok(())
    }

    /// The address to put into a request for `address`, and how it is to be taken.
    fn resolve(
        &mut self,
        address: Iova,
        pasid: Option<Pasid>,
        access: Access,
        bus: &mut Bus<'_>,
    ) -> Result<(Iova, AddressType), Status> {
        let permits = |translation: &Translation| match access {
            Access::Read => translation.read,
            Access::Write => translation.write,
        };
        // Software may widen permissions without an invalidation, so that an entry which does not
        // permit this access is asked for again before it fails it.
        let translation = match self.atc.lookup(pasid, address).filter(permits) {
            Some(hit) => hit,
            None => self.request_translation(address, pasid, access == Access::Read, bus)?,
        };
        if !permits(&translation) {
            return Err(Status::NoTranslation);
        }
        if translation.untranslated_only {
            return Ok((address, AddressType::Untranslated));
        }
        let output = self.use_translation(translation, address);
        Ok((Iova(output.0), AddressType::Translated))
    }

    /// Asks the remapping unit for the page at `address` and caches what it says.
    fn request_translation(
        &mut self,
        address: Iova,
        pasid: Option<Pasid>,
        no_write: bool,
        bus: &mut Bus<'_>,
    ) -> Result<Translation, Status> {
        if !bus.rights.bus_master {
            return Err(Status::BusMasterOff);
        }
        if !bus.rights.ats {
            return Err(Status::AtsOff);
        }
        let requester = bus.rights.requester;
        let request = TranslationRequest {
            requester,
            pasid,
            privileged: false,
            address: address.page(),
            no_write,
        };
        let translation = bus.upstream.translate(request, bus.now)?;
        if !(translation.read || translation.write) || !translation.range.contains(address) {
            return Err(Status::NoTranslation);
        }
        self.atc.insert(pasid, translation);
        bus.tracer.emit(bus.now, || Event::AtcFilled {
            function: requester,
            address: translation.range.start(),
            order: translation.range.order(),
        });
        Ok(translation)
    }

    fn use_translation(&mut self, translation: Translation, address: Iova) -> Gpa {
        // An output range that runs past 2^64 wraps, as an adder does.
        let offset = address.0.wrapping_sub(translation.range.start().0);
        self.translated = Gpa(translation.output.0.wrapping_add(offset));
        self.translated
    }
}
