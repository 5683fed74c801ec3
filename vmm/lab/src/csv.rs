//! The cells as CSV, for spreadsheets: a line for each policy, fault, workload and unit. Times are
//! whole nanoseconds. Intervals are of 95 % confidence, from 0 to 1. A cell without runs is of a
//! policy and a unit, or a path, that exist together in no machine.

use std::io::{self, Write};
use std::time::Duration;

use crate::sim::Latencies;

use super::summary::{Summary, Totals};

/// Writes the header and all cells.
///
/// # Errors
///
/// `out` cannot be written.
pub fn write(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let names: Vec<&str> = columns(&Totals::default()).into_iter().map(|(name, _)| name).collect();
    writeln!(out, "policy,fault,workload,unit,{}", names.join(","))?;
    for (names, totals) in summary.cells() {
        let values: Vec<String> = columns(totals).into_iter().map(|(_, value)| value).collect();
        writeln!(out, "{},{}", names.map(quoted).join(","), values.join(","))?;
    }
    Ok(())
}

/// A name as a field: in quotes if it has what would end it (RFC 4180).
pub(crate) fn quoted(name: &str) -> String {
    if name.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

/// The values of a cell, with the names of their columns.
fn columns(totals: &Totals) -> Vec<(&'static str, String)> {
    let sum = &totals.sum;
    let told = &sum.told;
    let counts = [
        ("runs", totals.runs()),
        ("faulted_runs", sum.faulted),
        ("stuck_runs", totals.stuck_runs),
        ("hard_lockup_runs", totals.hard_runs),
        ("soft_lockup_runs", totals.soft_runs),
        ("never_returned_runs", totals.waiting_runs),
        ("lost_runs", totals.lost_runs),
        ("unsafe_runs", totals.unsafe_runs),
        ("recovered_runs", sum.recovered),
        ("completed_io", sum.completed_io),
        ("never_returned", sum.never_returned),
        ("lost", sum.lost),
        ("submitted", sum.host.submitted),
        ("resubmitted", sum.host.resubmitted),
        ("aborted", sum.host.aborted),
        ("queue_full", sum.host.queue_full),
        ("presence_checks", sum.host.presence_checks),
        ("false_completions", sum.host.false_completions),
        ("stale_accesses", sum.stale_accesses),
        ("stale_foreign", sum.stale_foreign),
        ("stale_bytes", sum.stale_bytes),
        ("deferred_accesses", sum.deferred_accesses),
        ("told_completed", told.completed.dropped + told.completed.held),
        ("told_completed_wrongly", told.completed.held),
        ("told_skipped", told.skipped.dropped + told.skipped.held),
        ("told_skipped_wrongly", told.skipped.held),
        ("told_deadline_passed", told.deadline_passed.dropped + told.deadline_passed.held),
        ("told_unit_timed_out", told.unit_timed_out.dropped + told.unit_timed_out.held),
    ];
    let times = [
        ("stale_age_ns", sum.stale_age),
        ("deferred_age_ns", sum.deferred_age),
        ("presence_ns", sum.presence_time),
        ("interrupts_off_max_ns", sum.interrupts_off.max()),
        ("time_to_quarantine_max_ns", sum.time_to_quarantine.max()),
        ("zombie_max_ns", sum.zombie.max()),
        ("waiting_max_ns", sum.waiting.max()),
        ("irq_move_max_ns", sum.irq_moves.max()),
    ];
    let counts = counts.into_iter().map(|(name, count)| (name, u128::from(count)));
    let times = times.into_iter().map(|(name, time)| (name, time.as_nanos()));
    let stuck = ["stuck_waits", "stuck_p50_ns", "stuck_p99_ns", "stuck_max_ns"];
    let innocent = ["innocent_waits", "innocent_p50_ns", "innocent_p99_ns", "innocent_max_ns"];
    let waits = [(stuck, &sum.stuck), (innocent, &sum.innocent)];
    let waits = waits.into_iter().flat_map(|(names, waits)| names.into_iter().zip(spread(waits)));
    let numbers = counts.chain(times).chain(waits).chain(harm(totals));
    numbers.map(|(name, value)| (name, value.to_string())).chain(intervals(totals)).collect()
}

/// Interrupts, exposure, and healthy devices.
fn harm(totals: &Totals) -> impl Iterator<Item = (&'static str, u128)> {
    let (sum, healthy) = (&totals.sum, totals.sum.healthy);
    let times = [
        ("longest_wait_median_ns", totals.typical()),
        ("interrupts_off_sum_ns", sum.interrupts_off.sum()),
        ("interrupts_off_one_cpu_max_ns", sum.interrupts_off_one_cpu),
        ("exposure_sum_ns", sum.exposure.sum()),
        ("exposure_max_ns", sum.exposure.max()),
    ];
    let counts = [
        ("exposed_pages", sum.exposure.count()),
        ("stale_by_healthy", sum.stale_innocent),
        ("told_success_wrongly", totals.told_wrong()),
        ("unfair_runs", totals.unfair_runs),
        ("healthy_devices", healthy.devices),
        ("healthy_fenced", healthy.fenced),
        ("healthy_reset", healthy.reset),
        ("healthy_removed", healthy.removed),
        ("healthy_failed_io", healthy.failed_io),
        ("healthy_ats_off", healthy.ats_off),
    ];
    let times = times.into_iter().map(|(name, time)| (name, time.as_nanos()));
    times.chain(counts.map(|(name, count)| (name, u128::from(count))))
}

/// The intervals of the three shares, empty without runs.
fn intervals(totals: &Totals) -> impl Iterator<Item = (&'static str, String)> {
    let shares = [
        (["not_live_low", "not_live_high"], totals.not_live()),
        (["not_safe_low", "not_safe_high"], totals.not_safe()),
        (["not_fair_low", "not_fair_high"], totals.not_fair()),
    ];
    let is_run = totals.is_run();
    shares.into_iter().flat_map(move |(names, share)| {
        let interval = share.interval();
        let text = move |end: f64| if is_run { format!("{end:.4}") } else { String::new() };
        names.into_iter().zip([interval.low, interval.high].map(text))
    })
}

fn spread(waits: &Latencies) -> [u128; 4] {
    let nanos = |time: Duration| time.as_nanos();
    [
        u128::from(waits.count()),
        nanos(waits.quantile(0.5)),
        nanos(waits.quantile(0.99)),
        nanos(waits.max()),
    ]
}
