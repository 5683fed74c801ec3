//! How the unit answers requests, from its caches or from the tables.

use super::context::{self, ContextEntry, ScalableContext};
use super::failure::{Answer, CA, Failure, Fault, S0, UR};
use super::first_stage::{FirstStageWalk, NOTHING, Request};
use super::iotlb::Age;
use super::paging::Table;
use super::pasid::{self, FirstStage, Stage};
use super::second_stage::{Walk, Walked};
use super::shard::{Caches, Context, LastHit};
use super::update::{TableStage, UpdateError, Updates};
use super::{Lookup, Mapping, in_interrupt_range};
use crate::ats::{
    Access, AddressType, DmaRequest, PageRange, RequestError, Translation, TranslationRequest,
};
use crate::ids::{Bdf, DomainId, Gpa, Iova, Pasid};
use crate::spec::control::TableMode;
use crate::spec::fault::FaultReason as R;

/// The size of pass-through pages in Translation Completions, as log2.
const PASS_THROUGH_ORDER: u8 = 30;

/// How often a walk starts again because software has changed an entry before its accessed or dirty
/// bit was set. Software that does nothing else cannot win that often.
const UPDATE_TRIES: usize = 1000;

impl Lookup<'_> {
    /// Translates a DMA request.
    pub(super) fn dma(&self, caches: &mut Caches, request: &DmaRequest) -> Result<Gpa, Fault> {
        if request.address_type == AddressType::Untranslated
            && let Some(address) = self.last_hit(caches, request)
        {
            return Ok(address);
        }
        self.dma_slow(caches, request).map_err(|failure| Fault {
            requester: request.requester,
            pasid: request.pasid,
            privileged: request.privileged,
            execute: false,
            address: request.address,
            address_type: if request.address_type == AddressType::Translated { 2 } else { 0 },
            access: request.access,
            reason: failure.reason,
            silenced: failure.silenced,
            answer: RequestError::UnsupportedRequest,
        })
    }

    /// The page of the previous request. It is valid unless it was invalidated since.
    fn last_hit(&self, caches: &Caches, request: &DmaRequest) -> Option<Gpa> {
        let last = caches.last.as_ref()?;
        let same = last.page == request.address.0 >> 12
            && last.requester == request.requester
            && last.pasid == request.pasid
            && last.privileged == request.privileged
            && last.age >= self.translator.invalidations.oldest_valid(last.domain);
        let serves = last.mapping.serves(request.access) && last.mapping.grants(request.access);
        (same && serves && caches.tables.enabled)
            .then(|| super::with_offset(last.mapping.output.0, request.address.0, 12))
    }

    fn dma_slow(&self, caches: &mut Caches, request: &DmaRequest) -> Result<Gpa, Failure> {
        let translated = request.address_type == AddressType::Translated;
        if !caches.tables.enabled {
            // A disabled unit passes untranslated requests only (VT-d 4.2.1). It blocks others
            // without a fault record.
            return match translated {
                true => Err(Failure::qualified(R::ATS_BLOCKED, UR, true)),
                false => Ok(Gpa(request.address.0)),
            };
        }
        // Caches and tables are read after this, so that their contents are at least as recent as
        // `age`.
        let age = self.translator.invalidations.now();
        if translated {
            let entry = self.context_entry(caches, request.requester, request.pasid)?;
            return self.check_translated(&entry, request.address);
        }
        let context = self.context(caches, request.requester, request.pasid)?;
        let walk = Request {
            address: request.address.0,
            write: request.access == Access::Write,
            privileged: context.privilege(request.privileged)?,
            translation: false,
        };
        let mapping = self.mapping(caches, &context, &walk, age)?;
        // Walks check their output themselves (VT-d 7.1.3, LGN.4 and SGN.8).
        if context.stage == Stage::PassThrough && in_interrupt_range(mapping.output.0) {
            let reason = context.pick(R::INTERRUPT_RANGE, R::SM_INTERRUPT_RANGE);
            return Err(Failure::qualified(reason, UR, context.fault_disable));
        }
        if !mapping.grants(request.access) {
            return Err(context.denied(request.access, &mapping));
        }
        self.remember(caches, request, context.domain, age, mapping);
        Ok(mapping.output)
    }

    fn remember(
        &self,
        caches: &mut Caches,
        request: &DmaRequest,
        domain: DomainId,
        age: Age,
        mapping: Mapping,
    ) {
        caches.last = Some(LastHit {
            requester: request.requester,
            pasid: request.pasid,
            privileged: request.privileged,
            page: request.address.0 >> 12,
            domain,
            age,
            mapping,
        });
    }

    /// Answers an ATS Translation Request (`VT-d 4.1.2`): the completion, and the fault to record.
    pub(super) fn translation(
        &self,
        caches: &mut Caches,
        request: &TranslationRequest,
    ) -> (Result<Translation, RequestError>, Option<Fault>) {
        if !caches.tables.enabled {
            return (Err(RequestError::UnsupportedRequest), None);
        }
        let nothing = Translation {
            range: PageRange::page(request.address),
            output: Gpa(0),
            read: false,
            write: false,
            untranslated_only: false,
            privileged: request.privileged && request.pasid.is_some(),
        };
        if in_interrupt_range(request.address.0) && request.pasid.is_none() {
            // A function that asks for its MSI address can then fall back to untranslated writes.
            let interrupt = !request.no_write;
            let answer = Translation { write: interrupt, untranslated_only: interrupt, ..nothing };
            return (Ok(answer), None);
        }
        let failure = match self.ats_mapping(caches, request) {
            Ok(mapping) if mapping.read || mapping.write => {
                let range = PageRange::containing(request.address, mapping.order);
                let output = super::with_offset(mapping.output.0, 0, mapping.order);
                let (read, write) = (mapping.read, mapping.write);
                return (Ok(Translation { range, output, read, write, ..nothing }), None);
            }
            Ok(_) => return (Ok(nothing), None),
            Err(failure) => failure,
        };
        let answer = match failure.answer {
            Answer::NoTranslation if failure.reason != R::FIRST_STAGE_UPDATE_FAILED => {
                return (Ok(nothing), None);
            }
            // Table 30 has this one reason that is recorded beside a successful completion.
            Answer::NoTranslation => Ok(nothing),
            Answer::Error(answer) => Err(answer),
        };
        let fault = Fault {
            requester: request.requester,
            pasid: request.pasid,
            privileged: request.privileged,
            execute: false,
            address: request.address,
            address_type: 1,
            access: Access::Read,
            reason: failure.reason,
            silenced: failure.silenced,
            answer: RequestError::UnsupportedRequest,
        };
        (answer, Some(fault))
    }

    fn ats_mapping(
        &self,
        caches: &mut Caches,
        request: &TranslationRequest,
    ) -> Result<Mapping, Failure> {
        let entry = self.context_entry(caches, request.requester, request.pasid)?;
        entry.check_ats()?;
        let context = self.context_of(caches, request.requester, &entry, request.pasid)?;
        // The request stands for reads and writes, unless NW is set and the unit honors it.
        let config = &self.translator.config;
        let reads_only = config.no_write_flag && request.no_write;
        let walk = Request {
            address: request.address.0,
            write: !reads_only,
            privileged: context.privilege(request.privileged)?,
            translation: true,
        };
        let age = self.translator.invalidations.now();
        let mapping = self.mapping(caches, &context, &walk, age)?;
        Ok(Mapping { write: mapping.write && !reads_only, ..mapping })
    }

    /// The context of the function's requests.
    #[inline]
    pub(super) fn context(
        &self,
        caches: &mut Caches,
        requester: Bdf,
        pasid: Option<Pasid>,
    ) -> Result<Context, Failure> {
        if pasid.is_none()
            && let Some(ContextEntry::Legacy { context, .. }) = caches.contexts.lookup(requester)
        {
            return Ok(*context);
        }
        let entry = self.context_entry(caches, requester, pasid)?;
        self.context_of(caches, requester, &entry, pasid)
    }

    fn context_of(
        &self,
        caches: &mut Caches,
        requester: Bdf,
        entry: &ContextEntry,
        pasid: Option<Pasid>,
    ) -> Result<Context, Failure> {
        match entry {
            ContextEntry::Legacy { context, .. } => Ok(*context),
            ContextEntry::Scalable(entry) => self.pasid_entry(caches, requester, entry, pasid),
        }
    }

    pub(super) fn context_entry(
        &self,
        caches: &mut Caches,
        requester: Bdf,
        pasid: Option<Pasid>,
    ) -> Result<ContextEntry, Failure> {
        let (config, root) = (&self.translator.config, caches.tables.root);
        let mode = caches.tables.mode(config);
        if mode == TableMode::Legacy && pasid.is_some() {
            return Err(Failure::new(R::PASID_IN_LEGACY_MODE, UR));
        }
        if let Some(entry) = caches.contexts.lookup(requester) {
            return Ok(*entry);
        }
        if let Some(failure) = self.faulty(|| caches.contexts.faulty().lookup(requester)) {
            return Err(failure);
        }
        let entry = match mode {
            TableMode::Legacy => context::read_legacy(config, root, requester, self.memory),
            TableMode::Scalable => context::read_scalable(config, root, requester, self.memory)
                .map(ContextEntry::Scalable),
            TableMode::Invalid => return Err(Failure::new(R::TABLE_MODE_INVALID, CA)),
        };
        match entry {
            Ok(entry) => caches.contexts.insert(requester, entry),
            Err(failure) if config.caching_mode => {
                caches.contexts.faulty().insert(requester, failure);
            }
            Err(_) => {}
        }
        entry
    }

    pub(super) fn pasid_entry(
        &self,
        caches: &mut Caches,
        requester: Bdf,
        entry: &ScalableContext,
        pasid: Option<Pasid>,
    ) -> Result<Context, Failure> {
        let pasid = entry.choose_pasid(&self.translator.config, pasid)?;
        if let Some(context) = caches.pasids.lookup(requester, pasid) {
            return Ok(*context);
        }
        let key = (requester, pasid);
        if let Some(failure) = self.faulty(|| caches.pasids.faulty().lookup(key)) {
            return Err(failure);
        }
        let config = &self.translator.config;
        let context = pasid::read(config, entry, pasid, self.memory);
        match context {
            Ok(context) => caches.pasids.insert(requester, pasid, context),
            Err(failure) if config.caching_mode => caches.pasids.faulty().insert(key, failure),
            Err(_) => {}
        }
        context
    }

    /// The failure of a cached entry, which only a unit with CAP.CM has.
    fn faulty(&self, lookup: impl FnOnce() -> Option<Failure>) -> Option<Failure> {
        if self.translator.config.caching_mode { lookup() } else { None }
    }

    /// The page of `request`, from the IOTLB, or from the tables as of `age`.
    #[inline]
    fn mapping(
        &self,
        caches: &mut Caches,
        context: &Context,
        request: &Request,
        age: Age,
    ) -> Result<Mapping, Failure> {
        let address = Iova(request.address);
        if context.stage == Stage::PassThrough {
            self.check_host_address(context, address)?;
            let order = PASS_THROUGH_ORDER;
            let output = Gpa(address.0);
            return Ok(Mapping { output, order, read: true, write: true, dirty: true });
        }
        let tag = context.tag();
        let exact = tag.privileged(request.privileged);
        let oldest = self.translator.invalidations.oldest_valid(context.domain);
        let cached = caches.iotlb.lookup(exact, address, oldest);
        if let Some(mapping) = cached.filter(|mapping| mapping.serves(request.access())) {
            return Ok(mapping);
        }
        let known = caches.paging.lookup(tag, address, oldest);
        let mut tries = 0;
        let keeps_upper = self.translator.config.honor_hint;
        let (mapping, last) = loop {
            caches.updates.clear();
            if keeps_upper {
                caches.updates.trail.clear();
            }
            let walked = self.walk(context, request, known, &mut caches.updates)?;
            if is_interrupt(request, &walked.0) {
                let reason = context.pick(R::INTERRUPT_RANGE, R::SM_INTERRUPT_RANGE);
                return Err(Failure::qualified(reason, CA, context.fault_disable));
            }
            let Some(stage) = caches.updates.first() else { break walked };
            if !request.is_allowed(&walked.0) {
                // Nothing may be cached without its accessed bits.
                return Ok(walked.0);
            }
            if self.commit(&caches.updates, context, stage, &mut tries)? {
                break walked;
            }
        };
        if let Some(table) = last.filter(|_| known.is_none_or(|known| known.level > 1)) {
            caches.paging.insert(tag, address, age, table);
        }
        if keeps_upper && !matches!(context.stage, Stage::Nested { .. }) {
            caches.paging.insert_upper(tag, address, age, &caches.updates.trail);
        }
        // A part of a large page may lie in the interrupt range, so that each access is checked.
        let caches_absent = self.translator.config.caching_mode;
        let cacheable = mapping.read || mapping.write || caches_absent;
        if cacheable && (mapping.order == 12 || !reaches_interrupt_range(&mapping)) {
            caches.iotlb.insert(exact, address, age, mapping);
        }
        Ok(mapping)
    }

    /// Sets the accessed and dirty bits that a walk has noted, first of all an entry of `stage`.
    /// Returns false if the walk must start again, because software has changed an entry.
    #[cold]
    fn commit(
        &self,
        updates: &Updates,
        context: &Context,
        stage: TableStage,
        tries: &mut usize,
    ) -> Result<bool, Failure> {
        if !context.walk_snoop {
            return Err(context.update_unsnooped(stage));
        }
        match updates.commit(self.memory) {
            Ok(()) => Ok(true),
            Err(UpdateError::Changed(_)) if *tries < UPDATE_TRIES => {
                *tries += 1;
                Ok(false)
            }
            Err(UpdateError::Changed(stage) | UpdateError::Inaccessible(stage)) => {
                Err(context.update_failed(stage))
            }
        }
    }

    /// Walks the tables. `updates` gets the entries that lack an accessed or dirty bit.
    #[inline]
    fn walk(
        &self,
        context: &Context,
        request: &Request,
        known: Option<Table>,
        updates: &mut Updates,
    ) -> Result<Walked, Failure> {
        let second = |root, levels, dirty| Walk {
            config: &self.translator.config,
            memory: self.memory,
            root,
            levels,
            dirty,
        };
        match context.stage {
            Stage::PassThrough => Ok((NOTHING, None)),
            Stage::Second { root, levels, dirty } => {
                let walk = second(root, levels, dirty);
                match known {
                    Some(table) => walk.resume(request.address, request.write, table, updates),
                    None => walk.run(request.address, request.write, updates),
                }
                .map_err(|error| context.walk_failure(error))
            }
            Stage::First(tables) => {
                let walk = self.first_stage(context, tables, None);
                match known {
                    Some(table) => walk.resume(request, table, updates),
                    None => walk.run(request, updates),
                }
            }
            Stage::Nested { first, root, levels, dirty } => {
                let walk = self.first_stage(context, first, Some(second(root, levels, dirty)));
                walk.run(request, updates).map(|(mapping, _)| (mapping, None))
            }
        }
    }

    fn first_stage<'a>(
        &'a self,
        context: &Context,
        tables: FirstStage,
        second: Option<Walk<'a>>,
    ) -> FirstStageWalk<'a> {
        FirstStageWalk {
            config: &self.translator.config,
            memory: self.memory,
            tables,
            second,
            fault_disable: context.fault_disable,
            updates: true,
        }
    }

    /// Checks a translated request, whose address the unit does not translate (`VT-d 4.2.5`).
    fn check_translated(&self, entry: &ContextEntry, address: Iova) -> Result<Gpa, Failure> {
        entry.check_ats()?;
        let (reason, answer) = if self.is_beyond_host(address) {
            (entry.pick(R::ADDRESS_BEYOND_WIDTH, R::SM_HOST_ADDRESS_BEYOND_WIDTH), S0)
        } else if in_interrupt_range(address.0) {
            (entry.pick(R::INTERRUPT_RANGE, R::SM_INTERRUPT_RANGE), UR)
        } else {
            return Ok(Gpa(address.0));
        };
        Err(Failure::qualified(reason, answer, entry.fault_disable()))
    }

    fn check_host_address(&self, context: &Context, address: Iova) -> Result<(), Failure> {
        if !self.is_beyond_host(address) {
            return Ok(());
        }
        let reason = context.pick(R::ADDRESS_BEYOND_WIDTH, R::SM_HOST_ADDRESS_BEYOND_WIDTH);
        Err(Failure::qualified(reason, S0, context.fault_disable))
    }

    fn is_beyond_host(&self, Iova(address): Iova) -> bool {
        address & self.translator.config.beyond_host() != 0
    }
}

/// Whether the page of the request is blocked as an interrupt: for a DMA request its address, for a
/// Translation Request any part of the page (`VT-d 7.1.3`, LGN.4 and SGN.8).
const fn is_interrupt(request: &Request, mapping: &Mapping) -> bool {
    in_interrupt_range(mapping.output.0)
        || (request.translation && reaches_interrupt_range(mapping))
}

/// Whether a part of a page of 1 MiB or more lies in the interrupt range.
const fn reaches_interrupt_range(mapping: &Mapping) -> bool {
    mapping.output.0 >> mapping.order == 0xfee0_0000 >> mapping.order
}
