//! IQE for each reason, and how the queue recovers.

use super::*;
use crate::spec::descriptor::{ContextCacheDescriptor, PasidCacheDescriptor};

fn info(rig: &Rig) -> Option<u8> {
    rig.fault_status().queue_error().then(|| rig.error_record().info())
}

#[test]
fn a_tail_outside_the_ring_sets_iqe() {
    let mut rig = Rig::enabled();
    for slot in 0..256 {
        rig.poke(RING + slot * 16, iotlb_global() as u64);
    }
    rig.write32(offset::IQT, 4096);
    assert_eq!(info(&rig), Some(QueueErrorInfo::TailOutOfRing as u8));
    assert_eq!(rig.head(), 0);
}

#[test]
fn a_ring_outside_memory_cannot_be_fetched() {
    let mut rig = Rig::new();
    let far = QueueAddress::new().with_page((1 << 40) / PAGE_SIZE);
    rig.write64(offset::IQA, far.into_bits());
    rig.command(|bits| bits.with_queued_invalidation(true));
    rig.write32(offset::IQT, 16);
    assert_eq!(info(&rig), Some(QueueErrorInfo::FetchFailed as u8));
}

#[test]
fn types_of_the_other_mode_are_invalid() {
    let mut rig = Rig::enabled();
    rig.submit(&[PasidCacheDescriptor::new().with_granularity(3).into_bits()]);
    assert_eq!(info(&rig), Some(QueueErrorInfo::InvalidType as u8));
}

#[test]
fn reserved_bits_are_refused_in_the_upper_half_too() {
    let mut rig = Rig::scalable().enable(QueueAddress::new().with_wide(true), ROOT | 1 << 10);
    rig.queue(&[iotlb_global()]);
    rig.poke(RING + 24, 1);
    rig.doorbell();
    assert_eq!(info(&rig), Some(QueueErrorInfo::ReservedField as u8));
}

#[test]
fn the_descriptor_width_must_fit_the_mode() {
    let mut rig = Rig::scalable().enable(QueueAddress::new(), ROOT | 1 << 10);
    rig.submit(&[iotlb_global()]);
    assert_eq!(info(&rig), Some(QueueErrorInfo::InvalidWidth as u8));
}

#[test]
fn a_legacy_unit_has_no_wide_descriptors() {
    let mut rig = Rig::new();
    rig.write64(offset::IQA, QueueAddress::new().with_wide(true).into_bits());
    assert_eq!(rig.read64(offset::IQA), 0);
}

#[test]
fn the_tail_must_be_aligned_to_wide_descriptors() {
    let mut rig = Rig::scalable().enable(QueueAddress::new().with_wide(true), ROOT | 1 << 10);
    rig.write32(offset::IQT, 16);
    assert_eq!(info(&rig), Some(QueueErrorInfo::TailMisaligned as u8));
}

#[test]
fn a_reserved_table_mode_stops_the_queue() {
    for (mode, scalable) in [(2, true), (3, true), (1, false)] {
        let rig = if scalable { Rig::scalable() } else { Rig::new() };
        let mut rig = rig.enable(QueueAddress::new(), ROOT | mode << 10);
        rig.submit(&[iotlb_global()]);
        assert_eq!(info(&rig), Some(QueueErrorInfo::InvalidTableMode as u8), "TTM {mode}");
    }
}

#[test]
fn clearing_iqe_resumes_at_the_descriptor_that_was_bad() {
    let mut rig = Rig::enabled();
    let bad = ContextCacheDescriptor::new().into_bits();
    rig.submit(&[wait(0).into_bits(), bad, wait(1).into_bits()]);
    assert_eq!(info(&rig), Some(QueueErrorInfo::ReservedField as u8));
    assert_eq!((rig.head(), rig.peek32(status_word(0)), rig.peek32(status_word(1))), (1, 1, 0));

    rig.doorbell();
    assert_eq!(rig.head(), 1, "tail writes are ignored meanwhile");

    rig.memory.write_obj(iotlb_global().to_le(), GuestAddress(RING + 16)).unwrap();
    rig.clear_faults(FaultStatus::new().with_queue_error(true));
    assert_eq!((rig.head(), rig.peek32(status_word(1))), (3, 1));
    assert_eq!(info(&rig), None);
}

#[test]
fn work_fetched_before_the_bad_descriptor_finishes() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits(), 0]);
    let request = rig.requests()[0];
    assert_eq!(info(&rig), Some(QueueErrorInfo::InvalidType as u8));
    rig.answer(request);
    assert_eq!(rig.peek32(status_word(0)), 1);
}

#[test]
fn an_error_sends_one_message_and_masking_keeps_it_pending() {
    let mut rig = Rig::enabled();
    rig.submit(&[0]);
    assert_eq!(rig.msis(), [], "masked after reset");
    rig.route_events(offset::FECTL, 0xfee0_0000, 0x31);
    assert_eq!(rig.msis(), [Msi { address: 0xfee0_0000, data: 0x31 }]);
    rig.unit.record_fault(&blocked(), rig.now);
    assert_eq!(rig.msis(), [], "IQE is set already: no further message");
}

#[test]
fn a_pending_message_is_dropped_when_the_errors_are_cleared() {
    let mut rig = Rig::enabled();
    rig.submit(&[0]);
    rig.memory.write_obj(iotlb_global().to_le(), GuestAddress(RING)).unwrap();
    rig.clear_faults(FaultStatus::new().with_queue_error(true));
    rig.route_events(offset::FECTL, 0xfee0_0000, 0x31);
    assert_eq!(rig.msis(), []);
}

fn blocked() -> super::super::translate::Fault {
    super::super::translate::Fault {
        requester: VICTIM,
        pasid: None,
        privileged: false,
        execute: false,
        address: crate::ids::Iova(0x1234),
        address_type: 0,
        access: crate::ats::Access::Write,
        reason: crate::spec::fault::FaultReason::WRITE_DENIED,
        silenced: false,
        answer: RequestError::UnsupportedRequest,
    }
}

/// The low and high half of fault record `index`.
fn record(rig: &Rig, index: u16) -> (u64, u64) {
    let at = offset::FRCD + 16 * index;
    (rig.read64(at), rig.read64(at + 8))
}

#[test]
fn a_fault_record_has_source_address_and_reason() {
    let mut rig = Rig::enabled();
    rig.unit.record_fault(&blocked(), rig.now);
    let (low, high) = record(&rig, 0);
    let high = crate::spec::fault::FaultRecordHigh::from_bits(high);
    assert_eq!(low, 0x1000);
    assert_eq!((high.source_id(), high.reason()), (VICTIM.into_bits(), 5));
    assert!(high.fault() && !high.type1() && !high.pasid_present());
    assert!(rig.fault_status().pending());
}

#[test]
fn records_are_used_in_order_overflow_and_are_freed() {
    let mut rig = Rig::enabled();
    let records = u16::from(rig.unit.config.fault_records);
    for _ in 0..records {
        rig.unit.record_fault(&blocked(), rig.now);
    }
    assert!(!rig.fault_status().overflow());
    rig.unit.record_fault(&blocked(), rig.now);
    assert!(rig.fault_status().overflow());

    rig.write32(offset::FRCD + 12, 1 << 31);
    assert_eq!(rig.fault_status().record_index(), 1, "FRI is the oldest record in use");
    for index in 1..records {
        rig.write32(offset::FRCD + 16 * index + 12, 1 << 31);
    }
    assert!(!rig.fault_status().pending());
    rig.unit.record_fault(&blocked(), rig.now);
    assert!(!rig.fault_status().pending(), "nothing is recorded before PFO is cleared");
    rig.clear_faults(FaultStatus::new().with_overflow(true));
    rig.unit.record_fault(&blocked(), rig.now);
    assert!(rig.fault_status().pending());
}
