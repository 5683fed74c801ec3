//! The three properties that a policy should have: *live*, *safe* and *fair*.
//!
//! Each is a function of measurements, so that it can be asked of a run and of the sum of many.

use std::time::Duration;

use crate::sim::RunResult;

/// Which properties a run has, or all runs of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Properties {
    /// No lock-up detector triggers, and every caller goes on within the stated time.
    pub live: bool,
    /// No device reaches a page that it should not reach any more, and no waiter takes the status
    /// write for another as its own.
    pub safe: bool,
    /// No healthy device is fenced, reset, removed, kept from working, or left without ATS.
    pub fair: bool,
}

impl Properties {
    /// The stated time if none is given: that of the hard lock-up detector.
    pub const WITHIN: Duration = Duration::from_secs(10);

    /// The properties of `result`, where callers are to go on within `within`.
    pub fn of(result: &RunResult, within: Duration) -> Self {
        let waits = [&result.stuck, &result.innocent, &result.irq_moves, &result.waiting];
        let lockups = result.hard_lockups + result.soft_lockups;
        Self {
            live: lockups == 0 && waits.iter().all(|waits| waits.max() <= within),
            safe: result.stale_accesses == 0 && result.host.false_completions == 0,
            fair: result.healthy.harms() == 0,
        }
    }

    /// Whether all three hold.
    pub const fn all(self) -> bool {
        self.live && self.safe && self.fair
    }

    /// Those that hold here and in `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            live: self.live && other.live,
            safe: self.safe && other.safe,
            fair: self.fair && other.fair,
        }
    }

    /// The properties by their letters: `LSF` if all hold, `L--` if only the first does.
    pub fn letters(self) -> String {
        let letters = [(self.live, 'L'), (self.safe, 'S'), (self.fair, 'F')];
        letters.into_iter().map(|(holds, letter)| if holds { letter } else { '-' }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{self, Catalog, Healthy};
    use iommu::event::Tracer;
    use iommu::unit::Ordering;

    fn simulate(id: &str, ordering: Ordering) -> RunResult {
        let mut spec = Catalog::default().spec(&id.parse().unwrap()).unwrap();
        spec.unit.ordering = ordering;
        sim::run(&spec, &Tracer::none()).unwrap()
    }

    fn properties(id: &str, ordering: Ordering) -> String {
        Properties::of(&simulate(id, ordering), Properties::WITHIN).letters()
    }

    #[test]
    fn a_healthy_machine_has_all_of_them_under_every_policy() {
        for policy in ["linux", "bounded:100ms", "quarantine:100ms", "flr:100ms", "amd"] {
            for workload in ["strict", "teardown", "detach", "lazy"] {
                let id = format!("{policy}/none/{workload}/1");
                let result = simulate(&id, Ordering::Serial);
                assert!(Properties::of(&result, Properties::WITHIN).all(), "{id}");
                assert_eq!(result.healthy.devices, 2, "{id}");
                assert_eq!(result.exposure.count(), 0, "{id}");
            }
        }
    }

    #[test]
    fn each_property_can_be_lost_alone() {
        let serial = Ordering::Serial;
        assert_eq!(properties("linux/ignore-invalidate/victim/1", serial), "-SF");
        assert_eq!(properties("bounded:100ms/ignore-invalidate/strict/1", serial), "L-F");
        let parallel = Ordering::Parallel;
        assert_eq!(properties("quarantine:100ms/ignore-invalidate/strict/1", parallel), "LSF");
    }

    #[test]
    fn a_caller_that_comes_back_late_is_not_live_without_any_lockup() {
        let result = simulate("bounded:100ms/silent/strict/1", Ordering::Serial);
        let within = |millis| Properties::of(&result, Duration::from_millis(millis)).live;
        assert_eq!((within(150), within(250)), (false, true), "{:?}", result.stuck.max());
    }

    #[test]
    fn a_caller_that_still_waits_counts_as_one_that_comes_back_late() {
        let mut result = RunResult::default();
        result.waiting.record(Duration::from_secs(3));
        assert!(Properties::of(&result, Duration::from_secs(3)).live);
        assert!(!Properties::of(&result, Duration::from_secs(2)).live);
    }

    #[test]
    fn on_a_serial_unit_innocent_devices_are_isolated_behind_a_mute_one() {
        for (policy, harm) in [
            ("quarantine-posted:100ms", |healthy: Healthy| healthy.fenced),
            ("late-removal:100ms", |healthy: Healthy| healthy.removed),
            ("flr:100ms", |healthy: Healthy| healthy.reset),
        ] as [(&str, fn(Healthy) -> u64); 3]
        {
            let harmed = |ordering| {
                let run =
                    |seed| simulate(&format!("{policy}/ignore-invalidate/strict/{seed}"), ordering);
                (0..4).map(|seed| harm(run(seed).healthy)).sum::<u64>()
            };
            assert!(harmed(Ordering::Serial) > 0, "{policy}");
        }
    }

    #[test]
    fn exposure_lasts_until_the_translation_is_gone_or_blocked() {
        let bounded = simulate("bounded:100ms/ignore-invalidate/strict/1", Ordering::Serial);
        assert!(bounded.exposure.max() > Duration::from_secs(10), "{:?}", bounded.exposure.max());
        assert!(bounded.stale_stuck() > 0, "{bounded:?}");
        let gone = simulate("bounded:100ms/silent/strict/1", Ordering::Serial);
        assert_eq!(gone.exposure.count(), 0, "the link is down");
        let fenced = simulate("quarantine:100ms/ignore-invalidate/strict/1", Ordering::Parallel);
        assert_eq!(fenced.exposure.count(), 0, "the unit blocks the device");
        let passes = simulate("bounded:100ms/ignore-invalidate:30s/strict/1", Ordering::Serial);
        assert!(passes.exposure.max() < bounded.exposure.max(), "{:?}", passes.exposure.max());
    }

    #[test]
    fn results_of_before_are_read_without_the_new_measurements() {
        let result = simulate("linux/none/victim/1", Ordering::Serial);
        let mut json = serde_json::to_value(&result).unwrap();
        let keys = ["interrupts_off_one_cpu", "stale_innocent", "exposure", "healthy"];
        for key in keys {
            assert!(json.as_object_mut().unwrap().remove(key).is_some(), "{key}");
        }
        let read: RunResult = serde_json::from_value(json).unwrap();
        assert_eq!((read.healthy.devices, read.completed_io), (0, result.completed_io));
    }

    #[test]
    fn one_cpu_cannot_have_had_interrupts_off_for_longer_than_all_together() {
        let result = simulate("bounded:100ms/silent/strict/1", Ordering::Serial);
        let (one, all) = (result.interrupts_off_one_cpu, result.interrupts_off.sum());
        assert!(one >= result.interrupts_off.max() && one <= all, "{one:?} {all:?}");
    }
}
