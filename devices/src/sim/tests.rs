//! Runs whose outcome is known.

use std::sync::Arc;
use std::time::Duration;

use iommu::event::Recorder;
use iommu::time::Timeout;

use super::*;

fn spec(id: &str) -> RunSpec {
    Catalog::default().spec(&id.parse().unwrap()).unwrap()
}

fn simulate(id: &str) -> RunResult {
    run(&spec(id), &Tracer::none()).unwrap()
}

#[test]
fn a_healthy_machine_waits_for_microseconds_and_nothing_is_stale() {
    for policy in Catalog::default().policies {
        let result = simulate(&format!("{policy}/none/strict/1"));
        assert!(result.completed_io > 4 * 32, "{policy}");
        assert!(result.interrupts_off.max() < Duration::from_millis(1), "{policy}");
        assert_eq!((result.stale_accesses, result.never_returned), (0, 0), "{policy}");
        assert_eq!(result.told.completed.held, 0, "{policy}");
    }
}

#[test]
fn without_any_bound_a_silent_link_loss_locks_the_cpu_up_to_the_horizon() {
    let mut spec = spec("linux/silent/strict/1");
    spec.unit.ict = Timeout::Never;
    let result = run(&spec, &Tracer::none()).unwrap();
    assert!(result.never_returned >= 1);
    assert!(result.hard_lockups >= 1 && result.soft_lockups >= 1);
    assert!(result.interrupts_off.max() > Duration::from_secs(190));
}

#[test]
fn a_bound_without_a_fence_leaves_stale_translations_in_use() {
    let result = simulate("bounded:100ms/hang/strict/1");
    assert!(result.stale_accesses > 0 && result.told.deadline_passed.held > 0);
    assert_eq!((result.never_returned, result.hard_lockups), (0, 0));
}

#[test]
fn a_quarantine_keeps_stale_translations_from_being_used() {
    let result = simulate("quarantine:100ms/hang/strict/1");
    assert_eq!(result.stale_accesses, 0);
    assert!(result.told.quarantined.held > 0, "the ATC still holds them");
}

#[test]
fn the_same_spec_gives_the_same_events_and_the_same_result() {
    for id in
        ["linux/hang/strict/7", "bounded:100ms/slow/victim/7", "quarantine:100ms/lossy/strict/7"]
    {
        let record = || {
            let recorder = Arc::new(Recorder::default());
            let result = run(&spec(id), &Tracer::to(recorder.clone())).unwrap();
            (recorder.events(), result)
        };
        let (first, second) = (record(), record());
        assert!(first.0.len() > 100 && first == second, "{id}");
        assert_eq!(first.1, simulate(id), "with and without a sink: {id}");
    }
}
