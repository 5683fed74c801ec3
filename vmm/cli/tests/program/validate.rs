//! `ghostlink validate`: KVM and the simulation agree, and the JSON lines have their keys.

use serde_json::Value;
use tests::{Need, wanted};

use crate::cli::ghostlink;

/// Runs these pairs; what was measured, and a row for each.
fn validate(options: &[&str]) -> (Value, Vec<Value>) {
    let arguments = [&["validate", "--format", "json"], options].concat();
    let output = ghostlink(&arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    // 1 where a stall has been too long on a busy host, which is no reason to fail.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut lines = stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let measured = lines.next().unwrap();
    (measured, lines.collect())
}

#[test]
fn policies_come_to_the_same_under_kvm_and_in_the_simulation() {
    if !wanted(Need::Kvm) {
        return;
    }
    let policies = "linux-7.0,present+bounded:100ms";
    let (measured, rows) =
        validate(&["--policies", policies, "--faults", "silent,no-completion/before"]);
    for cost in ["exit_ns", "register_read_ns", "descriptor_ns", "doorbell_ns", "flush_ns"] {
        assert!(measured[cost].as_u64() > Some(0), "{cost}: {measured}");
    }
    assert_eq!(rows.len(), 6);
    for row in &rows {
        assert_eq!(row["outcome_agrees"], true, "{row}");
    }
    let verdict = |policy: &str, fault: &str, when: &str| {
        let is_meant =
            |row: &&Value| row["policy"] == policy && row["fault"] == fault && row["when"] == when;
        rows.iter().find(is_meant).unwrap()["kvm"]["verdict"].clone()
    };
    // A presence check helps if the device is gone before the submission. It does not help if the
    // device goes afterwards, or sends no completion. Linux has none where pages are unmapped.
    let present = "present+bounded:100ms";
    assert_eq!(verdict(present, "silent", "before"), "skipped");
    assert_eq!(verdict(present, "silent", "sent"), "deadline_passed");
    assert_eq!(verdict(present, "no-completion", "before"), "deadline_passed");
    assert_eq!(verdict("linux-7.0", "silent", "before"), "unit_timed_out");
    assert_eq!(verdict("linux-7.0", "no-completion", "before"), Value::Null);
}

#[test]
fn a_guest_on_bare_metal_comes_to_the_same_as_the_simulation() {
    if !wanted(Need::Kvm) {
        return;
    }
    let (_, rows) =
        validate(&["--host", "direct", "--faults", "none,silent,no-completion,late:200ms,early"]);
    assert_eq!(rows.len(), 6);
    for row in &rows {
        assert_eq!((&row["host"], &row["policy"]), (&"direct".into(), &Value::Null), "{row}");
    }
    let verdict = |fault: &str| {
        let is_meant = |row: &&Value| row["fault"] == fault && row["when"] == "before";
        let row = rows.iter().find(is_meant).unwrap();
        for key in ["verdict", "stale"] {
            assert_eq!(row["kvm"][key], row["simulated"][key], "{row}");
        }
        assert_eq!(row["kvm"]["stale"] == "success", fault == "early", "{row}");
        row["kvm"]["verdict"].clone()
    };
    assert_eq!(verdict("none"), "completed");
    assert_eq!(verdict("silent"), "unit_timed_out");
    assert_eq!(verdict("no-completion"), Value::Null);
    assert_eq!(verdict("late:200ms"), "completed");
    assert_eq!(verdict("early"), "completed");
}

#[test]
fn cpus_units_and_what_devices_obey_are_axes() {
    if !wanted(Need::Kvm) {
        return;
    }
    let options = ["--policies", "bounded:100ms", "--faults", "ignore-invalidate"];
    let axes = ["--units", "serial,blocking", "--cpus-per-device", "1,2", "--obeys", "at-once"];
    let (_, rows) = validate(&[&options[..], &axes[..4]].concat());
    assert_eq!(rows.len(), 4);
    for row in &rows {
        // A caller that is told of a failure reaches the page of another.
        for side in ["kvm", "simulated"] {
            assert_eq!(row[side]["verdict"], "deadline_passed", "{row}");
            assert_eq!(row[side]["stale"], "failure", "{row}");
        }
        // The second CPU waits for the lock of the domain, and then for as long as the first.
        let crowd = &row["simulated"]["crowd"];
        match row["cpus_per_device"].as_u64() {
            Some(1) => assert_eq!((crowd, &row["kvm"]["crowd"]), (&Value::Null, &Value::Null)),
            _ => {
                let stall = |side: &str| row[side]["crowd"]["stall_ns"].as_u64().unwrap();
                assert!(stall("kvm") >= 195_000_000 && stall("simulated") >= 195_000_000, "{row}");
            }
        }
        // What a blocking unit does not fetch, no device is asked to drop.
        let is_stale = row["simulated"]["neighbor"]["stale"] == "failure";
        assert_eq!(is_stale, row["ordering"] == "blocking", "{row}");
    }
    let (_, rows) = validate(&[&options[..], &axes[4..]].concat());
    assert_eq!((rows.len(), &rows[0]["obeys"]), (1, &"at-once".into()));
}

#[test]
fn cpus_that_the_guest_does_not_have_are_refused_with_the_value() {
    for number in ["0", "5", "two"] {
        let output = ghostlink(&["validate", "--cpus-per-device", number]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{number}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.lines().count() == 1 && stderr.contains(number), "{stderr}");
    }
}

#[test]
fn what_only_a_forwarded_host_has_is_refused_for_a_direct_one() {
    for (option, named) in [
        (&["--policies", "amd"][..], "policy 'amd'"),
        (&["--policies-file", "own.toml"], "--policies-file 'own.toml'"),
        (&["--long"], "--long"),
    ] {
        let arguments = [&["validate", "--host", "direct"], option].concat();
        let output = ghostlink(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{option:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(&format!("{named} is for a forwarded host")), "{stderr}");
    }
}

#[test]
fn a_fault_that_only_one_of_both_can_have_is_refused() {
    let output = ghostlink(&["validate", "--faults", "all-ones-unit"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("'all-ones-unit'") && stderr.contains("silent/sent"), "{stderr}");
}
