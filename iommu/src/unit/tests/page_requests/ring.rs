//! The ring: its descriptors, its event, and its overflow.

use super::*;

#[test]
fn a_request_is_in_the_ring_before_its_event() {
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
fn fields_of_the_pasid_prefix_are_clear_without_one() {
    let mut rig = Rig::with_page_requests(0);
    rig.page_request(PageRequest { execute: true, privileged: true, ..request(1) });
    let descriptor = rig.slot_of_requests(0);
    assert!(!descriptor.execute() && !descriptor.privileged() && !descriptor.pasid_present());
}

#[test]
fn there_is_no_second_event_before_the_status_is_cleared() {
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
fn a_masked_event_stays_pending_until_its_cause_is_cleared() {
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
fn an_overflow_raises_an_event_if_the_status_was_clear() {
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
fn no_request_is_written_until_the_overflow_is_cleared() {
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
fn rings_of_all_sizes_wrap() {
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
fn a_ring_outside_memory_loses_requests_only() {
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
fn a_drain_completes_with_earlier_requests_in_the_ring() {
    let mut rig = Rig::with_page_requests(0);
    for group in 0..3 {
        rig.page_request(request(group));
    }
    let drain = wait(0).with_page_request_drain(true).with_fence(true);
    rig.submit(&[drain.into_bits()]);
    assert_eq!((rig.peek32(status_word(0)), rig.tail_of_requests()), (1, 3));
}

#[test]
fn the_registers_have_the_writable_bits_of_the_specification() {
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
