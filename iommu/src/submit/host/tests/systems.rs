//! Presets as their sources have them: paths, slots, the walk after ITE, and other systems.

use super::flushes::BOTH;
use super::*;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1000);

/// The victim's link is down; the unit times out after [`ICT`].
fn gone(policy: &str) -> Rig {
    let mut rig = Rig::new(policy, Timeout::After(ICT));
    rig.drop_link(VICTIM);
    rig
}

fn mute(policy: &str, ict: Duration) -> Rig {
    let mut rig = Rig::new(policy, Timeout::After(ict));
    rig.functions.mute.insert(VICTIM);
    rig
}

/// The slots at IQT for which the walk after ITE had no end.
fn endless_walks(rig: &Rig) -> Vec<u32> {
    let tail = |event: &Event| match event {
        Event::HostWalkHasNoEnd { tail } => Some(*tail),
        _ => None,
    };
    rig.recorder.events().iter().filter_map(|timed| tail(&timed.event)).collect()
}

#[test]
fn linux_7_0_checks_for_presence_where_it_tears_down_and_not_where_it_unmaps() {
    for policy in ["linux-7.0", "linux-7.0-unmap", "linux-7.0-teardown", "linux-7.0-rc1"] {
        let mut rig = gone(policy);
        rig.unmap(VICTIM);
        assert_eq!(rig.host.counters().presence_checks, 0, "{policy}");
        assert_eq!(rig.verdicts(), [], "{policy}");
        let mut rig = gone(policy);
        rig.tear_down_all(&BOTH);
        assert_eq!(rig.host.counters().presence_checks, 2, "{policy}");
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Skipped)], "{policy}");
        assert_eq!(rig.fetched(), [2, 5, 3, 5], "{policy}: the IOTLB, and the neighbor");
    }
}

#[test]
fn a_disconnected_device_is_skipped_on_teardown_since_linux_6_9() {
    for (policy, on_unmap, on_teardown) in [
        ("linux-6.8", false, false),
        ("linux-6.9", false, true),
        ("linux-6.12", false, true),
        ("late-removal", true, true),
    ] {
        let mut rig = gone(policy);
        rig.functions.disconnected.insert(VICTIM);
        rig.unmap(VICTIM);
        let skipped = [(VICTIM, Verdict::Skipped)];
        assert_eq!(rig.verdicts() == skipped, on_unmap, "{policy}");
        let mut rig = gone(policy);
        rig.functions.disconnected.insert(VICTIM);
        rig.tear_down_all(&[VICTIM]);
        assert_eq!(rig.verdicts() == skipped, on_teardown, "{policy}");
    }
}

#[test]
fn the_check_of_a_split_flush_comes_after_the_wait_for_the_iotlb() {
    let mut rig = mute("linux-7.0", ICT);
    rig.unmap(VICTIM);
    rig.tear_down_all(&[NEIGHBOR]);
    assert_eq!(rig.host.counters().presence_checks, 0, "its IOTLB part stands behind the victim");
    rig.drop_link(NEIGHBOR);
    let request = rig.unanswered.remove(0);
    rig.answer(request);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed), (NEIGHBOR, Verdict::Skipped)]);
}

#[test]
fn an_unmap_has_a_wait_for_each_invalidation_before_linux_6_12_and_one_for_all_since() {
    let pairs: &[u8] = &[2, 5, 3, 5, 3, 5];
    let batch: &[u8] = &[2, 3, 3, 5];
    for (policy, on_unmap, on_teardown) in [
        ("linux-6.8-unmap", pairs, pairs),
        ("linux-6.9-unmap", pairs, pairs),
        ("linux-6.12-unmap", batch, pairs),
        ("linux-7.0-unmap", batch, pairs),
        ("xen", pairs, pairs),
        ("smmuv3", batch, batch),
    ] {
        let mut rig = Rig::new(policy, Timeout::Never);
        rig.unmap_all(&BOTH);
        assert_eq!(rig.fetched(), on_unmap, "{policy}");
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)], "{policy}: one for all of it");
        let mut rig = Rig::new(policy, Timeout::Never);
        rig.tear_down_all(&BOTH);
        assert_eq!(rig.fetched(), on_teardown, "{policy}");
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)], "{policy}");
    }
}

/// `unmaps` submissions of one page each, the first for a function that is gone. Returns the verdicts
/// for the neighbor.
fn behind_a_lost_unmap(policy: &str, unmaps: usize) -> (usize, Rig) {
    let mut rig = gone(policy);
    rig.unmap(VICTIM);
    for _ in 1..unmaps {
        rig.unmap(NEIGHBOR);
    }
    rig.pass(LONG);
    let verdicts = rig.verdicts();
    let done = verdicts.iter().filter(|(function, _)| *function == NEIGHBOR).count();
    (done, rig)
}

#[test]
fn the_walk_after_ite_loses_waits_in_even_slots_if_iqt_is_even() {
    // Waits are in slots 2, 5, 8 and 11, and IQT is 12.
    let (done, rig) = behind_a_lost_unmap("linux-6.12-unmap", 4);
    assert_eq!(endless_walks(&rig), [0; 0]);
    assert_eq!(done, 2, "the one in slot 8 is polled for ever");
    assert_eq!(behind_a_lost_unmap("linux-7.0-unmap", 4).0, 3);
}

#[test]
fn the_walk_after_ite_has_no_end_if_iqt_is_odd() {
    let (done, mut rig) = behind_a_lost_unmap("linux-6.12-unmap", 3);
    assert_eq!(endless_walks(&rig), [9]);
    assert_eq!(done, 0);
    rig.functions.mute.clear();
    rig.functions.gone.clear();
    rig.unmap(NEIGHBOR);
    rig.pass(LONG);
    assert_eq!(rig.verdicts(), [], "every submitter spins on the lock of the queue");
    assert_eq!(rig.lockups().len(), 8, "four CPUs, and two detectors");
    assert_eq!(rig.host.poll_timeout(), None);
    assert_eq!(behind_a_lost_unmap("linux-7.0-unmap", 3).0, 2);
}

#[test]
fn nothing_is_lost_before_linux_6_12_as_all_submissions_have_an_even_number_of_slots() {
    for unmaps in 2..8 {
        let (done, rig) = behind_a_lost_unmap("linux-6.9-unmap", unmaps);
        assert_eq!((endless_walks(&rig), done), (vec![], unmaps - 1));
    }
}

#[test]
fn the_walk_marks_the_slot_at_an_odd_head_which_is_not_fetched() {
    // The 33rd request has no ITag: IQH stays at its wait in slot 65, and IQT is 66.
    for (policy, aborted) in [("linux-6.12", 33), ("linux-7.0", 32)] {
        let mut rig = mute(policy, ICT);
        for _ in 0..33 {
            rig.flush(VICTIM);
        }
        rig.pass(ICT);
        let count = |event: &Event| match event {
            Event::HostWaitsAborted { count } => Some(*count),
            _ => None,
        };
        let events = rig.recorder.events();
        let first = events.iter().find_map(|timed| count(&timed.event));
        assert_eq!(first, Some(aborted), "{policy}");
    }
}

#[test]
fn smmuv3_repeats_the_wait_alone_and_reports_success_with_a_stale_atc() {
    let mut rig = mute("smmuv3", MS * 500);
    rig.unmap(VICTIM);
    rig.unmap(NEIGHBOR);
    rig.pass(MS * 500);
    let both = [(VICTIM, Verdict::Completed), (NEIGHBOR, Verdict::Completed)];
    assert_eq!(rig.verdicts(), both);
    assert_eq!(rig.unanswered.len(), 1, "the lost request is not sent again");
    // As long as another request is out, the repeated wait stands behind it.
    let mut rig = mute("smmuv3", MS * 500);
    rig.unmap(VICTIM);
    rig.pass(MS * 200);
    rig.unmap(VICTIM);
    rig.pass(MS * 300);
    assert_eq!(rig.verdicts(), []);
    rig.pass(MS * 200);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed); 2]);
}

#[test]
fn riscv_ats_broken_turns_ats_off_for_good() {
    for (ict, verdict) in
        [(ICT, Verdict::Completed), (Duration::from_secs(900), Verdict::AtsDisabled)]
    {
        let mut rig = mute("riscv-ats-broken", ict);
        rig.flush(VICTIM);
        rig.pass(Duration::from_secs(90));
        assert_eq!(rig.verdicts(), [(VICTIM, verdict)]);
        assert_eq!(rig.functions.ats_off, [VICTIM]);
        rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
        rig.flush(VICTIM);
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Skipped)], "also after a reset");
        assert!(!rig.host.is_blocked(VICTIM), "there is no fence");
    }
}

#[test]
fn xen_4_15_crashes_an_innocent_domain_first() {
    let mut rig = mute("xen-4.15", ICT);
    rig.flush(VICTIM);
    rig.unmap(NEIGHBOR);
    rig.pass(MS);
    assert_eq!(rig.verdicts(), [(NEIGHBOR, Verdict::Crashed)], "1 ms for an IOTLB wait");
    assert_eq!(rig.functions.ats_off, []);
    rig.pass(MS * 999);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Crashed)]);
    assert_eq!(rig.functions.ats_off, [VICTIM]);
}

#[test]
fn xen_4_15_takes_a_late_completion_for_the_next_one() {
    let mut rig = mute("xen-4.15", ICT);
    rig.flush(VICTIM);
    rig.pass(MS * 1000);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Crashed)]);
    rig.flush(NEIGHBOR);
    let late = rig.unanswered[0];
    rig.answer(late);
    assert_eq!(rig.verdicts(), [(NEIGHBOR, Verdict::Completed)], "as in XSA-373");
    assert_eq!(rig.host.counters().false_completions, 1);
}

#[test]
fn a_policy_with_fn_keeps_a_parallel_unit_from_executing_what_is_behind_a_wait() {
    for (policy, neighbors) in [("linux", 1), ("xen", 0)] {
        let mut rig = Rig::with(policy, Timeout::Never, Ordering::Parallel);
        rig.functions.mute.insert(VICTIM);
        rig.flush(VICTIM);
        rig.flush(NEIGHBOR);
        assert_eq!(rig.verdicts().len(), neighbors, "{policy}");
    }
}

#[test]
fn retries_of_a_repeated_wait_send_the_invalidation_again() {
    let mut policy: Policy = "smmuv3".parse().unwrap();
    policy.on_timeout = crate::submit::OnTimeout::Retry(1);
    let mut rig = mute("smmuv3", MS * 500);
    let tracer = Tracer::to(rig.recorder.clone());
    let ict = Timeout::After(MS * 1500);
    let config = UnitConfig { ict, ..UnitConfig::new(UnitRole::Host) };
    rig.host = HostSide::new(config, policy, tracer).unwrap();
    rig.flush(VICTIM);
    rig.pass(MS * 1000);
    assert_eq!(rig.unanswered.len(), 2);
}
