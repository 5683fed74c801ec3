//! KTAP: a subtest for each kernel, in it one for each scenario, in it a line for each expectation
//! (`Documentation/dev-tools/ktap.rst` of Linux).

use std::fmt::Write;

use scenario::{Outcome, RunResult, Status};

/// The first lines: version and plan.
pub(super) fn head(kernels: usize) -> String {
    format!("KTAP version 1\n1..{kernels}\n")
}

/// The first lines of a kernel's subtest.
pub(super) fn kernel_head(kernel: &str, scenarios: usize) -> String {
    format!("  KTAP version 1\n  # Subtest: {}\n  1..{scenarios}\n", name(kernel))
}

/// The result of a kernel: `ok` if all its scenarios are.
pub(super) fn kernel_end(number: usize, kernel: &str, ok: bool) -> String {
    format!("{} {number} {}\n", if ok { "ok" } else { "not ok" }, name(kernel))
}

/// The subtest of a scenario, and its result.
pub(super) fn scenario(number: usize, result: &RunResult) -> String {
    let mut text = String::new();
    if !result.verdicts.is_empty() {
        text += &verdicts(result);
    }
    let (word, directive) = match &result.outcome {
        Outcome::Pass => ("ok", String::new()),
        Outcome::Fail => ("not ok", String::new()),
        Outcome::Skip(reason) => ("ok", format!(" # SKIP {}", line(reason))),
        Outcome::NotJudged(reason) => ("not ok", format!(" # ERROR {}", line(reason))),
    };
    // A String takes all that is written to it.
    let _ = writeln!(text, "  {word} {number} {}{directive}", name(&result.scenario));
    text
}

fn verdicts(result: &RunResult) -> String {
    let mut text = format!("    KTAP version 1\n    # Subtest: {}\n", name(&result.scenario));
    let mut note = |note: &str| {
        for part in note.lines() {
            text += &format!("    # {}\n", line(part));
        }
    };
    note(&result.title);
    note(&format!("host: {}", result.host));
    if let Some(release) = &result.release {
        note(&format!("kernel: {release}, {:.0} s", result.seconds));
    }
    if let Some(fix) = &result.fix {
        note(&fix.to_string());
    }
    note(&result.stale);
    let _ = writeln!(text, "    1..{}", result.verdicts.len());
    for (index, verdict) in result.verdicts.iter().enumerate() {
        let (word, directive) = match verdict.status {
            Status::Ok => ("ok", ""),
            Status::Failed => ("not ok", ""),
            Status::Skipped => ("ok", " # SKIP"),
        };
        for part in &verdict.evidence {
            let _ = writeln!(text, "    # {}", line(part));
        }
        let _ = writeln!(text, "    {word} {} {}{directive}", index + 1, name(&verdict.that));
    }
    if result.outcome != Outcome::Pass {
        for part in &result.last_lines {
            let _ = writeln!(text, "    # | {}", line(part));
        }
    }
    text
}

/// The end of everything: nothing more can be judged.
pub(super) fn bail_out(reason: &str) -> String {
    format!("Bail out! {}\n", line(reason))
}

/// A name: `#` begins a directive.
fn name(text: &str) -> String {
    line(text).replace('#', "no. ")
}

/// Text of one line.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
