//! JUnit's XML: a suite for each kernel, with a case for each scenario.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use scenario::{Outcome, RunResult, Status};

use super::report::Results;

/// The results as XML.
///
/// # Errors
///
/// The document cannot be made, which no result brings about.
pub(super) fn document(results: &Results) -> Result<String, quick_junit::SerializeError> {
    let mut report = Report::new("ghostlink");
    for kernel in &results.kernels {
        let mut suite = TestSuite::new(kernel.name.as_str());
        suite.add_property(("release", kernel.release.as_str()));
        suite.add_property(("image", kernel.image.as_str()));
        for result in results.of_kernel(&kernel.name) {
            suite.add_test_case(case(result));
        }
        report.add_test_suite(suite);
    }
    report.to_string()
}

fn case(result: &RunResult) -> TestCase {
    let mut status = match &result.outcome {
        Outcome::Pass => TestCaseStatus::success(),
        Outcome::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Skip(_) => TestCaseStatus::skipped(),
        Outcome::NotJudged(_) => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    match &result.outcome {
        Outcome::Pass => {}
        Outcome::Skip(reason) => _ = status.set_message(reason.as_str()),
        Outcome::NotJudged(reason) => {
            status.set_message(reason.as_str()).set_type("not judged");
        }
        Outcome::Fail => {
            let failed = result.verdicts.iter().filter(|it| it.status == Status::Failed);
            let lines: Vec<String> =
                failed.map(|it| format!("{}: {}", it.that, it.evidence.join("; "))).collect();
            let message = format!("{} of {} expectations", lines.len(), result.verdicts.len());
            status
                .set_message(message)
                .set_type("not as expected")
                .set_description(lines.join("\n"));
        }
    }
    let mut case = TestCase::new(result.scenario.as_str(), status);
    case.set_classname(result.kernel.as_str());
    // Seconds come from a clock, or from a file, where they may be anything.
    case.set_time(Duration::try_from_secs_f64(result.seconds).unwrap_or_default());
    if !result.last_lines.is_empty() {
        case.set_system_out(result.last_lines.join("\n"));
    }
    case
}
