//! `ghostlink doctor`: what a script can rely on.

use tests::{Need, wanted};

use crate::cli::ghostlink;

#[test]
fn scripts_get_an_object_and_a_status() {
    if !wanted(Need::Kvm) {
        return;
    }
    let output = ghostlink(&["doctor", "--require", "linux", "--format", "json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let fails = findings.iter().any(|finding| finding["outcome"] == "fails");
    assert_eq!(output.status.code(), Some(fails.into()));
    let output = ghostlink(&["doctor", "--require", "bare-metal"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("bare-metal guests          yes"), "{text}");
}
