//! A healthy device on the same queues as one that is gone.

use std::time::Duration;

use devices::bench::Metric;
use iommu::event::UnitRole;
use iommu::submit::Verdict;
use iommu::unit::Ordering;
use tests::{NEIGHBOR, Rig, Run, VICTIM};
use vmm::Outcome;

fn silent_drop(ordering: Ordering, give_up: Duration) -> Option<Rig> {
    let give_up = give_up.as_millis();
    let rig = Rig::new(&format!("test=drop flushes=4 blame=owner giveup_ms={give_up}"))?;
    Some(rig.ordering(ordering).fault("on=doorbell,mode=silent"))
}

fn neighbor_verdicts(run: &Run, wanted: Verdict) -> usize {
    run.verdicts(NEIGHBOR).iter().filter(|(verdict, _)| *verdict == wanted).count()
}

#[test]
fn in_serial_order_an_abandoned_request_holds_up_the_neighbor() {
    let Some(rig) = silent_drop(Ordering::Serial, Duration::from_secs(1)) else { return };
    let run = rig.policy("bounded:50ms").run().passed();
    assert_eq!(run.timeouts(UnitRole::Guest, VICTIM), 1);
    assert_eq!(run.summary().outcome, Some(Outcome::TimedOut));
    // The request that the host gave up is still at the head of the physical unit's queue. No later
    // request completes, and ITE names the healthy device again and again.
    assert!(neighbor_verdicts(&run, Verdict::DeadlinePassed) > 1);
    assert!(run.timeouts(UnitRole::Guest, NEIGHBOR) > 1);
    assert!(run.report(Metric::NeighborResubmissions) > Some(1));
    assert_eq!(run.summary().neighbor_outcome, Some(Outcome::Stalled));
}

#[test]
fn ite_of_the_physical_unit_lets_the_neighbor_go_on() {
    let Some(rig) = silent_drop(Ordering::Serial, Duration::from_secs(30)) else { return };
    let run = rig.policy("bounded:50ms").ict(Duration::from_millis(300)).run().passed();
    assert_eq!(run.timeouts(UnitRole::Host, VICTIM), 1);
    assert_eq!(run.timeouts(UnitRole::Guest, VICTIM), 1);
    let neighbor = run.verdicts(NEIGHBOR);
    assert!(neighbor.iter().any(|(verdict, _)| *verdict == Verdict::DeadlinePassed));
    assert_eq!(neighbor.last().map(|(verdict, _)| *verdict), Some(Verdict::Completed));
    assert_eq!(run.summary().neighbor_outcome, Some(Outcome::Completed));
}

#[test]
fn in_parallel_order_the_neighbor_is_not_delayed() {
    let Some(rig) = silent_drop(Ordering::Parallel, Duration::from_secs(30)) else { return };
    let run = rig.policy("bounded:50ms").run().passed();
    assert_eq!(run.timeouts(UnitRole::Guest, VICTIM), 1);
    assert_eq!(run.timeouts(UnitRole::Guest, NEIGHBOR), 0);
    assert_eq!(neighbor_verdicts(&run, Verdict::DeadlinePassed), 0);
    let summary = run.summary();
    assert_eq!(summary.outcome, Some(Outcome::TimedOut));
    assert_eq!(summary.neighbor_outcome, Some(Outcome::Completed));
}

#[test]
fn linux_without_ite_stalls_the_neighbor_as_well() {
    let Some(rig) = silent_drop(Ordering::Serial, Duration::from_secs(1)) else { return };
    let run = rig.run().passed();
    let summary = run.summary();
    assert_eq!(summary.outcome, Some(Outcome::Stalled));
    assert_eq!(summary.neighbor_outcome, Some(Outcome::Stalled));
}
