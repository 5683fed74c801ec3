//! A function's requests for memory: cut at page boundaries, and translated by its ATC where it
//! wants that.
//!
//! ```text
//!                      untranslated (AT=00) -----------------------------> Upstream
//!   address, length -> pieces <
//!                      ATC: hit --------------------- translated (AT=10) -> Upstream
//!                           miss -> Translation Request (AT=01) ---------> Upstream
//! ```

pub mod atc;

use iommu::ats::{
    Access, AddressType, DmaRequest, InvalidateCompletion, InvalidateRequest, RequestError,
    Translation, TranslationRequest,
};
use iommu::event::{Event, Tracer};
use iommu::ids::{Bdf, Gpa, Iova, PAGE_SIZE, Pasid};
use iommu::time::Instant;

use crate::pcie::spec::pasid::PasidControl;
use crate::pcie::{Upstream, UpstreamMessage};
use atc::{Atc, Geometry, Spaces};

/// What the function is allowed to send now, as its configuration space says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rights {
    /// The id that it has captured.
    pub(crate) requester: Bdf,
    /// Bus Master Enable, in D0.
    pub(crate) bus_master: bool,
    /// ATS is enabled.
    pub(crate) ats: bool,
    /// What PASIDs may be used for.
    pub(crate) pasid: PasidControl,
}

/// Why a function's request for memory failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DmaError {
    /// The read did.
    Read(RequestError),
    /// The Translation Request before it did.
    Translation(RequestError),
    /// There is no translation, or it does not permit the access.
    NoTranslation,
    /// ATS is not enabled, or the unit has refused a Translation Request since it was.
    AtsOff,
    /// Bus mastering is off.
    BusMasterOff,
    /// PASIDs are not enabled.
    PasidOff,
}

/// How an operation reaches memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DmaPath {
    /// By translated requests, with a Translation Request on a miss.
    pub(crate) use_atc: bool,
    /// In which address space.
    pub(crate) pasid: Option<Pasid>,
}

/// The way out of the function during one call.
pub(crate) struct Bus<'a> {
    pub(crate) rights: Rights,
    pub(crate) upstream: &'a mut dyn Upstream,
    pub(crate) tracer: &'a Tracer,
    pub(crate) now: Instant,
}

/// The data of an operation, and which way it goes.
pub(crate) enum Transfer<'a> {
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
#[derive(Debug)]
pub(crate) struct Dma {
    pub(crate) atc: Atc,
    /// A Translation Request was answered with Unsupported Request: the unit does not let this
    /// function use ATS, which the function then leaves alone until it is enabled anew
    /// (`PCIe 10.2.3`).
    refused: bool,
    /// Requests done. A posted write is done when it is sent: what becomes of it nobody tells.
    pub(crate) done: u32,
    /// Requests that failed.
    pub(crate) failed: u32,
    /// Where the last translation that was used led.
    pub(crate) translated: Gpa,
}

impl Dma {
    /// Nothing yet.
    pub(crate) fn new(geometry: Geometry) -> Self {
        let (atc, translated) = (Atc::new(geometry), Gpa(0));
        Self { atc, refused: false, done: 0, failed: 0, translated }
    }

    /// Whether ATS may be used now.
    pub(crate) fn uses_ats(&self, rights: &Rights) -> bool {
        rights.ats && !self.refused
    }

    /// ATS of `function` is off: drops what the ATC holds, and forgets that the unit has refused it.
    pub(crate) fn disable_ats(&mut self, function: Bdf, tracer: &Tracer, now: Instant) {
        self.refused = false;
        self.clear_atc(function, tracer, now);
    }

    /// An Invalidate Request to the function: drops what it covers; returns the answer.
    ///
    /// With ATS off the function answers too. The specification leaves that open, some devices stay
    /// mute; answering is what keeps a driver that turned ATS off too early from waiting for ever.
    pub(crate) fn invalidate(
        &mut self,
        request: &InvalidateRequest,
        tracer: &Tracer,
        now: Instant,
    ) -> UpstreamMessage {
        let function = request.destination;
        let dropped = self.atc.invalidate(Spaces::of(request), request.range);
        tracer.emit(now, || Event::AtcInvalidated { function, dropped });
        UpstreamMessage::InvalidateCompletion(InvalidateCompletion {
            requester: function,
            itag_vector: request.itag.bit(),
            completion_count: 1,
        })
    }

    /// Moves `transfer` from or to `address`, page by page, until a piece fails.
    ///
    /// # Errors
    /// How that piece failed; those before it are done.
    pub(crate) fn run(
        &mut self,
        address: Iova,
        mut transfer: Transfer<'_>,
        path: DmaPath,
        bus: &mut Bus<'_>,
    ) -> Result<(), DmaError> {
        let mut done = 0;
        while done < transfer.len() {
            let at = Iova(address.0.wrapping_add(done as u64));
            let to_page_end = (PAGE_SIZE - at.0 % PAGE_SIZE) as usize;
            let end = transfer.len().min(done.saturating_add(to_page_end));
            let piece = match &mut transfer {
                Transfer::Read(data) => Transfer::Read(&mut data[done..end]),
                Transfer::Write(data) => Transfer::Write(&data[done..end]),
            };
            let outcome = self.piece(at, piece, path, bus);
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
    pub(crate) fn translate(
        &mut self,
        address: Iova,
        pasid: Option<Pasid>,
        bus: &mut Bus<'_>,
    ) -> Result<(), DmaError> {
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
        path: DmaPath,
        bus: &mut Bus<'_>,
    ) -> Result<(), DmaError> {
        if !bus.rights.bus_master {
            return Err(DmaError::BusMasterOff);
        }
        let access = transfer.access();
        if path.pasid.is_some() && !bus.rights.pasid.enable() {
            return Err(DmaError::PasidOff);
        }
        let (address, address_type) = match path.use_atc {
            true => self.resolve(address, path.pasid, access, bus)?,
            false => (address, AddressType::Untranslated),
        };
        // The address space is in the translation already; units refuse it beside AT=10.
        let pasid = path.pasid.filter(|_| address_type == AddressType::Untranslated);
        let requester = bus.rights.requester;
        let request =
            DmaRequest { requester, pasid, privileged: false, address, address_type, access };
        match transfer {
            Transfer::Read(data) => {
                bus.upstream.read(request, data, bus.now).map_err(DmaError::Read)?;
            }
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
    ) -> Result<(Iova, AddressType), DmaError> {
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
            return Err(DmaError::NoTranslation);
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
    ) -> Result<Translation, DmaError> {
        if !bus.rights.bus_master {
            return Err(DmaError::BusMasterOff);
        }
        if !self.uses_ats(&bus.rights) {
            return Err(DmaError::AtsOff);
        }
        let requester = bus.rights.requester;
        let request = TranslationRequest {
            requester,
            pasid,
            privileged: false,
            address: address.page(),
            no_write,
        };
        let translation = match bus.upstream.translate(request, bus.now) {
            Ok(translation) => translation,
            Err(error) => {
                if error == RequestError::UnsupportedRequest {
                    self.refused = true;
                    self.clear_atc(requester, bus.tracer, bus.now);
                }
                return Err(DmaError::Translation(error));
            }
        };
        if !(translation.read || translation.write) || !translation.range.contains(address) {
            return Err(DmaError::NoTranslation);
        }
        self.atc.insert(pasid, translation);
        bus.tracer.emit(bus.now, || Event::AtcFilled {
            function: requester,
            address: translation.range.start(),
            order: translation.range.order(),
        });
        Ok(translation)
    }

    fn clear_atc(&mut self, function: Bdf, tracer: &Tracer, now: Instant) {
        let dropped = self.atc.clear();
        if dropped > 0 {
            tracer.emit(now, || Event::AtcInvalidated { function, dropped });
        }
    }

    fn use_translation(&mut self, translation: Translation, address: Iova) -> Gpa {
        // An output range that runs past 2^64 wraps, as an adder does.
        let offset = address.0.wrapping_sub(translation.range.start().0);
        self.translated = Gpa(translation.output.0.wrapping_add(offset));
        self.translated
    }
}
