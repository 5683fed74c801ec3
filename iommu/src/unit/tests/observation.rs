//! The record for an observer, and a look at the tables.

use super::*;
use crate::ats::PageRange;

fn observed(ordering: Ordering) -> Rig {
    let config =
        UnitConfig { ordering, ict: Timeout::After(ICT), ..UnitConfig::new(UnitRole::Guest) };
    let mut rig = Rig::with(config).enable(QueueAddress::new(), ROOT);
    rig.unit.observe();
    rig
}

fn record(rig: &mut Rig) -> Vec<Observation> {
    std::iter::from_fn(|| rig.unit.poll_observation()).collect()
}

fn asked(function: Bdf, wait: u64) -> Observation {
    let (pasid, global, range) = (None, false, PageRange::page(crate::ids::Iova(0)));
    Observation::DeviceTlb { function, pasid, global, range, wait }
}

#[test]
fn an_invalidation_is_tied_to_the_wait_behind_it() {
    let mut rig = observed(Ordering::Parallel);
    let waits = [0, 1].map(|n| wait(n).into_bits());
    rig.submit(&[iotlb_global(), device_tlb(VICTIM), waits[0], device_tlb(NEIGHBOR), waits[1]]);
    let scope = crate::spec::descriptor::IotlbScope::Global;
    let first = Observation::Iotlb { scope, wait: Some(0) };
    assert_eq!(record(&mut rig), [first, asked(VICTIM, 0), asked(NEIGHBOR, 1)]);
    let requests = rig.requests();
    rig.answer(requests[1]);
    assert_eq!(record(&mut rig), [Observation::Completed { wait: 1 }]);
    rig.pass(ICT);
    let timed_out = Observation::TimedOut { function: VICTIM, wait: 0, fetched: 2 };
    assert_eq!(record(&mut rig), [timed_out]);
    assert_eq!(rig.unit.take_lost_observations(), 0);
}

#[test]
fn without_an_observer_nothing_is_recorded() {
    let mut rig = Rig::enabled();
    rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
    assert_eq!(record(&mut rig), []);
}

#[test]
fn a_record_that_is_not_drained_is_bounded_and_says_so() {
    let mut rig = observed(Ordering::Serial);
    let flush = [iotlb_global(); 128];
    for _ in 0..(1 << 16) / 128 + 1 {
        rig.submit(&flush);
    }
    assert_eq!(rig.unit.take_lost_observations(), 128);
    assert_eq!(record(&mut rig).len(), 1 << 16);
}
