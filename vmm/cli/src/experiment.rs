//! `ghostlink experiment`: the experiments of docs/results.md, or one from a file.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use clap::{Args, ValueEnum};
use lab::experiment::{Experiment, Results};
use lab::text::{position, suggestion};
use lab::toml_file::{Mistake, TomlFile};
use resources::EXPERIMENTS;
use vmm::SignalFd;

use crate::CliError;

/// The name that stands for all experiments.
const ALL: &str = "all";

/// Options of `ghostlink experiment`.
#[derive(Debug, Args)]
pub(super) struct ExperimentArgs {
    /// The experiment, or all [default: list them]
    #[arg(value_name = "NAME", conflicts_with = "file")]
    name: Option<String>,

    /// An experiment of your own: see docs/results.md
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Runs of each combination, each with its own random seed [default: as the experiment says]
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,

    /// Threads [default: one for each CPU]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Write a page with the table, all measures and the figure to this directory: NAME.md, NAME.csv, NAME.svg
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Md)]
    format: Format,
}

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The table, in Markdown.
    Md,
    /// All measures of all combinations, for spreadsheets.
    Csv,
    /// The figure.
    Svg,
    /// Nothing: the files are enough.
    None,
}

/// An experiment that cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExperimentError {
    /// No experiment has this name.
    #[error("there is no experiment '{name}'{hint}; 'ghostlink experiment' lists them")]
    Unknown {
        /// The name.
        name: String,
        /// A similar name, if there is one.
        hint: String,
    },
    /// A built-in experiment does not fit the options, or is invalid.
    #[error("the experiment '{name}', {position}: {reason}")]
    Invalid {
        /// The experiment.
        name: String,
        /// Line and column in its file.
        position: String,
        /// The mistake, and the remedy.
        reason: String,
    },
    /// The directory of --out cannot be written.
    #[error("cannot write '{}': {source}; name a directory that can be made", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Lists or runs experiments; returns the exit status.
pub(super) fn run(args: &ExperimentArgs) -> Result<u8, CliError> {
    let experiments = match (&args.name, &args.file) {
        (None, None) => return list().map(|()| 0).map_err(CliError::Output),
        (_, Some(path)) => vec![from_file(path, args.seeds)?],
        (Some(name), None) if name == ALL => {
            EXPERIMENTS.iter().map(|row| built_in(row, args.seeds)).collect::<Result<_, _>>()?
        }
        (Some(name), None) => vec![built_in(find(name)?, args.seeds)?],
    };
    let jobs = args.jobs.or(available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let mut signals = SignalFd::new(&[libc::SIGINT, libc::SIGTERM]).map_err(CliError::Signals)?;
    for experiment in &experiments {
        let progress = super::compare::progress(experiment.runs());
        let mut signal = None;
        let results = experiment.run(
            jobs,
            |done| progress.set_position(done as u64),
            || {
                signal = signal.or_else(|| signals.read());
                signal.is_some()
            },
        );
        progress.finish_and_clear();
        let Some(results) = results? else {
            eprintln!("ghostlink: interrupted in the experiment '{}'", experiment.name);
            return Ok(u8::try_from(128 + signal.unwrap_or(0)).unwrap_or(u8::MAX));
        };
        show(args.format, &results, experiments.len() > 1).map_err(CliError::Output)?;
        if let Some(directory) = &args.out {
            write(directory, &results)?;
        }
    }
    if let Some(directory) = &args.out {
        eprintln!("ghostlink: tables and figures are in '{}'", directory.display());
    }
    Ok(0)
}

/// Each experiment with its question.
fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for row in EXPERIMENTS {
        let about = Experiment::parse(row.0, row.1, None).map(|it| it.about).unwrap_or_default();
        writeln!(out, "{:<16} {about}", row.0)?;
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static (&'static str, &'static str), ExperimentError> {
    EXPERIMENTS.iter().find(|(known, _)| *known == name).ok_or_else(|| {
        let meant = suggestion(name, EXPERIMENTS.iter().map(|(known, _)| *known));
        let hint = meant.map_or(String::new(), |meant| format!("; did you mean '{meant}'?"));
        ExperimentError::Unknown { name: name.to_owned(), hint }
    })
}

fn built_in((name, text): &(&str, &str), seeds: Option<u64>) -> Result<Experiment, CliError> {
    let invalid = |(at, reason): Mistake| ExperimentError::Invalid {
        name: (*name).to_owned(),
        position: position(text, at),
        reason,
    };
    Ok(Experiment::parse(name, text, seeds).map_err(invalid)?)
}

fn from_file(path: &Path, seeds: Option<u64>) -> Result<Experiment, CliError> {
    let file = TomlFile::read(path, "an experiment")?;
    let name =
        path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Experiment::parse(&name, file.text(), seeds).map_err(|mistake| file.wrong(mistake))?)
}

fn show(format: Format, results: &Results<'_>, with_title: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if with_title && format == Format::Md {
        writeln!(out, "{}: {}\n", results.experiment.name, results.experiment.about)?;
    }
    match format {
        Format::Md => writeln!(out, "{}", results.markdown()),
        Format::Csv => write!(out, "{}", results.csv()),
        Format::Svg => write!(out, "{}", results.svg().unwrap_or_default()),
        Format::None => Ok(()),
    }
}

fn write(directory: &Path, results: &Results<'_>) -> Result<(), ExperimentError> {
    let files =
        [("md", Some(results.page())), ("csv", Some(results.csv())), ("svg", results.svg())];
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ExperimentError::Write { path, source }
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    for (ending, content) in files {
        let Some(content) = content else { continue };
        let path = directory.join(format!("{}.{ending}", results.experiment.name));
        std::fs::write(&path, content).map_err(failed(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_experiment_can_be_run() {
        for row in EXPERIMENTS {
            let experiment = built_in(row, None).unwrap_or_else(|error| panic!("{error}"));
            assert!(experiment.runs() > 0 && !experiment.about.is_empty(), "{}", row.0);
        }
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_one_that_may_be_meant() {
        let error = find("bownd").unwrap_err().to_string();
        assert!(error.contains("'bownd'") && error.contains("did you mean 'bound'?"), "{error}");
        assert!(find("zzz").unwrap_err().to_string().contains("'ghostlink experiment' lists"));
    }
}
