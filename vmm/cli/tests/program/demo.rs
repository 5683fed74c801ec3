//! `ghostlink demo` and `ghostlink policies`: what a program that reads their output can rely on.

use std::collections::HashMap;

use serde_json::Value;
use tests::{Need, wanted};

use crate::cli::ghostlink;

/// Runs the demo with these options; one object for each run, by policy and scenario.
fn demo(options: &[&str]) -> HashMap<(String, String), Value> {
    let arguments = [&["demo", "--format", "json"], options].concat();
    let output = ghostlink(&arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut runs = HashMap::new();
    for line in stdout.lines() {
        let run: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| run[key].as_str().unwrap().to_owned();
        let twice = runs.insert((text("policy"), text("scenario")), run);
        assert_eq!(twice, None);
    }
    runs
}

/// Every key that the format promises, with its type.
fn assert_complete(run: &Value) {
    for key in ["host", "policy", "scenario"] {
        assert!(run[key].is_string(), "{key}: {run}");
    }
    let times = ["guest_stall_ns", "host_stall_ns", "neighbor_stall_ns"];
    for key in times.into_iter().chain(["waits_aborted", "stale_accesses"]) {
        assert!(run[key].is_u64(), "{key}: {run}");
    }
    for key in ["false_completion", "neighbor_false_completion"] {
        assert!(run[key].is_boolean(), "{key}: {run}");
    }
    let outcome = run["outcome"].as_str().unwrap();
    assert!(["completed", "timed_out", "stalled"].contains(&outcome), "{run}");
    let ite = run["ite"].as_bool().unwrap();
    assert_eq!(ite, run["ite_sid"].is_string(), "{run}");
    assert_eq!(!ite, run["ite_sid"].is_null(), "{run}");
}

#[test]
fn one_json_object_for_each_run_tells_what_became_of_it() {
    if !wanted(Need::Kvm) {
        return;
    }
    let runs = demo(&["--policy", "linux", "--policy", "bounded:50ms", "--ict", "never"]);
    assert_eq!(runs.len(), 4);
    runs.values().for_each(assert_complete);
    let run = |policy: &str, scenario: &str| &runs[&(policy.to_owned(), scenario.to_owned())];
    for policy in ["linux", "bounded:50ms"] {
        let healthy = run(policy, "healthy");
        assert_eq!((&healthy["outcome"], &healthy["ite"]), (&"completed".into(), &false.into()));
    }
    let linux = run("linux", "silent");
    assert_eq!((&linux["outcome"], &linux["ite"]), (&"stalled".into(), &false.into()));
    let bounded = run("bounded:50ms", "silent");
    assert_eq!(
        (&bounded["outcome"], &bounded["ite_sid"]),
        (&"timed_out".into(), &"01:00.0".into())
    );
    assert!(bounded["guest_stall_ns"].as_u64() >= Some(50_000_000), "{bounded}");
}

#[test]
fn a_physical_unit_with_ite_is_shown_without_it_too() {
    if !wanted(Need::Kvm) {
        return;
    }
    let runs = demo(&["--policy", "present+bounded:50ms", "--ict", "200ms"]);
    let mut scenarios: Vec<&str> = runs.keys().map(|(_, scenario)| scenario.as_str()).collect();
    scenarios.sort_unstable();
    assert_eq!(scenarios, ["healthy", "silent", "silent-no-ite"]);
    runs.values().for_each(assert_complete);
    assert!(runs.values().all(|run| run["outcome"] == "completed"), "{runs:?}");
}

#[test]
fn a_rising_number_on_a_parallel_unit_completes_falsely_and_the_table_says_so() {
    if !wanted(Need::Kvm) {
        return;
    }
    // The neighbour's wait completes first, and its number wakes the victim's caller.
    let options = ["--policy", "amd", "--ordering", "parallel", "--ict", "never"];
    let runs = demo(&options);
    let run = |scenario: &str| &runs[&("amd".to_owned(), scenario.to_owned())];
    assert_eq!(run("healthy")["false_completion"], false);
    let silent = run("silent");
    assert_eq!(silent["outcome"], "completed", "the guest is told so: {silent}");
    assert_eq!(silent["false_completion"], true, "{silent}");
    let output = ghostlink(&[&["demo"], &options[..]].concat()).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let row = table.lines().find(|line| line.contains("| silent")).unwrap();
    assert!(row.contains("FALSELY completed"), "{table}");
    assert!(table.contains("was not done"), "{table}");
}

#[test]
fn bare_metal_has_no_policy_and_waits_for_its_own_ite() {
    if !wanted(Need::Kvm) {
        return;
    }
    let arguments = ["demo", "--format", "json", "--host", "direct", "--ict", "200ms"];
    let output = ghostlink(&arguments).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let runs: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(runs.len(), 3, "{stdout}");
    for run in &runs {
        assert_eq!((&run["host"], &run["policy"]), (&"direct".into(), &Value::Null), "{run}");
        assert_eq!(run["host_stall_ns"], 0, "{run}");
        let outcome = match run["scenario"].as_str() {
            Some("healthy") => "completed",
            Some("silent") => "timed_out",
            _ => "stalled",
        };
        assert_eq!(run["outcome"], outcome, "{run}");
    }
    assert_eq!(runs[1]["ite_sid"], "01:00.0");
}

#[test]
fn every_policy_is_listed() {
    let output = ghostlink(&["policies"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for preset in iommu::submit::PRESETS {
        assert!(text.contains(&preset.usage()), "{} is not in {text}", preset.name);
    }
}
