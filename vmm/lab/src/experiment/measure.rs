//! The measures that a table or a figure can show.

use std::time::Duration;

use super::Cell;
use crate::share::Share;
use crate::sim::Latencies;
use crate::text::time;

/// A value of a measure.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A time.
    Time(Duration),
    /// A number for each run, in the mean.
    Mean(f64),
    /// Some of all runs.
    Share(u64, u64),
    /// Some of many events.
    Ratio(u64, u64),
    /// Letters.
    Text(String),
}

impl Value {
    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::Time(value) => time(*value),
            Self::Mean(0.0) => "-".to_owned(),
            Self::Mean(value) if *value >= 100.0 => format!("{value:.0}"),
            Self::Mean(value) if *value >= 0.1 => format!("{value:.1}"),
            Self::Mean(value) => format!("{value:.1e}"),
            Self::Share(part, runs) => Share { part: *part, whole: *runs }.percent(),
            Self::Ratio(0, _) => "-".to_owned(),
            Self::Ratio(part, all) => format!("{:.1e}", Share { part: *part, whole: *all }.value()),
            Self::Text(text) => text.clone(),
        }
    }

    /// For spreadsheets: times are nanoseconds, shares are between 0 and 1.
    pub fn raw(&self) -> String {
        match self {
            Self::Time(value) => value.as_nanos().to_string(),
            Self::Mean(value) => value.to_string(),
            Self::Share(part, all) | Self::Ratio(part, all) => {
                Share { part: *part, whole: *all }.value().to_string()
            }
            Self::Text(text) => text.clone(),
        }
    }
}

/// A measure.
#[derive(Debug)]
pub struct Measure {
    /// The word for it in files.
    pub name: &'static str,
    /// The head of its column.
    pub header: &'static str,
    /// Its meaning, for the line below a table.
    pub about: &'static str,
    value: fn(&Cell) -> Value,
}

impl Measure {
    /// Its value for the runs of a cell.
    pub fn of(&self, cell: &Cell) -> Value {
        (self.value)(cell)
    }
}

/// For each run, in the mean.
fn mean(cell: &Cell, total: u64) -> Value {
    // Counts are far below 2^52.
    Value::Mean(total as f64 / cell.sum.runs.max(1) as f64)
}

/// A time of all runs together, for each run.
fn each(cell: &Cell, total: Duration) -> Value {
    Value::Time(total / u32::try_from(cell.sum.runs.max(1)).unwrap_or(u32::MAX))
}

fn longest(cell: &Cell) -> Duration {
    let sum = &cell.sum;
    let waits = [&sum.stuck, &sum.innocent, &sum.irq_moves, &sum.waiting];
    waits.map(Latencies::max).into_iter().max().unwrap_or_default()
}

/// When software knew, if all of it knew in all runs.
fn knows(latencies: &Latencies, cell: &Cell) -> Value {
    match latencies.count() {
        0 if cell.sum.gone.devices == 0 => Value::Text("-".to_owned()),
        count if count < cell.sum.gone.devices => Value::Text("never".to_owned()),
        _ => Value::Time(latencies.max()),
    }
}

/// Stale accesses for each second in which a page was exposed.
fn rate(cell: &Cell) -> Value {
    let seconds = cell.sum.exposure.sum().as_secs_f64();
    Value::Mean(if seconds > 0.0 { cell.sum.stale_accesses as f64 / seconds } else { 0.0 })
}

macro_rules! measures {
    ($($name:literal, $header:literal, $about:literal, $value:expr;)*) => {
        /// All measures.
        pub const MEASURES: &[Measure] = &[$(
            Measure { name: $name, header: $header, about: $about, value: $value },
        )*];
    };
}

measures! {
    "properties", "has", "L live, S safe, F fair: in every run", |cell| Value::Text(cell.properties().letters());
    "live", "live", "runs that are live", |cell| Value::Share(cell.live, cell.sum.runs);
    "safe", "safe", "runs that are safe", |cell| Value::Share(cell.safe, cell.sum.runs);
    "fair", "fair", "runs that are fair", |cell| Value::Share(cell.fair, cell.sum.runs);
    "all", "all three", "runs that are live, safe and fair", |cell| Value::Share(cell.all, cell.sum.runs);
    "unsafe", "unsafe", "runs with a stale access or a false completion", |cell| Value::Share(cell.sum.runs - cell.safe, cell.sum.runs);
    "longest", "longest wait", "the longest wait of any caller, ended or not", |cell| Value::Time(longest(cell));
    "own", "own wait", "the longest wait that ended, for the faulty device", |cell| Value::Time(cell.sum.stuck.max());
    "neighbor", "neighbor's wait", "the longest wait that ended, for healthy devices", |cell| Value::Time(cell.sum.innocent.max());
    "wait", "mean wait", "the mean wait of all callers", |cell| {
        let (own, others) = (&cell.sum.stuck, &cell.sum.innocent);
        let count = u32::try_from(own.count() + others.count()).unwrap_or(u32::MAX);
        Value::Time((own.sum() + others.sum()).checked_div(count).unwrap_or_default())
    };
    "lost", "still waiting", "callers that still wait at the horizon, in a run", |cell| mean(cell, cell.sum.never_returned);
    "off", "IRQs off", "the longest stretch with interrupts off", |cell| Value::Time(cell.sum.interrupts_off.max());
    "off_total", "IRQs off, total", "all time with interrupts off of all CPUs, in a run", |cell| each(cell, cell.sum.interrupts_off.sum());
    "off_cpu", "IRQs off, one CPU", "the most time with interrupts off of one CPU", |cell| Value::Time(cell.sum.interrupts_off_one_cpu);
    "hard", "hard lock-up", "runs that trigger the hard lock-up detector", |cell| Value::Share(cell.hard, cell.sum.runs);
    "stale", "stale", "stale accesses in a run", |cell| mean(cell, cell.sum.stale_accesses);
    "stale_own", "stale, own", "stale accesses of the faulty device in a run", |cell| mean(cell, cell.sum.stale_stuck());
    "stale_neighbor", "stale, neighbor's", "stale accesses of healthy devices in a run", |cell| mean(cell, cell.sum.stale_innocent);
    "rate", "stale/s", "stale accesses for each second of exposure of a page", rate;
    "exposed", "exposed pages", "pages that their old device could reach after they were given back, in a run", |cell| mean(cell, cell.sum.exposure.count());
    "exposure", "exposure", "the time for which such pages could be reached, all pages together, in a run", |cell| each(cell, cell.sum.exposure.sum());
    "exposure_max", "longest exposure", "the longest time for which such a page could be reached", |cell| Value::Time(cell.sum.exposure.max());
    "false", "false done", "false completions in a run", |cell| mean(cell, cell.sum.host.false_completions);
    "wrong", "told wrong", "callers in a run that were told of success while the ATC held the page", |cell| mean(cell, cell.sum.told.completed.held + cell.sum.told.skipped.held);
    "fenced", "fenced", "healthy devices that were fenced, in a run", |cell| mean(cell, cell.sum.healthy.fenced);
    "was_reset", "reset", "healthy devices that were reset, in a run", |cell| mean(cell, cell.sum.healthy.reset);
    "removed", "removed", "healthy devices that were taken for removed, in a run", |cell| mean(cell, cell.sum.healthy.removed);
    "failed_io", "failed I/O", "healthy devices that lost an I/O, in a run", |cell| mean(cell, cell.sum.healthy.failed_io);
    "ats_off", "ATS off", "healthy devices in which ATS was turned off, in a run", |cell| mean(cell, cell.sum.healthy.ats_off);
    "harm", "harm", "harms to healthy devices in a run: fenced, reset, removed, I/O lost, ATS off", |cell| mean(cell, cell.sum.healthy.harms());
    "io", "I/O", "I/Os that completed in a run", |cell| mean(cell, cell.sum.completed_io);
    "submitted", "submitted", "submissions in a run", |cell| mean(cell, cell.sum.host.submitted);
    "resubmitted", "resubmitted", "submissions in a run that were not the first of their call", |cell| mean(cell, cell.sum.host.resubmitted);
    "queue_full", "queue full", "calls in a run that found the ring full", |cell| mean(cell, cell.sum.host.queue_full);
    "quarantine", "to the fence", "the longest time from the first wait to the fence", |cell| Value::Time(cell.sum.time_to_quarantine.max());
    "zombie", "zombie", "the longest time for which a device was gone while its driver was bound", |cell| Value::Time(cell.sum.zombie.max());
    "remapping_knows", "remapping driver knows", "the longest time from the loss of the link to its first failed or skipped invalidation", |cell| knows(&cell.sum.gone.remapping, cell);
    "driver_knows", "driver knows", "the longest time from the loss to the first I/O that the driver gives up", |cell| knows(&cell.sum.gone.driver, cell);
    "hot_plug_knows", "hot-plug knows", "the longest time from the loss to the mark as disconnected", |cell| knows(&cell.sum.gone.hot_plug, cell);
    "lost_maps", "maps", "maps for a device that is gone, in a run", |cell| mean(cell, cell.sum.gone.maps);
    "lost_unmaps", "unmaps", "invalidations for a device that is gone, in a run", |cell| mean(cell, cell.sum.gone.unmaps);
    "lost_resets", "resets", "resets of a device that is gone, in a run", |cell| mean(cell, cell.sum.gone.resets);
    "lost_checks", "reads of all ones", "reads of the vendor ID of a device that is gone, in a run", |cell| mean(cell, cell.sum.gone.checks);
    "lost_teardowns", "teardowns", "teardowns of a device that is gone, in a run", |cell| mean(cell, cell.sum.gone.teardowns);
    "own_hangs", "own hangs", "calls for the lost device that wait for more than 1 ms, in a run", |cell| mean(cell, cell.sum.gone.own_hangs);
    "other_hangs", "others' hangs", "calls for other devices that do, in a run", |cell| mean(cell, cell.sum.gone.other_hangs);
    "after_bound", "after the bound", "the share of invalidations that were given up at the deadline", |cell| {
        let given_up = cell.sum.told.deadline_passed;
        let all = cell.sum.told.all().iter().map(|(_, told)| told.dropped + told.held).sum();
        Value::Ratio(given_up.dropped + given_up.held, all)
    };
    "irq_moves", "interrupt move", "the longest wait of a CPU that moves an interrupt", |cell| Value::Time(cell.sum.irq_moves.max());
    "reset_wait", "before a reset", "the longest wait of a driver that is about to reset its device, with reset_prepare", |cell| Value::Time(cell.sum.reset_waits.max());
    "recovered", "recovered", "runs that ended well", |cell| Value::Share(cell.sum.recovered, cell.sum.runs);
}
