//! `ghostlink explore`: tries every order of events up to a bound, for each policy and fault, and checks
//! invariants in all of them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use clap::{Args, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use devices::pcie::link::Obeys;
use iommu::submit::{PRESETS, Policy, Preset};
use iommu::time::Timeout;
use iommu::unit::Ordering;
use lab::explore::{
    ExploreConfig, ExploredFault, Fate, Invariant, Report, candidates, explore, try_candidates,
};
use serde::Serialize;

use super::policies::PoliciesArgs;
use crate::CliError;

/// Exit status if a policy breaks an invariant that it claims.
const BROKEN: u8 = 3;

/// Options of `ghostlink explore`.
#[derive(Debug, Args)]
pub(super) struct ExploreArgs {
    /// Only this policy; may be given several times [default: every preset with a row in tables whose
    /// system exists with such a unit]
    #[arg(long, value_name = "POLICY")]
    policy: Vec<String>,

    #[command(flatten)]
    policies: PoliciesArgs,

    /// Only this fault: none, no-completion, ignore-invalidate, late, too-late, lossy, duplicate, silent or flap; may be given
    /// several times [default: all]
    #[arg(long, value_name = "FAULT")]
    fault: Vec<ExploredFault>,

    /// Length of the sequences of events that are tried in every order, 1 to 12
    #[arg(long, value_name = "N", default_value_t = 6,
          value_parser = clap::value_parser!(u8).range(1..=12))]
    depth: u8,

    /// Random sequences in addition, three times as long, for each policy and fault
    #[arg(long, value_name = "N", default_value_t = 0)]
    random: u64,

    /// Seed of the random sequences
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// Time after which the unit raises ITE, or never
    #[arg(long, value_name = "TIME", default_value = "60s")]
    ict: Timeout,

    /// Order in which waits in the unit's queue complete: serial (after everything in front), parallel
    /// (after what stands between a wait and the previous one), or blocking (as serial, and nothing is
    /// fetched behind a pending wait)
    #[arg(long, value_name = "ORDER", default_value_t)]
    ordering: Ordering,

    /// When devices drop what an Invalidate Request names: when they answer it, which is the worst that
    /// PCIe permits, or when it arrives
    #[arg(long, value_name = "at-answer|at-once", default_value_t)]
    obeys: Obeys,
    /// Whether each policy is live (no caller waits for 10 s), safe and fair (the neighbor, which is
    /// healthy, is neither isolated nor reset, unless it owes an answer for 100 ms) in all orders
    #[arg(long)]
    properties: bool,

    /// The neighbor may answer at any time before the unit gives up, as PCIe permits. To take it for mute
    /// is fair while it owes an answer for 100 ms
    #[arg(long)]
    slow_neighbor: bool,

    /// Instead of presets, every combination of the fields of a policy: those that are live, safe and
    /// fair under all of --fault, and what the others fail at
    #[arg(long, conflicts_with_all = ["policy", "policies_file"])]
    every_policy: bool,

    /// Explain every violation that was found, also with several policies
    #[arg(long)]
    stories: bool,

    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table for people, and stories.
    Table,
    /// A JSON object for each policy and fault, on a line of its own.
    Json,
}

/// One policy under one fault.
#[derive(Debug, Serialize)]
struct Row {
    policy: String,
    fault: ExploredFault,
    /// Different states that were reached.
    states: usize,
    /// Every order was tried.
    complete: bool,
    /// No sequence breaks an invariant that the policy claims.
    keeps_claims: bool,
    violations: BTreeMap<Invariant, lab::explore::Violation>,
    #[serde(skip)]
    claims: Vec<Invariant>,
}

/// Explores everything; returns the exit status.
pub(super) fn run(args: &ExploreArgs) -> Result<u8, CliError> {
    if args.every_policy {
        return try_every_policy(args);
    }
    let policies: Vec<Policy> = match args.policy.as_slice() {
        [] => PRESETS
            .iter()
            .filter(|preset| preset.in_tables)
            .map(Preset::policy)
            .filter(|policy| policy.applies_to(args.ordering))
            .collect(),
        chosen => args.policies.choose(chosen)?,
    };
    let faults =
        if args.fault.is_empty() { ExploredFault::all().collect() } else { args.fault.clone() };
    let mut rows = Vec::new();
    for policy in &policies {
        for fault in &faults {
            let row = row(policy, *fault, args)?;
            if args.format == Format::Json {
                write_json(&row).map_err(CliError::Output)?;
            }
            rows.push(row);
        }
    }
    if args.format == Format::Table {
        let stories = args.stories || policies.len() == 1;
        write_table(args, &rows, stories).map_err(CliError::Output)?;
    }
    Ok(if rows.iter().all(|row| row.keeps_claims) { 0 } else { BROKEN })
}

fn row(policy: &Policy, fault: ExploredFault, args: &ExploreArgs) -> Result<Row, CliError> {
    let config = config(policy, fault, args);
    let report = explore(&config).map_err(devices::Error::from).map_err(vmm::Error::from)?;
    let keeps_claims = report.keeps_claims(policy, fault);
    let Report { states, complete, violations } = report;
    let claims =
        Invariant::ALL.into_iter().filter(|claim| claim.is_claimed_by(policy, fault)).collect();
    Ok(Row {
        policy: policy.name.clone(),
        fault,
        states,
        complete,
        keeps_claims,
        violations,
        claims,
    })
}

fn config(policy: &Policy, fault: ExploredFault, args: &ExploreArgs) -> ExploreConfig {
    ExploreConfig {
        policy: policy.clone(),
        fault,
        ict: args.ict,
        ordering: args.ordering,
        obeys: args.obeys,
        properties: args.properties,
        slow_neighbor: args.slow_neighbor,
        depth: args.depth.into(),
        random: args.random,
        seed: args.seed,
    }
}

/// Tries every combination of the fields of a policy; returns the exit status.
fn try_every_policy(args: &ExploreArgs) -> Result<u8, CliError> {
    let faults: Vec<ExploredFault> =
        if args.fault.is_empty() { ExploredFault::all().collect() } else { args.fault.clone() };
    let policies = candidates();
    let Some(first) = policies.first() else { return Ok(0) };
    let config = config(first, faults[0], args);
    let jobs = available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let fates = try_candidates(&policies, &faults, &config, jobs)
        .map_err(devices::Error::from)
        .map_err(vmm::Error::from)?;
    let mut failures: BTreeMap<(&str, String, &str), usize> = BTreeMap::new();
    let mut out = io::stdout().lock();
    let mut write = |line: String| writeln!(out, "{line}").map_err(CliError::Output);
    for (policy, fate) in policies.iter().zip(&fates) {
        match fate {
            Fate::Fails(invariant, fault, _) => {
                let key = (invariant.property(), fault.to_string(), invariant.name());
                *failures.entry(key).or_default() += 1;
            }
            Fate::Holds { states, complete } => {
                let orders = if *complete { "every order" } else { "not every order" };
                write(format!("holds: {policy} ({states} states, {orders})"))?;
            }
        }
    }
    for ((property, fault, invariant), count) in &failures {
        write(format!("{count} are not {property}: {invariant} under {fault}"))?;
    }
    let failed: usize = failures.values().sum();
    write(format!(
        "{} of {} hold: sequences of up to {} events, ICT {}, ordering {}{}",
        policies.len() - failed,
        policies.len(),
        args.depth,
        args.ict,
        args.ordering,
        if args.slow_neighbor { ", the neighbor may be slow" } else { "" },
    ))?;
    Ok(0)
}

fn write_json(row: &Row) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, row)?;
    writeln!(out)
}

fn write_table(args: &ExploreArgs, rows: &[Row], stories: bool) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let columns: Vec<&str> = match args.properties {
        true => vec!["live", "safe", "fair"],
        false => Invariant::ALL.map(Invariant::name).to_vec(),
    };
    table.set_header(["policy", "fault", "states"].into_iter().chain(columns.iter().copied()));
    for row in rows {
        let more = if row.complete { "" } else { "+" };
        let cells = [row.policy.clone(), row.fault.to_string(), format!("{}{more}", row.states)];
        let found = columns.iter().map(|column| match args.properties {
            true => property(row, column),
            false => cell(row, column),
        });
        table.add_row(cells.into_iter().chain(found));
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{table}")?;
    writeln!(
        out,
        "'-': not found in any sequence of up to {} events{}. 'n events': the shortest sequence that \
         breaks the invariant. '(n)': the same, and the policy does not claim the invariant. 'n+': there \
         are more states than fit, and some orders were not tried. ICT {}, ordering {}",
        args.depth,
        if args.random > 0 { format!(" or in {} random ones", args.random) } else { String::new() },
        args.ict,
        args.ordering,
    )?;
    if stories {
        for row in rows {
            for (invariant, violation) in &row.violations {
                writeln!(out, "\n{} under '{}': {}", row.policy, row.fault, invariant.name())?;
                for line in &violation.narration {
                    writeln!(out, "  {line}")?;
                }
            }
        }
    }
    Ok(())
}

fn cell(row: &Row, name: &str) -> String {
    match row.violations.iter().find(|(invariant, _)| invariant.name() == name) {
        None => "-".to_owned(),
        Some((invariant, found)) if row.claims.contains(invariant) => {
            format!("{} events", found.trace.len())
        }
        Some((_, found)) => format!("({})", found.trace.len()),
    }
}

/// The shortest trace that breaks a property.
fn property(row: &Row, name: &str) -> String {
    let broken = row.violations.iter().filter(|(invariant, _)| invariant.property() == name);
    let shortest = broken.map(|(_, found)| found.trace.len()).min();
    shortest.map_or("-".to_owned(), |steps| format!("{steps} events"))
}
