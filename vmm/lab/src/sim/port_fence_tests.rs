//! Fences at ports, which stand in no queue.

use std::time::Duration;

use iommu::submit::PortFence;
use iommu::time::Timeout;
use iommu::unit::Ordering;

use super::*;
use crate::properties::Properties;

fn spec(policy: &str, fault: &str, ordering: Ordering) -> RunSpec {
    let id = format!("{policy}/{fault}/strict/1");
    let mut spec = Catalog::default().spec(&id.parse().unwrap()).unwrap();
    spec.unit.ordering = ordering;
    spec
}

fn properties(spec: &RunSpec) -> (String, RunResult) {
    let result = run(spec, &Tracer::none()).unwrap();
    (Properties::of(&result, Properties::WITHIN).letters(), result)
}

#[test]
fn a_fence_at_the_port_is_live_safe_and_fair_in_both_orders() {
    for ordering in [Ordering::Serial, Ordering::Parallel] {
        for fence in PortFence::ALL {
            for fault in ["silent", "ignore-invalidate", "ignore-invalidate:30s", "late", "flap"] {
                let (letters, result) = properties(&spec(fence.word(), fault, ordering));
                assert_eq!(letters, "LSF", "{fence} {fault} {ordering}");
                assert!(
                    result.interrupts_off.max() <= Duration::from_millis(400),
                    "{fence} {fault}"
                );
            }
        }
    }
}

#[test]
fn it_holds_with_64_cpus_on_each_device() {
    for ordering in [Ordering::Serial, Ordering::Parallel] {
        let mut spec = spec("block-translation", "ignore-invalidate", ordering);
        spec.workload.cpus = 128;
        spec.unit.ict = Timeout::After(Duration::from_secs(20));
        spec.horizon = Duration::from_secs(60);
        let (letters, result) = properties(&spec);
        assert_eq!(letters, "LSF", "{ordering}");
        assert!(result.interrupts_off.max() < Duration::from_millis(800), "{ordering}");
    }
}

/// What stands behind the mute device's request is not fetched: neither the device nor the port is in
/// the way, and no fence helps.
#[test]
fn it_does_not_help_the_neighbor_on_a_unit_that_does_not_fetch_beyond_a_pending_wait() {
    for fence in PortFence::ALL {
        let (_, result) = properties(&spec(fence.word(), "ignore-invalidate", Ordering::Blocking));
        assert!(result.stale_innocent > 0, "{fence}");
    }
}

/// Hot-plug takes a link that the host has disabled for a device that is gone. DPC's handler ends the
/// containment, and the device works again.
#[test]
fn a_disabled_link_costs_the_device_and_the_others_a_reset() {
    for (fence, works) in [
        (PortFence::LinkDisable, false),
        (PortFence::Dpc, true),
        (PortFence::BusMasterOff, true),
        (PortFence::BlockTranslation, true),
    ] {
        let spec = spec(fence.word(), "ignore-invalidate:30s", Ordering::Parallel);
        let (_, result) = properties(&spec);
        assert_eq!(result.recovered, 1, "{fence}: it works, or its driver has let it go");
        assert_eq!(result.completed_io > 150, works, "{fence}: {}", result.completed_io);
    }
}
