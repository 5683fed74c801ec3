//! Page requests: the ring, its status and event, what the tables allow, and who answers.

use super::*;
use crate::ats::{PageGroupResponse, PageRequest, ResponseCode};
use crate::event::PageRequestOutcome;
use crate::ids::{Iova, Pasid};
use crate::spec::descriptor::PageGroupResponseDescriptor;
use crate::spec::fault::{FaultReason, FaultRecordHigh};
use crate::spec::page_request::{
    DESCRIPTOR_BYTES, PageRequestDescriptor, PageRequestQueueAddress, PageRequestStatus,
};
use crate::spec::tables::*;

const REQUESTS: u64 = 0x60_0000;
const CONTEXTS: u64 = 0x40_0000;
const DIRECTORY: u64 = 0x41_0000;
const PASIDS: u64 = 0x42_0000;
const EVENT: (u32, u32) = (0xfee0_2000, 0x44);
const SCALABLE: u64 = 1 << 10;
/// A PASID whose entry is pass-through.
const PASID: Pasid = Pasid::new(5);

fn page(address: u64) -> u64 {
    address / PAGE_SIZE
}

/// A context entry that allows everything.
fn context() -> ScalableContextLow {
    ScalableContextLow::new()
        .with_present(true)
        .with_device_tlb(true)
        .with_pasid(true)
        .with_page_requests(true)
        .with_page(page(DIRECTORY))
}

/// A request of VICTIM without PASID, the only one of its group.
fn request(group: u16) -> PageRequest {
    PageRequest {
        requester: VICTIM,
        pasid: None,
        execute: false,
        privileged: false,
        address: Iova(0x1234_5000),
        read: true,
        write: false,
        last: true,
        group,
    }
}

fn response(group: u16, code: ResponseCode) -> Output {
    Output::PageGroupResponse(PageGroupResponse { destination: VICTIM, pasid: None, group, code })
}

impl Rig {
    /// A unit in scalable mode, tables for VICTIM, a ring of 2^`size` pages, its event unmasked.
    fn with_page_requests(size: u8) -> Self {
        let mut rig = Self::scalable().enable(QueueAddress::new().with_wide(true), ROOT | SCALABLE);
        let root = RootEntry::new().with_present(true).with_page(page(CONTEXTS));
        rig.poke(ROOT + u64::from(VICTIM.bus()) * 16, root.into_bits());
        rig.set_scalable_context(context());
        let directory = PasidDirectoryEntry::new().with_present(true).with_page(page(PASIDS));
        rig.poke(DIRECTORY, directory.into_bits());
        for pasid in [0, PASID.get()] {
            let entry = PasidLow::new().with_present(true).with_translation_type(4).with_width(2);
            rig.poke(PASIDS + u64::from(pasid) * 64, entry.into_bits());
            let domain = PasidHigh::new().with_domain(9).into_bits();
            rig.poke(PASIDS + u64::from(pasid) * 64 + 8, domain);
        }
        let queue = PageRequestQueueAddress::new().with_size(size).with_page(page(REQUESTS));
        rig.write64(offset::PQA, queue.into_bits());
        rig.route_events(offset::PECTL, EVENT.0, EVENT.1);
        rig
    }

    fn set_scalable_context(&self, entry: ScalableContextLow) {
        self.poke(CONTEXTS + u64::from(VICTIM.devfn()) * 32, entry.into_bits());
    }

    fn page_request(&mut self, request: PageRequest) {
        self.unit.handle_page_request(request, &self.memory, self.now);
    }

    /// What lies in the ring at slot `slot`.
    fn slot_of_requests(&self, slot: u32) -> PageRequestDescriptor {
        let mut bytes = [0; 32];
        let at = REQUESTS + u64::from(slot * DESCRIPTOR_BYTES);
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        assert_eq!(bytes[16..], [0; 16], "the upper half");
        PageRequestDescriptor::from_bits(u128::from_le_bytes(bytes[..16].try_into().unwrap()))
    }

    fn request_status(&self) -> PageRequestStatus {
        PageRequestStatus::from_bits(self.read32(offset::PRS))
    }

    fn tail_of_requests(&self) -> u32 {
        self.read32(offset::PQT) / DESCRIPTOR_BYTES
    }

    fn outcomes(&self) -> Vec<PageRequestOutcome> {
        let outcome = |event| match event {
            Event::PageRequested { outcome, .. } => Some(outcome),
            _ => None,
        };
        self.recorder.events().into_iter().filter_map(|timed| outcome(timed.event)).collect()
    }

    /// The first fault record, which is then cleared.
    fn take_record(&mut self) -> Option<FaultRecordHigh> {
        let at = offset::FRCD + 16 * u16::from(self.fault_status().record_index());
        let high = FaultRecordHigh::from_bits(self.read64(at + 8));
        self.write32(at + 12, 1 << 31);
        high.fault().then_some(high)
    }
}

fn event() -> Output {
    Output::Msi(Msi { address: EVENT.0.into(), data: EVENT.1 })
}

#[test]
fn a_request_lies_in_the_ring_when_its_event_comes() {
    let mut rig = Rig::with_page_requests(0);
    rig.page_request(PageRequest {
        pasid: Some(PASID),
        privileged: true,
        write: true,
        last: false,
        ..request(0x155)
    });
    assert_eq!(rig.outputs(), [event()]);
    assert_eq!(rig.tail_of_requests(), 1);
    let expected = PageRequestDescriptor::new()
        .with_requester(VICTIM.into_bits())
        .with_pasid_present(true)
        .with_pasid(PASID.get())
        .with_privileged(true)
        .with_read(true)
        .with_write(true)
        .with_group(0x155)
        .with_page(0x1_2345);
    assert_eq!(rig.slot_of_requests(0), expected);
    assert_eq!(rig.request_status(), PageRequestStatus::new().with_pending(true));
    assert_eq!(rig.outcomes(), [PageRequestOutcome::Queued]);
}

#[test]
fn what_a_pasid_prefix_says_is_not_there_without_one() {
    let mut rig = Rig::with_page_requests(0);
    rig.page_request(PageRequest { execute: true, privileged: true, ..request(1) });
    let descriptor = rig.slot_of_requests(0);
    assert!(!descriptor.execute() && !descriptor.privileged() && !descriptor.pasid_present());
}

#[test]
fn the_next_event_comes_when_software_has_cleared_the_status() {
    let mut rig = Rig::with_page_requests(0);
    rig.page_request(request(0));
    rig.page_request(request(1));
    assert_eq!(rig.msis().len(), 1, "PPR was set");
    rig.write32(offset::PRS, 1);
    assert_eq!(rig.request_status(), PageRequestStatus::new());
    rig.page_request(request(2));
    assert_eq!(rig.msis().len(), 1);
    assert_eq!(rig.tail_of_requests(), 3);
}

#[test]
fn a_masked_event_is_kept_and_withdrawn_with_its_cause() {
    let mut rig = Rig::with_page_requests(0);
    rig.write32(offset::PECTL, 1 << 31);
    rig.page_request(request(0));
    assert_eq!((rig.read32(offset::PECTL) >> 30, rig.msis()), (0b11, vec![]));
    rig.write32(offset::PECTL, 0);
    assert_eq!(rig.outputs(), [event()]);
    rig.write32(offset::PECTL, 1 << 31);
    rig.write32(offset::PRS, 1);
    rig.page_request(request(1));
    rig.write32(offset::PRS, 1);
    assert_eq!(rig.read32(offset::PECTL) >> 30, 0b10, "nothing is pending any more");
    rig.write32(offset::PECTL, 0);
    assert_eq!(rig.outputs(), []);
}

#[test]
fn a_full_ring_overflows_and_only_the_last_of_a_group_is_answered() {
    let mut rig = Rig::with_page_requests(0);
    for group in 0..127 {
        rig.page_request(request(group));
    }
    assert_eq!((rig.tail_of_requests(), rig.outputs()), (127, vec![event()]));
    rig.page_request(PageRequest { last: false, ..request(300) });
    assert_eq!(rig.outputs(), [], "dropped, and PPR was set: no second event");
    rig.page_request(request(300));
    assert_eq!(rig.outputs(), [response(300, ResponseCode::Success)]);
    assert_eq!(rig.tail_of_requests(), 127);
    let both = PageRequestStatus::new().with_pending(true).with_overflow(true);
    assert_eq!(rig.request_status(), both);
}

#[test]
fn an_overflow_has_an_event_of_its_own_if_software_had_cleared_the_status() {
    let mut rig = Rig::with_page_requests(0);
    for group in 0..127 {
        rig.page_request(request(group));
    }
    rig.write32(offset::PRS, 1);
    rig.outputs();
    rig.page_request(PageRequest { last: false, ..request(300) });
    assert_eq!(rig.outputs(), [event()]);
}

#[test]
fn nothing_is_written_until_the_overflow_is_cleared() {
    let mut rig = Rig::with_page_requests(0);
    for group in 0..128 {
        rig.page_request(request(group));
    }
    rig.write32(offset::PQH, rig.read32(offset::PQT));
    rig.write32(offset::PRS, 1);
    rig.outputs();
    rig.page_request(request(200));
    assert_eq!(rig.outputs(), [response(200, ResponseCode::Success)], "there is room, but PRO");
    rig.write32(offset::PRS, 2);
    rig.page_request(request(201));
    assert_eq!(rig.outputs(), [event()]);
    assert_eq!((rig.tail_of_requests(), rig.slot_of_requests(127).group()), (0, 201));
}

#[test]
fn the_ring_wraps_in_every_size() {
    for size in 0..=7 {
        let mut rig = Rig::with_page_requests(size);
        let entries = 128 << size;
        for slot in 0..entries + 3 {
            rig.page_request(request((slot % 512) as u16));
            assert_eq!(rig.slot_of_requests(slot % entries).group(), (slot % 512) as u16);
            rig.write32(offset::PQH, rig.read32(offset::PQT));
            rig.outputs();
        }
        assert_eq!((rig.tail_of_requests(), rig.request_status().overflow()), (3, false));
    }
}

#[test]
fn a_tail_beyond_the_ring_wraps_into_it() {
    let mut rig = Rig::with_page_requests(0);
    rig.write32(offset::PQT, 0x7_ffe0);
    rig.write32(offset::PQH, 0x4_0000);
    rig.page_request(request(3));
    assert_eq!(rig.request_status(), PageRequestStatus::new().with_overflow(true), "full");
    rig.write32(offset::PQH, 0x20);
    rig.write32(offset::PRS, 3);
    rig.page_request(request(4));
    assert_eq!((rig.slot_of_requests(127).group(), rig.tail_of_requests()), (4, 0));
}

#[test]
fn a_ring_outside_memory_loses_requests_and_nothing_else() {
    let mut rig = Rig::with_page_requests(0);
    for address in [MEMORY as u64, 0x3fff_ffff_f000, 1 << 40] {
        rig.write64(offset::PQA, address);
        rig.page_request(request(0));
    }
    assert_eq!((rig.tail_of_requests(), rig.request_status()), (0, PageRequestStatus::new()));
    assert_eq!(rig.outputs(), []);
    assert_eq!(rig.outcomes(), [PageRequestOutcome::Lost; 3]);
}

#[test]
fn tables_that_refuse_answer_invalid_request_and_are_recorded() {
    let beyond = Pasid::new(1 << 13);
    let enabled = context();
    for (entry, pasid, reason) in [
        (enabled.with_present(false), None, FaultReason::SM_CONTEXT_NOT_PRESENT),
        (enabled.with_reserved(1), None, FaultReason::SM_CONTEXT_RESERVED),
        (enabled.with_device_tlb(false), None, FaultReason::SM_CONTEXT_INVALID),
        (enabled.with_pasid(false), Some(PASID), FaultReason::SM_PASID_DISABLED),
        (enabled, Some(beyond), FaultReason::SM_PASID_BEYOND_DIRECTORY),
        (enabled.with_page_requests(false), None, FaultReason::SM_PAGE_REQUESTS_DISABLED),
        (
            enabled.with_page_requests(false),
            Some(Pasid::new(0)),
            FaultReason::SM_PAGE_REQUESTS_DISABLED,
        ),
        (enabled, Some(Pasid::new(0)), FaultReason::SM_PASID_IS_RID_PASID),
        (enabled, Some(Pasid::new(64)), FaultReason::SM_DIRECTORY_NOT_PRESENT),
        (enabled, Some(Pasid::new(1)), FaultReason::SM_PASID_NOT_PRESENT),
    ] {
        let mut rig = Rig::with_page_requests(0);
        rig.set_scalable_context(entry);
        rig.page_request(PageRequest { pasid, ..request(7) });
        let refusal = PageGroupResponse {
            destination: VICTIM,
            pasid,
            group: 7,
            code: ResponseCode::InvalidRequest,
        };
        assert_eq!(rig.outputs(), [Output::PageGroupResponse(refusal)], "{reason}");
        let record = rig.take_record().unwrap();
        assert_eq!(FaultReason(record.reason()), reason);
        assert_eq!((record.type1(), record.type2()), (false, true), "a page request");
        assert_eq!(record.source_id(), VICTIM.into_bits());
        assert_eq!(record.pasid_present(), pasid.is_some());
        assert_eq!(rig.tail_of_requests(), 0);
        assert_eq!(rig.outcomes(), [PageRequestOutcome::Refused]);
    }
}

#[test]
fn a_refused_request_that_nobody_waits_for_is_dropped() {
    let mut rig = Rig::with_page_requests(0);
    rig.set_scalable_context(context().with_page_requests(false).with_fault_disable(true));
    rig.page_request(PageRequest { last: false, ..request(7) });
    rig.page_request(PageRequest::stop_marker(VICTIM, PASID, 7));
    assert_eq!((rig.outputs(), rig.take_record()), (vec![], None), "and FPD keeps it unrecorded");
}

#[test]
fn a_stop_marker_is_queued_and_never_answered() {
    let mut rig = Rig::with_page_requests(0);
    rig.page_request(PageRequest::stop_marker(VICTIM, PASID, 7));
    let marker = rig.slot_of_requests(0);
    assert!(marker.last() && !marker.read() && !marker.write());
    for _ in 0..128 {
        rig.page_request(PageRequest::stop_marker(VICTIM, PASID, 7));
    }
    assert_eq!(rig.outputs(), [event()], "not even in overflow");
}

#[test]
fn legacy_mode_knows_no_page_requests() {
    let mut rig = Rig::scalable().enable(QueueAddress::new(), ROOT);
    rig.page_request(request(2));
    assert_eq!(rig.outputs(), [response(2, ResponseCode::InvalidRequest)]);
    let record = rig.take_record().unwrap();
    assert_eq!(FaultReason(record.reason()), FaultReason::PAGE_REQUEST_IN_LEGACY_MODE);
}

#[test]
fn with_translation_off_a_request_is_refused_without_a_record() {
    let mut rig = Rig::with_page_requests(0);
    rig.command(|bits| bits.with_translation(false));
    rig.page_request(request(2));
    assert_eq!(rig.outputs(), [response(2, ResponseCode::InvalidRequest)]);
    assert_eq!(rig.take_record(), None);
}

#[test]
fn a_descriptor_answers_a_group() {
    let mut rig = Rig::with_page_requests(0);
    let descriptor = PageGroupResponseDescriptor::new()
        .with_requester(VICTIM.into_bits())
        .with_group(0x1ff)
        .with_code(1);
    let failure = descriptor.with_code(9).with_pasid_present(true).with_pasid(PASID.get());
    rig.submit(&[descriptor.into_bits(), failure.into_bits(), wait(0).into_bits()]);
    let failed = PageGroupResponse {
        destination: VICTIM,
        pasid: Some(PASID),
        group: 0x1ff,
        code: ResponseCode::Failure,
    };
    assert_eq!(
        rig.outputs(),
        [response(0x1ff, ResponseCode::InvalidRequest), Output::PageGroupResponse(failed)]
    );
    assert_eq!(rig.peek32(status_word(0)), 1);
    let by_software =
        |event: &Event| matches!(event, Event::PageGroupResponded { automatic: false, .. });
    assert_eq!(rig.count(by_software), 2);
}

#[test]
fn a_drain_finds_every_earlier_request_in_the_ring() {
    let mut rig = Rig::with_page_requests(0);
    for group in 0..3 {
        rig.page_request(request(group));
    }
    let drain = wait(0).with_page_request_drain(true).with_fence(true);
    rig.submit(&[drain.into_bits()]);
    assert_eq!((rig.peek32(status_word(0)), rig.tail_of_requests()), (1, 3));
}

#[test]
fn an_accepted_request_drops_its_page_from_the_iotlb() {
    use crate::ats::{Access, AddressType, DmaRequest};
    const TABLE: u64 = 0x50_0000;
    let mut rig = Rig::with_page_requests(0);
    let second = PasidLow::new().with_present(true).with_translation_type(2).with_width(1);
    rig.poke(PASIDS, second.with_page(page(TABLE)).into_bits());
    let entry = |address| SecondStageEntry::new().with_read(true).with_page(page(address));
    let map = |rig: &Rig, to: u64| rig.poke(TABLE + 0x2000 + 8, entry(to).into_bits());
    rig.poke(TABLE, entry(TABLE + 0x1000).into_bits());
    rig.poke(TABLE + 0x1000, entry(TABLE + 0x2000).into_bits());
    map(&rig, 0x80_0000);
    let read = |rig: &mut Rig| {
        let dma = DmaRequest {
            requester: VICTIM,
            pasid: None,
            address: Iova(0x1000),
            address_type: AddressType::Untranslated,
            access: Access::Read,
        };
        rig.unit.dma(&dma, &rig.memory, rig.now).unwrap().0
    };
    assert_eq!(read(&mut rig), 0x80_0000);
    map(&rig, 0x81_0000);
    rig.page_request(PageRequest { address: Iova(0x2000), ..request(0) });
    assert_eq!(read(&mut rig), 0x80_0000, "another page");
    rig.page_request(PageRequest { address: Iova(0x1000), ..request(1) });
    assert_eq!(read(&mut rig), 0x81_0000);
}

#[test]
fn a_unit_without_the_capability_has_none_of_it() {
    let config = UnitConfig { page_requests: false, ..UnitConfig::full(UnitRole::Guest) };
    let ring = QueueAddress::new().with_wide(true);
    let mut rig = Rig::with(config).enable(ring, ROOT | SCALABLE);
    for at in (offset::PQH..offset::IVA).step_by(4) {
        rig.write32(at, u32::MAX);
        assert_eq!(rig.read32(at), 0, "register {at:#x}");
    }
    rig.page_request(request(0));
    assert_eq!((rig.outputs(), rig.outcomes()), (vec![], vec![]));
    let drain = wait(0).with_page_request_drain(true).into_bits();
    for (descriptor, reason) in [
        (PageGroupResponseDescriptor::new().into_bits(), QueueErrorInfo::InvalidType),
        (drain, QueueErrorInfo::ReservedField),
    ] {
        let mut rig = Rig::with(config).enable(ring, ROOT | SCALABLE);
        rig.submit(&[descriptor]);
        assert_eq!(rig.error_record().info(), reason as u8);
    }
}

#[test]
fn the_registers_take_what_the_specification_lets_software_write() {
    let mut rig = Rig::scalable();
    for at in [offset::PQH, offset::PQT, offset::PQA] {
        rig.write64(at, u64::MAX);
    }
    rig.write32(offset::PRS, u32::MAX);
    assert_eq!(rig.read64(offset::PQH), 0x7_ffe0);
    assert_eq!(rig.read64(offset::PQT), 0x7_ffe0);
    assert_eq!(rig.read64(offset::PQA), 0x3fff_ffff_f007);
    assert_eq!((rig.read32(offset::PRS), rig.read32(offset::PECTL)), (0, 1 << 31));
}

proptest::proptest! {
    #[test]
    fn no_request_and_no_register_value_panics(
        queue: u64,
        head: u32,
        tail: u32,
        status: u32,
        requests in proptest::collection::vec(
            (proptest::option::of(0_u32..70), 0_u16..2000, 0_u8..32, proptest::prelude::any::<u64>()),
            0..200,
        ),
    ) {
        let mut rig = Rig::with_page_requests(0);
        // Half of the queues are in memory.
        let mask = if queue & 1 == 0 { MEMORY as u64 - 1 } else { u64::MAX };
        rig.write64(offset::PQA, queue & mask);
        rig.write32(offset::PQH, head);
        rig.write32(offset::PQT, tail);
        for (pasid, group, flags, address) in requests {
            let bit = |n: u8| flags >> n & 1 != 0;
            rig.page_request(PageRequest {
                requester: if bit(4) { NEIGHBOR } else { VICTIM },
                pasid: pasid.map(Pasid::new),
                execute: bit(3),
                privileged: bit(3),
                address: Iova(address),
                read: bit(0),
                write: bit(1),
                last: bit(2),
                group,
            });
            proptest::prop_assert!(rig.outputs().len() <= 2);
            if group > 1900 {
                rig.write32(offset::PRS, status);
            }
        }
    }
}
