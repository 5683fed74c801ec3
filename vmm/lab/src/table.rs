//! The table for the terminal: a line for each policy, the most alive first, and ranks of liveness
//! and safety apart, because they are two things.

use crate::sim::Latencies;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use console::{Style, StyledObject};

use super::summary::{Summary, Totals};
use super::text::{count, time};

const HEADER: [&str; 14] = [
    "policy",
    "live",
    "safe",
    "own wait",
    "neighbor's",
    "IRQs off",
    "hard",
    "soft",
    "lost",
    "unsafe",
    "stale DMA",
    "lazy DMA",
    "false done",
    "zombie",
];

/// Explains the columns; for below the table.
pub const LEGEND: &str = "live, safe: ranks, 1 is best.\n\
own wait, neighbor's: the longest wait that ended, of callers whose own device has the fault, and of the others.\n\
hard, soft: runs that trigger a lock-up detector. lost: runs in which nothing can end a caller's wait.\n\
unsafe: runs with stale DMA (by a translation that was to be invalidated) or a false done (a waiter takes\n\
another's completion for its own). lazy DMA: between an unmapping and its deferred flush; lazy mode allows it.";

/// The table. `coloured` is for terminals.
pub fn text(summary: &Summary, coloured: bool) -> String {
    let ranks = summary.ranks();
    let order = summary.order();
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(HEADER);
    for policy in &order {
        table.add_row(row(summary, *policy, ranks[*policy]));
    }
    for column in 1..HEADER.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.lines();
    if !coloured {
        return lines.collect::<Vec<_>>().join("\n");
    }
    let painted = lines.enumerate().map(|(line, text)| match line.checked_sub(2) {
        // The header, and the line below it.
        None => text,
        Some(row) => {
            order.get(row).map_or(text.clone(), |policy| paint(&text, summary.policy(*policy)))
        }
    });
    painted.collect::<Vec<_>>().join("\n")
}

fn row(summary: &Summary, policy: usize, (live, safe): (usize, usize)) -> [String; 14] {
    let totals = summary.policy(policy);
    let (runs, sum) = (totals.runs(), &totals.sum);
    [
        summary.policies[policy].clone(),
        live.to_string(),
        safe.to_string(),
        longest(&sum.stuck),
        longest(&sum.innocent),
        time(sum.interrupts_off.max()),
        of_runs(totals.hard_runs, runs),
        of_runs(totals.soft_runs, runs),
        of_runs(totals.lost_runs, runs),
        of_runs(totals.unsafe_runs, runs),
        count(sum.stale_accesses),
        count(sum.deferred_accesses),
        count(sum.host.false_completions),
        time(sum.zombie.max()),
    ]
}

/// The longest, or a dash if there was none: those that never came back are counted apart.
fn longest(waits: &Latencies) -> String {
    if waits.count() == 0 { "-".to_owned() } else { time(waits.max()) }
}

/// A number of runs as a share of all, which is never rounded to nothing or to all.
pub(super) fn of_runs(part: u64, runs: u64) -> String {
    let percent = super::summary::share(part, runs) * 100.0;
    match part {
        0 => "-".to_owned(),
        _ if part == runs => "100%".to_owned(),
        _ if percent < 1.0 => "<1%".to_owned(),
        _ => format!("{:.0}%", percent.min(99.0)),
    }
}

/// Red where a detector has spoken, magenta where it was unsafe, green for ranks where it was not.
fn paint(line: &str, totals: &Totals) -> String {
    let (bad, wrong, good) = (
        Style::new().red().force_styling(true),
        Style::new().magenta().force_styling(true),
        Style::new().green().force_styling(true),
    );
    let (live, safe) = (totals.is_live(), totals.is_safe());
    let cells: Vec<String> = line
        .split('|')
        .enumerate()
        // The line begins with a separator.
        .map(|(column, cell)| {
            let styled = |style: &Style| -> StyledObject<&str> { style.apply_to(cell) };
            match column {
                2 if live => styled(&good).to_string(),
                2 | 6..=9 if !live => styled(&bad).to_string(),
                3 if safe => styled(&good).to_string(),
                3 | 10 | 11 | 13 if !safe => styled(&wrong).to_string(),
                _ => cell.to_owned(),
            }
        })
        .collect();
    cells.join("|")
}
