//! DMA remapping (`VT-d 3`, `VT-d 4`): from a request to an address or a fault.
//!
//! ```text
//! request --> context cache --> IOTLB --> output address
//!                 | miss           | miss
//!             root, context,    second-stage walk
//!             PASID tables
//! ```
//!
//! Both caches keep what they hold until software invalidates it, whatever the tables say by then,
//! as hardware does. What is not present is never kept (CAP.CM is 0).

mod context;
mod iotlb;
mod walk;

use context::{Context, ContextCache, Stage};
use iotlb::Iotlb;
use walk::Walk;

use super::config::UnitConfig;
use crate::Memory;
use crate::ats::{Access, AddressType, DmaRequest, PageRange, RequestError};
use crate::ats::{Translation, TranslationRequest};
use crate::ids::{Bdf, Gpa, Iova, PAGE_SIZE, Pasid};
use crate::spec::control::{RootTableAddress, TableMode};
use crate::spec::descriptor::{ContextScope, IotlbScope, PasidScope};
use crate::spec::fault::FaultReason;

/// Addresses 0xfee00000 to 0xfeefffff: a write there is an interrupt, and no page may map there
/// (`VT-d 3.15`).
pub const fn in_interrupt_range(address: u64) -> bool {
    address >> 20 == 0xfee
}

/// Why a request was blocked, and all that a fault record says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) requester: Bdf,
    pub(crate) pasid: Option<Pasid>,
    pub(crate) address: Iova,
    pub(crate) address_type: u8,
    pub(crate) access: Access,
    pub(crate) reason: FaultReason,
    /// The tables ask for no record (FPD), and the reason allows that.
    pub(crate) silenced: bool,
    pub(crate) answer: RequestError,
}

/// A failure somewhere along the tables, before it is known who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failure {
    reason: FaultReason,
    /// What a Translation Request is answered: an error, or Success without permissions, which is
    /// no fault at all.
    to_translation_request: Result<(), RequestError>,
    silenced: bool,
}

impl Failure {
    /// Recorded always.
    const fn new(reason: FaultReason, answer: RequestError) -> Self {
        Self { reason, to_translation_request: Err(answer), silenced: false }
    }

    /// Recorded unless `fpd`.
    const fn qualified(reason: FaultReason, answer: RequestError, fpd: bool) -> Self {
        Self { reason, to_translation_request: Err(answer), silenced: fpd }
    }

    /// Recorded unless `fpd`; a Translation Request gets Success without permissions.
    const fn recoverable(reason: FaultReason, fpd: bool) -> Self {
        Self { reason, to_translation_request: Ok(()), silenced: fpd }
    }
}

/// The tables that requests are looked up in, and the caches of what was found.
#[derive(Debug)]
pub(crate) struct Translator {
    config: UnitConfig,
    /// GSTS.TES.
    enabled: bool,
    /// RTADDR as SRTP has latched it.
    root: RootTableAddress,
    contexts: ContextCache,
    iotlb: Iotlb,
}

/// What the translation of one page has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    output: Gpa,
    /// log2 of the size of the page that maps it.
    order: u8,
    read: bool,
    write: bool,
}

impl Translator {
    pub(crate) fn new(config: UnitConfig) -> Self {
        Self {
            config,
            enabled: false,
            root: RootTableAddress::new(),
            contexts: ContextCache::new(),
            iotlb: Iotlb::new(),
        }
    }

    pub(crate) fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    pub(crate) fn enabled(&self) -> bool {
        self.enabled
    }

    pub(crate) fn set_root(&mut self, root: RootTableAddress) {
        self.root = root;
    }

    /// How the latched root table is to be read.
    pub(crate) fn mode(&self) -> TableMode {
        match self.root.mode() {
            0 => TableMode::Legacy,
            1 if self.config.scalable_mode => TableMode::Scalable,
            _ => TableMode::Invalid,
        }
    }

    pub(crate) fn invalidate_contexts(&mut self, scope: ContextScope) {
        self.contexts.invalidate(scope, self.mode() == TableMode::Scalable);
    }

    pub(crate) fn invalidate_pasids(&mut self, scope: PasidScope) {
        self.contexts.invalidate_pasids(scope);
    }

    pub(crate) fn invalidate_iotlb(&mut self, scope: IotlbScope) {
        self.iotlb.invalidate(scope);
    }

    /// Where a DMA request goes.
    pub(crate) fn dma(&mut self, request: &DmaRequest, memory: &Memory) -> Result<Gpa, Fault> {
        let translated = request.address_type == AddressType::Translated;
        let fault = |failure: Failure| Fault {
            requester: request.requester,
            pasid: request.pasid,
            address: request.address,
            address_type: if translated { 2 } else { 0 },
            access: request.access,
            reason: failure.reason,
            silenced: failure.silenced,
            answer: RequestError::UnsupportedRequest,
        };
        if !self.enabled {
            // Only untranslated requests pass a unit that does not translate (VT-d 4.2.1); the
            // others are no fault of the tables: nothing is recorded.
            let unsupported = Failure::qualified(
                FaultReason::ATS_BLOCKED,
                RequestError::UnsupportedRequest,
                true,
            );
            return if translated { Err(fault(unsupported)) } else { Ok(Gpa(request.address.0)) };
        }
        let context = self.context(request.requester, request.pasid, memory).map_err(fault)?;
        if translated {
            return context.check_translated(request.address).map_err(fault);
        }
        let mapping = self.mapping(&context, request.address, memory).map_err(fault)?;
        let (granted, denied) = match request.access {
            Access::Read => (mapping.read, Reason::ReadDenied),
            Access::Write => (mapping.write, Reason::WriteDenied),
        };
        if granted {
            return Ok(mapping.output);
        }
        // Legacy mode says of an absent entry which permission was missing.
        let absent = context.scalable && !mapping.read && !mapping.write;
        let reason = context.reason(if absent { Reason::NotPresent } else { denied });
        Err(fault(Failure::recoverable(reason, context.fault_disable)))
    }

    /// What an ATS Translation Request is answered (`VT-d 4.1.2`). `Err(None)` is an error that is
    /// not recorded.
    pub(crate) fn translation_request(
        &mut self,
        request: &TranslationRequest,
        memory: &Memory,
    ) -> Result<Translation, (RequestError, Option<Fault>)> {
        if !self.enabled {
            return Err((RequestError::UnsupportedRequest, None));
        }
        let nothing = Translation {
            range: PageRange::page(request.address),
            output: Gpa(0),
            read: false,
            write: false,
            untranslated_only: false,
        };
        if in_interrupt_range(request.address.0) && request.pasid.is_none() {
            // Lets a function that asks for its MSI address fall back to untranslated writes.
            let interrupt = !request.no_write;
            return Ok(Translation { write: interrupt, untranslated_only: interrupt, ..nothing });
        }
        match self.ats_mapping(request, memory) {
            Ok(mapping) if mapping.read || mapping.write => {
                let range = PageRange::containing(request.address, mapping.order);
                let below = request.address.page().0 - range.start().0;
                let output = Gpa(mapping.output.page().0 - below);
                Ok(Translation {
                    range,
                    output,
                    read: mapping.read,
                    write: mapping.write,
                    ..nothing
                })
            }
            Ok(_) => Ok(nothing),
            Err(failure) => match failure.to_translation_request {
                Ok(()) => Ok(nothing),
                Err(answer) => Err((
                    answer,
                    Some(Fault {
                        requester: request.requester,
                        pasid: request.pasid,
                        address: request.address,
                        address_type: 1,
                        access: Access::Read,
                        reason: failure.reason,
                        silenced: failure.silenced,
                        answer,
                    }),
                )),
            },
        }
    }

    fn ats_mapping(
        &mut self,
        request: &TranslationRequest,
        memory: &Memory,
    ) -> Result<Mapping, Failure> {
        let context = self.context(request.requester, request.pasid, memory)?;
        context.check_ats()?;
        self.mapping(&context, request.address, memory)
    }

    fn context(
        &mut self,
        requester: Bdf,
        pasid: Option<Pasid>,
        memory: &Memory,
    ) -> Result<Context, Failure> {
        if let Some(context) = self.contexts.lookup(requester, pasid) {
            return Ok(context);
        }
        let context = match self.mode() {
            TableMode::Legacy => context::read_legacy(self.root, requester, pasid, memory)?,
            TableMode::Scalable => context::read_scalable(self.root, requester, pasid, memory)?,
            TableMode::Invalid => {
                let reason = FaultReason::TABLE_MODE_INVALID;
                return Err(Failure::new(reason, RequestError::CompleterAbort));
            }
        };
        self.contexts.insert(requester, pasid, context);
        Ok(context)
    }

    fn mapping(
        &mut self,
        context: &Context,
        address: Iova,
        memory: &Memory,
    ) -> Result<Mapping, Failure> {
        let (root, levels) = match context.stage {
            Stage::PassThrough => return context.pass_through(address),
            Stage::Second { root, levels } => (root, levels),
        };
        if let Some(mapping) = self.iotlb.lookup(context.domain, address) {
            return Ok(mapping);
        }
        let walk = Walk { root, levels, context };
        let mapping = walk.run(address, memory)?;
        if in_interrupt_range(mapping.output.0) {
            let answer = RequestError::CompleterAbort;
            let reason = context.reason(Reason::InterruptRange);
            return Err(Failure::qualified(reason, answer, context.fault_disable));
        }
        self.iotlb.insert(context.domain, address, mapping);
        Ok(mapping)
    }
}

/// Faults that legacy and scalable mode number differently.
#[derive(Debug, Clone, Copy)]
enum Reason {
    BeyondWidth,
    WriteDenied,
    ReadDenied,
    NotPresent,
    RootInaccessible,
    TableInaccessible,
    TableReserved,
    HostBeyondWidth,
    InterruptRange,
    AtsBlocked,
}

impl Context {
    fn reason(&self, reason: Reason) -> FaultReason {
        use FaultReason as R;
        let (legacy, scalable) = match reason {
            Reason::BeyondWidth => (R::ADDRESS_BEYOND_WIDTH, R::SM_ADDRESS_BEYOND_WIDTH),
            Reason::WriteDenied => (R::WRITE_DENIED, R::SM_WRITE_DENIED),
            Reason::ReadDenied => (R::READ_DENIED, R::SM_READ_DENIED),
            Reason::NotPresent => (R::READ_DENIED, R::SM_PAGE_NOT_PRESENT),
            Reason::RootInaccessible => (R::CONTEXT_INVALID, R::SM_PAGE_ROOT_INACCESSIBLE),
            Reason::TableInaccessible => {
                (R::PAGE_TABLE_INACCESSIBLE, R::SM_PAGE_TABLE_INACCESSIBLE)
            }
            Reason::TableReserved => (R::PAGE_TABLE_RESERVED, R::SM_PAGE_TABLE_RESERVED),
            Reason::HostBeyondWidth => (R::ADDRESS_BEYOND_WIDTH, R::SM_HOST_ADDRESS_BEYOND_WIDTH),
            Reason::InterruptRange => (R::INTERRUPT_RANGE, R::SM_INTERRUPT_RANGE),
            Reason::AtsBlocked => (R::ATS_BLOCKED, R::SM_ATS_BLOCKED),
        };
        if self.scalable { scalable } else { legacy }
    }

    /// Whether Translation Requests are allowed.
    fn check_ats(&self) -> Result<(), Failure> {
        if self.device_tlb {
            return Ok(());
        }
        let answer = RequestError::UnsupportedRequest;
        Err(Failure::qualified(self.reason(Reason::AtsBlocked), answer, self.fault_disable))
    }

    /// A translated request is taken at its word, within bounds (`VT-d 4.2.3`).
    fn check_translated(&self, address: Iova) -> Result<Gpa, Failure> {
        self.check_ats()?;
        self.check_host_address(address)?;
        if in_interrupt_range(address.0) {
            let answer = RequestError::UnsupportedRequest;
            let reason = self.reason(Reason::InterruptRange);
            return Err(Failure::qualified(reason, answer, self.fault_disable));
        }
        Ok(Gpa(address.0))
    }

    /// Output equals input, at the largest page size, so that an ATC needs one entry.
    fn pass_through(&self, address: Iova) -> Result<Mapping, Failure> {
        self.check_host_address(address)?;
        Ok(Mapping { output: Gpa(address.0), order: 30, read: true, write: true })
    }

    fn check_host_address(&self, address: Iova) -> Result<(), Failure> {
        if address.0 >> UnitConfig::HOST_ADDRESS_WIDTH == 0 {
            return Ok(());
        }
        let reason = self.reason(Reason::HostBeyondWidth);
        Err(Failure::recoverable(reason, self.fault_disable))
    }
}

/// The byte of the page at `output` that `address` names.
const fn with_offset(output: u64, address: Iova, order: u8) -> Gpa {
    let mask = (1_u64 << order) - 1;
    Gpa((output & !mask) | (address.0 & mask))
}

const _: () = assert!(PAGE_SIZE == 1 << 12);

#[cfg(test)]
mod tests;
