//! The link is down: which policy ends the wait, and how.

use std::time::Duration;

use devices::bench::Metric;
use iommu::event::{Event, LinkState, Lost, TimedEvent, UnitRole};
use iommu::submit::Verdict;
use iommu::unit::Ordering;
use tests::{Rig, Run, VICTIM, VICTIM_PORT, count};
use vmm::Outcome;

const BOUND: Duration = Duration::from_millis(50);
const ICT: Duration = Duration::from_millis(200);

/// One CPU, so that nothing but the measured flush happens after the drop.
fn silent_drop(more: &str) -> Option<Rig> {
    let rig = Rig::new(&format!("test=drop flushes=4 blame=owner {more}"))?;
    Some(rig.cpus(1).fault("on=doorbell,mode=silent"))
}

fn lost_requests(events: &[TimedEvent]) -> usize {
    count(events, |event| {
        *event == Event::Lost { port: VICTIM_PORT, what: Lost::InvalidateRequest }
    })
}

/// Asserts that the guest has seen one ITE, with the source id of the victim.
fn assert_one_timeout_of_the_victim(run: &Run) {
    assert_eq!(run.timeouts(UnitRole::Guest, VICTIM), 1);
    assert_eq!(run.report(Metric::Timeouts), Some(1));
    assert_eq!(run.report(Metric::TimeoutSource), Some(VICTIM.into_bits().into()));
    let summary = run.summary();
    assert_eq!(summary.outcome, Some(Outcome::TimedOut));
    assert_eq!(summary.waits_aborted, 1);
    assert_eq!(run.report(Metric::WaitsAborted), Some(1));
}

/// Verdict and time of the last wait for the victim: the measured flush.
fn last_verdict(run: &Run) -> (Verdict, Duration) {
    run.verdicts(VICTIM).pop().expect("the victim was flushed")
}

#[test]
fn the_doorbell_drops_the_link_before_the_flush() {
    let Some(rig) = silent_drop("") else { return };
    let run = rig.policy("bounded:50ms").run().passed();
    let down = Event::Link { port: VICTIM_PORT, state: LinkState::Down };
    let order: Vec<&Event> = run
        .events
        .iter()
        .map(|timed| &timed.event)
        .filter(|event| {
            matches!(event, Event::Doorbell { .. } | Event::Link { .. } | Event::Lost { .. })
        })
        .collect();
    let lost = Event::Lost { port: VICTIM_PORT, what: Lost::InvalidateRequest };
    assert_eq!(order[..3], [&Event::Doorbell { value: 1 }, &down, &lost]);
}

#[test]
fn linux_waits_for_ever_without_ite() {
    let Some(rig) = silent_drop("giveup_ms=1000") else { return };
    let run = rig.run().passed();
    let after = run.after_drop();
    assert_eq!(lost_requests(after), 1);
    assert_eq!(count(after, |event| matches!(event, Event::Submitted { .. })), 1);
    assert_eq!(count(after, |event| matches!(event, Event::Verdict { .. })), 0);
    assert_eq!(count(&run.events, |event| matches!(event, Event::InvalidationTimeout { .. })), 0);
    let summary = run.summary();
    assert_eq!(summary.outcome, Some(Outcome::Stalled));
    // The host's CPU waits at least as long as the guest gives a flush.
    assert!(summary.host_stall >= Duration::from_secs(1), "{summary:?}");
}

#[test]
fn linux_waits_for_ite_of_the_physical_unit() {
    let Some(rig) = silent_drop("") else { return };
    let run = rig.ict(ICT).run().passed();
    assert_eq!(run.timeouts(UnitRole::Host, VICTIM), 1);
    let after = run.after_drop();
    assert_eq!(lost_requests(after), 1);
    assert_eq!(count(after, |event| *event == Event::HostWaitsAborted { count: 1 }), 1);
    let gone = Event::PresenceChecked { function: VICTIM, present: false };
    assert_eq!(count(after, |event| *event == gone), 1);
    let (verdict, waited) = last_verdict(&run);
    assert_eq!(verdict, Verdict::UnitTimedOut);
    assert!(waited >= ICT, "{waited:?}");
    assert_one_timeout_of_the_victim(&run);
}

#[test]
fn a_bound_ends_the_wait_without_ite_of_the_physical_unit() {
    let Some(rig) = silent_drop("") else { return };
    let run = rig.policy("bounded:50ms").run().passed();
    assert_eq!(lost_requests(run.after_drop()), 1);
    assert_eq!(run.timeouts(UnitRole::Host, VICTIM), 0);
    let (verdict, waited) = last_verdict(&run);
    assert_eq!(verdict, Verdict::DeadlinePassed);
    assert!(waited >= BOUND, "{waited:?}");
    let summary = run.summary();
    assert!(summary.guest_stall.is_some_and(|stall| stall >= BOUND), "{summary:?}");
    assert_one_timeout_of_the_victim(&run);
}

#[test]
fn amd_waits_a_hundred_milliseconds() {
    let Some(rig) = silent_drop("") else { return };
    let run = rig.policy("amd").run().passed();
    let (verdict, waited) = last_verdict(&run);
    assert_eq!(verdict, Verdict::DeadlinePassed);
    assert!(waited >= Duration::from_millis(100), "{waited:?}");
    assert_one_timeout_of_the_victim(&run);
}

#[test]
fn a_presence_check_submits_nothing_to_a_device_that_is_gone() {
    let Some(rig) = silent_drop("") else { return };
    let run = rig.policy("present+bounded:50ms").run().passed();
    let after = run.after_drop();
    let gone = Event::PresenceChecked { function: VICTIM, present: false };
    assert_eq!(count(after, |event| *event == gone), 1);
    assert_eq!(count(after, |event| matches!(event, Event::Submitted { .. })), 0);
    assert_eq!(lost_requests(after), 0);
    assert_eq!(last_verdict(&run).0, Verdict::Skipped);
    // The guest's flush completes, although the ATC keeps its entries.
    assert_eq!(count(after, |event| matches!(event, Event::AtcInvalidated { .. })), 0);
    let summary = run.summary();
    assert_eq!(summary.outcome, Some(Outcome::Completed));
    assert!(summary.timeouts.is_empty(), "{summary:?}");
}

/// Asserts that the guest's flush completed, and that its function is in quarantine.
fn assert_quarantined(run: &Run) {
    assert_eq!(last_verdict(run).0, Verdict::Quarantined);
    let after = run.after_drop();
    let quarantined = |event: &Event| matches!(event, Event::Quarantined { function: VICTIM, .. });
    assert_eq!(count(after, quarantined), 1);
    assert_eq!(count(after, |event| matches!(event, Event::QuarantineEnded { .. })), 0);
    let summary = run.summary();
    assert_eq!(summary.outcome, Some(Outcome::Completed));
    assert!(summary.timeouts.is_empty(), "{summary:?}");
}

#[test]
fn a_quarantine_ends_the_wait_at_the_bound_where_waits_complete_out_of_order() {
    let Some(rig) = silent_drop("") else { return };
    let run = rig.policy("quarantine:50ms").ordering(Ordering::Parallel).run().passed();
    assert_quarantined(&run);
    assert!(last_verdict(&run).1 >= BOUND);
    assert_eq!(run.timeouts(UnitRole::Host, VICTIM), 0);
    let fences = |event: &Event| matches!(event, Event::FenceSubmitted { .. });
    assert_eq!(count(&run.events, fences), 1);
}

#[test]
fn a_quarantine_waits_for_the_units_own_timeout_where_waits_complete_in_order() {
    let Some(rig) = silent_drop("") else { return };
    let run = rig.policy("quarantine:50ms").ict(ICT).run().passed();
    assert_quarantined(&run);
    assert!(last_verdict(&run).1 >= ICT);
    assert_eq!(run.timeouts(UnitRole::Host, VICTIM), 1);
    let fences = |event: &Event| matches!(event, Event::FenceSubmitted { .. });
    assert_eq!(count(&run.events, fences), 2, "the first one was aborted by ITE");
}
