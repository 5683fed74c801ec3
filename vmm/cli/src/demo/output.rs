//! Output of the demo: one table, or a JSON object for each run.

use std::io::{self, Write};
use std::time::Duration;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use iommu::ids::Bdf;
use serde::Serialize;
use vmm::{Outcome, Summary};

use super::{DemoArgs, GIVE_UP, Run, VICTIM};

/// One run as JSON. Times are nanoseconds; null stands for phases that the guest did not reach.
#[derive(Debug, Serialize)]
struct Row<'a> {
    host: &'a str,
    /// Null without a host.
    policy: Option<&'a str>,
    scenario: &'a str,
    outcome: Option<Outcome>,
    /// Whether the victim's invalidation was reported complete by the status write for another.
    false_completion: bool,
    guest_stall_ns: Option<u128>,
    /// 0 without a host.
    host_stall_ns: u128,
    waits_aborted: u32,
    /// Whether the guest-visible unit has raised ITE.
    ite: bool,
    /// The first ITESID.
    ite_sid: Option<Bdf>,
    neighbor_stall_ns: Option<u128>,
    neighbor_outcome: Option<Outcome>,
    neighbor_false_completion: bool,
    stale_accesses: u64,
    ict: iommu::time::Timeout,
    ordering: iommu::unit::Ordering,
}

/// Prints one run as a line of JSON.
pub(super) fn write_json(run: &Run, summary: &Summary) -> io::Result<()> {
    let row = Row {
        host: run.host.kind(),
        policy: run.host.policy(),
        scenario: run.scenario.name(),
        outcome: summary.outcome,
        false_completion: summary.false_completion,
        guest_stall_ns: summary.guest_stall.map(|time| time.as_nanos()),
        host_stall_ns: summary.host_stall.as_nanos(),
        waits_aborted: summary.waits_aborted,
        ite: !summary.timeouts.is_empty(),
        ite_sid: summary.timeouts.first().copied(),
        neighbor_stall_ns: summary.neighbor_stall.map(|time| time.as_nanos()),
        neighbor_outcome: summary.neighbor_outcome,
        neighbor_false_completion: summary.neighbor_false_completion,
        stale_accesses: summary.stale_accesses,
        ict: run.ict,
        ordering: run.ordering,
    };
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &row)?;
    writeln!(out)
}

/// Prints all runs as one table, with the settings below it.
pub(super) fn write_table(args: &DemoArgs, rows: &[(Run, Summary)]) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "scenario",
        "host",
        "policy",
        "outcome",
        "guest stall",
        "host stall",
        "aborted",
        "ITE blames",
        "neighbor",
        "its stall",
        "stale DMA",
    ]);
    for (run, summary) in rows {
        table.add_row([
            run.scenario.name().to_owned(),
            run.host.kind().to_owned(),
            run.host.policy().unwrap_or("-").to_owned(),
            outcome(summary.outcome, summary.false_completion),
            time(summary.guest_stall),
            time(run.host.policy().map(|_| summary.host_stall)),
            summary.waits_aborted.to_string(),
            summary.timeouts.first().map_or("-".to_owned(), Bdf::to_string),
            outcome(summary.neighbor_outcome, summary.neighbor_false_completion),
            time(summary.neighbor_stall),
            summary.stale_accesses.to_string(),
        ]);
    }
    for column in [4, 5, 6, 9, 10] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{table}")?;
    if rows.iter().any(|(_, run)| run.false_completion || run.neighbor_false_completion) {
        writeln!(
            out,
            "FALSELY: the status write for another wait has ended this one, and the invalidation \
             was not done"
        )?;
    }
    writeln!(
        out,
        "victim {VICTIM}; physical unit: ICT {}, never in silent-no-ite, ordering {}; the guest \
         gives up after {}",
        args.ict,
        args.ordering,
        time(Some(GIVE_UP)),
    )
}

/// The outcome of a flush. A completion that was another's is not shown as a success.
fn outcome(outcome: Option<Outcome>, is_false: bool) -> String {
    match outcome {
        Some(Outcome::Completed) if is_false => "FALSELY completed".to_owned(),
        outcome => outcome.map_or("-", Outcome::name).to_owned(),
    }
}

/// A time with about three digits.
fn time(time: Option<Duration>) -> String {
    let Some(time) = time else { return "-".to_owned() };
    let seconds = time.as_secs_f64();
    match time.as_nanos() {
        0 => "0".to_owned(),
        1..1_000_000 => format!("{:.0} µs", seconds * 1e6),
        1_000_000..1_000_000_000 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_false_completion_is_not_shown_as_a_success() {
        assert_eq!(outcome(Some(Outcome::Completed), false), "completed");
        assert_eq!(outcome(Some(Outcome::Completed), true), "FALSELY completed");
        // The guest gave up, or has the verdict of a later try.
        assert_eq!(outcome(Some(Outcome::TimedOut), true), "timed_out");
        assert_eq!(outcome(None, false), "-");
    }

    #[test]
    fn times_are_short_and_have_their_unit() {
        let text = |nanos| time(Some(Duration::from_nanos(nanos)));
        assert_eq!(text(0), "0");
        assert_eq!(text(12_345), "12 µs");
        assert_eq!(text(101_340_000), "101.3 ms");
        assert_eq!(text(2_004_000_000), "2.00 s");
        assert_eq!(time(None), "-");
    }
}
