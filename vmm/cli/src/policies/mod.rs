//! `ghostlink policies` lists all policies. The options by which other commands choose one are in
//! `file`.

mod file;

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use iommu::submit::{PRESETS, Policy, PrecheckOn, Suspects, Units};
use serde::Serialize;

use crate::CliError;
pub(super) use file::{PoliciesArgs, PoliciesError};

/// Options of `ghostlink policies`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    policies: PoliciesArgs,

    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A few lines for each.
    Text,
    /// A JSON object for each, on a line of its own.
    Json,
}

/// A row of the list.
#[derive(Debug, Serialize)]
struct Entry {
    /// The policy as a user writes it on the command line.
    usage: String,
    #[serde(flatten)]
    policy: Policy,
    /// The system that it stands for; nothing for a user's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    reproduces: Option<&'static str>,
    /// File, function and commits, or list and date.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    /// Whether tables have it unless policies are named; nothing for a user's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_tables: Option<bool>,
}

/// Writes the list to standard output; returns the exit status.
pub(super) fn list(args: &ListArgs) -> Result<u8, CliError> {
    let own = args.policies.own()?;
    let presets = PRESETS.iter().map(|preset| Entry {
        usage: preset.usage(),
        policy: preset.policy(),
        reproduces: Some(preset.reproduces),
        source: Some(preset.source),
        in_tables: Some(preset.in_tables),
    });
    let own = own.into_iter().map(|policy| Entry {
        usage: policy.name.clone(),
        policy,
        reproduces: None,
        source: None,
        in_tables: None,
    });
    let entries = presets.chain(own);
    let write = match args.format {
        Format::Text => write_text,
        Format::Json => write_json,
    };
    let mut out = io::stdout().lock();
    entries.into_iter().try_for_each(|entry| write(&entry, &mut out)).map_err(CliError::Output)?;
    Ok(0)
}

fn write_json(entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, entry)?;
    writeln!(out)
}

fn write_text(entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
    let policy = &entry.policy;
    writeln!(out, "{}", entry.usage)?;
    if let Some(reproduces) = entry.reproduces {
        writeln!(out, "    {reproduces}")?;
    }
    if let Some(source) = entry.source {
        writeln!(out, "    source: {source}")?;
    }
    let in_flight = policy.in_flight.map(|limit| format!(", in flight {limit}"));
    writeln!(
        out,
        "    path {}, precheck {}{}, deadline {}{}, on time-out {}, on ITE {} (marks {})",
        policy.path,
        policy.precheck,
        match policy.precheck_on {
            PrecheckOn::Every => String::new(),
            path => format!(" (on {path})"),
        },
        policy.deadline,
        policy.other_deadline.map_or(String::new(), |other| format!(" (others {other})")),
        policy.on_timeout,
        policy.on_ite,
        policy.ite_marks,
    )?;
    writeln!(
        out,
        "    completion {}, slots {}{}, lock {}{}{}{}{}{}",
        policy.completion,
        policy.slots,
        if policy.fenced_waits { ", fn" } else { "" },
        policy.lock,
        if policy.watchdog { ", watchdog" } else { "" },
        in_flight.unwrap_or_default(),
        if policy.suspects == Suspects::Oldest { ", suspects oldest" } else { "" },
        if policy.reset_prepare { ", reset prepare" } else { "" },
        match policy.units {
            Units::Any => String::new(),
            units => format!(", units {units}"),
        },
    )?;
    match entry.in_tables {
        Some(false) => writeln!(out, "    no row in tables unless it is named"),
        _ => Ok(()),
    }
}
