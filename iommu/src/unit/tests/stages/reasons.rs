//! Each fault of scalable-mode tables: its reason (`VT-d 7.1.3`), the answer to a Translation
//! Request, and whether it is recorded.

use super::*;
use crate::spec::tables::ScalableContextHigh;

/// An address outside memory.
const NOWHERE: u64 = 1 << 40;
/// The page that all cases map.
const IOVA: u64 = 0x5000;

/// The answer to a Translation Request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Unsupported Request, with a fault record.
    Ur,
    /// Completer Abort, with a fault record.
    Ca,
    /// Success without permissions, and no record.
    Nothing,
    /// Success with these permissions, and no record.
    Some { read: bool, write: bool },
}

use Answer::{Ca, Nothing, Ur};

fn context() -> ScalableContextLow {
    let low = ScalableContextLow::new().with_present(true).with_device_tlb(true);
    low.with_pasid(true).with_page(page(DIRECTORY))
}

fn directory() -> PasidDirectoryEntry {
    PasidDirectoryEntry::new().with_present(true).with_page(page(PASIDS))
}

fn pasid(stage: u8) -> PasidLow {
    let low = PasidLow::new().with_present(true).with_width(2).with_translation_type(stage);
    low.with_page(page(SECOND))
}

impl Rig {
    fn set_root_entry(&self, entry: RootEntry) {
        self.poke(ROOT + u64::from(VICTIM.bus()) * 16, entry.into_bits());
    }

    fn set_scalable(&self, low: ScalableContextLow) {
        self.poke(CONTEXTS + u64::from(VICTIM.devfn()) * 32, low.into_bits());
    }

    fn record(&mut self) -> Option<FaultReason> {
        let at = offset::FRCD + 16 * u16::from(self.fault_status().record_index());
        let high = FaultRecordHigh::from_bits(self.read64(at + 8));
        self.write32(at + 12, 1 << 31);
        high.fault().then_some(FaultReason(high.reason()))
    }

    /// The fault reason of a write to `address` with this PASID.
    fn blocked(&mut self, address: u64, pasid: Option<Pasid>, privileged: bool) -> FaultReason {
        let request = DmaRequest {
            requester: VICTIM,
            pasid,
            privileged,
            address: Iova(address),
            address_type: AddressType::Untranslated,
            access: Access::Write,
        };
        let answer = self.unit.dma(&request, &self.memory, self.now);
        assert_eq!(answer, Err(RequestError::UnsupportedRequest));
        self.record().expect("a blocked request is recorded")
    }

    /// The answer to a Translation Request for `address`.
    fn asked(&mut self, address: u64, pasid: Option<Pasid>, privileged: bool) -> Answer {
        let (requester, address) = (VICTIM, Iova(address));
        let request = TranslationRequest { requester, pasid, privileged, address, no_write: false };
        let answer = self.unit.translation_request(&request, &self.memory, self.now);
        let recorded = self.record().is_some();
        let (shown, is_error) = match answer {
            Err(RequestError::UnsupportedRequest) => (Ur, true),
            Err(RequestError::CompleterAbort) => (Ca, true),
            Err(error) => panic!("no unit answers {error}"),
            Ok(Translation { read: false, write: false, .. }) => (Nothing, false),
            Ok(Translation { read, write, .. }) => (Answer::Some { read, write }, false),
        };
        assert_eq!(recorded, is_error, "only errors are recorded");
        shown
    }
}

/// Breaks the tables of a new rig by `change`. Asserts the answers to both kinds of requests, with
/// FPD clear and, for a qualified fault, set.
fn check(stage: u8, change: impl Fn(&mut Rig), address: u64, reason: FaultReason, answer: Answer) {
    let broken = || {
        let mut rig = rig(stage);
        rig.poke(Rig::first_slot(IOVA), first(0x80_0000).into_bits());
        rig.poke(Rig::second_slot(IOVA), second(0x80_0000).into_bits());
        change(&mut rig);
        rig
    };
    assert_eq!(broken().blocked(address, None, false), reason);
    assert_eq!(broken().asked(address, None, false), answer, "{reason}");
}

#[test]
fn faults_of_root_and_context_tables() {
    let s = SECOND_STAGE;
    let root = RootEntry::new().with_present(true).with_page(page(CONTEXTS));
    let latch = |rig: &mut Rig, address: u64| {
        rig.write64(offset::RTADDR, address);
        rig.command(|bits| bits.with_set_root_table(true));
    };
    let r = FaultReason::TABLE_MODE_INVALID;
    check(s, |rig| latch(rig, ROOT | 2 << 10), IOVA, r, Ca);
    let r = FaultReason::SM_ROOT_INACCESSIBLE;
    check(s, |rig| latch(rig, NOWHERE | 1 << 10), IOVA, r, Ca);
    let r = FaultReason::SM_ROOT_NOT_PRESENT;
    check(s, |rig| rig.set_root_entry(RootEntry::new()), IOVA, r, Ur);
    let r = FaultReason::SM_ROOT_RESERVED;
    check(s, |rig| rig.set_root_entry(root.with_reserved(1)), IOVA, r, Ca);
    let r = FaultReason::SM_CONTEXT_INACCESSIBLE;
    check(s, |rig| rig.set_root_entry(root.with_page(page(NOWHERE))), IOVA, r, Ca);
    let r = FaultReason::SM_CONTEXT_NOT_PRESENT;
    check(s, |rig| rig.set_scalable(context().with_present(false)), IOVA, r, Ur);
    let r = FaultReason::SM_CONTEXT_RESERVED;
    check(s, |rig| rig.set_scalable(context().with_reserved(1)), IOVA, r, Ca);
    let r = FaultReason::SM_CONTEXT_INVALID;
    let contradiction = context().with_page_requests(true).with_device_tlb(false);
    check(s, |rig| rig.set_scalable(contradiction), IOVA, r, Ca);
    let beyond = ScalableContextHigh::new().with_rid_pasid(1 << 13).into_bits();
    let slot = CONTEXTS + u64::from(VICTIM.devfn()) * 32 + 8;
    check(s, |rig| rig.poke(slot, beyond), IOVA, r, Ca);
}

#[test]
fn faults_of_pasid_tables() {
    let s = SECOND_STAGE;
    let r = FaultReason::SM_DIRECTORY_INACCESSIBLE;
    check(s, |rig| rig.set_scalable(context().with_page(page(NOWHERE))), IOVA, r, Ca);
    for (entry, reason, answer) in [
        (directory().with_present(false), FaultReason::SM_DIRECTORY_NOT_PRESENT, Nothing),
        (directory().with_reserved(1), FaultReason::SM_DIRECTORY_RESERVED, Ca),
        (directory().with_page(page(NOWHERE)), FaultReason::SM_PASID_TABLE_INACCESSIBLE, Ca),
    ] {
        check(s, |rig| rig.poke(DIRECTORY, entry.into_bits()), IOVA, reason, answer);
    }
    for (entry, reason, answer) in [
        (pasid(s).with_present(false), FaultReason::SM_PASID_NOT_PRESENT, Nothing),
        (pasid(s).with_reserved(true), FaultReason::SM_PASID_RESERVED, Ca),
        (pasid(0), FaultReason::SM_PASID_INVALID, Ca),
        (pasid(7), FaultReason::SM_PASID_INVALID, Ca),
        (pasid(s).with_width(0), FaultReason::SM_PASID_INVALID, Ca),
    ] {
        check(s, |rig| rig.poke(PASIDS, entry.into_bits()), IOVA, reason, answer);
    }
}

#[test]
fn faults_of_second_stage_tables() {
    let s = SECOND_STAGE;
    let leaf = Rig::second_slot(IOVA);
    for (slot, entry, reason, answer) in [
        (PASIDS, pasid(s).with_page(page(NOWHERE)).into_bits(), 0x7b, Ca),
        (SECOND, second(NOWHERE).into_bits(), 0x78, Ca),
        (leaf, 0, 0x79, Nothing),
        (leaf, second(0x80_0000).with_transient(true).into_bits(), 0x7a, Ca),
        (
            leaf,
            second(0x80_0000).with_write(false).into_bits(),
            0x85,
            Answer::Some { read: true, write: false },
        ),
        (leaf, second(0xfee0_0000).into_bits(), 0x87, Ca),
    ] {
        check(s, |rig| rig.poke(slot, entry), IOVA, FaultReason(reason), answer);
    }
    check(s, |_| {}, 1 << 48, FaultReason::SM_ADDRESS_BEYOND_WIDTH, Nothing);
    let through = pasid(4).into_bits();
    let r = FaultReason::SM_HOST_ADDRESS_BEYOND_WIDTH;
    check(s, |rig| rig.poke(PASIDS, through), 1 << 46, r, Nothing);
}

#[test]
fn faults_of_pass_through_into_the_interrupt_range() {
    let mut rig = rig(SECOND_STAGE);
    rig.poke(PASIDS + 64, pasid(4).into_bits());
    let with_pasid = Some(Pasid::new(1));
    assert_eq!(rig.blocked(0xfee0_0000, with_pasid, false), FaultReason::SM_INTERRUPT_RANGE);
    let all = Answer::Some { read: true, write: true };
    assert_eq!(rig.asked(0xfee0_0000, with_pasid, false), all, "as any other address");
}

#[test]
fn faults_of_pasid_fields_that_the_unit_lacks() {
    let whole = UnitConfig::full(UnitRole::Guest);
    let no_second =
        UnitConfig { second_stage: false, nested: false, second_stage_dirty: false, ..whole };
    let no_snoop = UnitConfig { snoop_control: false, ..whole };
    let plain = PasidHigh::new().with_walk_snoop(true);
    let (snooped, plain) = (plain.with_page_snoop(true).into_bits(), plain.into_bits());
    for (config, high, fault) in [
        (whole, snooped, false),
        (no_second, plain, true),
        (no_snoop, plain, false),
        (no_snoop, snooped, true),
    ] {
        let rig = rig(FIRST_STAGE);
        rig.poke(Rig::first_slot(IOVA), first(0x80_0000).into_bits());
        // SSPTPTR is valid, although first-stage translation does not need it.
        rig.poke(PASIDS + 8, high);
        let mut rig = Rig { unit: Unit::new(config, Tracer::none()), ..rig };
        rig = rig.enable(QueueAddress::new().with_wide(true), ROOT | 1 << 10);
        assert_eq!(rig.go(IOVA, Access::Read).is_err(), fault);
        assert_eq!(rig.record(), fault.then_some(FaultReason::SM_PASID_RESERVED));
    }
}

#[test]
fn faults_of_first_stage_tables() {
    let s = FIRST_STAGE;
    let leaf = Rig::first_slot(IOVA);
    let far = PasidFirstStage::new().with_page(page(NOWHERE)).into_bits();
    for (slot, entry, reason) in [
        (PASIDS + 16, far, FaultReason::FIRST_STAGE_ROOT_INACCESSIBLE),
        (FIRST, first(NOWHERE).into_bits(), FaultReason::FIRST_STAGE_INACCESSIBLE),
        (leaf, 0, FaultReason::FIRST_STAGE_NOT_PRESENT),
        (leaf, first(1 << 50).into_bits(), FaultReason::FIRST_STAGE_RESERVED),
        (
            leaf,
            first(0x80_0000).with_user(false).into_bits(),
            FaultReason::FIRST_STAGE_SUPERVISOR_PAGE,
        ),
    ] {
        check(s, |rig| rig.poke(slot, entry), IOVA, reason, Nothing);
    }
    check(s, |_| {}, 1 << 47, FaultReason::FIRST_STAGE_NOT_CANONICAL, Nothing);
}

#[test]
fn faults_of_nested_translation() {
    // First no table of the first stage is mapped; then all tables, but not the page.
    check(NESTED, |_| {}, IOVA, FaultReason::NESTED_ROOT_DENIED, Nothing);
    let slot = SECOND + 3 * PAGE_SIZE;
    let root = |rig: &Rig| rig.poke(slot + page(0x1000) * 8, second(FIRST).into_bits());
    let at = |rig: &Rig, table: u64| {
        let first_stage = PasidFirstStage::new().with_page(page(0x1000));
        rig.poke(PASIDS + 16, first_stage.into_bits());
        rig.poke(FIRST, first(table).into_bits());
        root(rig);
    };
    check(NESTED, |rig| at(rig, 0x9000), IOVA, FaultReason::NESTED_TABLE_DENIED, Nothing);
    // The second stage has three levels, and the address of the next table is beyond them.
    let far = |rig: &mut Rig| {
        at(rig, 1 << 40);
        rig.poke(PASIDS, pasid(NESTED).with_width(1).with_page(page(SECOND) + 1).into_bits());
    };
    check(NESTED, far, IOVA, FaultReason::NESTED_ADDRESS_BEYOND_WIDTH, Nothing);
    let high = PasidFirstStage::new().with_page(1 << (48 - 12)).into_bits();
    // The address is beyond four levels and beyond the host, so that the entry itself is invalid.
    check(NESTED, |rig| rig.poke(PASIDS + 16, high), IOVA, FaultReason::SM_PASID_RESERVED, Ca);
}

#[test]
fn faults_of_accessed_bits_that_the_second_stage_denies() {
    // The second stage maps the first-stage tables at 0x1000 to 0x4000, and the page at 0x6000.
    let map = |rig: &mut Rig, bits: u64, tables: SecondStageEntry| {
        rig.poke(PASIDS + 16, PasidFirstStage::new().with_page(1).into_bits());
        for level in 0..4 {
            let (seen, place) = ((level + 1) * PAGE_SIZE, FIRST + level * PAGE_SIZE);
            rig.poke(Rig::second_slot(seen), tables.with_page(page(place)).into_bits());
            rig.poke(place, first(seen + PAGE_SIZE).into_bits() | bits);
        }
        rig.poke(Rig::second_slot(0x6000), second(0x80_0000).into_bits());
        rig.poke(Rig::first_slot(IOVA), first(0x6000).into_bits() | bits);
    };
    let r = FaultReason::NESTED_UPDATE_DENIED;
    let read_only = second(0).with_write(false);
    check(NESTED, |rig| map(rig, 0, read_only), IOVA, r, Nothing);
    let set = FirstStageEntry::new().with_accessed(true).with_dirty(true).into_bits();
    for (bits, tables) in [(0, second(0)), (set, read_only)] {
        let mut rig = rig(NESTED);
        map(&mut rig, bits, tables);
        assert!(rig.go(IOVA, Access::Write).is_ok(), "nothing is to be written, or all may be");
    }
}

#[test]
fn faults_of_the_request_itself() {
    let with = |n| Some(Pasid::new(n));
    let disabled = context().with_pasid(false);
    for (change, pasid, privileged, reason, answer) in [
        (Some(disabled), with(1), false, FaultReason::SM_PASID_DISABLED, Ur),
        (None, with(1 << 13), false, FaultReason::SM_PASID_BEYOND_DIRECTORY, Ur),
        (None, with(0), false, FaultReason::SM_PASID_IS_RID_PASID, Ur),
        (None, None, true, FaultReason::SM_PRIVILEGE_DENIED, Nothing),
    ] {
        let broken = || {
            let rig = rig(SECOND_STAGE);
            if let Some(entry) = change {
                rig.set_scalable(entry);
            }
            rig
        };
        assert_eq!(broken().blocked(IOVA, pasid, privileged), reason);
        assert_eq!(broken().asked(IOVA, pasid, privileged), answer, "{reason}");
    }
    let mut rig = rig(SECOND_STAGE);
    rig.set_scalable(context().with_device_tlb(false));
    assert_eq!(rig.asked(IOVA, None, false), Ur, "DTE=0");
    let narrow = UnitConfig { pasid_bits: Some(8), ..UnitConfig::full(UnitRole::Guest) };
    let mut rig = Rig { unit: Unit::new(narrow, Tracer::none()), ..rig };
    rig = rig.enable(QueueAddress::new().with_wide(true), ROOT | 1 << 10);
    rig.set_scalable(context());
    assert_eq!(rig.blocked(IOVA, with(1 << 8), false), FaultReason::SM_PASID_TOO_WIDE);
}

#[test]
fn translated_requests_need_no_pasid_entry() {
    let without = |context: ScalableContextLow| {
        let rig = rig(SECOND_STAGE);
        rig.poke(PASIDS, 0);
        rig.set_scalable(context);
        rig
    };
    let mut rig = without(context());
    let mut request = DmaRequest {
        requester: VICTIM,
        pasid: None,
        privileged: false,
        address: Iova(0x80_0000),
        address_type: AddressType::Translated,
        access: Access::Write,
    };
    let go = |rig: &mut Rig, request| rig.unit.dma(&request, &rig.memory, rig.now);
    assert_eq!(go(&mut rig, request), Ok(Gpa(0x80_0000)), "it is translated already");
    request.address_type = AddressType::Untranslated;
    assert_eq!(go(&mut rig, request), Err(RequestError::UnsupportedRequest));
    let mut rig = without(context().with_device_tlb(false));
    assert_eq!(rig.asked(IOVA, None, false), Ur, "DTE comes before the PASID entry");
}

#[test]
fn faults_of_pasids_in_legacy_mode() {
    let mut rig = Rig::enabled();
    assert_eq!(rig.blocked(IOVA, Some(Pasid::new(1)), false), FaultReason::PASID_IN_LEGACY_MODE);
    assert_eq!(rig.asked(IOVA, Some(Pasid::new(1)), false), Ur);
}
