//! The queue while requests are outstanding: unexpected completions, disabling, and rings at the
//! end of memory.

use super::*;

impl Rig {
    fn complete(&mut self, requester: Bdf, itag_vector: u32, completion_count: u8) {
        let completion = InvalidateCompletion { requester, itag_vector, completion_count };
        self.unit.handle_completion(completion, &self.memory, self.now);
    }

    fn done(&self, n: u64) -> bool {
        self.peek32(status_word(n)) == 1
    }
}

#[test]
fn a_second_completion_of_a_tag_is_unexpected() {
    let mut rig = Rig::enabled();
    rig.submit(&[
        device_tlb(VICTIM),
        wait(0).into_bits(),
        device_tlb(NEIGHBOR),
        wait(1).into_bits(),
    ]);
    let request = rig.requests()[0];
    rig.answer(request);
    assert!(rig.done(0) && !rig.fault_status().completion_error());
    rig.answer(request);
    assert!(rig.fault_status().completion_error() && !rig.done(1));
    assert_eq!(rig.error_record().completion_source(), VICTIM.into_bits());
}

#[test]
fn a_completion_of_another_function_is_unexpected() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    let request = rig.requests()[0];
    rig.complete(NEIGHBOR, request.itag.bit(), 1);
    assert!(rig.fault_status().completion_error() && !rig.done(0));
    assert_eq!(rig.error_record().completion_source(), NEIGHBOR.into_bits());
    rig.answer(request);
    assert!(rig.done(0), "ICE does not stop the queue");
}

#[test]
fn a_completion_counts_for_its_expected_tags_only() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    let expected = rig.requests()[0].itag.bit();
    rig.route_events(offset::FECTL, 0xfee0_0000, 0x33);
    rig.complete(VICTIM, expected | 1 << 31, 1);
    assert!(rig.done(0) && rig.fault_status().completion_error());
    assert_eq!(rig.msis().len(), 1, "ICE is announced");
    let unexpected = |event: &Event| matches!(event, Event::UnexpectedCompletion { itag_vector, .. } if *itag_vector == 1 << 31);
    assert_eq!(rig.count(unexpected), 1);
}

#[test]
fn one_completion_may_have_many_tags() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM); 3]);
    rig.submit(&[wait(0).into_bits()]);
    let tags = rig.requests().iter().fold(0, |tags, request| tags | request.itag.bit());
    rig.complete(VICTIM, tags, 1);
    assert!(rig.done(0) && !rig.fault_status().completion_error());
}

#[test]
fn a_partial_completion_does_not_prevent_the_time_out() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    let request = rig.requests()[0];
    rig.complete(VICTIM, request.itag.bit(), 2);
    rig.pass(ICT);
    assert!(rig.fault_status().timeout_error());
    rig.complete(VICTIM, request.itag.bit(), 2);
    assert!(rig.fault_status().completion_error() && !rig.done(0), "the other part is too late");
}

#[test]
fn a_draining_queue_that_is_enabled_again_goes_on() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    let request = rig.requests()[0];
    rig.command(|bits| bits.with_queued_invalidation(false));
    rig.submit(&[wait(1).into_bits()]);
    assert_eq!(rig.head(), 2, "nothing more is fetched");
    rig.command(|bits| bits.with_queued_invalidation(true));
    assert_eq!(rig.head(), 3);
    rig.answer(request);
    assert!(rig.done(0) && rig.done(1) && rig.status().queued_invalidation());
}

#[test]
fn a_time_out_ends_the_draining_of_the_queue() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    rig.command(|bits| bits.with_queued_invalidation(false));
    rig.pass(ICT);
    assert!(rig.fault_status().timeout_error());
    assert!(!rig.status().queued_invalidation() && !rig.done(0));
    // The queue begins at the start of the ring again.
    rig.clear_faults(FaultStatus::new().with_timeout_error(true));
    rig.tail = 0;
    rig.write32(offset::IQT, 0);
    rig.command(|bits| bits.with_queued_invalidation(true));
    rig.submit(&[wait(1).into_bits()]);
    assert!(rig.done(1));
}

#[test]
fn in_parallel_order_a_wait_completes_with_its_own_epoch() {
    let config = UnitConfig { ordering: Ordering::Parallel, ..UnitConfig::new(UnitRole::Guest) };
    let mut rig = Rig::with(config).enable(QueueAddress::new(), ROOT);
    for n in 0..4 {
        let function = if n == 1 { VICTIM } else { NEIGHBOR };
        rig.submit(&[device_tlb(function), wait(n).into_bits()]);
    }
    let requests = rig.requests();
    for n in [3, 0, 2] {
        rig.answer(requests[n]);
    }
    assert_eq!([0, 1, 2, 3].map(|n| rig.done(n)), [true, false, true, true]);
    rig.unit.time_out(VICTIM, requests[1].itag, rig.now);
    assert!(rig.fault_status().timeout_error() && !rig.done(1));
}

#[test]
fn a_blocking_unit_fetches_nothing_behind_a_pending_wait() {
    let config = UnitConfig { ordering: Ordering::Blocking, ..UnitConfig::new(UnitRole::Guest) };
    let mut rig = Rig::with(config).enable(QueueAddress::new(), ROOT);
    // Without a wait between them, both are sent.
    rig.submit(&[device_tlb(VICTIM), device_tlb(NEIGHBOR), wait(0).into_bits()]);
    rig.submit(&[device_tlb(NEIGHBOR), wait(1).into_bits()]);
    let requests = rig.requests();
    assert_eq!((requests.len(), rig.head()), (2, 3));
    rig.answer(requests[1]);
    assert_eq!((rig.done(0), rig.head()), (false, 3), "the victim has not answered");
    rig.answer(requests[0]);
    assert_eq!((rig.done(0), rig.done(1), rig.head()), (true, false, 5));
    let requests = rig.requests();
    assert_eq!(requests[0].destination, NEIGHBOR);
    rig.answer(requests[0]);
    assert!(rig.done(1));
    // A wait with nothing in front of it completes at once, and holds nothing up.
    rig.submit(&[wait(2).into_bits(), device_tlb(NEIGHBOR)]);
    assert!(rig.done(2) && rig.requests().len() == 1);
}

#[test]
fn a_blocking_unit_that_has_timed_out_fetches_on_when_ite_is_cleared() {
    let (ordering, ict) = (Ordering::Blocking, Timeout::After(ICT));
    let config = UnitConfig { ordering, ict, ..UnitConfig::new(UnitRole::Guest) };
    let mut rig = Rig::with(config).enable(QueueAddress::new(), ROOT);
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits(), wait(1).into_bits()]);
    rig.pass(ICT);
    assert!(rig.fault_status().timeout_error() && rig.head() == 2);
    rig.clear_faults(FaultStatus::new().with_timeout_error(true));
    // The aborted wait never completes; the one that was not fetched does.
    assert_eq!((rig.done(0), rig.done(1), rig.head()), (false, true, 3));
}

#[test]
fn a_ring_beyond_the_end_of_memory_is_read_up_to_there() {
    let mut rig = Rig::new();
    // The ring has two pages, of which the first is in memory.
    let last_page = MEMORY as u64 / PAGE_SIZE - 1;
    let ring = QueueAddress::new().with_size(1).with_page(last_page);
    for slot in 0..256 {
        rig.poke(last_page * PAGE_SIZE + slot * 16, iotlb_global() as u64);
    }
    rig.write64(offset::IQA, ring.into_bits());
    rig.command(|bits| bits.with_queued_invalidation(true));
    rig.write32(offset::IQT, 300 * 16);
    assert_eq!(rig.head(), 256);
    assert_eq!(rig.error_record().info(), QueueErrorInfo::FetchFailed as u8);
}

#[test]
fn a_ring_may_span_two_regions_of_memory() {
    let mut rig = Rig::new();
    let half = RING as usize + PAGE_SIZE as usize;
    let pieces = [(GuestAddress(0), half), (GuestAddress(half as u64), MEMORY - half)];
    rig.memory = Memory::from_ranges(&pieces).unwrap();
    let mut rig = rig.enable(QueueAddress::new().with_size(1), ROOT);
    for _ in 0..2 {
        rig.queue(&vec![iotlb_global(); 400]);
        rig.submit(&[wait(0).into_bits()]);
        assert!(rig.done(0));
        rig.poke(status_word(0), 0);
    }
}
