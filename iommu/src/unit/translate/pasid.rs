//! PASID directory and table (`VT-d 9.5`, `VT-d 9.6`), and the cache of their entries.

use super::super::config::UnitConfig;
use super::context::{ScalableContext, read_qword, read_qwords};
use super::failure::{CA, Failure, FaultCache, S0};
use super::shard::Context;
use crate::Memory;
use crate::ids::{Bdf, DomainId, Gpa, PAGE_SIZE, Pasid};
use crate::spec::fault::FaultReason as R;
use crate::spec::tables::{PasidDirectoryEntry, PasidFirstStage, PasidHigh, PasidLow};

/// The tables that translate untranslated addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// None: the addresses are physical.
    PassThrough,
    /// Second-stage tables with `levels` levels.
    Second {
        root: Gpa,
        levels: u8,
        /// SSADE: walks set accessed and dirty bits.
        dirty: bool,
    },
    /// First-stage tables.
    First(FirstStage),
    /// First-stage tables, whose addresses are translated by second-stage tables.
    Nested {
        first: FirstStage,
        root: Gpa,
        levels: u8,
        /// SSADE: walks set accessed and dirty bits.
        dirty: bool,
    },
}

/// First-stage tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FirstStage {
    pub(super) root: Gpa,
    pub(super) levels: u8,
    /// WPE: privileged writes need the R/W permission.
    pub(super) write_protect: bool,
    /// EAFE: the walk sets the extended accessed flag.
    pub(super) extended_accessed: bool,
}

/// Reads the PASID tables of `context`, for `pasid`.
pub(super) fn read(
    config: &UnitConfig,
    context: &ScalableContext,
    pasid: Pasid,
    memory: &Memory,
) -> Result<Context, Failure> {
    let slot = context.low.page() * PAGE_SIZE + u64::from(pasid.get() >> 6) * 8;
    let bits = read_qword(memory, slot).ok_or(Failure::new(R::SM_DIRECTORY_INACCESSIBLE, CA))?;
    let directory = PasidDirectoryEntry::from_bits(bits);
    let fpd = context.low.fault_disable() || directory.fault_disable();
    if !directory.present() {
        return Err(Failure::qualified(R::SM_DIRECTORY_NOT_PRESENT, S0, fpd));
    }
    if directory.reserved() != 0 || bits & config.beyond_host() != 0 {
        return Err(Failure::qualified(R::SM_DIRECTORY_RESERVED, CA, fpd));
    }
    let slot = directory.page() * PAGE_SIZE + u64::from(pasid.get() & 0x3f) * 64;
    let qwords =
        read_qwords(memory, slot).ok_or(Failure::new(R::SM_PASID_TABLE_INACCESSIBLE, CA))?;
    let entry = Entry::new(qwords);
    let fpd = fpd || entry.low.fault_disable();
    if !entry.low.present() {
        return Err(Failure::qualified(R::SM_PASID_NOT_PRESENT, S0, fpd));
    }
    if entry.has_reserved_bits(config) {
        return Err(Failure::qualified(R::SM_PASID_RESERVED, CA, fpd));
    }
    let stage = entry.stage(config).ok_or(Failure::qualified(R::SM_PASID_INVALID, CA, fpd))?;
    Ok(Context {
        domain: DomainId(entry.high.domain()),
        pasid: Some(pasid),
        stage,
        fault_disable: fpd,
        scalable: true,
        supervisor: entry.first.supervisor(),
        // A unit that does not snoop has reserved this bit.
        walk_snoop: entry.high.walk_snoop(),
    })
}

/// A PASID table entry.
struct Entry {
    low: PasidLow,
    high: PasidHigh,
    first: PasidFirstStage,
    rest: [u64; 5],
}

impl Entry {
    fn new([low, high, first, rest @ ..]: [u64; 8]) -> Self {
        Self {
            low: PasidLow::from_bits(low),
            high: PasidHigh::from_bits(high),
            first: PasidFirstStage::from_bits(first),
            rest,
        }
    }

    fn has_reserved_bits(&self, config: &UnitConfig) -> bool {
        let beyond_host = config.beyond_host();
        self.low.reserved()
            || self.low.reserved_high() != 0
            || self.low.into_bits() & beyond_host != 0
            || (self.low.second_stage_dirty() && !config.second_stage_dirty)
            || (self.low.page() != 0 && !config.second_stage)
            // 9.6 reserves AW without a second stage. Linux writes a width of SAGAW even then, which
            // is 0 in units of version 6 only.
            || (self.low.width() != 0 && config.second_stage_widths() == 0)
            || (self.high.page_snoop() && !config.snoop_control)
            || (self.high.walk_snoop() && !config.scalable_coherent())
            || u32::from(self.high.domain()) >> config.domain_bits != 0
            || self.high.reserved() != 0
            || self.high.reserved_high() != 0
            || self.first.reserved()
            || self.first.reserved_high() != 0
            || self.first.into_bits() & beyond_host != 0
            || (self.first.with_supervisor(false).into_bits() != 0 && !config.first_stage)
            || (self.first.supervisor() && !config.supervisor_requests)
            || (self.first.extended_accessed() && !config.extended_accessed)
            || self.rest != [0; 5]
    }

    /// The tables that the entry selects; `None` if it is illegal or not supported.
    fn stage(&self, config: &UnitConfig) -> Option<Stage> {
        match self.low.translation_type() {
            1 if config.first_stage => Some(Stage::First(self.first_stage(config)?)),
            2 if config.second_stage => {
                let (root, levels) = self.second_stage(config)?;
                Some(Stage::Second { root, levels, dirty: self.low.second_stage_dirty() })
            }
            3 if config.nested => {
                let (first, (root, levels)) =
                    (self.first_stage(config)?, self.second_stage(config)?);
                let reach = 12 + 9 * u32::from(levels);
                let dirty = self.low.second_stage_dirty();
                (first.root.0 >> reach == 0).then_some(Stage::Nested { first, root, levels, dirty })
            }
            4 if config.pass_through => Some(Stage::PassThrough),
            _ => None,
        }
    }

    fn first_stage(&self, config: &UnitConfig) -> Option<FirstStage> {
        let levels = match self.first.paging_mode() {
            0 => 4,
            1 if config.first_stage_5_level => 5,
            _ => return None,
        };
        Some(FirstStage {
            root: Gpa(self.first.page() * PAGE_SIZE),
            levels,
            write_protect: self.first.write_protect(),
            extended_accessed: self.first.extended_accessed(),
        })
    }

    fn second_stage(&self, config: &UnitConfig) -> Option<(Gpa, u8)> {
        let levels = self.low.width() + 2;
        let root = Gpa(self.low.page() * PAGE_SIZE);
        config.address_widths.has_levels(levels).then_some((root, levels))
    }
}

/// PASID entries by requester and PASID, direct-mapped.
#[derive(Debug)]
pub(super) struct PasidCache {
    slots: Vec<Option<(Bdf, Pasid, Context)>>,
    /// Entries that are not present or not valid, with CAP.CM.
    faulty: FaultCache<(Bdf, Pasid)>,
}

impl Default for PasidCache {
    fn default() -> Self {
        Self { slots: vec![None; Self::SLOTS], faulty: FaultCache::default() }
    }
}

impl PasidCache {
    const SLOTS: usize = 256;

    fn slot(requester: Bdf, pasid: Pasid) -> usize {
        let function = usize::from(requester.into_bits());
        (function ^ (function >> 5) ^ (pasid.get() as usize * 31)) % Self::SLOTS
    }

    pub(super) fn lookup(&self, requester: Bdf, pasid: Pasid) -> Option<&Context> {
        match &self.slots[Self::slot(requester, pasid)] {
            Some((owner, space, context)) if *owner == requester && *space == pasid => {
                Some(context)
            }
            _ => None,
        }
    }

    pub(super) fn insert(&mut self, requester: Bdf, pasid: Pasid, context: Context) {
        self.slots[Self::slot(requester, pasid)] = Some((requester, pasid, context));
    }

    pub(super) fn faulty(&mut self) -> &mut FaultCache<(Bdf, Pasid)> {
        &mut self.faulty
    }

    /// Drops the entries for whose PASID and domain `condition` holds. The domain of a faulty entry
    /// is 0 (`VT-d 6.2.3`).
    pub(super) fn drop_if(&mut self, condition: impl Fn(Pasid, DomainId) -> bool) {
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|(_, pasid, context)| condition(*pasid, context.domain)) {
                *slot = None;
            }
        }
        self.faulty.drop_if(|(_, pasid), _| condition(pasid, DomainId(0)));
    }
}
