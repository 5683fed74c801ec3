//! First stage, nested translation, and accessed and dirty bits.

mod caching;
mod peek;
mod reasons;
mod settings;
mod updates;

use super::*;
use crate::ats::{Access, AddressType, DmaRequest, PageRange};
use crate::ids::{Gpa, Iova, Pasid};
use crate::spec::fault::{FaultReason, FaultRecordHigh};
use crate::spec::tables::{
    FirstStageEntry, PasidDirectoryEntry, PasidFirstStage, PasidHigh, PasidLow, RootEntry,
    ScalableContextLow, SecondStageEntry,
};

const CONTEXTS: u64 = 0x40_0000;
const DIRECTORY: u64 = 0x41_0000;
const PASIDS: u64 = 0x42_0000;
const FIRST: u64 = 0x50_0000;
const SECOND: u64 = 0x60_0000;
const DOMAIN: u16 = 7;
const FIRST_STAGE: u8 = 1;
const SECOND_STAGE: u8 = 2;
const NESTED: u8 = 3;

fn page(address: u64) -> u64 {
    address / PAGE_SIZE
}

fn first(address: u64) -> FirstStageEntry {
    let entry = FirstStageEntry::new().with_present(true).with_write(true).with_user(true);
    entry.with_page(page(address))
}

fn second(address: u64) -> SecondStageEntry {
    SecondStageEntry::new().with_read(true).with_write(true).with_page(page(address))
}

/// Tables of VICTIM, whose requests without PASID are translated by `stage` with 4 levels. No page
/// is mapped.
fn rig(stage: u8) -> Rig {
    rig_with(UnitConfig::full(UnitRole::Guest), stage)
}

fn rig_with(config: UnitConfig, stage: u8) -> Rig {
    let rig = Rig::with(config).enable(QueueAddress::new().with_wide(true), ROOT | 1 << 10);
    let root = RootEntry::new().with_present(true).with_page(page(CONTEXTS));
    rig.poke(ROOT + u64::from(VICTIM.bus()) * 16, root.into_bits());
    let context = ScalableContextLow::new()
        .with_present(true)
        .with_device_tlb(true)
        .with_pasid(true)
        .with_page(page(DIRECTORY));
    rig.poke(CONTEXTS + u64::from(VICTIM.devfn()) * 32, context.into_bits());
    let directory = PasidDirectoryEntry::new().with_present(true).with_page(page(PASIDS));
    rig.poke(DIRECTORY, directory.into_bits());
    rig.pasid_entry(stage, PasidFirstStage::new());
    // Three levels lead to a table of pages, by the same indexes in both stages.
    for level in 0..3 {
        let (here, below) = (level * PAGE_SIZE, (level + 1) * PAGE_SIZE);
        rig.poke(FIRST + here, first(FIRST + below).into_bits());
        rig.poke(SECOND + here, second(SECOND + below).into_bits());
    }
    rig
}

impl Rig {
    fn pasid_entry(&self, stage: u8, first: PasidFirstStage) {
        let low = PasidLow::new()
            .with_present(true)
            .with_width(2)
            .with_translation_type(stage)
            .with_second_stage_dirty(stage == SECOND_STAGE && self.unit.config.second_stage_dirty)
            .with_page(page(SECOND));
        self.poke(PASIDS, low.into_bits());
        let high = PasidHigh::new().with_domain(DOMAIN).with_walk_snoop(self.unit.config.coherent);
        self.poke(PASIDS + 8, high.into_bits());
        self.poke(PASIDS + 16, first.with_page(page(FIRST)).into_bits());
    }

    fn first_slot(iova: u64) -> u64 {
        FIRST + 3 * PAGE_SIZE + page(iova) * 8
    }

    fn second_slot(address: u64) -> u64 {
        SECOND + 3 * PAGE_SIZE + page(address) * 8
    }

    fn peek64(&self, address: u64) -> u64 {
        u64::from_le(self.memory.read_obj(GuestAddress(address)).unwrap())
    }

    fn go(&mut self, address: u64, access: Access) -> Result<Gpa, RequestError> {
        let request = DmaRequest {
            requester: VICTIM,
            pasid: None,
            privileged: false,
            address: Iova(address),
            address_type: AddressType::Untranslated,
            access,
        };
        self.unit.dma(&request, &self.memory, self.now)
    }

    fn ask(&mut self, address: u64, no_write: bool) -> Translation {
        let request = TranslationRequest {
            requester: VICTIM,
            pasid: None,
            privileged: false,
            address: Iova(address),
            no_write,
        };
        self.unit.translation_request(&request, &self.memory, self.now).unwrap()
    }

    /// The fault reason of an access to `address`.
    fn fault_of(&mut self, address: u64, access: Access) -> FaultReason {
        assert_eq!(self.go(address, access), Err(RequestError::UnsupportedRequest));
        let index = u16::from(self.fault_status().record_index());
        let at = offset::FRCD + 16 * index;
        let high = FaultRecordHigh::from_bits(self.read64(at + 8));
        assert!(high.fault(), "nothing was recorded");
        self.write32(at + 12, 1 << 31);
        FaultReason(high.reason())
    }
}

#[test]
fn a_first_stage_translates_and_sets_accessed_and_dirty_bits() {
    let mut rig = rig(FIRST_STAGE);
    rig.poke(Rig::first_slot(0x5000), first(0x80_0000).into_bits());
    assert_eq!(rig.go(0x5123, Access::Read), Ok(Gpa(0x80_0123)));
    let entry = FirstStageEntry::from_bits(rig.peek64(Rig::first_slot(0x5000)));
    assert!(entry.accessed() && !entry.dirty() && !entry.extended_accessed());
    assert!(FirstStageEntry::from_bits(rig.peek64(FIRST)).accessed(), "tables too");

    assert_eq!(rig.go(0x5123, Access::Write), Ok(Gpa(0x80_0123)));
    let entry = FirstStageEntry::from_bits(rig.peek64(Rig::first_slot(0x5000)));
    assert!(entry.dirty(), "a cached translation does not hide the first write");
}

#[test]
fn the_extended_accessed_flag_is_set_with_eafe() {
    let mut rig = rig(FIRST_STAGE);
    rig.pasid_entry(FIRST_STAGE, PasidFirstStage::new().with_extended_accessed(true));
    rig.poke(Rig::first_slot(0x5000), first(0x80_0000).into_bits());
    assert!(rig.go(0x5000, Access::Read).is_ok());
    assert!(FirstStageEntry::from_bits(rig.peek64(Rig::first_slot(0x5000))).extended_accessed());
}

#[test]
fn first_stage_failures_have_reasons_of_their_own() {
    let mut rig = rig(FIRST_STAGE);
    let slot = Rig::first_slot(0x5000);
    assert_eq!(rig.fault_of(0x5000, Access::Read), FaultReason::FIRST_STAGE_NOT_PRESENT);
    rig.poke(slot, first(0x80_0000).with_user(false).into_bits());
    assert_eq!(rig.fault_of(0x5000, Access::Read), FaultReason::FIRST_STAGE_SUPERVISOR_PAGE);
    rig.poke(slot, first(1 << 50).into_bits());
    assert_eq!(rig.fault_of(0x5000, Access::Read), FaultReason::FIRST_STAGE_RESERVED);
    rig.poke(slot, first(0x80_0000).with_write(false).into_bits());
    assert_eq!(rig.fault_of(0x5000, Access::Write), FaultReason::SM_WRITE_DENIED);
    assert!(rig.go(0x5000, Access::Read).is_ok());
    assert_eq!(rig.fault_of(1 << 47, Access::Read), FaultReason::FIRST_STAGE_NOT_CANONICAL);
    rig.poke(FIRST, first(1 << 40).into_bits());
    assert_eq!(rig.fault_of(0x20_0000, Access::Read), FaultReason::FIRST_STAGE_INACCESSIBLE);
    assert_eq!(rig.fault_of(1 << 39, Access::Read), FaultReason::FIRST_STAGE_NOT_PRESENT);
    rig.pasid_entry(FIRST_STAGE, PasidFirstStage::new().with_paging_mode(2));
    let all = crate::spec::descriptor::PasidCacheDescriptor::new().with_granularity(3);
    rig.submit(&[all.into_bits()]);
    assert_eq!(rig.fault_of(0x5000, Access::Read), FaultReason::SM_PASID_INVALID);
}

#[test]
fn large_first_stage_pages_translate_and_their_low_bits_are_reserved() {
    let mut rig = rig(FIRST_STAGE);
    rig.poke(FIRST + 2 * PAGE_SIZE + 8, first(0x60_0000).with_large(true).into_bits());
    assert_eq!(rig.go(0x21_2345, Access::Read), Ok(Gpa(0x61_2345)));
    rig.poke(FIRST + PAGE_SIZE + 8, first(0x4000_0000).with_large(true).into_bits());
    assert_eq!(rig.go(0x5234_5678, Access::Read), Ok(Gpa(0x5234_5678)));
    rig.poke(FIRST + 2 * PAGE_SIZE + 16, first(0x60_2000).with_large(true).into_bits());
    assert_eq!(rig.fault_of(0x40_0000, Access::Read), FaultReason::FIRST_STAGE_RESERVED);
}

#[test]
fn nested_addresses_go_through_both_stages() {
    let mut rig = rig(NESTED);
    // The second stage maps the tables of the first stage to themselves, and the pages elsewhere.
    for table in [FIRST, FIRST + 0x1000, FIRST + 0x2000, FIRST + 0x3000] {
        let slot = SECOND + 2 * PAGE_SIZE + (table >> 21) * 8;
        let tables = table & !0x1f_ffff;
        rig.poke(slot, second(tables).with_large(true).into_bits());
    }
    rig.poke(Rig::first_slot(0x5000), first(0x9000).into_bits());
    assert_eq!(rig.fault_of(0x5000, Access::Read), FaultReason::SM_PAGE_NOT_PRESENT);
    rig.poke(Rig::second_slot(0x9000), second(0x80_0000).into_bits());
    assert_eq!(rig.go(0x5123, Access::Read), Ok(Gpa(0x80_0123)));
    rig.poke(Rig::first_slot(0x6000), first(0xa000).into_bits());
    rig.poke(Rig::second_slot(0xa000), second(0x81_0000).with_write(false).into_bits());
    assert_eq!(rig.fault_of(0x6000, Access::Write), FaultReason::SM_WRITE_DENIED);
    rig.poke(Rig::first_slot(0x7000), first(1 << 48 >> 12 << 12).into_bits());
    assert_eq!(rig.fault_of(0x7000, Access::Read), FaultReason::FIRST_STAGE_RESERVED);
}

#[test]
fn second_stage_accessed_and_dirty_bits_are_set_with_ssade() {
    let mut rig = rig(SECOND_STAGE);
    rig.poke(Rig::second_slot(0x5000), second(0x80_0000).into_bits());
    assert!(rig.go(0x5000, Access::Read).is_ok());
    let entry = SecondStageEntry::from_bits(rig.peek64(Rig::second_slot(0x5000)));
    assert!(entry.accessed() && !entry.dirty());
    assert!(rig.go(0x5000, Access::Write).is_ok());
    assert!(SecondStageEntry::from_bits(rig.peek64(Rig::second_slot(0x5000))).dirty());
}

#[test]
fn a_translation_request_counts_as_a_write_without_nw() {
    for (no_write, dirty) in [(false, true), (true, false)] {
        let mut rig = rig(FIRST_STAGE);
        rig.poke(Rig::first_slot(0x5000), first(0x80_0000).into_bits());
        let answer = rig.ask(0x5123, no_write);
        assert_eq!((answer.read, answer.write), (true, !no_write));
        assert_eq!(answer.range, PageRange::page(Iova(0x5000)));
        let entry = FirstStageEntry::from_bits(rig.peek64(Rig::first_slot(0x5000)));
        assert_eq!(entry.dirty(), dirty, "NW {no_write}");
    }
}

#[test]
fn privileged_requests_need_sre() {
    let mut rig = rig(FIRST_STAGE);
    let page = first(0x80_0000).with_user(false).with_write(false);
    rig.poke(Rig::first_slot(0x5000), page.into_bits());
    let ask = |rig: &mut Rig, privileged, access| {
        let request = DmaRequest {
            requester: VICTIM,
            pasid: None,
            privileged,
            address: Iova(0x5000),
            address_type: AddressType::Untranslated,
            access,
        };
        let answer = rig.unit.dma(&request, &rig.memory, rig.now).is_ok();
        rig.write32(offset::FRCD + 12, 1 << 31);
        answer
    };
    let pasid_cache = crate::spec::descriptor::PasidCacheDescriptor::new().with_granularity(3);
    assert!(!ask(&mut rig, true, Access::Read), "SRE is clear");
    for (write_protect, writes) in [(false, true), (true, false)] {
        let allowed = PasidFirstStage::new().with_supervisor(true);
        rig.pasid_entry(FIRST_STAGE, allowed.with_write_protect(write_protect));
        rig.submit(&[pasid_cache.into_bits(), iotlb_global()]);
        assert!(ask(&mut rig, true, Access::Read));
        assert_eq!(ask(&mut rig, true, Access::Write), writes, "WPE {write_protect}");
        assert!(!ask(&mut rig, false, Access::Read), "cached by a privileged request");
    }
}

#[test]
fn translations_of_a_pasid_stay_until_it_is_invalidated() {
    let mut rig = rig(FIRST_STAGE);
    rig.poke(Rig::first_slot(0x5000), first(0x80_0000).into_bits());
    assert!(rig.go(0x5000, Access::Read).is_ok());
    rig.poke(Rig::first_slot(0x5000), first(0x81_0000).into_bits());
    let flush = |pasid: Pasid, page| {
        IotlbDescriptor::new()
            .with_kind(crate::spec::descriptor::kind::PASID_IOTLB)
            .with_granularity(3)
            .with_domain(DOMAIN)
            .with_pasid(pasid.get())
            .with_page(page)
            .into_bits()
    };
    for other in [flush(Pasid::new(1), 5), flush(Pasid::new(0), 6)] {
        rig.submit(&[other]);
        assert_eq!(rig.go(0x5000, Access::Read), Ok(Gpa(0x80_0000)), "stale, as in hardware");
    }
    rig.submit(&[flush(Pasid::new(0), 5)]);
    assert_eq!(rig.go(0x5000, Access::Read), Ok(Gpa(0x81_0000)));
}
