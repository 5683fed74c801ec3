//! Fences at ports: when they begin and end, and which callers they release.

use super::*;
use crate::submit::OnTimeout;

fn mute(policy: &str, ordering: Ordering) -> Rig {
    let mut rig = Rig::with(policy, Timeout::After(ICT), ordering);
    rig.functions.mute.insert(VICTIM);
    rig
}

#[test]
fn a_fence_at_the_port_needs_no_queue() {
    for ordering in [Ordering::Serial, Ordering::Parallel] {
        for fence in PortFence::ALL {
            let mut rig = mute(fence.word(), ordering);
            rig.flush(VICTIM);
            rig.flush(VICTIM);
            rig.pass(BOUND);
            assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Fenced); 2], "{fence} {ordering}");
            assert_eq!(rig.functions.fenced, [(VICTIM.bus(), fence)]);
            rig.flush(VICTIM);
            assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Fenced)], "{fence}: at once");
            assert_eq!(rig.unanswered.len(), 2, "{fence}: and is not asked");
        }
    }
}

#[test]
fn on_a_serial_unit_the_units_own_caches_are_not_confirmed_and_the_caller_is_told() {
    for (ordering, verdict) in
        [(Ordering::Serial, Verdict::DeadlinePassed), (Ordering::Parallel, Verdict::Fenced)]
    {
        let mut rig = mute("block-translation", ordering);
        rig.unmap(VICTIM);
        rig.pass(BOUND * 2);
        assert_eq!(rig.verdicts(), [(VICTIM, verdict)], "{ordering}");
        assert_eq!(rig.functions.fenced.len(), 1, "{ordering}");
        rig.unmap(VICTIM);
        rig.pass(BOUND);
        assert_eq!(rig.verdicts(), [(VICTIM, verdict)], "{ordering}: within its bound");
    }
}

#[test]
fn a_healthy_neighbor_is_not_fenced() {
    for fence in PortFence::ALL {
        let mut rig = mute(fence.word(), Ordering::Serial);
        rig.flush(VICTIM);
        for _ in 0..20 {
            rig.flush(NEIGHBOR);
            rig.pass(BOUND);
        }
        assert_eq!(rig.functions.fenced, [(VICTIM.bus(), fence)]);
    }
}

#[test]
fn functions_below_the_same_port_are_waived_and_keep_the_fence_until_they_are_reset_too() {
    let sibling = Bdf::new(1, 0, 1);
    let mut rig = mute("block-translation", Ordering::Parallel);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    rig.flush(sibling);
    let verdicts = [(VICTIM, Verdict::Fenced), (sibling, Verdict::Fenced)];
    assert_eq!(rig.verdicts(), verdicts);
    rig.functions.mute.clear();
    for function in [VICTIM, sibling] {
        assert_eq!(rig.functions.fenced.len(), 1, "the ATC of {function} may be stale");
        rig.host.handle_reset(function, &mut rig.functions, rig.now);
    }
    assert!(rig.functions.fenced.is_empty());
    rig.flush(sibling);
    assert_eq!(rig.verdicts(), [(sibling, Verdict::Completed)]);
}

#[test]
fn ite_fences_the_function_in_itesid_once_for_each_reset() {
    let ict = BOUND / 2;
    let mut rig = Rig::with("dpc", Timeout::After(ict), Ordering::Parallel);
    rig.functions.mute.insert(VICTIM);
    rig.flush(VICTIM);
    rig.pass(ict);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Fenced)]);
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    rig.functions.mute.clear();
    rig.flush(VICTIM);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)]);
    assert!(rig.functions.fenced.is_empty());
}

#[test]
fn where_no_port_has_the_fence_the_caller_is_told_of_a_failure() {
    let mut rig = mute("bus-master-off", Ordering::Parallel);
    rig.functions.has_no_fences = true;
    rig.flush(VICTIM);
    rig.pass(BOUND);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::DeadlinePassed)]);
}

#[test]
fn a_posted_quarantine_bounds_what_is_left_for_the_unit() {
    let mut rig = mute("quarantine-posted:100ms", Ordering::Serial);
    rig.unmap(VICTIM);
    rig.pass(BOUND);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Quarantined)]);
    rig.unmap(VICTIM);
    rig.pass(BOUND);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::DeadlinePassed)]);
}

#[test]
fn a_number_of_its_own_keeps_a_late_status_write_from_another_wait() {
    let mut policy: Policy = "bounded:100ms".parse().unwrap();
    (policy.completion, policy.on_timeout) =
        (crate::submit::Completion::Numbered, OnTimeout::Report);
    assert_eq!(late_answer_hits_a_new_waiter(policy), (vec![], 0));
}
