//! Resets of devices whose users go on unmapping.

use std::sync::Arc;
use std::time::Duration;

use iommu::event::{Event, Recorder};
use iommu::unit::Ordering;

use super::*;

/// Devices that ignore Invalidate Requests for 100 ms after a reset, as PCIe 10.3.1 has it.
const MUTE_IN_RESET: &str = "at=100us,mode=slow-reset:100ms";

fn spec(policy: &str, fault: &str, has_prepare: bool) -> RunSpec {
    let mut spec = Catalog::default().spec(&"linux/none/reset/1".parse().unwrap()).unwrap();
    spec.policy = policy.parse().unwrap();
    spec.policy.reset_prepare = has_prepare;
    spec.fault.fault = (!fault.is_empty()).then(|| fault.parse().unwrap());
    spec
}

fn simulate(spec: &RunSpec) -> RunResult {
    run(spec, &Tracer::none()).unwrap()
}

#[test]
fn a_device_that_ignores_invalidations_while_it_is_reset_stops_linux_before_7_0() {
    let [before, since] = [false, true].map(|has_prepare| {
        let mut results = (1..=5).map(|seed| {
            let mut spec = spec("linux-7.0-unmap", MUTE_IN_RESET, has_prepare);
            spec.seed = seed;
            simulate(&spec)
        });
        let first = results.next().unwrap();
        results.fold(first, |mut all, one| {
            all.merge(&one);
            all
        })
    });
    assert!(before.hard_lockups > 0 && before.told.blocked == Answers::default());
    assert_eq!((since.hard_lockups, since.lost, since.never_returned), (0, 0, 0));
    assert!(since.told.blocked.dropped + since.told.blocked.held > 10, "users unmapped meanwhile");
    assert!(since.stuck.max().max(since.innocent.max()) < Duration::from_millis(1));
    assert_eq!((before.stale_accesses, since.stale_accesses), (0, 0));
}

#[test]
fn a_healthy_device_is_reset_again_and_again_and_works() {
    for has_prepare in [false, true] {
        let spec = spec("linux-7.0-unmap", "", has_prepare);
        let recorder = Arc::new(Recorder::default());
        let result = run(&spec, &Tracer::to(recorder.clone())).unwrap();
        let count = |wanted: fn(&Event) -> bool| {
            recorder.events().iter().filter(|it| wanted(&it.event)).count()
        };
        let resets = count(|event| matches!(event, Event::DriverReset { .. }));
        assert!(resets >= 2 * 20, "{resets}");
        let blocks = count(|event| matches!(event, Event::ResetBlockBegan { .. }));
        let ends = count(|event| matches!(event, Event::ResetBlockEnded { .. }));
        assert_eq!((blocks, ends), if has_prepare { (resets, resets) } else { (0, 0) });
        assert_eq!(result.reset_waits.count(), if has_prepare { resets as u64 } else { 0 });
        assert!(result.completed_io > 500, "{}", result.completed_io);
        assert_eq!(
            (result.stale_accesses, result.never_returned, result.healthy.harms()),
            (0, 0, 0)
        );
    }
}

#[test]
fn prepare_waits_for_a_device_that_is_mute() {
    let spec = spec("linux-7.0-reset", "after=requests:20,mode=ignore-invalidate", true);
    let result = simulate(&spec);
    assert!(result.hard_lockups > 0 && result.never_returned > 0);
}

#[test]
fn other_workloads_reset_with_prepare_too() {
    for workload in ["detach", "strict"] {
        let id = format!("bounded:100ms/flap/{workload}/1");
        let mut spec = Catalog::default().spec(&id.parse().unwrap()).unwrap();
        spec.unit.ordering = Ordering::Parallel;
        let [without, with] = [false, true].map(|has_prepare| {
            spec.policy.reset_prepare = has_prepare;
            simulate(&spec)
        });
        assert_eq!(
            (without.reset_waits.count(), with.reset_waits.count() > 0),
            (0, true),
            "{workload}"
        );
        assert_eq!(with.recovered, without.recovered, "{workload}");
        assert_eq!((with.stale_accesses, with.never_returned), (0, 0), "{workload}");
    }
}

/// Many runs become one: no verdict is lost.
#[test]
fn verdicts_of_all_kinds_are_merged() {
    let mut one = Told::default();
    for (verdict, _) in Told::default().all() {
        one.count(verdict, true);
        one.count(verdict, false);
    }
    let result = RunResult { told: one, ..RunResult::default() };
    let mut all = result.clone();
    all.merge(&result);
    for (verdict, answers) in all.told.all() {
        assert_eq!((answers.dropped, answers.held), (2, 2), "{verdict:?}");
    }
}
