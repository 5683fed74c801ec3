//! `ghostlink test`: boots kernels in scenarios, and compares what they do with what is expected.
//!
//! ```text
//!   names, patterns --> select --+
//!   --kernel ---------> boot ----+--> jobs --> place --> a process for each (here) --> RunResult
//!                                                                                         |
//!            KTAP <-- ktap, table, diff, JSON, JUnit <-- report <-------------------------+
//! ```

mod boot;
mod diff;
mod here;
mod junit;
mod ktap;
mod place;
mod report;
mod run;
mod select;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use iommu::time::parse_duration;
use scenario::{Assume, Behavior, Outcome, Scenario};

use crate::{CliError, FAILURE};
pub(crate) use boot::KernelsError;
use boot::Named;
use diff::{Side, diff};
use report::Results;
pub(crate) use report::ResultsError;
pub(crate) use select::SelectError;
use select::Selected;

/// Exit status if there is no verdict: `git bisect run` skips such a commit.
pub(crate) const NOT_JUDGED: u8 = 125;

/// The file for the events of a run, in its directory.
const EVENTS: &str = "events.jsonl";

/// Options of `ghostlink test`.
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Scenarios by name, by a pattern such as 'silent-*', or TOML files [default: all]
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,

    /// Kernel to test: a bzImage, a vmlinux, a build tree, an unpacked package, or the release of an
    /// installed kernel; NAME=WHAT names it in results. May be repeated: each is a column
    #[arg(long, value_name = "[NAME=]WHAT")]
    kernel: Vec<String>,

    /// Where the kernel's modules are, if not where they are usual
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,

    /// Words for the kernel's command line, behind those of the scenario
    #[arg(long, value_name = "TEXT", default_value = "")]
    cmdline: String,

    /// List the chosen scenarios and run nothing
    #[arg(long)]
    list: bool,

    /// Run so many scenarios at once [default: 1, or on the test host the number of CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: Option<u8>,

    /// Repeat a scenario that could not be judged this many times
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u8,

    /// Time limit of each scenario, instead of its own
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    time_limit: Option<Duration>,

    /// Whether the kernel has the fix that a scenario is about. auto: the release decides, and a kernel
    /// that behaves as one with the fix has a backport
    #[arg(long, value_name = "yes|no|auto", default_value = "auto")]
    fixed: Assume,

    /// Judge by this alone, as for 'git bisect run': whether the kernel lives or locks up
    #[arg(long, value_enum, value_name = "BEHAVIOR")]
    expect: Option<Expected>,

    /// Write the results as JSON, for --diff
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the results as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,

    /// Keep console and messages of each run in this directory
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,

    /// Keep the events of each run there as well, as JSON lines
    #[arg(long, requires = "logs")]
    events: bool,

    /// Print a table on standard output instead of KTAP
    #[arg(long)]
    table: bool,

    /// Compare two files of --json and run nothing
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"],
          conflicts_with_all = ["scenarios", "kernel", "list", "json", "junit", "expect"])]
    diff: Option<Vec<PathBuf>>,

    /// Run one scenario in this process, and write its result to this file
    #[arg(long, value_name = "FILE", hide = true)]
    here: Option<PathBuf>,

    /// End with the process that has the other end of standard input
    #[arg(long, hide = true)]
    tied: bool,
}

/// What `--expect` expects of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Expected {
    /// It comes to the end of the scenario, and no CPU locks up
    Lives,
    /// A lock-up detector reports a stall, or a CPU is stuck for 20 s or longer
    LocksUp,
}

impl Expected {
    const fn behavior(self) -> Behavior {
        match self {
            Self::Lives => Behavior::Lives,
            Self::LocksUp => Behavior::LocksUp,
        }
    }
}

/// A scenario with a kernel.
pub(super) struct Job<'a> {
    args: &'a TestArgs,
    kernel: &'a Named,
    selected: &'a Selected,
}

impl Job<'_> {
    fn scenario(&self) -> &Scenario {
        &self.selected.scenario
    }

    fn kernel_name(&self) -> &str {
        &self.kernel.name
    }

    /// The arguments of the process that runs it, and writes its result to `result`.
    fn arguments(&self, result: &Path) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let absolute = |it: &Path| path(&std::path::absolute(it).unwrap_or_else(|_| it.to_owned()));
        let kernel = format!("{}={}", self.kernel_name(), path(&self.kernel.what));
        let fixed = match self.args.fixed {
            Assume::Auto => "auto",
            Assume::Fixed => "yes",
            Assume::NotFixed => "no",
        };
        let mut arguments = vec!["test".to_owned(), "--here".to_owned(), path(result)];
        arguments.extend([format!("--kernel={kernel}"), format!("--fixed={fixed}")]);
        arguments.push(format!("--cmdline={}", self.args.cmdline));
        if let Some(modules) = &self.args.modules {
            arguments.push(format!("--modules={}", absolute(modules)));
        }
        if let Some(limit) = self.args.time_limit {
            arguments.push(format!("--time-limit={}ms", limit.as_millis()));
        }
        if self.args.events {
            arguments.extend(["--events", "--logs=."].map(str::to_owned));
        }
        arguments.push(self.selected.argument.clone());
        arguments
    }
}

/// Runs the scenarios; returns the exit status.
pub(super) fn run(args: &TestArgs) -> Result<u8, CliError> {
    if let Some(files) = &args.diff {
        return compare(files);
    }
    let selected = select::select(&args.scenarios)?;
    if args.list {
        return list(&selected).map_err(CliError::Output);
    }
    let kernels = boot::find(&args.kernel, args.modules.as_deref())?;
    if let (Some(result), [kernel], [selected]) = (&args.here, &kernels[..], &selected[..]) {
        return here::run_here(here::Here {
            kernel,
            selected,
            cmdline: &args.cmdline,
            assume: args.fixed,
            time_limit: args.time_limit,
            events: args.events.then(|| Path::new(EVENTS)),
            is_tied: args.tied,
            result,
        });
    }
    let (results, ended) = run::run_all(args, &kernels, &selected)?;
    write_files(args, &results)?;
    if args.table {
        print(&table::table(&results))?;
    } else if kernels.len() > 1 {
        eprint!("\n{}", table::table(&results));
    }
    if let Some(sides) = Side::both(&results) {
        match args.table {
            true => print(&format!("\n{}", diff(sides)))?,
            false => eprint!("\n{}", diff(sides)),
        }
    }
    Ok(ended.unwrap_or_else(|| status(&results)))
}

/// A failure is a verdict, whatever else could not be judged. Without any verdict there is none.
fn status(results: &Results) -> u8 {
    let failed = results.count(|outcome| *outcome == Outcome::Fail);
    let not_judged = results.count(|outcome| matches!(outcome, Outcome::NotJudged(_)));
    let passed = results.count(|outcome| *outcome == Outcome::Pass);
    match (failed, not_judged, passed) {
        (1.., _, _) => FAILURE,
        (0, 0, 1..) => 0,
        _ => NOT_JUDGED,
    }
}

fn compare(files: &[PathBuf]) -> Result<u8, CliError> {
    let [before, after] = files else { return Ok(crate::USAGE) };
    let (old, new) = (Results::read(before)?, Results::read(after)?);
    let sides = [Side::of_file(&old, before)?, Side::of_file(&new, after)?];
    print(&diff(sides))?;
    Ok(0)
}

fn list(selected: &[Selected]) -> io::Result<u8> {
    let mut out = io::stdout().lock();
    for Selected { scenario, .. } in selected {
        writeln!(out, "{:30} {}", scenario.name, scenario.title)?;
    }
    Ok(0)
}

fn write_files(args: &TestArgs, results: &Results) -> Result<(), CliError> {
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> io::Result<String>| {
        let Some(path) = path else { return Ok(()) };
        text()
            .and_then(|text| std::fs::write(path, text))
            .map_err(|source| CliError::TestFile { path: path.clone(), source })
    };
    write(&args.json, &|| {
        let json = serde_json::to_string_pretty(results).map_err(io::Error::other)?;
        Ok(json + "\n")
    })?;
    write(&args.junit, &|| junit::document(results).map_err(io::Error::other))
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
}
