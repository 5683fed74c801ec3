//! `ghostlink validate`: options, JSON lines and table.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use crate::validate::{
    self, Affected, Agreement, FAULTS, MAX_CPUS, Measured, Observation, Pair, Told, grid,
};
use clap::{Args, ValueEnum};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use devices::pcie::link::Obeys;
use iommu::submit::Verdict;
use iommu::unit::Ordering;
use lab::text::time;
use serde::Serialize;

use crate::CliError;
use crate::host::{self, HostKind, PolicyWithoutHost};
use crate::policies::{PoliciesArgs, PoliciesError};
use crate::progress::Progress;

/// Exit status if something does not agree.
const DISAGREES: u8 = 1;

/// Options of `ghostlink validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Only this kind of host: the guest's unit is the physical one (direct), or a host with a policy
    /// is below it (forwarded) [default: both, or forwarded with --policies]
    #[arg(long, value_name = "direct|forwarded")]
    host: Option<HostKind>,

    /// Only these policies, see 'ghostlink policies' [default: all whose bound is below
    /// 10 s]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    policies: Vec<String>,

    #[command(flatten)]
    own: PoliciesArgs,

    /// Only these faults, as in silent or silent/sent [default: all that KVM and the simulation share]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    faults: Vec<String>,

    /// Also run the policies whose bound is 10 s or more; they wait in real time
    #[arg(long)]
    long: bool,

    /// Kinds of units, by the order in which waits in their queues complete: serial (after everything
    /// in front), parallel (after what stands between a wait and the previous one), or blocking (as
    /// serial, and nothing is fetched behind a pending wait)
    #[arg(
        long,
        alias = "ordering",
        value_name = "ORDER,..",
        value_delimiter = ',',
        default_value = "serial"
    )]
    units: Vec<Ordering>,

    /// CPUs for each device, 1 to 4, which share the lock of its domain
    #[arg(
        long,
        value_name = "N,..",
        value_delimiter = ',',
        default_value = "1",
        value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_CPUS))
    )]
    cpus_per_device: Vec<u8>,

    /// When ATCs drop what an Invalidate Request names: at-answer (with the completion, as PCIe 10.1.1
    /// permits) or at-once (when it arrives)
    #[arg(long, value_name = "WHEN", default_value_t)]
    obeys: Obeys,

    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Also write the measurements and a row for each pair to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table for people: a row for each pair.
    Table,
    /// A table with a row for each host and a column for each fault, for documents.
    Grid,
    /// A JSON object for what was measured and for each pair, on lines of their own.
    Json,
}

/// A pair and its result, as JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    pair: &'a Pair,
    agrees: bool,
    #[serde(flatten)]
    agreement: &'a Agreement,
}

/// Runs everything; returns the exit status.
pub(crate) fn run(args: &ValidateArgs) -> Result<u8, CliError> {
    let pairs = args.pairs()?;
    let mut lines = Lines::new(args)?;
    let progress = Progress::new(pairs.len() + 1);
    progress.begin(0, "measuring what an exit costs".to_owned());
    let measured = validate::calibrate()?;
    progress.suspended(|| lines.write(&measured))?;
    let mut rows = Vec::with_capacity(pairs.len());
    for (index, pair) in pairs.into_iter().enumerate() {
        progress.begin(index + 1, pair.to_string());
        let agreement = validate::run(&pair, &measured)?;
        let agrees = agreement.agrees();
        let row = Row { pair: &pair, agrees, agreement: &agreement };
        progress.suspended(|| lines.write(&row))?;
        rows.push((pair, agreement));
    }
    progress.finish();
    match args.format {
        Format::Table => write_table(&measured, &rows).map_err(CliError::Output)?,
        Format::Grid => write_grids(&measured, &rows).map_err(CliError::Output)?,
        Format::Json => {}
    }
    let all_agree = rows.iter().all(|(_, agreement)| agreement.agrees());
    Ok(if all_agree { 0 } else { DISAGREES })
}

impl ValidateArgs {
    /// All pairs, by unit, by CPUs and by fault.
    fn pairs(&self) -> Result<Vec<Pair>, CliError> {
        if self.long && self.host == Some(HostKind::Direct) {
            return Err(PoliciesError::from(PolicyWithoutHost::new("--long".to_owned())).into());
        }
        let faults = match self.faults.as_slice() {
            [] => FAULTS.to_vec(),
            chosen => {
                let rows: Result<Vec<_>, _> = chosen.iter().map(|n| validate::faults(n)).collect();
                rows?.concat()
            }
        };
        let mut pairs = Vec::new();
        for &ordering in &self.units {
            let usual = validate::usual_policies(self.long, ordering);
            let hosts = host::compared(self.host, &self.policies, &self.own, usual)?;
            for (&cpus, &(fault, when)) in iproduct(&self.cpus_per_device, &faults) {
                let pair = |host| Pair { host, fault, when, ordering, cpus, obeys: self.obeys };
                pairs.extend(hosts.iter().cloned().map(pair));
            }
        }
        Ok(pairs)
    }
}

/// Each of `a` with each of `b`.
fn iproduct<'a, A, B>(a: &'a [A], b: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    a.iter().flat_map(move |a| b.iter().map(move |b| (a, b)))
}

/// Destinations of JSON lines: standard output, a file, or both.
struct Lines {
    stdout: bool,
    file: Option<(PathBuf, File)>,
}

impl Lines {
    fn new(args: &ValidateArgs) -> Result<Self, CliError> {
        let create = |path: &PathBuf| match File::create(path) {
            Ok(file) => Ok((path.clone(), file)),
            Err(source) => Err(CliError::Events { path: path.clone(), source }),
        };
        let file = args.out.as_ref().map(create).transpose()?;
        Ok(Self { stdout: args.format == Format::Json, file })
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), CliError> {
        let mut text =
            serde_json::to_vec(line).map_err(io::Error::from).map_err(CliError::Output)?;
        text.push(b'\n');
        if self.stdout {
            io::stdout().lock().write_all(&text).map_err(CliError::Output)?;
        }
        if let Some((path, file)) = &mut self.file {
            let events = |source| CliError::Events { path: path.clone(), source };
            file.write_all(&text).map_err(events)?;
        }
        Ok(())
    }
}

fn write_table(measured: &Measured, rows: &[(Pair, Agreement)]) -> Result<(), io::Error> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "unit",
        "CPUs",
        "fault",
        "host",
        "policy",
        "verdict",
        "submitted",
        "ATC",
        "stale DMA",
        "KVM",
        "simulated",
        "other CPUs, KVM",
        "simulated",
        "neighbor",
        "KVM",
        "simulated",
        "",
    ]);
    for (pair, agreement) in rows {
        let Agreement { kvm, simulated, .. } = agreement;
        let both = |cell: fn(&Observation) -> String| match (cell(kvm), cell(simulated)) {
            (kvm, simulated) if kvm == simulated => kvm,
            (kvm, simulated) => format!("{kvm}, simulated: {simulated}"),
        };
        table.add_row([
            pair.ordering.to_string(),
            pair.cpus.to_string(),
            format!("{}/{}", pair.fault, pair.when.name()),
            pair.host.kind().to_owned(),
            pair.host.policy().unwrap_or("-").to_owned(),
            both(verdict_text),
            both(|it| it.submissions.to_string()),
            both(|it| if it.dropped { "dropped" } else { "holds" }.to_owned()),
            both(|it| stale(it.stale).to_owned()),
            stall(kvm),
            stall(simulated),
            crowd(kvm),
            crowd(simulated),
            both(|it| it.neighbor.map_or("-".to_owned(), neighbor_text)),
            neighbor(kvm),
            neighbor(simulated),
            judgement(agreement),
        ]);
    }
    for column in [1, 6, 9, 10, 11, 12, 14, 15] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{table}")?;
    write_summary(&mut out, measured, rows)
}

fn write_grids(measured: &Measured, rows: &[(Pair, Agreement)]) -> Result<(), io::Error> {
    let mut out = io::stdout().lock();
    for grid in grid::grids(rows) {
        writeln!(out, "{grid}\n")?;
    }
    write_summary(&mut out, measured, rows)
}

fn write_summary(
    out: &mut impl Write,
    measured: &Measured,
    rows: &[(Pair, Agreement)],
) -> Result<(), io::Error> {
    let again = rows.iter().filter(|(_, agreement)| !agreement.discarded.is_empty()).count();
    let agreed = rows.iter().filter(|(_, agreement)| agreement.agrees()).count();
    writeln!(out, "{agreed} of {} pairs agree, {again} after more than one try", rows.len())?;
    let Measured { exit, register_read, vendor_id, descriptor, doorbell, .. } = measured;
    let Measured { answer, presence_check, flush, .. } = measured;
    writeln!(
        out,
        "measured under KVM: exit {}, register read {}, vendor ID {}, descriptor {}, doorbell {}, \
         answer {}, host's presence check {}; flush {}",
        time(*exit),
        time(*register_read),
        time(*vendor_id),
        time(*descriptor),
        time(*doorbell),
        time(*answer),
        time(*presence_check),
        time(*flush),
    )
}

fn verdict_text(side: &Observation) -> String {
    let own = verdict(side.verdict);
    if side.false_completion { format!("{own} (another's)") } else { own.to_owned() }
}

/// Its verdict, with what was not safe: a completion that was another's, and stale DMA.
fn neighbor_text(it: Affected) -> String {
    let own = verdict(it.verdict);
    let anothers = if it.false_completion { " (another's)" } else { "" };
    let stale = it.stale.map_or(String::new(), |told| format!(", stale {}", stale(Some(told))));
    format!("{own}{anothers}{stale}")
}

fn crowd(side: &Observation) -> String {
    side.crowd.map_or("-".to_owned(), |crowd| match crowd.ended {
        true => time(crowd.stall),
        false => "for ever".to_owned(),
    })
}

/// The verdict's word in tables.
pub(super) const fn verdict(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Completed) => "completed",
        Some(Verdict::Skipped) => "skipped",
        Some(Verdict::DeadlinePassed) => "deadline passed",
        Some(Verdict::UnitTimedOut) => "unit timed out",
        Some(Verdict::Quarantined) => "quarantined",
        Some(Verdict::Removed) => "removed",
        Some(Verdict::Fenced) => "fenced",
        Some(Verdict::Recovering) => "recovering",
        Some(Verdict::Blocked) => "blocked",
        Some(Verdict::Withheld) => "withheld",
        Some(Verdict::Reset) => "reset",
        Some(Verdict::AtsDisabled) => "ATS disabled",
        Some(Verdict::Crashed) => "crashed",
        None => "none",
    }
}

const fn stale(told: Option<Told>) -> &'static str {
    match told {
        Some(Told::Success) => "after success",
        Some(Told::Failure) => "after failure",
        None => "none",
    }
}

fn stall(side: &Observation) -> String {
    match side.verdict {
        Some(_) => time(side.stall),
        None => "for ever".to_owned(),
    }
}

fn neighbor(side: &Observation) -> String {
    let wait = |wait: Option<Duration>| wait.map_or("for ever".to_owned(), time);
    side.neighbor.map_or("-".to_owned(), |it| wait(it.verdict.map(|_| it.wait)))
}

fn judgement(agreement: &Agreement) -> String {
    let mut text = if agreement.agrees() { "agree" } else { "DIFFER" }.to_owned();
    if !agreement.discarded.is_empty() {
        text += &format!(", {} tries", agreement.discarded.len() + 1);
    }
    text
}
