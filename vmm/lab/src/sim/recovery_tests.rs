//! Recovery by a worker, while callers go on.

use std::time::Duration;

use iommu::unit::Ordering;

use super::*;
use crate::properties::Properties;

fn simulate(policy: &str, fault: &str, ordering: Ordering) -> RunResult {
    let id = format!("{policy}/{fault}/strict/1");
    let mut spec = Catalog::default().spec(&id.parse().unwrap()).unwrap();
    spec.unit.ordering = ordering;
    run(&spec, &Tracer::none()).unwrap()
}

#[test]
fn a_device_that_is_present_uses_stale_translations_until_the_worker_runs() {
    let result = simulate("recover", "ignore-invalidate:30s", Ordering::Parallel);
    assert!(result.stale_accesses > 0 && result.stale_age <= Duration::from_millis(1));
    assert_eq!(result.recovered, 1, "it works after its reset");
    assert!(result.interrupts_off.max() < Duration::from_millis(101));
}

#[test]
fn a_device_that_is_gone_stays_blocked() {
    let result = simulate("recover", "silent", Ordering::Parallel);
    assert_eq!(Properties::of(&result, Properties::WITHIN).letters(), "LSF");
    assert_eq!(result.recovered, 0);
}

#[test]
fn on_a_serial_unit_the_neighbor_is_reset_too() {
    let result = simulate("recover", "ignore-invalidate", Ordering::Serial);
    assert_eq!(result.healthy.reset, 1);
}
