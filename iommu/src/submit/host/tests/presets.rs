//! The characteristic behavior of each preset.

use super::*;
use crate::submit::PRESETS;

const LONG: Duration = Duration::from_secs(1000);

/// The victim is present and mute; the unit times out after [`ICT`].
fn mute(policy: &str, ordering: Ordering) -> Rig {
    let mut rig = Rig::with(policy, Timeout::After(ICT), ordering);
    rig.functions.mute.insert(VICTIM);
    rig
}

/// The victim's link is down.
fn gone(policy: &str) -> Rig {
    let mut rig = Rig::new(policy, Timeout::After(ICT));
    rig.drop_link(VICTIM);
    rig
}

/// The verdict, and the time until then; `None` if the caller waits for ever.
fn outcome(mut rig: Rig) -> Option<(Verdict, Duration)> {
    rig.flush(VICTIM);
    rig.pass(LONG);
    let verdicts = rig.verdicts();
    assert!(verdicts.len() < 2);
    Some((verdicts.first()?.1, rig.longest_wait()))
}

#[test]
fn each_preset_waits_for_a_mute_function_as_documented() {
    use Verdict::*;
    let after = |verdict, millis| Some((verdict, Duration::from_millis(millis)));
    for (policy, expected) in [
        ("linux", None),
        ("linux-5.15-unmap", None),
        ("linux-6.8", None),
        ("linux-6.8-unmap", None),
        ("linux-6.8-teardown", None),
        ("linux-6.9", None),
        ("linux-6.9-unmap", None),
        ("linux-6.9-teardown", None),
        ("linux-6.12", None),
        ("linux-6.12-unmap", None),
        ("linux-6.12-teardown", None),
        ("linux-6.12-reset", None),
        ("linux-7.0-rc1", None),
        ("linux-7.0", None),
        ("linux-7.0-unmap", None),
        ("linux-7.0-teardown", None),
        ("linux-7.0-reset", None),
        ("linux-iqe", None),
        ("pass-through", after(UnitTimedOut, 60_000)),
        ("bounded", after(DeadlinePassed, 100)),
        ("bounded:5s", after(DeadlinePassed, 5_000)),
        ("bounded+watchdog", after(DeadlinePassed, 90_000)),
        ("present+bounded", after(DeadlinePassed, 100)),
        // The unit completes waits in order, and the fence stands behind the stuck invalidation.
        ("quarantine", after(Quarantined, 60_000)),
        ("quarantine-posted", after(Quarantined, 100)),
        ("bounded+in-flight", after(DeadlinePassed, 100)),
        ("quarantine+in-flight", after(Quarantined, 60_000)),
        ("block-translation", after(Fenced, 100)),
        ("bus-master-off", after(Fenced, 100)),
        ("link-disable", after(Fenced, 100)),
        ("dpc", after(Fenced, 100)),
        ("recover", after(Recovering, 100)),
        ("late-removal", after(Removed, 100)),
        ("flr", after(Reset, 200)),
        ("pcie-60s", after(DeadlinePassed, 60_000)),
        ("pcie-90s", after(DeadlinePassed, 90_000)),
        ("pcie-120s", after(DeadlinePassed, 120_000)),
        ("amd", after(DeadlinePassed, 100)),
        ("amd-6.6", after(DeadlinePassed, 100)),
        ("smmuv3", after(DeadlinePassed, 1_000)),
        ("smmuv3-quarantine", after(Quarantined, 60_000)),
        // The unit gives up first, and repeats the wait.
        ("riscv", after(Completed, 60_000)),
        ("riscv-ats-broken", after(Completed, 60_000)),
        ("xen-4.15", after(Crashed, 1_000)),
        ("xen", None),
        ("vt-d-sequence", after(DeadlinePassed, 100)),
    ] {
        assert_eq!(outcome(mute(policy, Ordering::Serial)), expected, "{policy}");
    }
}

#[test]
fn each_preset_waits_for_a_function_that_is_gone_as_documented() {
    use Verdict::*;
    for (policy, expected) in [
        ("linux-6.8", None),
        ("linux-6.9", Some((UnitTimedOut, ICT))),
        ("linux-7.0", Some((UnitTimedOut, ICT))),
        ("present+bounded", Some((Skipped, Duration::ZERO))),
        ("pass-through", Some((UnitTimedOut, ICT))),
        ("flr", Some((DeadlinePassed, BOUND * 2))),
        ("riscv", Some((Completed, ICT))),
        ("xen", None),
    ] {
        assert_eq!(outcome(gone(policy)), expected, "{policy}");
    }
}

/// Each ITE of the unit is for one caller: the one that waits for the function in ITESID.
#[test]
fn pass_through_reports_each_ite_to_the_caller_that_waits_for_the_function() {
    for ordering in [Ordering::Serial, Ordering::Parallel] {
        let mut rig = mute("pass-through", ordering);
        rig.flush(VICTIM);
        rig.pass(ICT / 2);
        rig.flush(NEIGHBOR);
        rig.flush(VICTIM);
        rig.pass(ICT / 2);
        let first = rig.verdicts();
        assert_eq!(first.last(), Some(&(VICTIM, Verdict::UnitTimedOut)), "{ordering}");
        rig.pass(ICT / 2);
        let second = rig.verdicts();
        assert_eq!(second, [(VICTIM, Verdict::UnitTimedOut)], "{ordering}");
        rig.pass(ICT);
        let all = [first, second, rig.verdicts()].concat();
        assert_eq!(all.len(), 3, "{ordering}");
        assert!(all.contains(&(NEIGHBOR, Verdict::Completed)), "{ordering}");
    }
}

#[test]
fn every_preset_has_a_row() {
    let here = include_str!("presets.rs");
    for preset in PRESETS {
        assert!(here.contains(&format!("(\"{}\"", preset.name)), "{}", preset.name);
    }
}

#[test]
fn linux_6_8_resubmits_after_ite_for_ever() {
    let mut rig = gone("linux-6.8");
    rig.flush(VICTIM);
    rig.pass(ICT * 10);
    assert_eq!(rig.submissions(), 11);
    assert_eq!(rig.verdicts(), []);
}

#[test]
fn xen_leaves_ite_set_and_the_queue_stopped() {
    let mut rig = mute("xen", Ordering::Serial);
    rig.flush(VICTIM);
    rig.pass(ICT);
    rig.functions.mute.clear();
    rig.flush(NEIGHBOR);
    rig.pass(LONG);
    assert_eq!(rig.verdicts(), []);
}

#[test]
fn a_loop_that_resets_the_watchdog_for_90s_is_not_reported() {
    for (policy, lockups) in [("bounded+watchdog", 0), ("pcie-90s", 2)] {
        let mut rig = mute(policy, Ordering::Serial);
        rig.flush(VICTIM);
        rig.pass(Duration::from_secs(50));
        assert_eq!(rig.lockups().len(), lockups, "{policy}");
    }
}

#[test]
fn a_removed_function_gets_no_requests_until_it_is_reset() {
    let mut rig = mute("late-removal", Ordering::Parallel);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    rig.flush(VICTIM);
    let verdicts = [(VICTIM, Verdict::Removed), (VICTIM, Verdict::Skipped)];
    assert_eq!(rig.verdicts(), verdicts);
    assert_eq!(rig.submissions(), 1);
    rig.functions.mute.clear();
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    rig.flush(VICTIM);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)]);
}

#[test]
fn flr_is_initiated_once_for_each_wait() {
    let mut rig = mute("flr", Ordering::Parallel);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    assert_eq!(rig.functions.reset, [VICTIM]);
    rig.pass(LONG);
    assert_eq!(rig.functions.reset, [VICTIM]);
}
