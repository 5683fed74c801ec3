//! Resets for which the driver blocks the function in the unit.

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::spec::tables::{ContextHigh, ContextLow, RootEntry};

const CONTEXTS: u64 = HostSide::MEMORY;
const WORKER: Duration = Duration::from_millis(1);
const RESET: Duration = Duration::from_millis(100);

/// A host whose tables have a context entry for the victim.
fn rig(policy: &str, ordering: Ordering) -> Rig {
    let policy = Policy { reset_prepare: true, ..policy.parse().unwrap() };
    let mut rig = Rig::with_policy(policy.clone(), Timeout::After(ICT), ordering);
    let memory = HostSide::map_memory(2 * HostSide::MEMORY).unwrap();
    let root = RootEntry::new().with_present(true).with_page(CONTEXTS / PAGE_SIZE);
    let entry = [
        ContextLow::new().with_present(true).with_translation_type(2).into_bits(),
        ContextHigh::new().with_width(2).with_domain(7).into_bits(),
    ];
    memory.write_obj(root.into_bits(), GuestAddress(16)).unwrap();
    memory.write_obj(entry, GuestAddress(CONTEXTS)).unwrap();
    let config =
        UnitConfig { ict: Timeout::After(ICT), ordering, ..UnitConfig::new(UnitRole::Host) };
    let tracer = Tracer::to(rig.recorder.clone());
    rig.host = HostSide::with_memory(config, policy, memory, tracer);
    rig
}

impl Rig {
    /// A driver is about to reset `function`.
    fn prepare(&mut self, function: Bdf) {
        let (itag, range) = (ITag::new(0), PageRange::ALL);
        let request =
            InvalidateRequest { destination: function, itag, pasid: None, global: false, range };
        self.host.submit(Flush::before_reset(request), &mut self.functions, self.now);
        self.deliver();
    }

    fn finish(&mut self, function: Bdf) {
        self.host.finish_reset(function, &mut self.functions, self.now);
    }

    /// Whether the victim's context entry is present.
    fn is_attached(&mut self) -> bool {
        let (_, memory) = self.host.dma_path();
        let low: u64 = memory.read_obj(GuestAddress(CONTEXTS)).unwrap();
        ContextLow::from_bits(low).present()
    }
}

#[test]
fn from_prepare_to_done_a_function_is_blocked_and_gets_no_invalidation() {
    for (policy, ordering) in [("linux-7.0", Ordering::Serial), ("linux", Ordering::Parallel)] {
        let mut rig = rig(policy, ordering);
        rig.prepare(VICTIM);
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)], "{policy}");
        assert!(rig.host.is_blocked(VICTIM) && !rig.is_attached(), "{policy}");
        assert!(!rig.host.is_quarantined(VICTIM) && rig.host.isolated().next().is_none());
        rig.functions.mute.insert(VICTIM);
        rig.flush(VICTIM);
        rig.flush(NEIGHBOR);
        let verdicts = [(VICTIM, Verdict::Blocked), (NEIGHBOR, Verdict::Completed)];
        assert_eq!(rig.verdicts(), verdicts, "{policy}");
        assert!(rig.unanswered.is_empty());
        rig.functions.mute.clear();
        rig.finish(VICTIM);
        assert!(!rig.host.is_blocked(VICTIM) && rig.is_attached(), "{policy}");
        rig.flush(VICTIM);
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)], "{policy}");
    }
}

#[test]
fn prepare_waits_for_what_is_under_way() {
    let mut rig = rig("linux", Ordering::Parallel);
    rig.functions.mute.insert(VICTIM);
    rig.flush(VICTIM);
    rig.functions.mute.clear();
    let before = rig.submissions();
    rig.prepare(VICTIM);
    assert_eq!((rig.verdicts(), rig.submissions()), (vec![], before), "it drains first");
    let request = rig.unanswered.pop().unwrap();
    rig.answer(request);
    rig.deliver();
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed); 2]);
}

#[test]
fn prepare_itself_waits_for_a_mute_function() {
    for (policy, ordering, expected) in [
        ("linux-7.0", Ordering::Serial, None),
        ("linux-7.0", Ordering::Parallel, None),
        ("bounded:100ms", Ordering::Serial, Some(Verdict::DeadlinePassed)),
        ("flr:100ms", Ordering::Serial, Some(Verdict::DeadlinePassed)),
        ("quarantine:100ms", Ordering::Parallel, Some(Verdict::Quarantined)),
        ("block-translation:100ms", Ordering::Parallel, Some(Verdict::Fenced)),
        // The port blocks the function, and the unit does not confirm the rest.
        ("block-translation:100ms", Ordering::Serial, Some(Verdict::DeadlinePassed)),
    ] {
        let mut rig = rig(policy, ordering);
        rig.functions.mute.insert(VICTIM);
        rig.prepare(VICTIM);
        rig.pass(BOUND * 3);
        let verdicts: Vec<Verdict> = rig.verdicts().into_iter().map(|(_, ended)| ended).collect();
        assert_eq!(verdicts, expected.as_slice(), "{policy} {ordering}");
        assert!(rig.functions.reset.is_empty(), "{policy}: its caller resets the function");
    }
}

#[test]
fn a_function_that_is_gone_is_skipped_by_the_check_and_attached_again_all_the_same() {
    let mut rig = rig("linux-7.0", Ordering::Serial);
    rig.drop_link(VICTIM);
    rig.prepare(VICTIM);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Skipped)]);
    rig.finish(VICTIM);
    assert!(rig.is_attached());
}

#[test]
fn a_reset_inside_a_reset_ends_with_the_outer_one() {
    let mut rig = rig("linux-7.0", Ordering::Serial);
    rig.prepare(VICTIM);
    rig.prepare(VICTIM);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed); 2]);
    rig.finish(VICTIM);
    assert!(!rig.is_attached());
    rig.finish(VICTIM);
    assert!(rig.is_attached());
    rig.finish(VICTIM);
    assert!(rig.is_attached(), "one too many does nothing");
}

#[test]
fn a_quarantine_that_begins_during_a_reset_keeps_the_function_blocked_until_its_own_end() {
    let mut rig = rig("quarantine:100ms", Ordering::Parallel);
    rig.functions.mute.insert(VICTIM);
    rig.prepare(VICTIM);
    rig.pass(BOUND);
    assert!(rig.host.is_quarantined(VICTIM));
    rig.finish(VICTIM);
    assert!(!rig.is_attached() && rig.host.is_blocked(VICTIM), "the reset has failed");
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    assert!(rig.is_attached() && !rig.host.is_blocked(VICTIM));
}

#[test]
fn a_quarantine_that_the_reset_ends_leaves_the_function_attached() {
    let mut rig = rig("quarantine:100ms", Ordering::Parallel);
    rig.functions.mute.insert(VICTIM);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    rig.prepare(VICTIM);
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    rig.finish(VICTIM);
    assert!(rig.is_attached() && !rig.host.is_blocked(VICTIM));
}

/// The reset of the policy itself: in serial order the unit confirms the block only after its own
/// time-out, and the policy waits for its bound a second time.
#[test]
fn flr_blocks_the_function_before_its_reset() {
    for (ordering, blocked_after) in
        [(Ordering::Serial, BOUND), (Ordering::Parallel, Duration::ZERO)]
    {
        let mut rig = rig("flr:100ms", ordering);
        rig.functions.mute.insert(VICTIM);
        rig.flush(VICTIM);
        rig.pass(BOUND);
        rig.flush(VICTIM);
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Blocked)], "{ordering}: it is not asked");
        rig.pass(blocked_after);
        assert_eq!(rig.functions.reset, [VICTIM], "{ordering}");
        assert!(!rig.is_attached());
        rig.pass(RESET);
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Reset)], "{ordering}");
        assert!(rig.is_attached(), "{ordering}");
    }
}

#[test]
fn a_worker_blocks_the_function_before_its_reset() {
    for (ordering, blocked_after) in
        [(Ordering::Serial, BOUND), (Ordering::Parallel, Duration::ZERO)]
    {
        let mut rig = rig("recover", ordering);
        rig.functions.mute.insert(VICTIM);
        rig.flush(VICTIM);
        rig.pass(BOUND);
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Recovering)], "{ordering}");
        rig.pass(WORKER + blocked_after);
        assert_eq!(rig.functions.recoveries[0], [VICTIM], "{ordering}");
        assert!(!rig.is_attached(), "{ordering}");
        rig.pass(RESET);
        assert_eq!(rig.functions.recoveries[1], [VICTIM], "{ordering}");
        assert!(rig.is_attached(), "{ordering}");
    }
}

#[test]
fn a_worker_whose_reset_fails_leaves_the_function_blocked() {
    let mut rig = rig("recover", Ordering::Parallel);
    rig.drop_link(VICTIM);
    rig.flush(VICTIM);
    rig.pass(BOUND + WORKER + RESET);
    assert!(rig.host.is_blocked(VICTIM) && !rig.is_attached());
    rig.functions = Functions::default();
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    assert!(!rig.host.is_blocked(VICTIM) && rig.is_attached());
}

#[test]
fn two_waits_for_one_function_reset_it_each_and_leave_it_attached() {
    let mut rig = rig("flr:100ms", Ordering::Parallel);
    rig.functions.mute.insert(VICTIM);
    rig.flush(VICTIM);
    rig.pass(BOUND / 2);
    rig.flush(VICTIM);
    rig.pass(BOUND * 3);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Reset); 2]);
    assert!(rig.is_attached() && !rig.host.is_blocked(VICTIM));
}
