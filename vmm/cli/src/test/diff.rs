//! What has changed between two sets of results, as text for a mail: at most 78 columns.

use std::fmt::Write;
use std::path::Path;

use scenario::{Outcome, RunResult, Status};

use super::report::{Kernel, Results, ResultsError};
use super::table::longest_stall;

/// The longest line.
const COLUMNS: usize = 78;
/// The width of the names of rows.
const NAMES: usize = 22;
/// The width of each of both columns; two blanks are between columns.
const CELLS: usize = (COLUMNS - NAMES) / 2 - 2;
/// The number of the last lines that are shown.
const LAST_LINES: usize = 4;

/// One side: a kernel of a set of results.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    results: &'a Results,
    kernel: &'a Kernel,
}

impl<'a> Side<'a> {
    /// Both kernels of a set of results that has two.
    pub(super) fn both(results: &'a Results) -> Option<[Self; 2]> {
        match &results.kernels[..] {
            [before, after] => Some([before, after].map(|kernel| Self { results, kernel })),
            _ => None,
        }
    }

    /// The kernel of a file; of several the first.
    pub(super) fn of_file(results: &'a Results, path: &Path) -> Result<Self, ResultsError> {
        match results.kernels.first() {
            Some(kernel) => Ok(Self { results, kernel }),
            None => Err(ResultsError::Content {
                path: path.to_owned(),
                reason: "there is no kernel in it".to_owned(),
            }),
        }
    }

    fn find(&self, scenario: &str) -> Option<&'a RunResult> {
        self.results.find(&self.kernel.name, scenario)
    }

    /// The head of its column.
    fn head(&self) -> String {
        let Kernel { name, release, .. } = self.kernel;
        if name == release { release.clone() } else { format!("{release} ({name})") }
    }
}

/// What the second side shows that the first does not, by scenarios.
pub(super) fn diff([before, after]: [Side<'_>; 2]) -> String {
    let mut text = String::new();
    for (side, word) in [(before, "before"), (after, "after")] {
        let _ = writeln!(text, "{word:8}{}", shortened(&side.head(), COLUMNS - 8));
    }
    let (mut changed, mut same, mut one_side) = (0, 0, Vec::new());
    let mut names = before.results.scenarios();
    let further = after.results.scenarios();
    names.extend(further.into_iter().filter(|name| before.find(name).is_none()));
    for name in names {
        match (before.find(name), after.find(name)) {
            (Some(old), Some(new)) if is_same(old, new) => same += 1,
            (Some(old), Some(new)) => {
                changed += 1;
                text += &change(name, old, new);
            }
            (None, None) => {}
            _ => one_side.push(name),
        }
    }
    let _ = writeln!(text, "\n{changed} changed, {same} as before");
    if !one_side.is_empty() {
        let _ = writeln!(text, "{} only on one side:", one_side.len());
        for name in one_side {
            let _ = writeln!(text, "  {}", shortened(name, COLUMNS - 2));
        }
    }
    text
}

/// Whether both runs show the same. Times and counts differ between any two runs.
fn is_same(old: &RunResult, new: &RunResult) -> bool {
    let detector = |result: &RunResult| result.detected.as_ref().map(|it| it.detector.clone());
    let failed = |result: &RunResult| -> Vec<String> {
        let failed = result.verdicts.iter().filter(|it| it.status != Status::Ok);
        failed.map(|it| it.that.clone()).collect()
    };
    old.outcome.word() == new.outcome.word()
        && old.behavior == new.behavior
        && detector(old) == detector(new)
        && (old.ite == 0) == (new.ite == 0)
        && failed(old) == failed(new)
}

fn change(name: &str, old: &RunResult, new: &RunResult) -> String {
    let mut text = format!("\n{}\n", shortened(name, COLUMNS));
    let mut row = |name: &str, cell: &dyn Fn(&RunResult) -> String| {
        let cells = [old, new].map(|result| shortened(&cell(result), CELLS));
        if cells.iter().any(|cell| cell != "-") {
            let [old, new] = cells;
            let line = format!("  {name:NAMES$}{old:CELLS$}  {new}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
    };
    row("result", &|result| result.outcome.word().to_owned());
    row("kernel", &|result| result.behavior.map_or("-".to_owned(), |it| it.to_string()));
    row("lock-up detector", &|result| {
        result.detected.as_ref().map_or("-".to_owned(), |it| it.detector.clone())
    });
    row("longest stall", &|result| longest_stall(result).unwrap_or("-".to_owned()));
    row("ITE in the guest", &|result| result.ite.to_string());
    row("end of the run", &|result| match result.exit.as_str() {
        "" => "-".to_owned(),
        exit => exit.to_owned(),
    });
    for (word, result) in [("before", old), ("after", new)] {
        text += &details(word, result);
    }
    text
}

/// What was not as expected, and the kernel's last lines.
fn details(word: &str, result: &RunResult) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        let _ = writeln!(text, "    {}", shortened(line, COLUMNS - 4));
    };
    match &result.outcome {
        Outcome::Pass => return text,
        Outcome::Skip(reason) | Outcome::NotJudged(reason) => line(reason),
        Outcome::Fail => {
            for verdict in result.verdicts.iter().filter(|it| it.status == Status::Failed) {
                line(&format!("not met: {}", verdict.that));
            }
        }
    }
    let skipped = result.last_lines.len().saturating_sub(LAST_LINES);
    for last in &result.last_lines[skipped..] {
        line(&format!("| {last}"));
    }
    format!("  {word}:\n{text}")
}

/// The text, cut if it has more characters than `width`.
fn shortened(text: &str, width: usize) -> String {
    let text: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    if text.chars().count() <= width {
        return text;
    }
    let start: String = text.chars().take(width.saturating_sub(2)).collect();
    format!("{start}..")
}
