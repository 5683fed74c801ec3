//! Fences: when they complete, which callers they release, and how quarantine ends.

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::ats::{Access, AddressType, DmaRequest};
use crate::spec::tables::{ContextHigh, ContextLow, RootEntry};

fn mute(policy: &str, ict: Timeout, ordering: Ordering) -> Rig {
    let mut rig = Rig::with(policy, ict, ordering);
    rig.functions.mute.insert(VICTIM);
    rig
}

fn count(rig: &Rig, matches: impl Fn(&Event) -> bool) -> usize {
    rig.recorder.events().iter().filter(|timed| matches(&timed.event)).count()
}

#[test]
fn a_parallel_unit_confirms_the_fence_at_once() {
    let mut rig = mute("quarantine:100ms", Timeout::Never, Ordering::Parallel);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Quarantined)]);
    let done = |event: &Event| {
        matches!(event, Event::Quarantined { function: VICTIM, waited: Duration::ZERO })
    };
    assert_eq!(count(&rig, done), 1);
    assert!(rig.host.is_blocked(VICTIM) && !rig.host.is_blocked(NEIGHBOR));
}

#[test]
fn a_serial_unit_without_a_timeout_never_confirms_the_fence() {
    let mut rig = mute("quarantine:100ms", Timeout::Never, Ordering::Serial);
    rig.flush(VICTIM);
    rig.flush(NEIGHBOR);
    rig.pass(Duration::from_secs(1000));
    assert_eq!(rig.verdicts(), []);
    assert!(!rig.host.is_blocked(VICTIM), "the fence is not complete");
    assert_eq!(rig.lockups().len(), 4, "both CPUs are stuck");
}

#[test]
fn a_caller_behind_a_mute_function_is_not_quarantined() {
    let mut rig = mute("quarantine:100ms", Timeout::After(ICT), Ordering::Serial);
    rig.flush(VICTIM);
    rig.flush(NEIGHBOR);
    rig.pass(ICT);
    let verdicts = [(NEIGHBOR, Verdict::Completed), (VICTIM, Verdict::Quarantined)];
    assert_eq!(rig.verdicts(), verdicts);
    assert!(!rig.host.is_blocked(NEIGHBOR));
}

#[test]
fn a_posted_fence_quarantines_the_neighbor_on_a_serial_unit() {
    let mut rig = mute("quarantine-posted:100ms", Timeout::After(ICT), Ordering::Serial);
    rig.flush(VICTIM);
    rig.flush(NEIGHBOR);
    rig.pass(BOUND * 3);
    assert!(rig.host.is_blocked(VICTIM) && rig.host.is_blocked(NEIGHBOR));
}

#[test]
fn ite_quarantines_the_function_in_itesid() {
    let ict = Duration::from_millis(50);
    let mut rig = mute("quarantine:100ms", Timeout::After(ict), Ordering::Serial);
    rig.flush(VICTIM);
    rig.flush(NEIGHBOR);
    rig.pass(ict);
    let verdicts = [(VICTIM, Verdict::Quarantined), (NEIGHBOR, Verdict::Completed)];
    assert_eq!(rig.verdicts(), verdicts);
}

#[test]
fn callers_during_the_fence_wait_for_it() {
    let mut rig = mute("quarantine:100ms", Timeout::After(ICT), Ordering::Serial);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    rig.flush(VICTIM);
    let submissions = rig.submissions();
    rig.pass(ICT);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Quarantined); 2]);
    assert_eq!(rig.submissions(), submissions, "the function gets no further request");
}

#[test]
fn many_mute_functions_are_fenced_one_after_the_other() {
    let mut rig = mute("quarantine:100ms", Timeout::Never, Ordering::Parallel);
    rig.functions.mute.insert(NEIGHBOR);
    rig.flush(VICTIM);
    rig.flush(NEIGHBOR);
    rig.pass(BOUND);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Quarantined)]);
    rig.pass(BOUND);
    assert_eq!(rig.verdicts(), [(NEIGHBOR, Verdict::Quarantined)]);
}

#[test]
fn an_ite_for_a_request_before_the_reset_is_ignored() {
    let mut rig = mute("quarantine:100ms", Timeout::After(ICT), Ordering::Parallel);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    assert!(rig.host.is_blocked(VICTIM));
    rig.functions.mute.clear();
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    // The unit still holds the old request, which times out. The next waiter sees the ITE.
    rig.pass(ICT);
    rig.flush(VICTIM);
    let verdicts = [(VICTIM, Verdict::Quarantined), (VICTIM, Verdict::Completed)];
    assert_eq!(rig.verdicts(), verdicts);
    assert!(!rig.host.is_isolated(VICTIM));
}

#[test]
fn a_reset_during_the_fence_resubmits_its_callers() {
    let mut rig = mute("quarantine:100ms", Timeout::After(ICT), Ordering::Serial);
    rig.flush(VICTIM);
    rig.pass(BOUND);
    assert!(rig.host.is_isolated(VICTIM) && !rig.host.is_blocked(VICTIM));
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    assert!(!rig.host.is_isolated(VICTIM));
    assert_eq!(rig.submissions(), 2);
}

#[test]
fn a_reset_during_the_fence_restarts_other_deadlines() {
    let mut rig = mute("quarantine:100ms", Timeout::After(ICT), Ordering::Serial);
    rig.flush(VICTIM);
    rig.flush(NEIGHBOR);
    rig.pass(BOUND * 5);
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    assert!(!rig.host.is_isolated(NEIGHBOR), "its deadline did not count");
}

#[test]
fn one_ite_may_stand_for_several_requests() {
    let mut rig = mute("quarantine:100ms", Timeout::After(ICT), Ordering::Serial);
    rig.flush(VICTIM);
    rig.flush(VICTIM);
    rig.pass(ICT);
    assert!(rig.host.is_blocked(VICTIM));
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    // The function is still mute: the unit now times out a new request.
    rig.flush(VICTIM);
    rig.pass(ICT * 2);
    assert!(rig.host.is_blocked(VICTIM));
}

/// A host whose tables have one context entry, which is pass-through.
fn with_tables() -> (HostSide, Memory) {
    let memory = Memory::from_ranges(&[(GuestAddress(0), 8 * PAGE_SIZE as usize)]).unwrap();
    let config = UnitConfig { ordering: Ordering::Parallel, ..UnitConfig::new(UnitRole::Host) };
    let policy = "quarantine:100ms".parse().unwrap();
    let host = HostSide::with_memory(config, policy, memory.clone(), Tracer::none());
    let table = HostSide::MEMORY;
    let root = RootEntry::new().with_present(true).with_page(table / PAGE_SIZE);
    let low = ContextLow::new().with_present(true).with_translation_type(2);
    let width = config.address_widths.max_levels() - 2;
    let high = ContextHigh::new().with_width(width).with_domain(7);
    let poke = |address, value: u64| memory.write_obj(value, GuestAddress(address)).unwrap();
    poke(u64::from(VICTIM.bus()) * 16, root.into_bits());
    poke(table + u64::from(VICTIM.devfn()) * 16, low.into_bits());
    poke(table + u64::from(VICTIM.devfn()) * 16 + 8, high.into_bits());
    (host, memory)
}

#[test]
fn the_unit_blocks_a_function_in_its_tables() {
    let (host, memory) = with_tables();
    let mut rig = mute("linux", Timeout::Never, Ordering::Parallel);
    rig.host = host;
    let request = DmaRequest {
        requester: VICTIM,
        pasid: None,
        privileged: false,
        address: Iova(0x5000),
        address_type: AddressType::Untranslated,
        access: Access::Write,
    };
    let dma = |rig: &mut Rig| rig.host.dma_path().0.dma(&request, &memory, rig.now).is_ok();
    assert!(dma(&mut rig), "and the context entry is cached now");
    rig.flush(VICTIM);
    rig.pass(BOUND);
    assert!(!dma(&mut rig));
    rig.host.handle_reset(VICTIM, &mut rig.functions, rig.now);
    assert!(dma(&mut rig), "the context entry is as it was");
}
