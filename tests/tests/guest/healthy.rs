//! The link is up, and flushes complete under every policy.

use iommu::event::{Event, TimedEvent, UnitRole};
use iommu::submit::{PRESETS, Verdict};
use tests::{NEIGHBOR, Rig, VICTIM, after, count};
use vmm::Outcome;

/// A step of one flush of the victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hop {
    Requested(UnitRole),
    Submitted,
    Dropped,
    Completed(UnitRole),
    Verdict(Verdict),
    WaitDone(UnitRole),
}

/// The step of a flush of the victim that `timed` is, if any. Events of waits name no device, so
/// there must be no second CPU.
fn hop(timed: &TimedEvent) -> Option<Hop> {
    Some(match timed.event {
        Event::InvalidateRequested { unit, function: VICTIM, .. } => Hop::Requested(unit),
        Event::Submitted { function: VICTIM, attempt: 1, .. } => Hop::Submitted,
        Event::AtcInvalidated { function: VICTIM, .. } => Hop::Dropped,
        Event::InvalidateCompleted { unit, function: VICTIM, .. } => Hop::Completed(unit),
        Event::Verdict { function: VICTIM, verdict, .. } => Hop::Verdict(verdict),
        Event::WaitCompleted { unit, .. } => Hop::WaitDone(unit),
        _ => return None,
    })
}

#[test]
fn every_flush_crosses_both_units_and_the_link_in_order() {
    const FLUSHES: usize = 3;
    let Some(rig) = Rig::new("test=drop scenario=healthy flushes=3") else { return };
    let run = rig.cpus(1).run().passed();
    // Events before the first submission for the victim belong to the set-up.
    let flushes = after(&run.events, |event| matches!(event, Event::AtcFilled { .. }));
    let hops: Vec<Hop> = flushes.iter().filter_map(hop).collect();
    let flush = [
        Hop::Requested(UnitRole::Guest),
        Hop::Submitted,
        Hop::Requested(UnitRole::Host),
        Hop::Dropped,
        Hop::Completed(UnitRole::Host),
        Hop::WaitDone(UnitRole::Host),
        Hop::Verdict(Verdict::Completed),
        Hop::Completed(UnitRole::Guest),
        Hop::WaitDone(UnitRole::Guest),
    ];
    // The measured flush is one more.
    assert_eq!(hops, flush.repeat(FLUSHES + 1));
}

#[test]
fn every_policy_completes_the_flushes_of_a_healthy_device() {
    for preset in PRESETS {
        let Some(rig) = Rig::new("test=drop scenario=healthy flushes=8") else { return };
        let policy = preset.policy();
        let run = rig.policy(&policy.name).run().passed();
        for function in [VICTIM, NEIGHBOR] {
            let verdicts = run.verdicts(function);
            assert!(verdicts.len() > 2, "{policy}: {verdicts:?}");
            assert!(verdicts.iter().all(|(verdict, _)| *verdict == Verdict::Completed), "{policy}");
        }
        let summary = run.summary();
        assert_eq!(summary.outcome, Some(Outcome::Completed), "{policy}");
        assert_eq!(summary.neighbor_outcome, Some(Outcome::Completed), "{policy}");
        assert_eq!((summary.waits_aborted, summary.timeouts.len()), (0, 0), "{policy}");
        assert_eq!(count(&run.events, |event| matches!(event, Event::Lost { .. })), 0, "{policy}");
    }
}

#[test]
fn the_presence_check_comes_before_every_submission() {
    let Some(rig) = Rig::new("test=drop scenario=healthy flushes=2") else { return };
    let run = rig.cpus(1).policy("present+bounded:1s").run().passed();
    let steps: Vec<bool> = run
        .events
        .iter()
        .filter_map(|timed| match timed.event {
            Event::PresenceChecked { function: VICTIM, present: true } => Some(false),
            Event::Submitted { function: VICTIM, .. } => Some(true),
            _ => None,
        })
        .collect();
    assert_eq!(steps, [false, true].repeat(3));
}
