//! Totals of some runs: sums, maxima, and shares of runs.

use std::time::Duration;

use crate::sim::{Latencies, RunId, RunResult};

use super::properties::Properties;
use super::record::Record;
use super::share::Share;

/// Totals of some runs.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Sums, maxima and distributions of all that was measured.
    pub sum: RunResult,
    /// Runs that were not live: a lock-up detector reported, or a caller did not go on in time.
    pub stuck_runs: u64,
    /// Runs in which the hard lock-up detector reported.
    pub hard_runs: u64,
    /// Runs in which the soft one did.
    pub soft_runs: u64,
    /// Runs with a caller that still waited at the end.
    pub waiting_runs: u64,
    /// Runs with a caller whose wait nothing could end.
    pub lost_runs: u64,
    /// Runs that were not safe: a stale access, or a false completion.
    pub unsafe_runs: u64,
    /// Runs that were not fair: a healthy device was fenced, reset, removed, or kept from working.
    pub unfair_runs: u64,
    /// The longest wait in each run.
    pub longest_waits: Latencies,
    /// The worst run, the first of equals.
    pub worst: Option<Worst>,
}

/// A run that did worse than others: an unsafe one, and of those the one with the longest wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worst {
    /// The id of the run.
    pub run: RunId,
    /// Whether the run had a stale access or a false completion.
    pub is_unsafe: bool,
    /// The longest wait in the run.
    pub longest: Duration,
}

impl Worst {
    const fn badness(&self) -> (bool, Duration) {
        (self.is_unsafe, self.longest)
    }
}

impl Totals {
    /// Adds a run.
    pub(super) fn add(&mut self, Record { run, result, .. }: &Record) {
        let Properties { live, safe, fair } = Properties::of(result, Properties::WITHIN);
        self.stuck_runs += u64::from(!live);
        self.hard_runs += u64::from(result.hard_lockups > 0);
        self.soft_runs += u64::from(result.soft_lockups > 0);
        self.waiting_runs += u64::from(result.never_returned > 0);
        self.lost_runs += u64::from(result.lost > 0);
        self.unsafe_runs += u64::from(!safe);
        self.unfair_runs += u64::from(!fair);
        let longest = longest(result);
        self.longest_waits.record(longest);
        self.take_worst(&Worst { run: run.clone(), is_unsafe: !safe, longest });
        self.sum.merge(result);
    }

    /// Adds all of `other`, whose runs come after these.
    pub fn merge(&mut self, other: &Self) {
        self.stuck_runs += other.stuck_runs;
        self.hard_runs += other.hard_runs;
        self.soft_runs += other.soft_runs;
        self.waiting_runs += other.waiting_runs;
        self.lost_runs += other.lost_runs;
        self.unsafe_runs += other.unsafe_runs;
        self.unfair_runs += other.unfair_runs;
        self.longest_waits.merge(&other.longest_waits);
        if let Some(worst) = &other.worst {
            self.take_worst(worst);
        }
        self.sum.merge(&other.sum);
    }

    fn take_worst(&mut self, other: &Worst) {
        if self.worst.as_ref().is_none_or(|worst| worst.badness() < other.badness()) {
            self.worst = Some(other.clone());
        }
    }

    /// The number of runs.
    pub const fn runs(&self) -> u64 {
        self.sum.runs
    }

    /// Whether every run was live.
    pub const fn is_live(&self) -> bool {
        self.stuck_runs == 0
    }

    /// Whether every run was safe.
    pub const fn is_safe(&self) -> bool {
        self.unsafe_runs == 0
    }

    /// Whether every run was fair.
    pub const fn is_fair(&self) -> bool {
        self.unfair_runs == 0
    }

    /// Whether the shares of these runs are known: there is a run.
    pub const fn is_run(&self) -> bool {
        self.runs() > 0
    }

    /// The longest wait of any caller, up to the end of the runs.
    pub fn longest(&self) -> Duration {
        longest(&self.sum)
    }

    /// The median over runs of the longest wait in a run.
    pub fn typical(&self) -> Duration {
        self.longest_waits.quantile(0.5)
    }

    /// The share of runs that were not live.
    pub const fn not_live(&self) -> Share {
        self.share(self.stuck_runs)
    }

    /// The share of runs that were not safe.
    pub const fn not_safe(&self) -> Share {
        self.share(self.unsafe_runs)
    }

    /// The share of runs that were not fair.
    pub const fn not_fair(&self) -> Share {
        self.share(self.unfair_runs)
    }

    /// `part` of these runs.
    pub const fn share(&self, part: u64) -> Share {
        Share { part, whole: self.runs() }
    }

    /// Whether the interval of a share is wider than so many percentage points.
    pub fn is_open(&self, points: u32) -> bool {
        let parts = [
            self.stuck_runs,
            self.hard_runs,
            self.soft_runs,
            self.waiting_runs,
            self.lost_runs,
            self.unsafe_runs,
            self.unfair_runs,
        ];
        parts.iter().any(|part| self.share(*part).interval().points() > f64::from(points))
    }

    /// Callers with a verdict of success although the ATC still held the page, and the unit did not
    /// block the device.
    pub const fn told_wrong(&self) -> u64 {
        let told = &self.sum.told;
        told.completed.held + told.skipped.held + told.removed.held + told.reset.held
    }

    /// Stale accesses for each second in which a page was exposed; `None` without exposure.
    pub fn stale_per_second(&self) -> Option<f64> {
        let exposed = self.sum.exposure.sum().as_secs_f64();
        // Counts are far below 2^52.
        (exposed > 0.0).then(|| self.sum.stale_accesses as f64 / exposed)
    }
}

fn longest(result: &RunResult) -> Duration {
    result.stuck.max().max(result.innocent.max()).max(result.waiting.max())
}
