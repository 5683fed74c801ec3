//! Translation: tables of both modes, caches, and answers to requests.

mod absent;
mod lost;

use super::*;
use crate::ats::{Access, AddressType, DmaRequest, PageRange};
use crate::ids::{Gpa, Iova};
use crate::spec::fault::{FaultReason, FaultRecordHigh};
use crate::spec::tables::{ContextHigh, ContextLow, RootEntry, SecondStageEntry};

const CONTEXTS: u64 = 0x40_0000;
const TABLES: u64 = 0x50_0000;
const DOMAIN: u16 = 7;

fn page(address: u64) -> u64 {
    address / PAGE_SIZE
}

fn table(address: u64) -> u64 {
    leaf(address).into_bits()
}

fn leaf(address: u64) -> SecondStageEntry {
    SecondStageEntry::new().with_read(true).with_write(true).with_page(page(address))
}

impl Rig {
    /// Builds legacy tables of 4 levels for VICTIM, with translation type `tt`.
    fn with_context(self, tt: u8) -> Self {
        let root = RootEntry::new().with_present(true).with_page(page(CONTEXTS));
        self.poke(ROOT + u64::from(VICTIM.bus()) * 16, root.into_bits());
        let low =
            ContextLow::new().with_present(true).with_translation_type(tt).with_page(page(TABLES));
        let width = if tt == 2 { 3 } else { 2 };
        let high = ContextHigh::new().with_width(width).with_domain(DOMAIN);
        self.set_context(low, high);
        self
    }

    fn set_context(&self, low: ContextLow, high: ContextHigh) {
        let slot = CONTEXTS + u64::from(VICTIM.devfn()) * 16;
        self.poke(slot, low.into_bits());
        self.poke(slot + 8, high.into_bits());
    }

    /// Maps `iova` by `entry` at `level` (1 to 3). Each level has tables of its own.
    fn map(&self, iova: u64, level: u8, entry: SecondStageEntry) {
        for upper in (level + 1..=4).rev() {
            let slot = self.slot(iova, upper);
            self.poke(slot, table(self.table_of(iova, upper - 1)));
        }
        self.poke(self.slot(iova, level), entry.into_bits());
    }

    fn table_of(&self, iova: u64, level: u8) -> u64 {
        // Tests use one table for each level and each index above it.
        TABLES + u64::from(4 - level) * 0x10_000 + ((iova >> (12 + 9 * level)) & 7) * PAGE_SIZE
    }

    fn slot(&self, iova: u64, level: u8) -> u64 {
        let table = if level == 4 { TABLES } else { self.table_of(iova, level) };
        table + ((iova >> (12 + 9 * (level - 1))) & 0x1ff) * 8
    }

    fn dma(&mut self, address: u64, access: Access) -> Result<Gpa, RequestError> {
        self.request(address, access, AddressType::Untranslated)
    }

    fn request(
        &mut self,
        address: u64,
        access: Access,
        address_type: AddressType,
    ) -> Result<Gpa, RequestError> {
        let (requester, address) = (VICTIM, Iova(address));
        let request =
            DmaRequest { requester, pasid: None, privileged: false, address, address_type, access };
        self.unit.dma(&request, &self.memory, self.now)
    }

    fn translate(&mut self, address: u64) -> Result<Translation, RequestError> {
        let (requester, address) = (VICTIM, Iova(address));
        let request = TranslationRequest {
            requester,
            pasid: None,
            privileged: false,
            address,
            no_write: false,
        };
        self.unit.translation_request(&request, &self.memory, self.now)
    }

    /// Takes the reason from the first fault record, and clears the record.
    fn take_fault(&mut self) -> Option<FaultReason> {
        let index = u16::from(self.fault_status().record_index());
        let at = offset::FRCD + 16 * index;
        let high = FaultRecordHigh::from_bits(self.read64(at + 8));
        self.write32(at + 12, 1 << 31);
        high.fault().then_some(FaultReason(high.reason()))
    }
}

fn mapped() -> Rig {
    let rig = Rig::enabled().with_context(1);
    rig.map(0x1000, 1, leaf(0x80_0000));
    rig
}

#[test]
fn pages_of_all_sizes_translate() {
    let mut rig = mapped();
    rig.map(0x4020_0000, 2, leaf(0x60_0000).with_large(true));
    rig.map(0x8000_0000, 3, leaf(0x4000_0000).with_large(true));
    for _ in 0..2 {
        assert_eq!(rig.dma(0x1234, Access::Read), Ok(Gpa(0x80_0234)));
        assert_eq!(rig.dma(0x4021_2345, Access::Write), Ok(Gpa(0x61_2345)));
        assert_eq!(rig.dma(0xb234_5678, Access::Read), Ok(Gpa(0x7234_5678)));
    }
}

#[test]
fn no_part_of_a_large_page_maps_into_the_interrupt_range() {
    let mut rig = mapped();
    rig.map(0x4020_0000, 2, leaf(0xfee0_0000).with_large(true));
    let blocked = Err(RequestError::UnsupportedRequest);
    for _ in 0..2 {
        assert_eq!(rig.dma(0x4030_0000, Access::Write), Ok(Gpa(0xfef0_0000)));
        assert_eq!(rig.dma(0x4020_0000, Access::Write), blocked);
        assert_eq!(rig.take_fault(), Some(FaultReason::INTERRUPT_RANGE));
    }
}

#[test]
fn each_width_has_its_levels_and_its_limit() {
    for (width, levels) in [(1_u8, 3_u32), (2, 4), (3, 5)] {
        let mut rig = Rig::enabled().with_context(1);
        let low = ContextLow::new().with_present(true).with_page(page(TABLES));
        rig.set_context(low, ContextHigh::new().with_width(width).with_domain(DOMAIN));
        let top = 1_u64 << (12 + 9 * levels);
        let address = top - PAGE_SIZE;
        // The last entry of each table maps the next one.
        let mut at = TABLES;
        for level in 1..levels {
            let next = TABLES + u64::from(level) * PAGE_SIZE;
            rig.poke(at + 511 * 8, table(next));
            at = next;
        }
        rig.poke(at + 511 * 8, table(0x9000));
        assert_eq!(rig.dma(address + 5, Access::Read), Ok(Gpa(0x9005)), "AW {width}");
        assert_eq!(rig.dma(top, Access::Read), Err(RequestError::UnsupportedRequest));
        assert_eq!(rig.take_fault(), Some(FaultReason::ADDRESS_BEYOND_WIDTH), "AW {width}");
    }
}

#[test]
fn only_present_entries_are_cached_and_stay_until_invalidated() {
    let mut rig = mapped();
    assert_eq!(rig.dma(0x2000, Access::Read), Err(RequestError::UnsupportedRequest));
    rig.map(0x2000, 1, leaf(0x81_0000));
    assert_eq!(rig.dma(0x2000, Access::Read), Ok(Gpa(0x81_0000)), "no invalidation needed");
    rig.map(0x2000, 1, leaf(0x82_0000));
    assert_eq!(rig.dma(0x2000, Access::Read), Ok(Gpa(0x81_0000)), "stale, as in hardware");
    let other_page = IotlbDescriptor::new().with_granularity(3).with_domain(DOMAIN).with_page(1);
    rig.submit(&[other_page.into_bits()]);
    assert_eq!(rig.dma(0x2000, Access::Read), Ok(Gpa(0x81_0000)));
    let other_domain = IotlbDescriptor::new().with_granularity(2).with_domain(DOMAIN + 1);
    rig.submit(&[other_domain.into_bits()]);
    assert_eq!(rig.dma(0x2000, Access::Read), Ok(Gpa(0x81_0000)));
    let page = other_page.with_page(2);
    rig.submit(&[page.into_bits()]);
    assert_eq!(rig.dma(0x2000, Access::Read), Ok(Gpa(0x82_0000)));
}

#[test]
fn a_changed_context_entry_takes_effect_after_a_context_invalidation() {
    use crate::spec::descriptor::ContextCacheDescriptor;
    let mut rig = mapped();
    assert!(rig.dma(0x1000, Access::Read).is_ok());
    rig.set_context(ContextLow::new(), ContextHigh::new());
    assert!(rig.dma(0x1000, Access::Read).is_ok());
    rig.submit(&[iotlb_global()]);
    assert!(rig.dma(0x1000, Access::Read).is_ok(), "the IOTLB's invalidation is another one");
    let device = ContextCacheDescriptor::new()
        .with_granularity(3)
        .with_domain(DOMAIN)
        .with_source_id(VICTIM.into_bits());
    rig.submit(&[device.into_bits()]);
    assert_eq!(rig.dma(0x1000, Access::Read), Err(RequestError::UnsupportedRequest));
    assert_eq!(rig.take_fault(), Some(FaultReason::CONTEXT_NOT_PRESENT));
}

#[test]
fn permissions_are_the_intersection_of_all_levels() {
    let mut rig = mapped();
    rig.map(0x3000, 1, leaf(0x83_0000).with_write(false));
    assert!(rig.dma(0x3000, Access::Read).is_ok());
    assert_eq!(rig.dma(0x3000, Access::Write), Err(RequestError::UnsupportedRequest));
    assert_eq!(rig.take_fault(), Some(FaultReason::WRITE_DENIED));
}

#[test]
fn reserved_bits_have_a_fault_reason_of_their_own() {
    let mut rig = mapped();
    for bad in
        [leaf(0x83_0000).with_transient(true), leaf(0x83_0000).with_snoop(true), leaf(1 << 50)]
    {
        rig.map(0x3000, 1, bad);
        assert!(rig.dma(0x3000, Access::Read).is_err());
        assert_eq!(rig.take_fault(), Some(FaultReason::PAGE_TABLE_RESERVED));
    }
    rig.map(0x4020_0000, 2, leaf(0x60_1000).with_large(true));
    assert!(rig.dma(0x4020_0000, Access::Read).is_err());
    assert_eq!(rig.take_fault(), Some(FaultReason::PAGE_TABLE_RESERVED), "misaligned large page");
}

#[test]
fn missing_tables_fault_with_the_reason_of_the_first_one() {
    let mut rig = Rig::enabled();
    assert!(rig.dma(0x1000, Access::Read).is_err());
    assert_eq!(rig.take_fault(), Some(FaultReason::ROOT_NOT_PRESENT));

    let far = RootEntry::new().with_present(true).with_page(page(1 << 40));
    rig.poke(ROOT + u64::from(VICTIM.bus()) * 16, far.into_bits());
    assert!(rig.dma(0x1000, Access::Read).is_err());
    assert_eq!(rig.take_fault(), Some(FaultReason::CONTEXT_INACCESSIBLE));

    let mut rig = Rig::enabled().with_context(3);
    assert!(rig.dma(0x1000, Access::Read).is_err());
    assert_eq!(rig.take_fault(), Some(FaultReason::CONTEXT_INVALID));
}

#[test]
fn fpd_keeps_qualified_faults_out_of_the_records() {
    let mut rig = Rig::enabled().with_context(1);
    rig.set_context(ContextLow::new().with_fault_disable(true), ContextHigh::new());
    assert_eq!(rig.dma(0x1000, Access::Read), Err(RequestError::UnsupportedRequest));
    assert_eq!(rig.take_fault(), None);
}

#[test]
fn pass_through_outputs_its_input() {
    let mut rig = Rig::enabled().with_context(2);
    assert_eq!(rig.dma(0x1234_5678, Access::Write), Ok(Gpa(0x1234_5678)));
    assert!(rig.dma(1 << 46, Access::Read).is_err());
}

#[test]
fn a_translation_request_gets_permissions_and_size_but_no_fault() {
    let mut rig = mapped();
    rig.map(0x4020_0000, 2, leaf(0x60_0000).with_large(true).with_write(false));
    let large = rig.translate(0x4021_2345).unwrap();
    assert_eq!(large.range, PageRange::containing(Iova(0x4020_0000), 21));
    assert_eq!((large.output, large.read, large.write), (Gpa(0x60_0000), true, false));
    let absent = rig.translate(0x9000).unwrap();
    assert!(!absent.read && !absent.write);
    let beyond = rig.translate(1 << 50).unwrap();
    assert!(!beyond.read && !beyond.write);
    assert_eq!(rig.take_fault(), None);
}

#[test]
fn only_the_device_tlb_type_allows_ats() {
    for (tt, allowed) in [(0, false), (1, true), (2, false)] {
        let mut rig = Rig::enabled().with_context(tt);
        rig.map(0x1000, 1, leaf(0x80_0000));
        let translated = rig.request(0x80_0000, Access::Write, AddressType::Translated);
        assert_eq!(translated.is_ok(), allowed, "TT {tt}");
        assert_eq!(rig.take_fault(), (!allowed).then_some(FaultReason::ATS_BLOCKED), "TT {tt}");
        assert_eq!(rig.translate(0x1000).is_ok(), allowed, "TT {tt}");
    }
}

#[test]
fn a_translated_request_is_not_translated_again() {
    let mut rig = mapped();
    let anywhere = rig.request(0x77_7000, Access::Write, AddressType::Translated);
    assert_eq!(anywhere, Ok(Gpa(0x77_7000)));
    assert!(rig.request(0xfee0_0000, Access::Write, AddressType::Translated).is_err());
    assert_eq!(rig.take_fault(), Some(FaultReason::INTERRUPT_RANGE));
}

#[test]
fn a_disabled_unit_passes_addresses_and_blocks_ats() {
    let mut rig = Rig::new();
    assert_eq!(rig.dma(0x1234, Access::Write), Ok(Gpa(0x1234)));
    assert!(rig.request(0x1234, Access::Write, AddressType::Translated).is_err());
    assert_eq!(rig.translate(0x1000), Err(RequestError::UnsupportedRequest));
    assert_eq!(rig.take_fault(), None);
}

#[test]
fn a_translation_request_for_the_interrupt_range_gets_no_address() {
    let mut rig = mapped();
    let hint = rig.translate(0xfee0_0000).unwrap();
    assert!(hint.write && hint.untranslated_only && !hint.read);
}

/// Scalable-mode tables with root, context, PASID directory and a second-stage PASID entry of
/// VICTIM.
fn scalable() -> Rig {
    use crate::spec::tables::*;
    const DIRECTORY: u64 = 0x48_0000;
    const PASIDS: u64 = 0x49_0000;
    let rig = Rig::scalable().enable(QueueAddress::new().with_wide(true), ROOT | 1 << 10);
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
    let second = PasidLow::new()
        .with_present(true)
        .with_width(2)
        .with_translation_type(2)
        .with_page(page(TABLES));
    rig.poke(PASIDS, second.into_bits());
    rig.poke(PASIDS + 8, PasidHigh::new().with_domain(DOMAIN).into_bits());
    let through = second.with_translation_type(4);
    rig.poke(PASIDS + 64, through.into_bits());
    rig.map(0x1000, 1, leaf(0x80_0000));
    rig
}

#[test]
fn scalable_mode_translates_by_rid_pasid_and_by_pasid() {
    let mut rig = scalable();
    assert_eq!(rig.dma(0x1234, Access::Read), Ok(Gpa(0x80_0234)));
    assert_eq!(rig.dma(0x2000, Access::Read), Err(RequestError::UnsupportedRequest));
    assert_eq!(rig.take_fault(), Some(FaultReason::SM_PAGE_NOT_PRESENT));
    let with_pasid = |pasid| DmaRequest {
        requester: VICTIM,
        pasid: Some(crate::ids::Pasid::new(pasid)),
        privileged: false,
        address: Iova(0x1234),
        address_type: AddressType::Untranslated,
        access: Access::Read,
    };
    let through = rig.unit.dma(&with_pasid(1), &rig.memory, rig.now);
    assert_eq!(through, Ok(Gpa(0x1234)));
    for (pasid, reason) in [
        (0, FaultReason::SM_PASID_IS_RID_PASID),
        (2, FaultReason::SM_PASID_NOT_PRESENT),
        (64, FaultReason::SM_DIRECTORY_NOT_PRESENT),
        (1 << 13, FaultReason::SM_PASID_BEYOND_DIRECTORY),
    ] {
        assert!(rig.unit.dma(&with_pasid(pasid), &rig.memory, rig.now).is_err());
        assert_eq!(rig.take_fault(), Some(reason), "PASID {pasid}");
    }
}

#[test]
fn register_based_invalidation_needs_the_queue_disabled_and_a_version_below_6() {
    use crate::spec::control::{ContextCommand, IotlbCommand};
    use crate::unit::Version;
    const OLD: Gpa = Gpa(0x80_0000);
    for (major, done, expected) in [(5, (1, 2), Gpa(0x84_0000)), (6, (0, 0), OLD)] {
        let version = Version { major, minor: 0 };
        let config = UnitConfig { version, ..UnitConfig::new(UnitRole::Guest) };
        let mut rig = Rig::with(config).enable(QueueAddress::new(), ROOT).with_context(1);
        rig.map(0x1000, 1, leaf(OLD.0));
        assert_eq!(rig.read32(offset::VER), u32::from(major) << 4);
        let context = ContextCommand::new().with_granularity(1).with_start(true).into_bits();
        let iotlb = IotlbCommand::new().with_granularity(2).with_domain(DOMAIN).with_start(true);
        rig.write64(offset::CCMD, context);
        rig.write64(offset::IOTLB, iotlb.into_bits());
        let actual = |rig: &Rig| {
            let context = ContextCommand::from_bits(rig.read64(offset::CCMD));
            let iotlb = IotlbCommand::from_bits(rig.read64(offset::IOTLB));
            assert!(!context.start() && !iotlb.start());
            (context.actual(), iotlb.actual())
        };
        assert_eq!(actual(&rig), (0, 0), "the queue is on");
        rig.command(|bits| bits.with_queued_invalidation(false));
        assert_eq!(rig.dma(0x1000, Access::Read), Ok(OLD));
        rig.map(0x1000, 1, leaf(0x84_0000));
        rig.write64(offset::CCMD, context);
        rig.write64(offset::IOTLB, iotlb.into_bits());
        assert_eq!(actual(&rig), done);
        assert_eq!(rig.dma(0x1000, Access::Read), Ok(expected), "version {major}");
    }
}
