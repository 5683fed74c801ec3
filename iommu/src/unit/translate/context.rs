//! Root, context and PASID tables, and the cache of what they said about a function.

use vm_memory::{Bytes, GuestAddress};

use super::super::config::UnitConfig;
use super::Failure;
use crate::Memory;
use crate::ats::RequestError;
use crate::ids::{Bdf, DomainId, Gpa, PAGE_SIZE, Pasid};
use crate::spec::control::RootTableAddress;
use crate::spec::descriptor::{ContextScope, PasidScope};
use crate::spec::fault::FaultReason as R;
use crate::spec::tables::{
    ContextHigh, ContextLow, PasidDirectoryEntry, PasidHigh, PasidLow, RootEntry,
    ScalableContextHigh, ScalableContextLow,
};

/// How a function's untranslated addresses become physical ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// They are physical.
    PassThrough,
    /// By second-stage tables of `levels` levels.
    Second { root: Gpa, levels: u8 },
}

/// What the tables say about a function, or about one of its address spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) domain: DomainId,
    pub(super) stage: Stage,
    /// Translation and translated requests are allowed.
    pub(super) device_tlb: bool,
    /// FPD of any entry on the way.
    pub(super) fault_disable: bool,
    pub(super) scalable: bool,
}

/// The bits that no physical address has.
const BEYOND_HOST: u64 = !((1 << UnitConfig::HOST_ADDRESS_WIDTH) - 1);

const UR: RequestError = RequestError::UnsupportedRequest;
const CA: RequestError = RequestError::CompleterAbort;

fn read_qword(memory: &Memory, address: u64) -> Option<u64> {
    memory.read_obj::<u64>(GuestAddress(address)).ok().map(u64::from_le)
}

fn read_pair(memory: &Memory, address: u64) -> Option<(u64, u64)> {
    Some((read_qword(memory, address)?, read_qword(memory, address.checked_add(8)?)?))
}

/// AW: 1, 2, 3 for 3, 4, 5 levels.
const fn levels(width: u8) -> Option<u8> {
    match width {
        1..=3 => Some(width + 2),
        _ => None,
    }
}

/// Legacy tables (`VT-d 9.1`, `VT-d 9.3`; faults: `VT-d 7.1.3`).
pub(super) fn read_legacy(
    root: RootTableAddress,
    requester: Bdf,
    pasid: Option<Pasid>,
    memory: &Memory,
) -> Result<Context, Failure> {
    if pasid.is_some() {
        return Err(Failure::new(R::PASID_IN_LEGACY_MODE, UR));
    }
    let slot = root.page() * PAGE_SIZE + u64::from(requester.bus()) * 16;
    let (low, high) = read_pair(memory, slot).ok_or(Failure::new(R::ROOT_INACCESSIBLE, CA))?;
    let entry = RootEntry::from_bits(low);
    if !entry.present() {
        return Err(Failure::new(R::ROOT_NOT_PRESENT, UR));
    }
    if entry.reserved() != 0 || low & BEYOND_HOST != 0 || high != 0 {
        return Err(Failure::new(R::ROOT_RESERVED, CA));
    }
    let slot = entry.page() * PAGE_SIZE + u64::from(requester.devfn()) * 16;
    let (low, high) = read_pair(memory, slot).ok_or(Failure::new(R::CONTEXT_INACCESSIBLE, CA))?;
    decode_legacy(ContextLow::from_bits(low), ContextHigh::from_bits(high))
}

fn decode_legacy(low: ContextLow, high: ContextHigh) -> Result<Context, Failure> {
    let fpd = low.fault_disable();
    if !low.present() {
        return Err(Failure::qualified(R::CONTEXT_NOT_PRESENT, UR, fpd));
    }
    let reserved = low.reserved() != 0
        || high.reserved_low()
        || high.reserved() != 0
        || (low.translation_type() != 2 && low.into_bits() & BEYOND_HOST != 0);
    if reserved {
        return Err(Failure::qualified(R::CONTEXT_RESERVED, CA, fpd));
    }
    let invalid = Failure::qualified(R::CONTEXT_INVALID, CA, fpd);
    let levels = levels(high.width()).ok_or(invalid)?;
    let stage = match low.translation_type() {
        0 | 1 => Stage::Second { root: Gpa(low.page() * PAGE_SIZE), levels },
        // Pass-through names the largest width that the unit has.
        2 if levels == 5 => Stage::PassThrough,
        _ => return Err(invalid),
    };
    Ok(Context {
        domain: DomainId(high.domain()),
        stage,
        device_tlb: low.translation_type() == 1,
        fault_disable: fpd,
        scalable: false,
    })
}

/// Scalable-mode tables (`VT-d 9.2`, `VT-d 9.4` to `VT-d 9.6`; faults: `VT-d 7.1.3`).
pub(super) fn read_scalable(
    root: RootTableAddress,
    requester: Bdf,
    pasid: Option<Pasid>,
    memory: &Memory,
) -> Result<Context, Failure> {
    // Each half of a root entry serves 16 devices; their context entries have 32 bytes.
    let half = u64::from(requester.devfn() >> 7);
    let slot = root.page() * PAGE_SIZE + u64::from(requester.bus()) * 16 + half * 8;
    let bits = read_qword(memory, slot).ok_or(Failure::new(R::SM_ROOT_INACCESSIBLE, CA))?;
    let entry = RootEntry::from_bits(bits);
    if !entry.present() {
        return Err(Failure::new(R::SM_ROOT_NOT_PRESENT, UR));
    }
    if entry.reserved() != 0 || bits & BEYOND_HOST != 0 {
        return Err(Failure::new(R::SM_ROOT_RESERVED, CA));
    }
    let slot = entry.page() * PAGE_SIZE + u64::from(requester.devfn() & 0x7f) * 32;
    let inaccessible = Failure::new(R::SM_CONTEXT_INACCESSIBLE, CA);
    let (low, high) = read_pair(memory, slot).ok_or(inaccessible)?;
    let rest = read_pair(memory, slot + 16).ok_or(inaccessible)?;
    let low = ScalableContextLow::from_bits(low);
    let high = ScalableContextHigh::from_bits(high);
    let fpd = low.fault_disable();
    if !low.present() {
        return Err(Failure::qualified(R::SM_CONTEXT_NOT_PRESENT, UR, fpd));
    }
    let reserved = low.reserved() != 0
        || low.into_bits() & BEYOND_HOST != 0
        || high.reserved() != 0
        || high.rid_priv()
        || rest != (0, 0);
    if reserved {
        return Err(Failure::qualified(R::SM_CONTEXT_RESERVED, CA, fpd));
    }
    let pasid = choose_pasid(low, high, pasid)?;
    read_pasid_entry(low, pasid, memory)
}

/// The PASID under which the tables know a request.
fn choose_pasid(
    low: ScalableContextLow,
    high: ScalableContextHigh,
    pasid: Option<Pasid>,
) -> Result<Pasid, Failure> {
    let fpd = low.fault_disable();
    let beyond = |pasid: Pasid| u64::from(pasid.get()) >> (low.directory_size() + 13) != 0;
    let rid_pasid = Pasid::new(high.rid_pasid());
    // Without PRS in ECAP, PRE has no meaning that the unit could check.
    if beyond(rid_pasid) || (low.page_requests() && !low.device_tlb()) {
        return Err(Failure::qualified(R::SM_CONTEXT_INVALID, CA, fpd));
    }
    match pasid {
        None => Ok(rid_pasid),
        Some(_) if !low.pasid() => Err(Failure::qualified(R::SM_PASID_DISABLED, UR, fpd)),
        Some(pasid) if beyond(pasid) => {
            Err(Failure::qualified(R::SM_PASID_BEYOND_DIRECTORY, UR, fpd))
        }
        Some(pasid) if pasid == rid_pasid => {
            Err(Failure::qualified(R::SM_PASID_IS_RID_PASID, UR, fpd))
        }
        Some(pasid) => Ok(pasid),
    }
}

fn read_pasid_entry(
    context: ScalableContextLow,
    pasid: Pasid,
    memory: &Memory,
) -> Result<Context, Failure> {
    let fpd = context.fault_disable();
    let slot = context.page() * PAGE_SIZE + u64::from(pasid.get() >> 6) * 8;
    let bits = read_qword(memory, slot).ok_or(Failure::new(R::SM_DIRECTORY_INACCESSIBLE, CA))?;
    let directory = PasidDirectoryEntry::from_bits(bits);
    let fpd = fpd || directory.fault_disable();
    if !directory.present() {
        return Err(Failure::recoverable(R::SM_DIRECTORY_NOT_PRESENT, fpd));
    }
    if directory.reserved() != 0 || bits & BEYOND_HOST != 0 {
        return Err(Failure::qualified(R::SM_DIRECTORY_RESERVED, CA, fpd));
    }
    let slot = directory.page() * PAGE_SIZE + u64::from(pasid.get() & 0x3f) * 64;
    let (low, high) =
        read_pair(memory, slot).ok_or(Failure::new(R::SM_PASID_TABLE_INACCESSIBLE, CA))?;
    let (low, high) = (PasidLow::from_bits(low), PasidHigh::from_bits(high));
    let fpd = fpd || low.fault_disable();
    if !low.present() {
        return Err(Failure::recoverable(R::SM_PASID_NOT_PRESENT, fpd));
    }
    let reserved = low.reserved()
        || low.reserved_high() != 0
        || low.second_stage_dirty()
        || low.into_bits() & BEYOND_HOST != 0
        || high.reserved() != 0
        || high.reserved_high() != 0;
    if reserved {
        return Err(Failure::qualified(R::SM_PASID_RESERVED, CA, fpd));
    }
    let stage = match (low.translation_type(), levels(low.width())) {
        (2, Some(levels)) => Stage::Second { root: Gpa(low.page() * PAGE_SIZE), levels },
        (4, _) => Stage::PassThrough,
        _ => return Err(Failure::qualified(R::SM_PASID_INVALID, CA, fpd)),
    };
    Ok(Context {
        domain: DomainId(high.domain()),
        stage,
        device_tlb: context.device_tlb(),
        fault_disable: fpd,
        scalable: true,
    })
}

/// Context-cache and PASID-cache entries together, found by requester and PASID.
#[derive(Debug)]
pub(super) struct ContextCache {
    slots: Vec<Option<(Bdf, Option<Pasid>, Context)>>,
}

impl ContextCache {
    const SLOTS: usize = 256;

    pub(super) fn new() -> Self {
        Self { slots: vec![None; Self::SLOTS] }
    }

    fn slot(requester: Bdf, pasid: Option<Pasid>) -> usize {
        let pasid = pasid.map_or(0, |pasid| pasid.get() as usize + 1);
        let function = usize::from(requester.into_bits());
        (function ^ (function >> 5) ^ (pasid * 31)) % Self::SLOTS
    }

    pub(super) fn lookup(&self, requester: Bdf, pasid: Option<Pasid>) -> Option<Context> {
        match self.slots[Self::slot(requester, pasid)] {
            Some((r, p, context)) if r == requester && p == pasid => Some(context),
            _ => None,
        }
    }

    pub(super) fn insert(&mut self, requester: Bdf, pasid: Option<Pasid>, context: Context) {
        self.slots[Self::slot(requester, pasid)] = Some((requester, pasid, context));
    }

    fn drop_if(&mut self, condition: impl Fn(Bdf, Option<Pasid>, &Context) -> bool) {
        for slot in &mut self.slots {
            if slot.is_some_and(|(requester, pasid, context)| condition(requester, pasid, &context))
            {
                *slot = None;
            }
        }
    }

    /// In scalable mode entries carry no domain, so that a domain means everything
    /// (`VT-d 6.5.2.1`).
    pub(super) fn invalidate(&mut self, scope: ContextScope, scalable: bool) {
        match scope {
            ContextScope::Domain(domain) if !scalable => {
                self.drop_if(|_, _, context| context.domain == domain);
            }
            ContextScope::Global | ContextScope::Domain(_) => self.drop_if(|_, _, _| true),
            ContextScope::Device { domain, source, ignored } => {
                self.drop_if(|requester, _, context| {
                    (requester.into_bits() ^ source.into_bits()) & !ignored == 0
                        && (scalable || context.domain == domain)
                });
            }
        }
    }

    pub(super) fn invalidate_pasids(&mut self, scope: PasidScope) {
        match scope {
            PasidScope::Global => self.drop_if(|_, _, _| true),
            PasidScope::Domain(domain) => self.drop_if(|_, _, context| context.domain == domain),
            // An entry without a PASID in its request was found under RID_PASID, which it does
            // not remember: it goes too.
            PasidScope::Pasid(domain, pasid) => self
                .drop_if(|_, p, context| context.domain == domain && p.is_none_or(|p| p == pasid)),
        }
    }
}
