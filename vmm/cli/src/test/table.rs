//! The results as a table in Markdown: scenarios by kernels.

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use scenario::{Outcome, Reading, RunResult};

use super::report::Results;

/// The stall of another CPU than CPU 0 from which on a table has it, in ms.
const OTHER_STALL: u64 = 3000;

/// A row for each scenario, a column for each kernel.
pub(super) fn table(results: &Results) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let kernels = results.kernels.iter().map(|kernel| kernel.name.clone());
    table.set_header(std::iter::once("Scenario".to_owned()).chain(kernels));
    for scenario in results.scenarios() {
        let cells = results.kernels.iter().map(|kernel| {
            results.find(&kernel.name, scenario).map_or_else(|| "-".to_owned(), cell)
        });
        table.add_row(std::iter::once(format!("`{scenario}`")).chain(cells));
    }
    format!("{table}\n")
}

/// What the kernel did: `lock-up, 7.4 s, 2 ITE`.
fn cell(result: &RunResult) -> String {
    let mut words = match (&result.behavior, &result.outcome) {
        (_, Outcome::Skip(_)) => return "skipped".to_owned(),
        (None, outcome) => return outcome.word().to_owned(),
        (Some(behavior), _) => behavior.to_string(),
    };
    if let Some(stall) = longest_stall(result) {
        words += &format!(", {stall}");
    }
    if result.ite > 0 {
        words += &format!(", {} ITE", result.ite);
    }
    match &result.outcome {
        Outcome::Fail => words += " **(not as expected)**",
        Outcome::NotJudged(_) => words += " **(not judged)**",
        Outcome::Pass | Outcome::Skip(_) => {}
    }
    words
}

/// The longest stall of CPU 0, or of another CPU if that is longer and long.
pub(super) fn longest_stall(result: &RunResult) -> Option<String> {
    let stalls = result.stalls();
    let first = stalls.first().copied().flatten();
    let others = stalls.iter().enumerate().skip(1);
    let others = others.filter_map(|(cpu, stall)| Some((cpu, (*stall)?)));
    let other = others.max_by_key(|(_, stall)| stall.value());
    match (first, other) {
        (first, Some((cpu, stall)))
            if stall.value() >= OTHER_STALL
                && first.is_none_or(|first| stall.value() > first.value()) =>
        {
            Some(format!("CPU {cpu} {}", seconds(stall)))
        }
        (Some(first), _) => Some(seconds(first)),
        (None, _) => None,
    }
}

fn seconds(stall: Reading) -> String {
    match stall {
        Reading::Number(number) => format!("{}.{} s", number / 1000, number / 100 % 10),
        Reading::Never => "for ever".to_owned(),
    }
}
