//! Recovery by a worker.

use super::*;

const WORKER: Duration = Duration::from_millis(1);
const RESET: Duration = Duration::from_millis(100);

fn mute(ordering: Ordering) -> Rig {
    let mut rig = Rig::with("recover", Timeout::After(ICT), ordering);
    rig.functions.mute.insert(VICTIM);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    rig
}

#[test]
fn the_caller_does_not_wait_for_the_worker() {
    for ordering in [Ordering::Serial, Ordering::Parallel] {
        let mut rig = mute(ordering);
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Recovering)], "{ordering}");
        assert_eq!(rig.functions.recoveries, [vec![], vec![]], "{ordering}: exposed until then");
        rig.flush(VICTIM);
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Recovering)], "{ordering}: and is not asked");
        rig.pass(WORKER);
        assert_eq!(rig.functions.recoveries, [vec![VICTIM], vec![]], "{ordering}");
        rig.pass(RESET);
        assert_eq!(rig.functions.recoveries[1], [VICTIM], "{ordering}");
    }
}

#[test]
fn a_function_that_stays_mute_after_its_reset_is_reset_again_and_again() {
    let mut rig = mute(Ordering::Parallel);
    for round in 1..=5 {
        rig.pass(WORKER + RESET);
        assert_eq!(rig.functions.recoveries[1].len(), round);
        rig.flush(VICTIM);
        rig.pass(BOUND);
    }
    assert_eq!(rig.unanswered.len(), 6, "each round leaves a request in the unit");
}

#[test]
fn a_reset_that_fails_leaves_the_function_blocked_until_one_from_outside() {
    let mut rig = mute(Ordering::Parallel);
    rig.functions.gone.insert(VICTIM);
    rig.pass(WORKER + RESET);
    assert_eq!(rig.host.awaiting_reset().collect::<Vec<_>>(), [VICTIM]);
    rig.verdicts();
    rig.flush(VICTIM);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Recovering)]);
    rig.functions = Functions::default();
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    rig.flush(VICTIM);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)]);
}
