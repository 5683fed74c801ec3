//! `ghostlink explore`: tries every order of events up to a bound, for each policy and fault, and checks
//! invariants in all of them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::{Args, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use devices::pcie::link::Obeys;
use iommu::submit::{PRESETS, Policy, Preset};
use iommu::time::Timeout;
use iommu::unit::Ordering;
use lab::explore::{ExploreConfig, ExploredFault, Invariant, Report, explore};
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
    /// No sequence breaks an invariant that the policy claims.
    keeps_claims: bool,
    violations: BTreeMap<Invariant, lab::explore::Violation>,
    #[serde(skip)]
    claims: Vec<Invariant>,
}

/// Explores everything; returns the exit status.
pub(super) fn run(args: &ExploreArgs) -> Result<u8, CliError> {
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
    let config = ExploreConfig {
        policy: policy.clone(),
        fault,
        ict: args.ict,
        ordering: args.ordering,
        obeys: args.obeys,
        depth: args.depth.into(),
        random: args.random,
        seed: args.seed,
    };
    let report = explore(&config).map_err(devices::Error::from).map_err(vmm::Error::from)?;
    let keeps_claims = report.keeps_claims(policy, fault);
    let Report { states, violations } = report;
    let claims =
        Invariant::ALL.into_iter().filter(|claim| claim.is_claimed_by(policy, fault)).collect();
    Ok(Row { policy: policy.name.clone(), fault, states, keeps_claims, violations, claims })
}

fn write_json(row: &Row) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, row)?;
    writeln!(out)
}

fn write_table(args: &ExploreArgs, rows: &[Row], stories: bool) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let invariants = Invariant::ALL.map(Invariant::name);
    table.set_header(["policy", "fault", "states"].into_iter().chain(invariants));
    for row in rows {
        let cells = [row.policy.clone(), row.fault.to_string(), row.states.to_string()];
        table
            .add_row(cells.into_iter().chain(Invariant::ALL.map(|invariant| cell(row, invariant))));
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{table}")?;
    writeln!(
        out,
        "'-': not found in any sequence of up to {} events{}. 'n events': the shortest sequence that \
         breaks the invariant. '(n)': the same, and the policy does not claim the invariant. \
         ICT {}, ordering {}",
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

fn cell(row: &Row, invariant: Invariant) -> String {
    let steps = row.violations.get(&invariant).map(|violation| violation.trace.len());
    match steps {
        None => "-".to_owned(),
        Some(steps) if row.claims.contains(&invariant) => format!("{steps} events"),
        Some(steps) => format!("({steps})"),
    }
}
