//! `ghostlink explain`: replays one run, sums it up in ten lines, and narrates its events.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use iommu::event::TimedEvent;
use iommu::time::Instant;
use iommu::unit::Ordering;
use lab::matrix::{self, MatrixError};
use lab::plan::Plan;
use lab::sim::{RunId, RunSpec};
use lab::{digest, narrate, replay, write_trace};

use super::compare::MachineArgs;
use crate::CliError;

/// Lines with steps that are printed without `--all`: a first unsafe event is nearly always among
/// them, and the summary above them stays on the screen.
const STEPS: usize = 100;

/// Options of `ghostlink explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Run to replay: policy/fault/workload/unit/seed, as in results.jsonl and in the report
    run: RunId,

    /// Take policy, fault, workload and unit from the comparison in this directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["matrix", "policies_file", "ict", "obeys", "ordering"])]
    from: Option<PathBuf>,

    #[command(flatten)]
    machine: MachineArgs,

    /// The unit of a run whose name has four parts, as earlier versions wrote it
    #[arg(long, hide = true)]
    ordering: Option<Ordering>,

    /// Print every step, not only the first 100 lines of them
    #[arg(long)]
    all: bool,

    /// Write a trace for ui.perfetto.dev
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Write all events as JSON lines
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// Runs it again; returns the exit status.
pub(super) fn run(args: &ExplainArgs) -> Result<u8, CliError> {
    let spec = args.spec()?;
    let replay = replay(&spec)?;
    let events = &replay.events;
    if let Some(path) = &args.trace {
        let end = Instant::START + spec.horizon;
        write(path, |out| write_trace(events, end, out))?;
    }
    if let Some(path) = &args.events {
        write(path, |out| lines(events, out))?;
    }
    let mut out = BufWriter::new(io::stdout().lock());
    header(&spec, &mut out)
        .and_then(|()| digest(&spec, &replay, &mut out))
        .and_then(|()| writeln!(out))
        .and_then(|()| narrate(events, (!args.all).then_some(STEPS), &mut out))
        .and_then(|()| out.flush())
        .map_err(CliError::Output)?;
    Ok(0)
}

fn header(spec: &RunSpec, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", spec.id())?;
    writeln!(out, "  {}", spec.workload.about)?;
    writeln!(
        out,
        "  unit: {}, which completes waits in {} order and raises ITE after {}",
        spec.unit_name, spec.unit.ordering, spec.unit.ict
    )?;
    writeln!(out, "  times are counted from the fault")
}

fn lines(events: &[TimedEvent], out: &mut dyn Write) -> io::Result<()> {
    for event in events {
        serde_json::to_writer(&mut *out, event)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), CliError> {
    let written = File::create(path).and_then(|file| {
        let mut out = BufWriter::new(file);
        content(&mut out)?;
        out.flush()
    });
    written.map_err(|source| CliError::Events { path: path.to_owned(), source })
}

impl ExplainArgs {
    /// The run that the options name.
    fn spec(&self) -> Result<RunSpec, CliError> {
        let unknown = |error| MatrixError::Name(matrix::explain(&error));
        let mut run = self.run.clone();
        if let Some(ordering) = self.ordering {
            run.unit = ordering.to_string();
        }
        if let Some(directory) = &self.from {
            let plan = Plan::read(directory).map_err(lab::LabError::from)?;
            return Ok(plan.spec(&run).map_err(unknown)?);
        }
        let (catalog, selection) = self.machine.read()?;
        Ok(selection.machine().spec(&catalog, &run).map_err(unknown)?)
    }
}
