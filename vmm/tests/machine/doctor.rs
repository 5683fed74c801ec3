//! The doctor. Its findings differ between hosts; the conclusions from them do not.

use vmm::doctor::{Outcome, Requirement, examine};

use crate::guest::kvm_wanted;

#[test]
fn the_doctor_tries_everything_and_says_what_follows() {
    if !kvm_wanted() {
        return;
    }
    let report = examine();
    assert_eq!((&report.unusable, report.api_version), (&None, Some(12)));
    // This very test runs such guests.
    assert_eq!(report.check(Requirement::BareMetal), Ok(()));
    let system_call = &report.findings[0];
    assert_eq!(system_call.name, "system call by SYSCALL");
    let fails = |outcome: &Outcome| matches!(outcome, Outcome::Fails(_));
    let any_fails = report.findings.iter().any(|finding| fails(&finding.outcome));
    assert_eq!(report.check(Requirement::Linux).is_err(), any_fails);
    if report.hardware.is_some() {
        assert_eq!(report.check(Requirement::Linux), Ok(()));
    }
}
