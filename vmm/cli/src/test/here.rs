//! One scenario in this process: what `ghostlink test` starts, on this machine or on the test host.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use iommu::event::EventSink;
use scenario::{Assume, Boot, Options, Outcome, RunError, RunResult, run};

use super::boot::Named;
use super::select::Selected;
use crate::json_lines::JsonLines;
use crate::{CliError, FAILURE};

/// Options of the run.
pub(super) struct Here<'a> {
    pub(super) kernel: &'a Named,
    pub(super) selected: &'a Selected,
    pub(super) cmdline: &'a str,
    pub(super) assume: Assume,
    pub(super) time_limit: Option<Duration>,
    /// A file for the events.
    pub(super) events: Option<&'a Path>,
    /// Whether this process ends with the one that has started it.
    pub(super) is_tied: bool,
    /// The file for the result.
    pub(super) result: &'a Path,
}

/// Runs the scenario, prints its console, and writes the result to a file.
pub(super) fn run_here(here: Here<'_>) -> Result<u8, CliError> {
    let Here { kernel, selected, cmdline, assume, time_limit, events, is_tied, result } = here;
    if is_tied {
        end_with_parent();
    }
    let scenario = &selected.scenario;
    let sink = |path: &Path| match JsonLines::create(path) {
        Ok(file) => Ok(Arc::new(file) as Arc<dyn EventSink>),
        Err(source) => Err(CliError::Events { path: path.to_owned(), source }),
    };
    let options = Options {
        sink: events.map(sink).transpose()?,
        cmdline: cmdline.to_owned(),
        assume,
        time_limit,
        on_line: Some(Box::new(|line| {
            let mut out = io::stdout().lock();
            writeln!(out, "{line}").and_then(|()| out.flush())
        })),
        ..Options::default()
    };
    let without =
        |reason: String| RunResult::without_run(scenario, &kernel.name, Outcome::NotJudged(reason));
    let found = match Boot::new(&kernel.name, &kernel.kernel, scenario) {
        Err(error) => without(error.to_string()),
        Ok(boot) => match run(scenario, &boot, options) {
            Ok(found) => found,
            Err(RunError::Interrupted(exit)) => return Ok(exit.status()),
            Err(error) => without(error.to_string()),
        },
    };
    let write = serde_json::to_vec(&found).map_err(io::Error::other);
    match write.and_then(|json| std::fs::write(result, json)) {
        Ok(()) => Ok(0),
        Err(error) => {
            eprintln!("ghostlink: cannot write '{}': {error}", result.display());
            Ok(FAILURE)
        }
    }
}

/// Ends this process when standard input ends: the process that has started it holds the other end.
fn end_with_parent() {
    std::thread::spawn(|| {
        let mut rest = [0; 64];
        while io::stdin().read(&mut rest).is_ok_and(|length| length > 0) {}
        std::process::exit(FAILURE.into());
    });
}
