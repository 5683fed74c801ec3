//! `ghostlink validate`: options, JSON lines and table.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use crate::validate::{self, Agreement, FAULTS, Measured, Observation, Pair, Told};
use clap::{Args, ValueEnum};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
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

    /// Order in which waits in the units' queues complete: serial (after everything in front), parallel
    /// (after what stands between a wait and the previous one), or blocking (as serial, and nothing is
    /// fetched behind a pending wait)
    #[arg(long, value_name = "ORDER", default_value_t)]
    ordering: Ordering,

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
    /// A table for people.
    Table,
    /// A JSON object for what was measured and for each pair, on lines of their own.
    Json,
}

/// A pair and its result, as JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    pair: &'a Pair,
    ordering: Ordering,
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
        let agreement = validate::run(&pair, args.ordering, &measured)?;
        let agrees = agreement.agrees();
        let row = Row { pair: &pair, ordering: args.ordering, agrees, agreement: &agreement };
        progress.suspended(|| lines.write(&row))?;
        rows.push((pair, agreement));
    }
    progress.finish();
    if args.format == Format::Table {
        write_table(&measured, &rows).map_err(CliError::Output)?;
    }
    let all_agree = rows.iter().all(|(_, agreement)| agreement.agrees());
    Ok(if all_agree { 0 } else { DISAGREES })
}

impl ValidateArgs {
    /// All pairs, fault by fault.
    fn pairs(&self) -> Result<Vec<Pair>, CliError> {
        if self.long && self.host == Some(HostKind::Direct) {
            return Err(PoliciesError::from(PolicyWithoutHost::new("--long".to_owned())).into());
        }
        let usual = validate::usual_policies(self.long, self.ordering);
        let hosts = host::compared(self.host, &self.policies, &self.own, usual)?;
        let faults = match self.faults.as_slice() {
            [] => FAULTS.to_vec(),
            chosen => {
                let rows: Result<Vec<_>, _> = chosen.iter().map(|n| validate::faults(n)).collect();
                rows?.concat()
            }
        };
        let of_fault =
            |(fault, when)| hosts.iter().cloned().map(move |host| Pair { host, fault, when });
        Ok(faults.into_iter().flat_map(of_fault).collect())
    }
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
        "fault",
        "host",
        "policy",
        "verdict",
        "submitted",
        "ATC",
        "stale DMA",
        "KVM",
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
            format!("{}/{}", pair.fault, pair.when.name()),
            pair.host.kind().to_owned(),
            pair.host.policy().unwrap_or("-").to_owned(),
            both(verdict_text),
            both(|it| it.submissions.to_string()),
            both(|it| if it.dropped { "dropped" } else { "holds" }.to_owned()),
            both(|it| stale(it.stale).to_owned()),
            stall(kvm),
            stall(simulated),
            both(|it| it.neighbor.map_or("-".to_owned(), |it| verdict(it.verdict).to_owned())),
            neighbor(kvm),
            neighbor(simulated),
            judgement(agreement),
        ]);
    }
    for column in [4, 7, 8, 10, 11] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let again = rows.iter().filter(|(_, agreement)| !agreement.discarded.is_empty()).count();
    let mut out = io::stdout().lock();
    writeln!(out, "{table}")?;
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

const fn verdict(verdict: Option<Verdict>) -> &'static str {
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
