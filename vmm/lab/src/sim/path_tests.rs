//! Presets on their paths in the kernel, and what other systems do after a time-out.

use std::sync::Arc;
use std::time::Duration;

use iommu::event::{Event, Recorder, TimedEvent};
use iommu::submit::LockScope;
use iommu::time::{Instant, Timeout};

use super::*;

fn spec(id: &str) -> RunSpec {
    Catalog::default().spec(&id.parse().unwrap()).unwrap()
}

fn simulate(id: &str) -> RunResult {
    run(&spec(id), &Tracer::none()).unwrap()
}

fn record(spec: &RunSpec) -> (Vec<TimedEvent>, RunResult) {
    let recorder = Arc::new(Recorder::default());
    let result = run(spec, &Tracer::to(recorder.clone())).unwrap();
    (recorder.events(), result)
}

#[test]
fn linux_7_0_looks_at_a_device_where_it_lets_it_go_and_not_where_it_unmaps() {
    let checks = |id: &str| simulate(id).host.presence_checks;
    assert_eq!(checks("linux-7.0/none/strict/1"), 0);
    assert!(checks("linux-7.0/none/teardown/1") > 20);
    assert!(checks("present+bounded:100ms/none/strict/1") > 20);
    let told = |id: &str| simulate(id).told.skipped;
    let removed = told("linux-7.0/surprise/teardown/1");
    assert!(removed.held + removed.dropped > 0, "the driver lets the device go: a teardown");
}

#[test]
fn a_check_costs_its_time_on_the_path_that_has_it() {
    let median = |id: &str| simulate(id).stuck.max().max(simulate(id).innocent.max());
    let check = Costs::default().presence_check;
    assert!(median("linux-7.0/none/strict/1") < check);
    assert!(median("linux-7.0/none/teardown/1") >= check);
}

#[test]
fn the_walk_of_linux_6_12_may_stop_the_whole_unit() {
    // Three slots an unmap: IQT is odd at every other ITE.
    let dead = |policy: &str| {
        let run = |seed: u64| record(&spec(&format!("{policy}/silent/victim/{seed}"))).0;
        let events = (0..8).flat_map(run);
        events.filter(|it| matches!(it.event, Event::HostWalkHasNoEnd { .. })).count()
    };
    assert!(dead("linux-6.12-unmap") > 0);
    assert_eq!((dead("linux-6.9-unmap"), dead("linux-7.0-unmap")), (0, 0));
}

#[test]
fn a_device_without_ats_goes_on_working_and_reaches_nothing_stale() {
    let mut quick = spec("riscv-ats-broken/ignore-invalidate/strict/1");
    quick.policy.deadline = Timeout::After(Duration::from_millis(100));
    let (events, result) = record(&quick);
    let off = events.iter().find(|it| matches!(it.event, Event::AtsDisabledByHost { .. })).unwrap();
    let late = |at: Instant| at > off.at + Duration::from_secs(1);
    let dma = |it: &&TimedEvent| matches!(it.event, Event::Dma { .. });
    assert!(events.iter().filter(|it| late(it.at)).filter(dma).count() > 10);
    assert_eq!((result.stale_accesses, result.recovered), (0, 1));
}

#[test]
fn no_io_begins_in_a_domain_that_was_crashed() {
    let (events, result) = record(&spec("xen-4.15/no-completion/victim/1"));
    let crashed = result.told.crashed;
    assert!(crashed.held + crashed.dropped >= 2, "the innocent one too, after 1 ms");
    assert_eq!((result.recovered, result.never_returned), (0, 0));
    let io = |it: &&TimedEvent| matches!(it.event, Event::CpuBlocked { .. });
    let last = events.iter().filter(io).map(|it| it.at).max().unwrap();
    assert!(last < Instant::START + Duration::from_secs(40), "{last:?}");
}

#[test]
fn the_scope_of_the_lock_decides_how_bounds_add_up() {
    let longest = |lock| {
        let mut spec = spec("bounded:100ms/no-completion/strict/1");
        (spec.policy.lock, spec.workload.cpus) = (lock, 16);
        let result = run(&spec, &Tracer::none()).unwrap();
        result.stuck.max().max(result.innocent.max()).as_millis()
    };
    let [none, domain, unit] = [LockScope::None, LockScope::Domain, LockScope::Unit].map(longest);
    assert!((100..110).contains(&none), "{none}");
    assert!(domain >= 700 && unit > domain, "{domain} {unit}");
}
