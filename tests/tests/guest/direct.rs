//! The guest's unit is the physical one, as on bare metal: it has its own ITE, and no host waits.

use std::time::Duration;

use devices::bench::Metric;
use iommu::event::{Event, UnitRole};
use iommu::unit::Ordering;
use tests::{NEIGHBOR, Rig, Run, VICTIM, count};
use vmm::Outcome;

const ICT: Duration = Duration::from_millis(200);

/// One CPU, so that nothing but the measured flush happens after the fault.
fn alone(fault: &str, more: &str) -> Option<Rig> {
    let rig = Rig::new(&format!("test=drop flushes=4 blame=owner {more}"))?.direct();
    Some(rig.cpus(1).fault(&format!("on=doorbell,mode={fault}")))
}

/// Two CPUs, the second of which flushes for the neighbor.
fn beside(ordering: Ordering, give_up: Duration) -> Option<Rig> {
    let give_up = give_up.as_millis();
    let rig = Rig::new(&format!("test=drop flushes=4 blame=owner giveup_ms={give_up}"))?.direct();
    Some(rig.ordering(ordering).fault("on=doorbell,mode=silent"))
}

/// Asserts that no host has taken part.
fn assert_no_host(run: &Run) {
    let of_the_host = |event: &Event| {
        matches!(
            event,
            Event::Submitted { .. }
                | Event::Verdict { .. }
                | Event::PresenceChecked { .. }
                | Event::DescriptorFetched { unit: UnitRole::Host, .. }
        )
    };
    assert_eq!(count(&run.events, of_the_host), 0, "{run}");
    assert_eq!(run.summary().host_stall, Duration::ZERO);
}

#[test]
fn a_healthy_flush_crosses_one_unit_and_the_link() {
    let Some(rig) = Rig::new("test=drop scenario=healthy flushes=3") else { return };
    let run = rig.direct().run().passed();
    assert_no_host(&run);
    let completed = |event: &Event| {
        matches!(event, Event::InvalidateCompleted { unit: UnitRole::Guest, function, .. }
            if *function == VICTIM)
    };
    assert!(count(&run.events, completed) >= 3, "{run}");
    assert_eq!(run.summary().outcome, Some(Outcome::Completed));
}

/// As Linux does, the guest gives up at ITE if the function is gone, and submits again if it answers.
#[test]
fn the_guest_waits_for_ite_of_its_own_unit() {
    for (fault, timeouts, outcome) in
        [("silent", 1..=1, Outcome::TimedOut), ("no-completion", 2..=usize::MAX, Outcome::Stalled)]
    {
        let Some(rig) = alone(fault, "") else { return };
        let run = rig.ict(ICT).run().passed();
        assert_no_host(&run);
        let count = run.timeouts(UnitRole::Guest, VICTIM);
        assert!(timeouts.contains(&count), "{fault}: {count}");
        assert_eq!(run.report(Metric::TimeoutSource), Some(VICTIM.into_bits().into()));
        let summary = run.summary();
        assert_eq!(summary.outcome, Some(outcome), "{fault}");
        assert_eq!(usize::try_from(summary.waits_aborted), Ok(count), "{fault}");
        assert!(summary.guest_stall.is_some_and(|stall| stall >= ICT), "{summary:?}");
    }
}

#[test]
fn without_ite_the_guest_waits_for_ever() {
    let Some(rig) = alone("silent", "giveup_ms=1000") else { return };
    let run = rig.run().passed();
    assert_no_host(&run);
    assert_eq!(count(&run.events, |event| matches!(event, Event::InvalidationTimeout { .. })), 0);
    assert_eq!(run.summary().outcome, Some(Outcome::Stalled));
}

#[test]
fn a_completion_that_matches_no_request_sets_ice_in_the_guests_unit() {
    let Some(rig) = alone("dup", "") else { return };
    let run = rig.run().passed();
    let unexpected = |event: &Event| {
        matches!(event, Event::UnexpectedCompletion { unit: UnitRole::Guest, function, .. }
            if *function == VICTIM)
    };
    assert!(count(&run.events, unexpected) >= 1, "{run}");
    assert_eq!(run.summary().outcome, Some(Outcome::Completed));
}

#[test]
fn in_serial_order_the_neighbor_waits_for_ite_of_the_victim() {
    let Some(rig) = beside(Ordering::Serial, Duration::from_secs(30)) else { return };
    let run = rig.ict(ICT).run().passed();
    assert!(run.timeouts(UnitRole::Guest, VICTIM) >= 1, "{run}");
    assert_eq!(run.timeouts(UnitRole::Guest, NEIGHBOR), 0);
    let summary = run.summary();
    assert_eq!(summary.outcome, Some(Outcome::TimedOut));
    assert_eq!(summary.neighbor_outcome, Some(Outcome::Completed));
    assert!(run.report(Metric::NeighborResubmissions) >= Some(1), "{run}");
}

/// Without ITE the neighbor stalls in parallel order as well, once the ring is full behind the slot that
/// never completes.
#[test]
fn behind_a_lost_request_waits_complete_in_parallel_order_only() {
    for (ordering, completed) in [(Ordering::Serial, 0..=1), (Ordering::Parallel, 10..=255)] {
        let Some(rig) = beside(ordering, Duration::from_secs(1)) else { return };
        let run = rig.run().passed();
        assert_eq!(run.summary().outcome, Some(Outcome::Stalled), "{ordering}");
        let lost = |event: &Event| matches!(event, Event::FaultInjected { .. });
        let behind = run.events.iter().skip_while(|record| !lost(&record.event));
        let waits = behind.filter(|record| matches!(record.event, Event::WaitCompleted { .. }));
        let count = waits.count();
        assert!(completed.contains(&count), "{ordering}: {count}");
    }
}
