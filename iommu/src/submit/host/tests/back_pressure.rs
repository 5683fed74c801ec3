//! Back pressure: a limit on the invalidations of a function in the ring, and functions that get
//! none after a time-out.

use std::num::NonZeroU16;

use super::*;
use crate::submit::{Completion, OnIte, OnTimeout, Suspects};

/// The policy `name` with at most `limit` invalidations of a function in the ring.
fn limited(name: &str, limit: u16) -> Policy {
    Policy { in_flight: NonZeroU16::new(limit), ..name.parse().unwrap() }
}

fn mute(policy: Policy, ordering: Ordering) -> Rig {
    let mut rig = Rig::with_policy(policy, Timeout::After(ICT), ordering);
    rig.functions.mute.insert(VICTIM);
    rig
}

#[test]
fn a_function_has_no_more_invalidations_in_the_ring_than_the_limit() {
    let mut rig = mute(limited("linux", 3), Ordering::Parallel);
    for _ in 0..10 {
        rig.flush(VICTIM);
        rig.flush(NEIGHBOR);
    }
    assert_eq!(rig.unanswered.len(), 3);
    assert_eq!(rig.verdicts(), [(NEIGHBOR, Verdict::Completed); 10], "the limit is per function");
    assert_eq!(rig.host.counters().held_back, 7);
    rig.functions.mute.clear();
    for request in std::mem::take(&mut rig.unanswered) {
        rig.answer(request);
        rig.deliver();
    }
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed); 10], "each answer lets one more in");
}

#[test]
fn callers_outside_the_ring_do_not_spin() {
    let mut rig = mute(limited("linux", 1), Ordering::Parallel);
    rig.flush(VICTIM);
    rig.flush(VICTIM);
    rig.pass(Duration::from_secs(30));
    assert_eq!(rig.lockups(), [LockupDetector::Hard, LockupDetector::Soft], "of the first alone");
}

#[test]
fn the_bound_of_a_caller_counts_from_when_it_may_be_in_the_ring() {
    let mut rig = mute(limited("bounded:100ms", 1), Ordering::Parallel);
    for _ in 0..3 {
        rig.flush(VICTIM);
    }
    for _ in 0..3 {
        rig.pass(BOUND - Duration::from_millis(1));
        let request = rig.unanswered.remove(0);
        rig.answer(request);
        rig.deliver();
    }
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed); 3], "it answers each in time");
}

#[test]
fn a_function_that_has_timed_out_gets_no_invalidation_until_it_is_reset() {
    for ordering in [Ordering::Serial, Ordering::Parallel] {
        let mut rig = mute(limited("bounded:100ms", 2), ordering);
        for _ in 0..4 {
            rig.flush(VICTIM);
        }
        rig.pass(BOUND);
        let passed = (VICTIM, Verdict::DeadlinePassed);
        let withheld = (VICTIM, Verdict::Withheld);
        let mut verdicts = rig.verdicts();
        verdicts.sort_by_key(|(_, verdict)| *verdict == Verdict::Withheld);
        assert_eq!(verdicts, [passed, passed, withheld, withheld], "{ordering}");
        rig.flush(VICTIM);
        assert_eq!(rig.verdicts(), [withheld], "{ordering}: at once");
        assert_eq!(rig.unanswered.len(), 2, "{ordering}");
        assert_eq!(rig.host.awaiting_reset().collect::<Vec<_>>(), [VICTIM], "{ordering}");
        rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
        assert_eq!(rig.host.awaiting_reset().count(), 0, "{ordering}");
        rig.flush(VICTIM);
        assert_eq!(rig.unanswered.len(), 3, "{ordering}");
    }
}

#[test]
fn the_units_own_translations_are_invalidated_without_the_device_tlb() {
    let mut rig = mute(limited("bounded:100ms", 1), Ordering::Parallel);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    let before = rig.recorder.events().len();
    rig.unmap(VICTIM);
    let verdicts = [(VICTIM, Verdict::DeadlinePassed), (VICTIM, Verdict::Withheld)];
    assert_eq!(rig.verdicts(), verdicts);
    let kind = |event: &Event| match event {
        Event::DescriptorFetched { descriptor_type, .. } => Some(*descriptor_type),
        _ => None,
    };
    let events = rig.recorder.events();
    let fetched: Vec<u8> = events[before..].iter().filter_map(|it| kind(&it.event)).collect();
    assert_eq!(fetched, [2, 5]);
}

#[test]
fn a_healthy_function_behind_a_mute_one_is_asked_again_and_again() {
    let mut rig = mute(limited("bounded:100ms", 1), Ordering::Serial);
    rig.flush(VICTIM);
    for _ in 0..50 {
        rig.flush(NEIGHBOR);
        rig.pass(BOUND);
    }
    let asked =
        |event: &Event| matches!(event, Event::InvalidateCompleted { function: NEIGHBOR, .. });
    let events = rig.recorder.events();
    assert_eq!(events.iter().filter(|timed| asked(&timed.event)).count(), 50);
    let neighbors = rig.verdicts().into_iter().filter(|(function, _)| *function == NEIGHBOR);
    assert!(neighbors.into_iter().all(|(_, verdict)| verdict == Verdict::DeadlinePassed));
}

#[test]
fn each_mute_function_of_a_unit_that_completes_out_of_order_is_found() {
    let mut rig = mute(limited("bounded:100ms", 1), Ordering::Parallel);
    rig.functions.mute.insert(NEIGHBOR);
    rig.flush(VICTIM);
    rig.flush(NEIGHBOR);
    rig.flush(Bdf::new(3, 0, 0));
    rig.pass(BOUND);
    assert_eq!(rig.host.awaiting_reset().collect::<Vec<_>>(), [VICTIM, NEIGHBOR]);
}

#[test]
fn requests_that_the_unit_still_holds_count_after_a_reset() {
    let mut rig = mute(limited("quarantine:100ms", 2), Ordering::Parallel);
    for round in 1..=2 {
        rig.flush(VICTIM);
        rig.pass(BOUND);
        assert!(rig.host.is_blocked(VICTIM));
        assert_eq!(rig.unanswered.len(), round);
        rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    }
    rig.verdicts();
    rig.flush(VICTIM);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Quarantined)], "without a third request");
    assert_eq!(rig.unanswered.len(), 2);
    // It answers at last, and may be asked again after its next reset.
    rig.functions.mute.clear();
    for request in std::mem::take(&mut rig.unanswered) {
        rig.answer(request);
    }
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    rig.flush(VICTIM);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)]);
}

#[test]
fn ite_withholds_the_function_in_itesid() {
    let mut policy = limited("linux", 1);
    policy.on_ite = OnIte::Resubmit;
    let mut rig = mute(policy, Ordering::Serial);
    rig.flush(VICTIM);
    rig.flush(NEIGHBOR);
    rig.pass(ICT);
    let verdicts = [(VICTIM, Verdict::Withheld), (NEIGHBOR, Verdict::Completed)];
    assert_eq!(rig.verdicts(), verdicts, "instead of a resubmission without end");
    rig.functions.mute.clear();
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    rig.flush(VICTIM);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)]);
}

#[test]
fn callers_wait_outside_while_their_function_is_reset() {
    let mut rig = mute(limited("flr:100ms", 2), Ordering::Parallel);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    rig.flush(VICTIM);
    assert_eq!(rig.unanswered.len(), 1, "a function in reset is not asked");
    rig.functions.mute.clear();
    rig.pass(Duration::from_millis(100));
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Reset), (VICTIM, Verdict::Completed)]);
}

#[test]
fn only_the_oldest_of_a_stuck_unit_is_acted_against() {
    for on_timeout in [OnTimeout::QuarantinePosted, OnTimeout::Remove] {
        let (suspects, completion) = (Suspects::Oldest, Completion::Leak);
        let base: Policy = "bounded:100ms".parse().unwrap();
        let mut rig = mute(Policy { suspects, completion, on_timeout, ..base }, Ordering::Serial);
        rig.flush(VICTIM);
        rig.flush(NEIGHBOR);
        rig.pass(BOUND);
        assert_eq!(rig.host.isolated().collect::<Vec<_>>(), [VICTIM], "{on_timeout}");
        let neighbor = (NEIGHBOR, Verdict::DeadlinePassed);
        assert!(rig.verdicts().contains(&neighbor), "{on_timeout}");
    }
}

/// The unit has no more requests pending in a function than its Invalidate Queue Depth, and fetches
/// nothing past the next one.
#[test]
fn the_queue_depth_of_a_mute_function_decides_when_others_are_not_asked() {
    for depth in [1, 2, 31, 32] {
        let mut rig = Rig::with("bounded:100ms", Timeout::After(ICT), Ordering::Parallel);
        rig.host.set_queue_depth(depth);
        rig.functions.mute.insert(VICTIM);
        for _ in 0..depth {
            rig.flush(VICTIM);
        }
        rig.flush(NEIGHBOR);
        assert_eq!(rig.verdicts(), [(NEIGHBOR, Verdict::Completed)], "{depth}");
        rig.flush(VICTIM);
        rig.flush(NEIGHBOR);
        assert_eq!(rig.verdicts(), [], "{depth}: the unit stands in front of the victim's request");
        assert_eq!(rig.unanswered.len(), usize::from(depth));
    }
}
