//! `ghostlink compare`: runs every policy with every fault, in virtual time.

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use clap::{Args, ValueEnum};
use devices::pcie::link::Obeys;
use indicatif::{ProgressBar, ProgressStyle};
use iommu::time::Timeout;
use lab::file;
use lab::matrix::{Matrix, Selection};
use lab::plan::Plan;
use lab::shard::Shard;
use lab::sim::Catalog;
use lab::{CSV, Options, Outcome, Progress, REPORT, Summary, compare, csv, table};
use vmm::SignalFd;

use super::policies::PoliciesArgs;
use crate::CliError;

/// Options of `ghostlink compare`.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Only these policies, see 'ghostlink policies' [default: every preset]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    policies: Vec<String>,

    /// Only these faults [default: all]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    faults: Vec<String>,

    /// Only these workloads; NAME@N has N CPUs for each device. The default is strict, lazy and
    /// teardown, and strict@16 if neither units nor numbers of CPUs are chosen
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    workloads: Vec<String>,

    /// Remapping units, by the order in which their waits complete: serial, parallel, blocking, or
    /// your own [default: serial; and with the workload strict parallel and blocking, if neither
    /// workloads nor numbers of CPUs are chosen]
    #[arg(long, alias = "ordering", value_name = "NAME,..", value_delimiter = ',')]
    units: Vec<String>,

    /// Run each workload with each of these numbers of CPUs for each device [default: as the
    /// workloads say]
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    cpus_per_device: Vec<u16>,

    /// Runs of each policy, fault, workload and unit, each with its own random seed [default: from 20
    /// on, or 3 in a large comparison, until each share's 95 % interval is below 5 points, or it
    /// takes too long]
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,

    #[command(flatten)]
    machine: MachineArgs,

    /// Threads [default: one for each CPU]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Only part i of n, from 1; 'ghostlink merge' joins the parts
    #[arg(long, value_name = "i/n", default_value_t = Shard::WHOLE, requires = "out")]
    shard: Shard,

    /// Write all runs, a table for spreadsheets and a report to this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Continue an interrupted comparison in the directory of --out
    #[arg(long, requires = "out")]
    resume: bool,

    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Options of the simulated machine, for a comparison and for one run.
#[derive(Debug, Default, Args)]
pub(super) struct MachineArgs {
    /// TOML file with your own policies, faults, workloads and units, and a selection of them: see
    /// docs/scaling.md
    #[arg(long, value_name = "FILE")]
    matrix: Option<PathBuf>,

    #[command(flatten)]
    policies: PoliciesArgs,

    /// Time after which the physical unit raises ITE, or never [default: 1m 30s, as PCIe recommends]
    #[arg(long, value_name = "TIME")]
    ict: Option<Timeout>,

    /// When devices drop what an Invalidate Request names: when they answer it, which is the worst that
    /// PCIe permits, or when it arrives [default: at-answer]
    #[arg(long, value_name = "at-answer|at-once")]
    obeys: Option<Obeys>,
}

impl MachineArgs {
    /// The catalog with the rows of the user, and the selection of the file.
    pub(super) fn read(&self) -> Result<(Catalog, Selection), CliError> {
        let mut catalog = Catalog::default();
        catalog.policies.extend(self.policies.own()?);
        let of_file = match &self.matrix {
            Some(path) => file::read(path, &mut catalog)?,
            None => Selection::default(),
        };
        let (ict, obeys) = (self.ict.or(of_file.ict), self.obeys.or(of_file.obeys));
        Ok((catalog, Selection { ict, obeys, ..of_file }))
    }

    /// The options as written on a command line.
    fn text(&self) -> String {
        let path = self.matrix.as_ref().map(|path| path.display().to_string());
        [
            option("matrix", path),
            option("policies-file", self.policies.file().map(|path| path.display().to_string())),
            option("obeys", self.obeys.map(|obeys| obeys.to_string())),
            option("ict", self.ict.map(|ict| ict.to_string().replace(' ', ""))),
        ]
        .concat()
    }
}

/// An option as written on a command line, if there is a value.
fn option(name: &str, value: Option<String>) -> String {
    value.map_or(String::new(), |value| format!(" --{name} {value}"))
}

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A line for each policy, for people.
    Table,
    /// A line for each policy, fault, workload and unit, for spreadsheets.
    Csv,
    /// Nothing: the files are enough.
    None,
}

/// Runs everything; returns the exit status.
pub(super) fn run(args: &CompareArgs) -> Result<u8, CliError> {
    let plan = Plan::new(args.matrix()?, args.machine.text(), args.selection(), args.shard);
    let jobs = args.jobs.or(available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let options = Options { jobs, out: args.out.as_deref(), resume: args.resume };
    let mut signals = SignalFd::new(&[libc::SIGINT, libc::SIGTERM]).map_err(CliError::Signals)?;
    let bar = progress(0);
    let set_position = |progress: Progress| {
        bar.set_length(progress.planned as u64);
        bar.set_position(progress.done as u64);
    };
    let outcome = compare(&plan, &options, set_position, || signals.read());
    bar.finish_and_clear();
    match outcome? {
        Outcome::Complete(summary) => {
            show(args.format, &plan, &summary, args.out.as_deref()).map_err(CliError::Output)?;
            Ok(0)
        }
        Outcome::Interrupted { signal, done } => {
            let kept = match &args.out {
                Some(out) => format!("they are in '{}', and --resume continues", out.display()),
                None => "they are lost: --out DIR keeps them".to_owned(),
            };
            eprintln!("ghostlink: interrupted after {done} runs; {kept}");
            Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
    }
}

/// A bar with the time that is left, on a terminal.
pub(super) fn progress(runs: usize) -> ProgressBar {
    let bar = ProgressBar::new(runs as u64);
    let template = "{bar:30} {pos}/{len} runs, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Prints the results of all runs, and the places of the files.
pub(super) fn show(
    format: Format,
    plan: &Plan,
    summary: &Summary,
    directory: Option<&Path>,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let whole = plan.shard == Shard::WHOLE;
    match format {
        Format::Table if whole => {
            let coloured = io::stdout().is_terminal() && console::colors_enabled();
            writeln!(out, "{}", table::text(summary, coloured))?;
            writeln!(out, "{}", table::LEGEND)?;
            if let Some(precision) = table::precision(summary, plan.matrix.seeds) {
                writeln!(out, "{precision}")?;
            }
        }
        Format::Csv => csv::write(summary, &mut out)?,
        Format::Table | Format::None => {}
    }
    drop(out);
    match directory {
        Some(directory) if whole => {
            let (report, cells) = (directory.join(REPORT), directory.join(CSV));
            eprintln!("ghostlink: see '{}' and '{}'", report.display(), cells.display());
        }
        Some(directory) => eprintln!(
            "ghostlink: part {} with {} runs is in '{}'; 'ghostlink merge' joins the parts",
            plan.shard,
            summary.runs(),
            directory.display()
        ),
        None if format == Format::Table => {
            eprintln!("ghostlink: --out DIR keeps the runs and writes a report with plots");
        }
        None => {}
    }
    Ok(())
}

impl CompareArgs {
    fn matrix(&self) -> Result<Matrix, CliError> {
        let (catalog, of_file) = self.machine.read()?;
        let or = |ours: &Vec<String>, theirs| if ours.is_empty() { theirs } else { ours.clone() };
        let selection = Selection {
            policies: or(&self.policies, of_file.policies),
            faults: or(&self.faults, of_file.faults),
            workloads: or(&self.workloads, of_file.workloads),
            units: or(&self.units, of_file.units),
            cpus_per_device: match self.cpus_per_device.as_slice() {
                [] => of_file.cpus_per_device,
                ours => ours.to_vec(),
            },
            seeds: self.seeds.or(of_file.seeds),
            ..of_file
        };
        Ok(Matrix::new(&catalog, &selection)?)
    }

    /// The options that select the runs, as written on a command line.
    fn selection(&self) -> String {
        let names = |names: &[String]| (!names.is_empty()).then(|| names.join(","));
        let cpus: Vec<String> = self.cpus_per_device.iter().map(u16::to_string).collect();
        [
            option("policies", names(&self.policies)),
            option("faults", names(&self.faults)),
            option("workloads", names(&self.workloads)),
            option("units", names(&self.units)),
            option("cpus-per-device", names(&cpus)),
            option("seeds", self.seeds.map(|seeds| seeds.to_string())),
        ]
        .concat()
    }
}
