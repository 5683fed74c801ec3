//! Root and context tables of both modes, and the cache of context entries.

use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileMemory};

use super::super::config::UnitConfig;
use super::failure::{CA, Failure, FaultCache, UR};
use super::pasid::Stage;
use super::shard::Context;
use crate::Memory;
use crate::ids::{Bdf, DomainId, Gpa, PAGE_SIZE, Pasid};
use crate::spec::control::RootTableAddress;
use crate::spec::fault::FaultReason as R;
use crate::spec::tables::{
    ContextHigh, ContextLow, RootEntry, ScalableContextHigh, ScalableContextLow,
};

/// The table entry at `address`, a multiple of 8. One load costs half of a general read.
pub(super) fn read_qword(memory: &Memory, address: u64) -> Option<u64> {
    let slice = GuestMemoryBackend::get_slice(memory, GuestAddress(address), 8).ok()?;
    slice.get_ref::<u64>(0).ok().map(|entry| u64::from_le(entry.load()))
}

pub(super) fn read_qwords<const N: usize>(memory: &Memory, address: u64) -> Option<[u64; N]> {
    let mut qwords = [0; N];
    for (index, qword) in qwords.iter_mut().enumerate() {
        *qword = read_qword(memory, address.checked_add(index as u64 * 8)?)?;
    }
    Some(qwords)
}

/// A decoded context entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContextEntry {
    /// Legacy: the entry decides all.
    Legacy {
        /// The context of all requests of the function.
        context: Context,
        /// TT allows Translation Requests and translated requests.
        device_tlb: bool,
    },
    /// Scalable: PASID tables decide the rest.
    Scalable(ScalableContext),
}

impl ContextEntry {
    /// Whether Translation Requests and translated requests are allowed. PASID tables do not matter
    /// here.
    pub(super) fn check_ats(&self) -> Result<(), Failure> {
        let allowed = match self {
            Self::Legacy { device_tlb, .. } => *device_tlb,
            Self::Scalable(entry) => entry.low.device_tlb(),
        };
        if allowed {
            return Ok(());
        }
        let reason = self.pick(R::ATS_BLOCKED, R::SM_ATS_BLOCKED);
        Err(Failure::qualified(reason, UR, self.fault_disable()))
    }

    /// FPD.
    pub(super) const fn fault_disable(&self) -> bool {
        match self {
            Self::Legacy { context, .. } => context.fault_disable,
            Self::Scalable(entry) => entry.low.fault_disable(),
        }
    }

    /// Legacy and scalable mode have different codes for the same fault.
    pub(super) const fn pick(&self, legacy: R, scalable: R) -> R {
        if matches!(self, Self::Scalable(_)) { scalable } else { legacy }
    }
}

/// A scalable-mode context entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScalableContext {
    pub(super) low: ScalableContextLow,
    pub(super) rid_pasid: Pasid,
}

/// Reads legacy tables (`VT-d 9.1`, `VT-d 9.3`; faults: `VT-d 7.1.3`).
pub(super) fn read_legacy(
    config: &UnitConfig,
    root: RootTableAddress,
    requester: Bdf,
    memory: &Memory,
) -> Result<ContextEntry, Failure> {
    let slot = root.page() * PAGE_SIZE + u64::from(requester.bus()) * 16;
    let [low, high] = read_qwords(memory, slot).ok_or(Failure::new(R::ROOT_INACCESSIBLE, CA))?;
    let entry = RootEntry::from_bits(low);
    if !entry.present() {
        return Err(Failure::new(R::ROOT_NOT_PRESENT, UR));
    }
    if entry.reserved() != 0 || low & config.beyond_host() != 0 || high != 0 {
        return Err(Failure::new(R::ROOT_RESERVED, CA));
    }
    let slot = entry.page() * PAGE_SIZE + u64::from(requester.devfn()) * 16;
    let [low, high] = read_qwords(memory, slot).ok_or(Failure::new(R::CONTEXT_INACCESSIBLE, CA))?;
    decode_legacy(config, ContextLow::from_bits(low), ContextHigh::from_bits(high))
}

fn decode_legacy(
    config: &UnitConfig,
    low: ContextLow,
    high: ContextHigh,
) -> Result<ContextEntry, Failure> {
    let fpd = low.fault_disable();
    if !low.present() {
        return Err(Failure::qualified(R::CONTEXT_NOT_PRESENT, UR, fpd));
    }
    let through = low.translation_type() == 2;
    let reserved = low.reserved() != 0
        || high.reserved_low()
        || high.reserved() != 0
        || u32::from(high.domain()) >> config.domain_bits != 0
        || (!through && low.into_bits() & config.beyond_host() != 0);
    if reserved {
        return Err(Failure::qualified(R::CONTEXT_RESERVED, CA, fpd));
    }
    let invalid = Failure::qualified(R::CONTEXT_INVALID, CA, fpd);
    let levels = high.width() + 2;
    if !config.address_widths.has_levels(levels) {
        return Err(invalid);
    }
    let stage = match low.translation_type() {
        0 => Stage::Second { root: Gpa(low.page() * PAGE_SIZE), levels, dirty: false },
        1 if config.device_tlb => {
            Stage::Second { root: Gpa(low.page() * PAGE_SIZE), levels, dirty: false }
        }
        // Pass-through must have the largest width of the unit.
        2 if config.pass_through && levels == config.address_widths.max_levels() => {
            Stage::PassThrough
        }
        _ => return Err(invalid),
    };
    let context = Context {
        domain: DomainId(high.domain()),
        pasid: None,
        stage,
        fault_disable: fpd,
        scalable: false,
        supervisor: false,
        walk_snoop: true,
    };
    Ok(ContextEntry::Legacy { context, device_tlb: low.translation_type() == 1 })
}

/// Reads scalable-mode root and context tables (`VT-d 9.2`, `VT-d 9.4`; faults: `VT-d 7.1.3`).
pub(super) fn read_scalable(
    config: &UnitConfig,
    root: RootTableAddress,
    requester: Bdf,
    memory: &Memory,
) -> Result<ScalableContext, Failure> {
    // Each half of a root entry serves 16 devices; their context entries have 32 bytes.
    let half = u64::from(requester.devfn() >> 7);
    let slot = root.page() * PAGE_SIZE + u64::from(requester.bus()) * 16 + half * 8;
    let bits = read_qword(memory, slot).ok_or(Failure::new(R::SM_ROOT_INACCESSIBLE, CA))?;
    let entry = RootEntry::from_bits(bits);
    if !entry.present() {
        return Err(Failure::new(R::SM_ROOT_NOT_PRESENT, UR));
    }
    if entry.reserved() != 0 || bits & config.beyond_host() != 0 {
        return Err(Failure::new(R::SM_ROOT_RESERVED, CA));
    }
    let slot = entry.page() * PAGE_SIZE + u64::from(requester.devfn() & 0x7f) * 32;
    let qwords = read_qwords(memory, slot);
    decode_scalable(config, qwords.ok_or(Failure::new(R::SM_CONTEXT_INACCESSIBLE, CA))?)
}

fn decode_scalable(config: &UnitConfig, qwords: [u64; 4]) -> Result<ScalableContext, Failure> {
    let low = ScalableContextLow::from_bits(qwords[0]);
    let high = ScalableContextHigh::from_bits(qwords[1]);
    let fpd = low.fault_disable();
    if !low.present() {
        return Err(Failure::qualified(R::SM_CONTEXT_NOT_PRESENT, UR, fpd));
    }
    let reserved = low.reserved() != 0
        || low.into_bits() & config.beyond_host() != 0
        || (low.device_tlb() && !config.device_tlb)
        || (low.pasid() && config.pasid_bits.is_none())
        || (low.page_requests() && !config.page_requests)
        || high.reserved() != 0
        || high.rid_priv()
        || qwords[2..] != [0, 0];
    if reserved {
        return Err(Failure::qualified(R::SM_CONTEXT_RESERVED, CA, fpd));
    }
    let context = ScalableContext { low, rid_pasid: Pasid::new(high.rid_pasid()) };
    let contradiction = low.page_requests() && !low.device_tlb();
    if contradiction || context.is_beyond_directory(context.rid_pasid) {
        return Err(Failure::qualified(R::SM_CONTEXT_INVALID, CA, fpd));
    }
    Ok(context)
}

impl ScalableContext {
    /// Whether `pasid` is beyond the directory, which has 2^(PDTS + 7) entries for 64 PASIDs each.
    fn is_beyond_directory(&self, pasid: Pasid) -> bool {
        pasid.get() >> (u32::from(self.low.directory_size()) + 13) != 0
    }

    /// The PASID by which the tables are read: `pasid`, or `RID_PASID` for a request without one.
    pub(super) fn choose_pasid(
        &self,
        config: &UnitConfig,
        pasid: Option<Pasid>,
    ) -> Result<Pasid, Failure> {
        let Some(pasid) = pasid else { return Ok(self.rid_pasid) };
        let bits = u32::from(config.pasid_bits.unwrap_or(20));
        let reason = match () {
            () if !self.low.pasid() => R::SM_PASID_DISABLED,
            () if pasid.get() >> bits != 0 => R::SM_PASID_TOO_WIDE,
            () if self.is_beyond_directory(pasid) => R::SM_PASID_BEYOND_DIRECTORY,
            () if pasid == self.rid_pasid => R::SM_PASID_IS_RID_PASID,
            () => return Ok(pasid),
        };
        Err(Failure::qualified(reason, UR, self.low.fault_disable()))
    }
}

/// Context entries by requester, direct-mapped.
#[derive(Debug)]
pub(super) struct ContextCache {
    slots: [Option<(Bdf, ContextEntry)>; Self::SLOTS],
    /// Entries that are not present or not valid, with CAP.CM.
    faulty: FaultCache<Bdf>,
}

impl Default for ContextCache {
    fn default() -> Self {
        Self { slots: [None; Self::SLOTS], faulty: FaultCache::default() }
    }
}

impl ContextCache {
    const SLOTS: usize = 64;

    fn slot(requester: Bdf) -> usize {
        let bits = usize::from(requester.into_bits());
        (bits ^ (bits >> 8)) % Self::SLOTS
    }

    pub(super) fn lookup(&self, requester: Bdf) -> Option<&ContextEntry> {
        match &self.slots[Self::slot(requester)] {
            Some((owner, entry)) if *owner == requester => Some(entry),
            _ => None,
        }
    }

    pub(super) fn insert(&mut self, requester: Bdf, entry: ContextEntry) {
        self.slots[Self::slot(requester)] = Some((requester, entry));
    }

    pub(super) fn faulty(&mut self) -> &mut FaultCache<Bdf> {
        &mut self.faulty
    }

    /// Drops the entries for which `condition` holds; a faulty entry is its failure.
    pub(super) fn drop_if(
        &mut self,
        condition: impl Fn(Bdf, Result<&ContextEntry, Failure>) -> bool,
    ) {
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|(requester, entry)| condition(*requester, Ok(entry))) {
                *slot = None;
            }
        }
        self.faulty.drop_if(|requester, failure| condition(requester, Err(failure)));
    }
}
