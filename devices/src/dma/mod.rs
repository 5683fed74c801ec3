//! A function's requests for memory: split at page boundaries, and translated by its ATC if the
//! function wants that.
//!
//! ```text
//!                      untranslated (AT=00) -----------------------------> Upstream
//!   address, length -> pieces <
//!                      ATC: hit --------------------- translated (AT=10) -> Upstream
//!                           miss -> Translation Request (AT=01) ---------> Upstream
//! ```

pub mod atc;

use iommu::ats::{
    Access, AddressType, DmaRequest, InvalidateCompletion, InvalidateRequest, PageRange,
    RequestError, Translation, TranslationRequest,
};
use iommu::event::{Event, Tracer};
use iommu::ids::{Bdf, Gpa, Iova, PAGE_SIZE, Pasid};
use iommu::time::Instant;

use crate::pcie::spec::pasid::PasidControl;
use crate::pcie::{Upstream, UpstreamMessage};
use atc::{Atc, Geometry, Spaces};

/// The requests that the function may send now, by its configuration space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rights {
    /// Its requester id.
    pub(crate) requester: Bdf,
    /// Bus Master Enable is set, and the function is in D0.
    pub(crate) bus_master: bool,
    /// ATS is enabled.
    pub(crate) ats: bool,
    /// The addresses and sizes of ranges in ATS messages.
    pub(crate) unit: TranslationUnit,
    /// PASID Control.
    pub(crate) pasid: PasidControl,
    /// Tags for requests with a completion. One whose completion does not come keeps its tag.
    pub(crate) tags: u8,
}

/// The addresses and sizes of ranges in ATS messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TranslationUnit {
    /// Smallest Translation Unit, as log2 of pages (`PCIe 10.5.1.3`).
    pub(crate) order: u8,
    /// Translation Requests have the address of the access, instead of that of its page.
    pub(crate) unaligned: bool,
}

impl TranslationUnit {
    /// The address in a Translation Request for `address`.
    fn requested(self, address: Iova) -> Iova {
        match self {
            Self { order: 0, unaligned: true } => address,
            Self { order, .. } => PageRange::containing(address, 12 + order).start(),
        }
    }

    /// `range`, or the smallest one around it that a message can name.
    fn around(self, range: PageRange) -> PageRange {
        PageRange::containing(range.start(), range.order().max(12 + self.order))
    }
}

/// Why a request for memory failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DmaError {
    /// The read failed.
    Read(RequestError),
    /// The Translation Request failed.
    Translation(RequestError),
    /// The page has no translation, or one that does not permit the access.
    NoTranslation,
    /// ATS is disabled, or a Translation Request got Unsupported Request since it was enabled.
    AtsOff,
    /// Bus mastering is disabled.
    BusMasterOff,
    /// PASIDs are disabled.
    PasidOff,
    /// All tags are in use.
    NoTag,
}

impl DmaError {
    /// Whether the request has got no completion. It ends when the function's Completion Timeout
    /// has passed.
    pub(crate) const fn is_unanswered(self) -> bool {
        const LOST: RequestError = RequestError::CompletionTimeout;
        matches!(self, Self::Read(LOST) | Self::Translation(LOST))
    }
}

/// The path of a request to memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DmaPath {
    /// Use the ATC: translated requests, with a Translation Request on a miss.
    pub(crate) use_atc: bool,
    /// The address space, `None` for requests without PASID.
    pub(crate) pasid: Option<Pasid>,
    /// In privileged mode; only with a PASID.
    pub(crate) privileged: bool,
}

/// The function's access to the root complex, during one call.
pub(crate) struct Bus<'a> {
    pub(crate) rights: Rights,
    pub(crate) upstream: &'a mut dyn Upstream,
    pub(crate) tracer: &'a Tracer,
    pub(crate) now: Instant,
}

/// The data of a request, and its direction.
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

/// The DMA of a function: its ATC, and counts of its requests.
#[derive(Debug)]
pub(crate) struct Dma {
    pub(crate) atc: Atc,
    /// A Translation Request got Unsupported Request: the unit does not let this function use ATS.
    /// The function then sends no Translation Requests until ATS is enabled anew (`PCIe 10.2.3`).
    refused: bool,
    /// Requests done, wraps. A posted write is done when it is sent: the function does not learn
    /// more.
    pub(crate) done: u32,
    /// Requests that failed, wraps. The function adds those that are not answered when it gives
    /// them up.
    pub(crate) failed: u32,
    /// The output address of the last translation that was used.
    pub(crate) translated: Gpa,
    /// A request got no completion, and the function has not logged that yet.
    timed_out: bool,
}

impl Dma {
    /// An empty ATC, and no requests.
    pub(crate) fn new(geometry: Geometry) -> Self {
        let (atc, translated) = (Atc::new(geometry), Gpa(0));
        Self { atc, refused: false, done: 0, failed: 0, translated, timed_out: false }
    }

    /// Whether a request has got no completion since the last call.
    pub(crate) fn take_timed_out(&mut self) -> bool {
        std::mem::take(&mut self.timed_out)
    }

    /// Whether ATS may be used now.
    pub(crate) fn uses_ats(&self, rights: &Rights) -> bool {
        rights.ats && !self.refused
    }

    /// ATS of `function` is disabled: clears the ATC, and allows Translation Requests again when
    /// ATS is enabled.
    pub(crate) fn disable_ats(&mut self, function: Bdf, tracer: &Tracer, now: Instant) {
        self.refused = false;
        self.clear_atc(function, tracer, now);
    }

    /// Drops the entries that the Invalidate Request `dropped` covers, which obeys `request`. The two
    /// differ only if the function has a fault.
    pub(crate) fn obey(
        &mut self,
        request: &InvalidateRequest,
        dropped: Option<&InvalidateRequest>,
        unit: TranslationUnit,
        tracer: &Tracer,
        now: Instant,
    ) {
        let function = request.destination;
        let dropped =
            dropped.map_or(0, |it| self.atc.invalidate(Spaces::of(it), unit.around(it.range)));
        tracer.emit(now, || Event::AtcInvalidated { function, dropped });
    }

    /// The completion of `request`.
    ///
    /// The function also completes requests while ATS is disabled. The specification leaves that
    /// open, and some devices do not. Without a completion, a driver that disabled ATS too early
    /// would wait for ever.
    pub(crate) fn completion(request: &InvalidateRequest) -> UpstreamMessage {
        UpstreamMessage::InvalidateCompletion(InvalidateCompletion {
            requester: request.destination,
            itag_vector: request.itag.bit(),
            completion_count: 1,
        })
    }

    /// Reads or writes memory at `address`, with a request for each page.
    ///
    /// # Errors
    /// How the first request failed that did; those before it are done.
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
            if let Err(error) = self.piece(at, piece, path, bus) {
                self.failed = self.failed.wrapping_add(u32::from(!error.is_unanswered()));
                return Err(error);
            }
            self.done = self.done.wrapping_add(1);
            done = end;
        }
        Ok(())
    }

    /// Fills the ATC with a translation of `address`, if it has none. Permissions are not checked.
    ///
    /// # Errors
    /// [`DmaError`], if there is no translation.
    pub(crate) fn translate(
        &mut self,
        address: Iova,
        path: DmaPath,
        bus: &mut Bus<'_>,
    ) -> Result<(), DmaError> {
        let is_of_mode = |hit: &Translation| hit.privileged == path.privileged;
        let translation = match self.atc.lookup(path.pasid, address).filter(is_of_mode) {
            Some(hit) => hit,
            None => self.request_translation(address, path, false, bus)?,
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
        let origin = address;
        let (address, address_type) = match path.use_atc {
            true => self.resolve(address, path, access, bus)?,
            false => (address, AddressType::Untranslated),
        };
        if address_type == AddressType::Translated {
            bus.upstream.note_origin(path.pasid, origin);
        }
        // A translated request has no PASID: units block it.
        let pasid = path.pasid.filter(|_| address_type == AddressType::Untranslated);
        let privileged = path.privileged && pasid.is_some();
        let requester = bus.rights.requester;
        let request = DmaRequest { requester, pasid, privileged, address, address_type, access };
        match transfer {
            Transfer::Read(data) => {
                if bus.rights.tags == 0 {
                    return Err(DmaError::NoTag);
                }
                bus.upstream
                    .read(request, data, bus.now)
                    .map_err(|error| self.failed_request(DmaError::Read(error), bus))?;
            }
            Transfer::Write(data) => bus.upstream.write(request, data, bus.now),
        }
        Ok(())
    }

    /// The address and the address type of a request for `address`.
    fn resolve(
        &mut self,
        address: Iova,
        path: DmaPath,
        access: Access,
        bus: &mut Bus<'_>,
    ) -> Result<(Iova, AddressType), DmaError> {
        // The permissions of privileged requests are those of them alone.
        let permits = |translation: &Translation| match access {
            _ if translation.privileged != path.privileged => false,
            Access::Read => translation.read,
            Access::Write => translation.write,
        };
        // Software may widen permissions without an invalidation. The function therefore asks again
        // before an access fails by the permissions of a cached entry.
        let translation = match self.atc.lookup(path.pasid, address).filter(permits) {
            Some(hit) => hit,
            None => self.request_translation(address, path, access == Access::Read, bus)?,
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

    /// Sends a Translation Request for the page at `address`, and caches the translation.
    fn request_translation(
        &mut self,
        address: Iova,
        path: DmaPath,
        no_write: bool,
        bus: &mut Bus<'_>,
    ) -> Result<Translation, DmaError> {
        if !bus.rights.bus_master {
            return Err(DmaError::BusMasterOff);
        }
        if !self.uses_ats(&bus.rights) {
            return Err(DmaError::AtsOff);
        }
        if bus.rights.tags == 0 {
            return Err(DmaError::NoTag);
        }
        let requester = bus.rights.requester;
        let request = TranslationRequest {
            requester,
            pasid: path.pasid,
            privileged: path.privileged,
            address: bus.rights.unit.requested(address),
            no_write,
        };
        let translation = match bus.upstream.translate(request, bus.now) {
            Ok(translation) => translation,
            Err(error) => {
                if error == RequestError::UnsupportedRequest {
                    self.refused = true;
                    self.clear_atc(requester, bus.tracer, bus.now);
                }
                return Err(self.failed_request(DmaError::Translation(error), bus));
            }
        };
        if !(translation.read || translation.write) || !translation.range.contains(address) {
            return Err(DmaError::NoTranslation);
        }
        self.atc.insert(path.pasid, translation);
        bus.tracer.emit(bus.now, || Event::AtcFilled {
            function: requester,
            address: translation.range.start(),
            order: translation.range.order(),
        });
        Ok(translation)
    }

    /// Notes a request that is not answered, which keeps its tag.
    fn failed_request(&mut self, error: DmaError, bus: &mut Bus<'_>) -> DmaError {
        if error.is_unanswered() {
            self.timed_out = true;
            bus.rights.tags = bus.rights.tags.saturating_sub(1);
        }
        error
    }

    fn clear_atc(&mut self, function: Bdf, tracer: &Tracer, now: Instant) {
        let dropped = self.atc.clear();
        if dropped > 0 {
            tracer.emit(now, || Event::AtcInvalidated { function, dropped });
        }
    }

    fn use_translation(&mut self, translation: Translation, address: Iova) -> Gpa {
        // An output range past 2^64 wraps.
        let offset = address.0.wrapping_sub(translation.range.start().0);
        self.translated = Gpa(translation.output.0.wrapping_add(offset));
        self.translated
    }
}
