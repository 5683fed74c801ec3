//! Fetching, waits, fences and time-outs.

mod in_flight;
mod orders;

use super::*;

#[test]
fn a_wait_without_requests_completes_at_once() {
    let mut rig = Rig::enabled();
    rig.submit(&[iotlb_global(), wait(0).into_bits()]);
    assert_eq!((rig.peek32(status_word(0)), rig.head()), (1, 2));
}

#[test]
fn a_status_write_outside_memory_is_lost_and_the_wait_completes() {
    let mut rig = Rig::enabled();
    let outside = wait(0).with_status_dword(1 << 38).with_interrupt(true).into_bits();
    rig.submit(&[outside, wait(1).into_bits()]);
    assert_eq!((rig.peek32(status_word(1)), rig.head()), (1, 2));
    assert!(!rig.fault_status().queue_error());
    assert_eq!(rig.read32(offset::ICS), 1);
}

#[test]
fn the_head_moves_when_a_descriptor_is_fetched() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    assert_eq!((rig.peek32(status_word(0)), rig.head()), (0, 2));
    let requests = rig.requests();
    assert_eq!(requests.len(), 1);
    rig.answer(requests[0]);
    assert_eq!(rig.peek32(status_word(0)), 1);
}

#[test]
fn a_time_out_sets_ite_and_aborts_all_pending_waits() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    rig.submit(&[device_tlb(NEIGHBOR), wait(1).into_bits()]);
    let requests = rig.requests();
    rig.pass(ICT);
    assert!(rig.fault_status().timeout_error());
    assert_eq!(rig.error_record().timeout_source(), VICTIM.into_bits());
    rig.answer(requests[1]);
    rig.clear_faults(FaultStatus::new().with_timeout_error(true));
    assert_eq!([0, 1].map(|n| rig.peek32(status_word(n))), [0, 0]);
}

#[test]
fn fetching_stops_while_ite_is_set() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    rig.pass(ICT);
    rig.submit(&[iotlb_global(), wait(1).into_bits()]);
    assert_eq!((rig.head(), rig.peek32(status_word(1))), (2, 0));
    rig.clear_faults(FaultStatus::new().with_timeout_error(true));
    assert_eq!((rig.head(), rig.peek32(status_word(1))), (4, 1));
    assert_eq!(rig.peek32(status_word(0)), 0, "an aborted wait is not executed again");
}

#[test]
fn no_request_times_out_early_or_without_ict() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM)]);
    assert_eq!(rig.unit.poll_timeout(), Some(Instant::START + ICT));
    rig.pass(ICT - Duration::from_nanos(1));
    assert!(!rig.fault_status().timeout_error());

    let mut patient = Rig::scalable().enable(QueueAddress::new(), ROOT);
    patient.submit(&[device_tlb(VICTIM)]);
    assert_eq!(patient.unit.poll_timeout(), None);
    patient.pass(Duration::from_secs(1 << 30));
    assert!(!patient.fault_status().timeout_error());
}

#[test]
fn itesid_keeps_the_first_source_until_ite_is_cleared() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM)]);
    rig.pass(Duration::from_secs(1));
    rig.submit(&[device_tlb(NEIGHBOR)]);
    rig.pass(ICT);
    rig.pass(ICT);
    assert_eq!(rig.error_record().timeout_source(), VICTIM.into_bits());
    rig.clear_faults(FaultStatus::new().with_timeout_error(true));
    rig.submit(&[device_tlb(NEIGHBOR)]);
    rig.pass(ICT);
    assert_eq!(rig.error_record().timeout_source(), NEIGHBOR.into_bits());
}

#[test]
fn a_fixed_itesid_is_reported_for_every_function() {
    for itesid in [Bdf::default(), NEIGHBOR, Bdf::new(0xff, 0x1f, 7)] {
        let config = UnitConfig {
            itesid: Some(itesid),
            ict: Timeout::After(ICT),
            ..UnitConfig::new(UnitRole::Guest)
        };
        let mut rig = Rig::with(config).enable(QueueAddress::new(), ROOT);
        rig.submit(&[device_tlb(VICTIM)]);
        rig.pass(ICT);
        assert!(rig.fault_status().timeout_error());
        assert_eq!(rig.error_record().timeout_source(), itesid.into_bits());
    }
}

#[test]
fn a_completion_after_the_time_out_is_unexpected() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM)]);
    let requests = rig.requests();
    rig.pass(ICT);
    rig.answer(requests[0]);
    assert!(rig.fault_status().completion_error());
    assert_eq!(rig.error_record().completion_source(), VICTIM.into_bits());
}

#[test]
fn only_a_serial_unit_holds_up_a_healthy_neighbor() {
    for (ordering, done) in [(Ordering::Serial, 0), (Ordering::Parallel, 1)] {
        let config = UnitConfig { ordering, ..UnitConfig::new(UnitRole::Guest) };
        let mut rig = Rig::with(config).enable(QueueAddress::new(), ROOT);
        rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
        rig.submit(&[device_tlb(NEIGHBOR), wait(1).into_bits()]);
        let requests = rig.requests();
        rig.answer(requests[1]);
        let words = [0, 1].map(|n| rig.peek32(status_word(n)));
        assert_eq!(words, [0, done], "{ordering}");
    }
}

#[test]
fn descriptors_behind_a_fence_start_after_it_completes() {
    let mut rig = Rig::enabled();
    let fence = wait(0).with_fence(true).into_bits();
    rig.submit(&[device_tlb(VICTIM), fence, device_tlb(NEIGHBOR), wait(1).into_bits()]);
    let requests = rig.requests();
    assert_eq!((requests.len(), rig.head()), (1, 2));
    rig.answer(requests[0]);
    assert_eq!((rig.peek32(status_word(0)), rig.head()), (1, 4));
    let requests = rig.requests();
    assert_eq!(requests[0].destination, NEIGHBOR);
}

#[test]
fn with_dit_the_physical_function_of_the_descriptor_limits_the_requests() {
    for (device_tlb_throttle, sent) in [(true, 1), (false, 2)] {
        let config = UnitConfig { device_tlb_throttle, ..UnitConfig::new(UnitRole::Guest) };
        let mut rig = Rig::with(config).enable(QueueAddress::new(), ROOT);
        let (low, high) = match device_tlb_throttle {
            true => (VICTIM.into_bits() as u8 & 0xf, VICTIM.into_bits() >> 4),
            false => (0, 0),
        };
        // Two virtual functions of VICTIM, of which one request may be pending.
        let request = |function: u8| {
            DeviceTlbDescriptor::new()
                .with_source_id(Bdf::new(VICTIM.bus(), 0, function).into_bits())
                .with_physical_function_low(low)
                .with_physical_function_high(high)
                .with_max_pending(1)
                .into_bits()
        };
        rig.submit(&[request(1), request(2), wait(0).into_bits()]);
        let requests = rig.requests();
        assert_eq!(requests.len(), sent, "DIT {device_tlb_throttle}");
        requests.into_iter().for_each(|request| rig.answer(request));
        rig.requests().into_iter().for_each(|request| rig.answer(request));
        assert_eq!(rig.peek32(status_word(0)), 1);
    }
}

#[test]
fn without_a_free_itag_the_next_request_waits() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM); 34]);
    let requests = rig.requests();
    assert_eq!(requests.len(), 32);
    assert_eq!(rig.head(), 33, "the deferred one is fetched, the one behind it is not");
    rig.answer(requests[7]);
    let more = rig.requests();
    assert_eq!((more.len(), more[0].itag, rig.head()), (1, requests[7].itag, 34));
}

#[test]
fn the_invalidate_queue_depth_limits_a_function() {
    let mut rig = Rig::enabled();
    let shallow = DeviceTlbDescriptor::new()
        .with_source_id(VICTIM.into_bits())
        .with_max_pending(2)
        .into_bits();
    rig.submit(&[shallow; 4]);
    assert_eq!(rig.requests().len(), 2);
}

#[test]
fn a_wait_can_interrupt_and_write_its_status() {
    let mut rig = Rig::enabled();
    rig.route_events(offset::IECTL, 0xfee0_1000, 0x41);
    rig.submit(&[wait(0).with_interrupt(true).into_bits()]);
    assert_eq!(rig.peek32(status_word(0)), 1);
    assert_eq!(rig.read32(offset::ICS), 1);
    assert_eq!(rig.msis(), [Msi { address: 0xfee0_1000, data: 0x41 }]);
    rig.submit(&[wait(1).with_interrupt(true).into_bits()]);
    assert_eq!(rig.msis(), [], "IWC is still set: no second message");
    rig.write32(offset::ICS, 1);
    rig.submit(&[wait(2).with_interrupt(true).into_bits()]);
    assert_eq!(rig.msis().len(), 1);
}

#[test]
fn a_masked_completion_event_stays_pending() {
    let mut rig = Rig::enabled();
    rig.submit(&[wait(0).with_interrupt(true).into_bits()]);
    assert_eq!(rig.msis(), []);
    assert_eq!(rig.read32(offset::IECTL) >> 30, 0b11, "masked and pending");
    rig.route_events(offset::IECTL, 0xfee0_0000, 0x42);
    assert_eq!(rig.msis().len(), 1);
    assert_eq!(rig.read32(offset::IECTL) >> 30, 0);
}

#[test]
fn disabling_the_queue_waits_for_fetched_descriptors() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    let requests = rig.requests();
    rig.command(|bits| bits.with_queued_invalidation(false));
    assert!(rig.status().queued_invalidation());
    rig.answer(requests[0]);
    assert!(!rig.status().queued_invalidation());
    assert_eq!((rig.head(), rig.peek32(status_word(0))), (0, 1));
}

#[test]
fn rings_of_all_sizes_wrap() {
    for (size, wide) in [(0, false), (3, false), (7, false), (0, true), (7, true)] {
        let mut rig = if wide { Rig::scalable() } else { Rig::new() };
        let root = if wide { ROOT | 1 << 10 } else { ROOT };
        rig = rig.enable(QueueAddress::new().with_size(size).with_wide(wide), root);
        let entries = rig.ring.bytes() / rig.ring.descriptor_bytes();
        for _ in 0..3 {
            let batch = vec![iotlb_global(); entries as usize - 2];
            rig.queue(&batch);
            rig.submit(&[wait(0).into_bits()]);
            assert_eq!(rig.peek32(status_word(0)), 1, "size {size}, wide {wide}");
            rig.poke(status_word(0), 0);
        }
    }
}

#[test]
fn a_status_address_outside_memory_loses_the_write_only() {
    let mut rig = Rig::enabled();
    let lost = wait(0).with_status_dword((MEMORY as u64 + 0x1000) >> 2).into_bits();
    rig.submit(&[lost, wait(1).into_bits()]);
    assert_eq!(rig.peek32(status_word(1)), 1);
    assert_eq!(rig.count(|event| matches!(event, Event::WaitCompleted { .. })), 2);
}

#[test]
fn a_function_may_send_several_completions() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    let request = rig.requests()[0];
    let part = InvalidateCompletion {
        requester: VICTIM,
        itag_vector: request.itag.bit(),
        completion_count: 2,
    };
    rig.unit.handle_completion(part, &rig.memory, rig.now);
    assert_eq!(rig.peek32(status_word(0)), 0);
    rig.unit.handle_completion(part, &rig.memory, rig.now);
    assert_eq!(rig.peek32(status_word(0)), 1);
}

#[test]
fn a_disabled_unit_drops_completions() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    let request = rig.requests()[0];
    rig.command(|bits| bits.with_translation(false));
    rig.answer(request);
    assert_eq!(rig.peek32(status_word(0)), 0);
    assert!(!rig.fault_status().completion_error());
}
