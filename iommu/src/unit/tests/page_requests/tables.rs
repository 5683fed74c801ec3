//! Page requests against the tables: those that are allowed, their responses, and the translations
//! that they drop.

use super::*;

#[test]
fn a_request_that_the_tables_refuse_is_invalid_and_recorded() {
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
        rig.page_request(PageRequest { pasid, execute: true, privileged: true, ..request(7) });
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
        assert_eq!((record.execute(), record.privileged()), (pasid.is_some(), pasid.is_some()));
        assert_eq!(rig.tail_of_requests(), 0);
        assert_eq!(rig.outcomes(), [PageRequestOutcome::Refused]);
    }
}

#[test]
fn a_refused_request_without_response_is_dropped() {
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
fn legacy_mode_refuses_page_requests() {
    let mut rig = Rig::scalable().enable(QueueAddress::new(), ROOT);
    rig.page_request(request(2));
    assert_eq!(rig.outputs(), [response(2, ResponseCode::InvalidRequest)]);
    let record = rig.take_record().unwrap();
    assert_eq!(FaultReason(record.reason()), FaultReason::PAGE_REQUEST_IN_LEGACY_MODE);
}

#[test]
fn a_disabled_unit_refuses_requests_without_a_record() {
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
fn a_queued_request_drops_its_page_from_the_iotlb() {
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
            privileged: false,
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

    rig.write32(offset::PQH, rig.read32(offset::PQT) + DESCRIPTOR_BYTES);
    map(&rig, 0x82_0000);
    rig.page_request(PageRequest { address: Iova(0x1000), ..request(2) });
    assert_eq!(read(&mut rig), 0x81_0000, "the ring is full: not taken");
}

#[test]
fn a_unit_without_the_capability_has_no_page_requests() {
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
        // Half of the queues lie in memory.
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
