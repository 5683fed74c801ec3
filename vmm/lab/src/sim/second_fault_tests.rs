//! Two devices that have failed, and devices that lose their ATS.

use iommu::submit::{Completion, OnTimeout};
use iommu::unit::Ordering;

use super::*;
use crate::properties::Properties;

const MUTE: &str = "after=requests:20,mode=ignore-invalidate";

fn simulate(policy: &str, second: Option<&str>) -> RunResult {
    let id = format!("{policy}/ignore-invalidate/strict/1");
    let mut spec = Catalog::default().spec(&id.parse().unwrap()).unwrap();
    spec.unit.ordering = Ordering::Parallel;
    spec.fault.second = second.map(|text| text.parse().unwrap());
    run(&spec, &Tracer::none()).unwrap()
}

#[test]
fn a_second_device_that_is_mute_is_no_healthy_one() {
    let second = format!("{MUTE},port=rp1");
    let [one, two] = [None, Some(second.as_str())].map(|it| simulate("quarantine:100ms", it));
    assert_eq!((one.healthy.devices, two.healthy.devices), (1, 0));
    assert_eq!(one.time_to_quarantine.count(), 1);
    assert_eq!(two.time_to_quarantine.count(), 2, "both are fenced");
    assert_eq!(Properties::of(&two, Properties::WITHIN).letters(), "LSF");
}

#[test]
fn a_healthy_device_that_loses_its_ats_is_harmed() {
    let letters = |ordering| {
        let id = "bounded:100ms/ignore-invalidate/victim/1";
        let mut spec = Catalog::default().spec(&id.parse().unwrap()).unwrap();
        spec.policy.on_timeout = OnTimeout::DisableAts;
        spec.policy.completion = Completion::Numbered;
        spec.unit.ordering = ordering;
        let result = run(&spec, &Tracer::none()).unwrap();
        assert_eq!(result.healthy.devices, 1);
        (result.healthy.ats_off, Properties::of(&result, Properties::WITHIN).letters())
    };
    assert_eq!(letters(Ordering::Serial), (1, "LS-".to_owned()), "it stands behind the mute one");
    assert_eq!(letters(Ordering::Parallel), (0, "LSF".to_owned()));
}
