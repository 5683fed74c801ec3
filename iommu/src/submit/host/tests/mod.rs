//! The host's wait, for functions that answer, answer late, or do not answer.

mod back_pressure;
mod flushes;
mod port_fences;
mod presets;
mod quarantine;
mod recovery;
mod reset_blocks;
mod systems;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ats::{ITag, PageRange};
use crate::event::{Event, LockupDetector, Recorder, UnitRole};
use crate::ids::{Bdf, Iova, Pasid};
use crate::submit::{PortFence, Verdict};
use crate::time::Timeout;
use crate::unit::Ordering;

const VICTIM: Bdf = Bdf::new(1, 0, 0);
const NEIGHBOR: Bdf = Bdf::new(2, 0, 0);
const BOUND: Duration = Duration::from_millis(100);
const ICT: Duration = Duration::from_secs(60);

/// Functions. Those in `gone` are not present, and those in `mute` send no completion.
#[derive(Default)]
struct Functions {
    gone: BTreeSet<Bdf>,
    mute: BTreeSet<Bdf>,
    /// Functions that hot-plug has marked as disconnected.
    disconnected: BTreeSet<Bdf>,
    /// Functions for which an FLR was initiated.
    reset: Vec<Bdf>,
    /// Functions in which ATS was turned off.
    ats_off: Vec<Bdf>,
    /// Functions whose recovery has begun, and those whose has ended.
    recoveries: [Vec<Bdf>; 2],
    /// The fences at ports. There is one port above each bus.
    fenced: Vec<(u8, PortFence)>,
    /// The ports have no fences.
    has_no_fences: bool,
}

impl FunctionAccess for Functions {
    fn is_present(&mut self, function: Bdf) -> bool {
        !self.gone.contains(&function)
    }

    fn is_disconnected(&self, function: Bdf) -> bool {
        self.disconnected.contains(&function)
    }

    fn reset(&mut self, function: Bdf, _: Instant) {
        self.reset.push(function);
    }

    fn disable_ats(&mut self, function: Bdf, _: Instant) {
        self.ats_off.push(function);
    }

    fn begin_recovery(&mut self, function: Bdf, _: Instant) {
        self.recoveries[0].push(function);
    }

    fn end_recovery(&mut self, function: Bdf, _: Instant) {
        self.recoveries[1].push(function);
    }

    fn fence_port(
        &mut self,
        function: Bdf,
        fence: PortFence,
        _: Instant,
    ) -> Option<RangeInclusive<u8>> {
        let bus = function.bus();
        (!self.has_no_fences).then(|| {
            self.fenced.push((bus, fence));
            bus..=bus
        })
    }

    fn unfence_port(&mut self, function: Bdf, fence: PortFence, _: Instant) {
        self.fenced.retain(|fenced| *fenced != (function.bus(), fence));
    }
}

struct Rig {
    host: HostSide,
    functions: Functions,
    recorder: Arc<Recorder>,
    now: Instant,
    /// Requests to functions that send no completion.
    unanswered: Vec<InvalidateRequest>,
}

impl Rig {
    fn new(policy: &str, ict: Timeout) -> Self {
        Self::with(policy, ict, Ordering::Serial)
    }

    fn with(policy: &str, ict: Timeout, ordering: Ordering) -> Self {
        Self::with_policy(policy.parse().unwrap(), ict, ordering)
    }

    fn with_policy(policy: Policy, ict: Timeout, ordering: Ordering) -> Self {
        let recorder = Arc::new(Recorder::default());
        let config = UnitConfig { ict, ordering, ..UnitConfig::new(UnitRole::Host) };
        let tracer = Tracer::to(recorder.clone());
        let host = HostSide::new(config, policy, tracer).unwrap();
        let (functions, now) = (Functions::default(), Instant::START);
        Self { host, functions, recorder, now, unanswered: Vec::new() }
    }

    /// The link of `function` goes down: there is no answer of any kind.
    fn drop_link(&mut self, function: Bdf) {
        self.functions.gone.insert(function);
        self.functions.mute.insert(function);
    }

    fn flush(&mut self, function: Bdf) {
        let itag = ITag::new(5);
        let range = PageRange::page(Iova(0x1000));
        let request =
            InvalidateRequest { destination: function, itag, pasid: None, global: false, range };
        self.host.submit(request, &mut self.functions, self.now);
        self.deliver();
    }

    fn deliver(&mut self) {
        while let Some(request) = self.host.poll_request() {
            if self.functions.mute.contains(&request.destination) {
                self.unanswered.push(request);
            } else {
                self.answer(request);
            }
        }
    }

    fn answer(&mut self, request: InvalidateRequest) {
        let completion = InvalidateCompletion {
            requester: request.destination,
            itag_vector: request.itag.bit(),
            completion_count: 1,
        };
        self.host.handle_completion(completion, &mut self.functions, self.now);
    }

    /// Lets time pass, and calls the host at each of its deadlines.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.host.poll_timeout().filter(|next| *next <= end) {
            self.now = next;
            self.host.handle_timeout(&mut self.functions, next);
            self.deliver();
        }
        self.now = end;
    }

    fn verdicts(&mut self) -> Vec<(Bdf, Verdict)> {
        let verdicts = std::iter::from_fn(|| self.host.poll_verdict());
        let function = |ended: &Conclusion| ended.flush.device_tlbs()[0].destination;
        verdicts.map(|ended| (function(&ended), ended.verdict)).collect()
    }

    fn submissions(&self) -> usize {
        let events = self.recorder.events();
        events.iter().filter(|timed| matches!(timed.event, Event::Submitted { .. })).count()
    }

    fn lockups(&self) -> Vec<LockupDetector> {
        let lockup = |event: &Event| match event {
            Event::HostLockup { detector, .. } => Some(*detector),
            _ => None,
        };
        self.recorder.events().iter().filter_map(|timed| lockup(&timed.event)).collect()
    }

    fn longest_wait(&self) -> Duration {
        let waited = |event: &Event| match event {
            Event::Verdict { waited, .. } => Some(*waited),
            _ => None,
        };
        let events = self.recorder.events();
        events.iter().filter_map(|timed| waited(&timed.event)).max().unwrap_or_default()
    }
}

#[test]
fn a_healthy_function_completes_at_once() {
    for policy in ["linux", "bounded:100ms", "amd", "present+bounded:100ms"] {
        let mut rig = Rig::new(policy, Timeout::Never);
        for _ in 0..1000 {
            rig.flush(VICTIM);
            assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)], "{policy}");
        }
    }
}

#[test]
fn a_scalable_unit_accepts_invalidations_with_and_without_pasid() {
    let mut rig = Rig::new("linux", Timeout::Never);
    let tracer = Tracer::to(rig.recorder.clone());
    let config = UnitConfig::full(UnitRole::Host);
    rig.host = HostSide::new(config, "linux".parse().unwrap(), tracer).unwrap();
    let (itag, range) = (ITag::new(0), PageRange::page(Iova(0x1000)));
    for (pasid, global) in [(None, false), (Some(Pasid::new(5)), false), (None, true)] {
        for _ in 0..300 {
            let request = InvalidateRequest { destination: VICTIM, itag, pasid, global, range };
            rig.host.submit(request, &mut rig.functions, rig.now);
            let sent = rig.host.poll_request().unwrap();
            assert_eq!((sent.pasid, sent.global, sent.range), (pasid, global, range));
            rig.answer(sent);
            assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)]);
        }
    }
}

#[test]
fn linux_waits_for_ever_without_a_unit_timeout() {
    let mut rig = Rig::new("linux", Timeout::Never);
    rig.drop_link(VICTIM);
    rig.flush(VICTIM);
    rig.pass(Duration::from_secs(365 * 86400));
    assert_eq!(rig.verdicts(), []);
    assert_eq!(rig.host.poll_timeout(), None);
    assert_eq!(rig.lockups(), [LockupDetector::Hard, LockupDetector::Soft]);
}

#[test]
fn linux_gives_up_when_ite_names_a_function_that_is_gone() {
    let mut rig = Rig::new("linux", Timeout::After(ICT));
    rig.drop_link(VICTIM);
    rig.flush(VICTIM);
    rig.pass(ICT);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::UnitTimedOut)]);
    assert_eq!(rig.longest_wait(), ICT);
}

#[test]
fn linux_submits_again_while_the_function_is_present_but_mute() {
    let mut rig = Rig::new("linux", Timeout::After(ICT));
    rig.functions.mute.insert(VICTIM);
    rig.flush(VICTIM);
    rig.pass(ICT * 10);
    assert_eq!(rig.verdicts(), []);
    assert_eq!(rig.submissions(), 11);
    rig.functions.mute.clear();
    rig.pass(ICT);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)]);
}

#[test]
fn a_bound_ends_the_wait_on_time() {
    for policy in ["bounded:100ms", "amd"] {
        let mut rig = Rig::new(policy, Timeout::After(ICT));
        rig.drop_link(VICTIM);
        rig.flush(VICTIM);
        rig.pass(BOUND - Duration::from_nanos(1));
        assert_eq!(rig.verdicts(), []);
        rig.pass(Duration::from_nanos(1));
        assert_eq!(rig.verdicts(), [(VICTIM, Verdict::DeadlinePassed)], "{policy}");
        assert_eq!(rig.longest_wait(), BOUND);
    }
}

#[test]
fn the_presence_check_skips_functions_that_are_gone_not_mute_ones() {
    let mut rig = Rig::new("present+bounded:100ms", Timeout::Never);
    rig.functions.mute.insert(VICTIM);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::DeadlinePassed)]);
    rig.drop_link(VICTIM);
    rig.flush(VICTIM);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Skipped)]);
}

#[test]
fn on_a_serial_unit_a_bound_fails_the_neighbor_until_the_unit_times_out() {
    let mut rig = Rig::new("bounded:100ms", Timeout::After(ICT));
    rig.drop_link(VICTIM);
    rig.flush(VICTIM);
    rig.flush(NEIGHBOR);
    rig.pass(BOUND);
    let both = [(VICTIM, Verdict::DeadlinePassed), (NEIGHBOR, Verdict::DeadlinePassed)];
    assert_eq!(rig.verdicts(), both);
    rig.pass(ICT);
    rig.flush(NEIGHBOR);
    let last = [(NEIGHBOR, Verdict::UnitTimedOut)];
    assert_eq!(rig.verdicts(), last, "as in Linux, the waiter that sees ITE gives up");
    rig.flush(NEIGHBOR);
    assert_eq!(rig.verdicts(), [(NEIGHBOR, Verdict::Completed)]);
}

#[test]
fn on_a_parallel_unit_the_neighbor_is_not_affected() {
    let mut rig = Rig::with("bounded:100ms", Timeout::After(ICT), Ordering::Parallel);
    rig.drop_link(VICTIM);
    rig.flush(VICTIM);
    rig.flush(NEIGHBOR);
    assert_eq!(rig.verdicts(), [(NEIGHBOR, Verdict::Completed)]);
}

#[test]
fn a_waiter_that_ite_has_aborted_submits_again() {
    let mut rig = Rig::new("linux", Timeout::After(ICT));
    rig.drop_link(VICTIM);
    rig.flush(VICTIM);
    rig.flush(NEIGHBOR);
    rig.pass(ICT);
    let verdicts = [(VICTIM, Verdict::UnitTimedOut), (NEIGHBOR, Verdict::Completed)];
    assert_eq!(rig.verdicts(), verdicts);
    assert_eq!(rig.submissions(), 3);
}

#[test]
fn a_full_ring_delays_callers_and_loses_none() {
    let mut rig = Rig::new("linux", Timeout::Never);
    rig.functions.mute.insert(VICTIM);
    for _ in 0..300 {
        rig.flush(VICTIM);
    }
    assert_eq!(rig.submissions(), 127, "256 slots, two each, one stays free");
    rig.functions.mute.clear();
    for request in std::mem::take(&mut rig.unanswered) {
        rig.answer(request);
        rig.deliver();
    }
    assert_eq!(rig.verdicts().len(), 300);
}

/// Gives up on the victim, and uses up the rest of the ring. The late answer comes while the wait
/// of a second mute function has the slot of the first one. Returns the verdicts, and the number of
/// false completions.
fn late_answer_hits_a_new_waiter(policy: Policy) -> (Vec<(Bdf, Verdict)>, u64) {
    let mut rig = Rig::with_policy(policy, Timeout::Never, Ordering::Parallel);
    rig.functions.mute.insert(VICTIM);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    for _ in 0..127 {
        rig.flush(NEIGHBOR);
    }
    rig.verdicts();
    rig.flush(VICTIM);
    let late = rig.unanswered[0];
    rig.answer(late);
    rig.pass(Duration::from_millis(1));
    (rig.verdicts(), rig.host.counters().false_completions)
}

#[test]
fn a_late_status_write_wakes_the_next_user_of_the_slot() {
    let woken = late_answer_hits_a_new_waiter("bounded:100ms".parse().unwrap());
    assert_eq!(woken, (vec![(VICTIM, Verdict::Completed)], 1), "a false completion (XSA-373)");
}

#[test]
fn a_late_status_write_of_a_lower_number_wakes_no_waiter() {
    assert_eq!(late_answer_hits_a_new_waiter("amd".parse().unwrap()), (Vec::new(), 0));
}

#[test]
fn a_leaked_status_word_is_reused_after_the_unit_has_written_it() {
    let recorder = Arc::new(Recorder::default());
    let mut policy: Policy = "bounded:100ms".parse().unwrap();
    policy.completion = crate::submit::Completion::Leak;
    let config = UnitConfig::new(UnitRole::Host);
    let host = HostSide::new(config, policy, Tracer::to(recorder.clone())).unwrap();
    let mut rig = Rig::new("linux", Timeout::Never);
    (rig.host, rig.recorder) = (host, recorder);
    rig.functions.mute.insert(VICTIM);
    for _ in 0..20 {
        rig.flush(VICTIM);
        rig.pass(BOUND);
    }
    assert_eq!(rig.verdicts().len(), 20);
    rig.flush(VICTIM);
    // All late answers come. Only the last one belongs to the new waiter.
    let late = std::mem::take(&mut rig.unanswered);
    let (own, late) = late.split_last().unwrap();
    for request in late {
        rig.answer(*request);
    }
    assert_eq!(rig.verdicts(), []);
    rig.answer(*own);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)]);
}

#[test]
fn a_loop_that_resets_the_watchdog_is_not_reported() {
    let mut policy: Policy = "linux".parse().unwrap();
    policy.watchdog = true;
    let mut rig = Rig::new("linux", Timeout::Never);
    let tracer = Tracer::to(rig.recorder.clone());
    rig.host = HostSide::new(UnitConfig::new(UnitRole::Host), policy, tracer).unwrap();
    rig.functions.mute.insert(VICTIM);
    rig.flush(VICTIM);
    rig.pass(Duration::from_secs(100));
    assert_eq!(rig.lockups(), []);
}

#[test]
fn retries_come_before_the_failure() {
    let mut policy: Policy = "bounded:100ms".parse().unwrap();
    policy.on_timeout = crate::submit::OnTimeout::Retry(2);
    let mut rig = Rig::new("linux", Timeout::Never);
    let tracer = Tracer::to(rig.recorder.clone());
    rig.host = HostSide::new(UnitConfig::new(UnitRole::Host), policy, tracer).unwrap();
    rig.functions.mute.insert(VICTIM);
    rig.flush(VICTIM);
    rig.pass(BOUND * 3);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::DeadlinePassed)]);
    assert_eq!(rig.submissions(), 3);
    assert_eq!(rig.longest_wait(), BOUND * 3);
}

#[test]
fn timer_entries_do_not_grow_with_finished_calls() {
    let mut rig = Rig::new("late-removal", Timeout::Never);
    rig.functions.mute.insert(VICTIM);
    rig.functions.disconnected.insert(NEIGHBOR);
    rig.flush(VICTIM);
    for _ in 0..10_000 {
        rig.flush(NEIGHBOR);
    }
    assert_eq!(rig.verdicts().len(), 10_000, "all of the neighbor's are skipped");
    let kept = rig.host.submitter.timer_entries();
    assert!(kept < 200, "one waits, and {kept} entries are kept");
}
