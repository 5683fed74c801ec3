//! Back pressure, with 64 CPUs on each of two devices.

use std::time::Duration;

use iommu::time::Timeout;
use iommu::unit::Ordering;

use super::*;
use crate::properties::Properties;

fn simulate(policy: &str, fault: &str, ordering: Ordering, ict: u64, horizon: u64) -> RunResult {
    let id = format!("{policy}/{fault}/strict/1");
    let mut spec = Catalog::default().spec(&id.parse().unwrap()).unwrap();
    spec.workload.cpus = 128;
    spec.unit.ordering = ordering;
    spec.unit.ict = Timeout::After(Duration::from_secs(ict));
    spec.horizon = Duration::from_secs(horizon);
    run(&spec, &Tracer::none()).unwrap()
}

fn properties(result: &RunResult) -> String {
    Properties::of(result, Properties::WITHIN).letters()
}

/// Without a limit the lock multiplies the bound, and when the victim has no ITag left, the unit
/// fetches no more: the healthy neighbor is never asked, and does stale DMA.
#[test]
fn a_bound_holds_behind_a_lost_link() {
    for (ordering, ict) in [(Ordering::Serial, 20), (Ordering::Parallel, 90)] {
        let without = simulate("bounded:100ms", "silent", ordering, ict, 40);
        assert!(without.stale_accesses > 0, "{ordering}: {}", without.stale_accesses);
        assert!(without.interrupts_off.max() > Duration::from_secs(4), "{ordering}");
        let with = simulate("bounded+in-flight:100ms", "silent", ordering, ict, 40);
        assert_eq!(&properties(&with)[..2], "LS", "{ordering}");
        assert!(with.interrupts_off.max() < Duration::from_millis(410), "{ordering}");
        assert!(with.told.withheld.held > 0 && with.host.held_back == 0, "{ordering}");
    }
}

/// Each round of FLR, time-out and fence costs an ITag of the victim, until the unit does not fetch
/// the next fence.
#[test]
fn a_quarantine_holds_on_a_unit_that_completes_out_of_order() {
    for fault in ["ignore-invalidate", "late"] {
        let without = simulate("quarantine:100ms", fault, Ordering::Parallel, 90, 200);
        let with = simulate("quarantine+in-flight:100ms", fault, Ordering::Parallel, 90, 200);
        assert_eq!(properties(&with), "LSF", "{fault}");
        assert!(with.interrupts_off.max() < Duration::from_millis(500), "{fault}");
        assert!(!Properties::of(&without, Properties::WITHIN).live, "{fault}");
    }
}

/// What is not asked keeps what it should drop: back pressure is no fence.
#[test]
fn back_pressure_makes_a_bound_without_a_fence_worse_for_a_slow_device() {
    let stale = |policy| simulate(policy, "late", Ordering::Parallel, 90, 40).stale_accesses;
    assert!(stale("bounded+in-flight:100ms") > stale("bounded:100ms"));
}
