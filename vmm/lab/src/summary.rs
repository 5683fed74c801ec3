//! Results of many runs: sums for each policy, for each policy and fault, and for each cell of policy,
//! fault, workload and unit.
//!
//! The sums do not depend on the order in which runs are added. Their size grows with the matrix,
//! not with the number of runs.

use std::time::Duration;

use crate::sim::{RunId, RunResult};

use super::record::Record;

/// Totals of some runs.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Sums, maxima and distributions of all that was measured.
    pub sum: RunResult,
    /// Runs that triggered a lock-up detector, or in which a caller never returned.
    pub stuck_runs: u64,
    /// Runs that triggered the hard detector.
    pub hard_runs: u64,
    /// Runs in which the soft one did.
    pub soft_runs: u64,
    /// Runs with a caller that never returned.
    pub lost_runs: u64,
    /// Runs with a caller that still waited at the horizon.
    pub waiting_runs: u64,
    /// Runs with a stale access or a false completion.
    pub unsafe_runs: u64,
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

impl Totals {
    /// Adds a run.
    fn add(&mut self, Record { run, result, .. }: &Record) {
        let (hard, soft) = (result.hard_lockups > 0, result.soft_lockups > 0);
        let waits = result.never_returned > 0;
        self.stuck_runs += u64::from(hard || soft || waits);
        self.hard_runs += u64::from(hard);
        self.soft_runs += u64::from(soft);
        self.waiting_runs += u64::from(waits);
        self.lost_runs += u64::from(result.lost > 0);
        let is_unsafe = result.stale_accesses > 0 || result.host.false_completions > 0;
        self.unsafe_runs += u64::from(is_unsafe);
        let longest = longest(result);
        let worst = self.worst.as_ref();
        if worst.is_none_or(|worst| (worst.is_unsafe, worst.longest) < (is_unsafe, longest)) {
            self.worst = Some(Worst { run: run.clone(), is_unsafe, longest });
        }
        self.sum.merge(result);
    }

    /// The number of runs.
    pub const fn runs(&self) -> u64 {
        self.sum.runs
    }

    /// Whether no run triggered a lock-up detector, and every caller returned.
    pub const fn is_live(&self) -> bool {
        self.stuck_runs == 0
    }

    /// Whether no run had a stale access or a false completion.
    pub const fn is_safe(&self) -> bool {
        self.unsafe_runs == 0
    }

    /// The longest wait of any caller, up to the horizon of the runs.
    pub fn longest(&self) -> Duration {
        longest(&self.sum)
    }

    /// The share of runs that were unsafe, from 0 to 1.
    pub fn unsafe_share(&self) -> f64 {
        share(self.unsafe_runs, self.runs())
    }

    /// Callers with a verdict of success although the ATC still held the page.
    pub const fn told_wrong(&self) -> u64 {
        self.sum.told.completed.held + self.sum.told.skipped.held
    }

    /// Smaller is more alive: first by detectors, then by the longest waits.
    fn liveness(&self) -> impl PartialOrd + use<> {
        (self.stuck_runs, self.hard_runs, self.longest(), self.sum.innocent.max())
    }

    /// Smaller is safer.
    fn safety(&self) -> impl PartialOrd + use<> {
        let sum = &self.sum;
        (self.unsafe_runs, sum.host.false_completions, sum.stale_accesses, sum.stale_age)
    }
}

fn longest(result: &RunResult) -> Duration {
    result.stuck.max().max(result.innocent.max()).max(result.waiting.max())
}

/// `part` of `whole`, from 0 to 1.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    // Counts of runs are far below 2^52.
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The totals of a comparison.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Names, in the order of the plan.
    pub policies: Vec<String>,
    /// Names, in the order of the plan.
    pub faults: Vec<String>,
    /// Names, in the order of the plan.
    pub workloads: Vec<String>,
    /// Names, in the order of the plan.
    pub units: Vec<String>,
    by_policy: Vec<Totals>,
    /// Policy by policy, fault by fault.
    by_fault: Vec<Totals>,
    /// Policy by policy, fault by fault, workload by workload, unit by unit.
    cells: Vec<Totals>,
}

impl Summary {
    /// Nothing yet. The names are those of policies, faults, workloads and units.
    pub fn new([policies, faults, workloads, units]: [Vec<String>; 4]) -> Self {
        let totals = |count| vec![Totals::default(); count];
        Self {
            by_policy: totals(policies.len()),
            by_fault: totals(policies.len() * faults.len()),
            cells: totals(policies.len() * faults.len() * workloads.len() * units.len()),
            policies,
            faults,
            workloads,
            units,
        }
    }

    /// Adds a run; `false` if it is not of this plan.
    pub fn add(&mut self, record: &Record) -> bool {
        let find = |names: &[String], name: &str| names.iter().position(|other| other == name);
        let (Some(policy), Some(fault), Some(workload), Some(unit)) = (
            find(&self.policies, &record.policy),
            find(&self.faults, &record.fault),
            find(&self.workloads, &record.workload),
            find(&self.units, &record.unit),
        ) else {
            return false;
        };
        let place = self.place(policy, fault, workload, unit);
        self.by_policy[policy].add(record);
        self.by_fault[policy * self.faults.len() + fault].add(record);
        self.cells[place].add(record);
        true
    }

    /// The place of a cell.
    fn place(&self, policy: usize, fault: usize, workload: usize, unit: usize) -> usize {
        let pair = policy * self.faults.len() + fault;
        (pair * self.workloads.len() + workload) * self.units.len() + unit
    }

    /// Totals of one policy.
    pub fn policy(&self, policy: usize) -> &Totals {
        &self.by_policy[policy]
    }

    /// Totals of one policy under one fault.
    pub fn fault(&self, policy: usize, fault: usize) -> &Totals {
        &self.by_fault[policy * self.faults.len() + fault]
    }

    /// Totals of one policy under one fault with one workload on one unit.
    pub fn cell(&self, policy: usize, fault: usize, workload: usize, unit: usize) -> &Totals {
        &self.cells[self.place(policy, fault, workload, unit)]
    }

    /// All cells in the order of the plan, with the names of policy, fault, workload and unit.
    pub fn cells(&self) -> impl Iterator<Item = ([&str; 4], &Totals)> {
        let Self { policies, faults, workloads, units, .. } = self;
        let names = policies.iter().flat_map(move |policy| {
            faults.iter().flat_map(move |fault| {
                workloads.iter().flat_map(move |workload| {
                    units
                        .iter()
                        .map(move |unit| [policy, fault, workload, unit].map(String::as_str))
                })
            })
        });
        names.zip(&self.cells)
    }

    /// Each policy's rank in liveness and in safety, from 1; equals share one.
    pub fn ranks(&self) -> Vec<(usize, usize)> {
        let rank = |is_better: &dyn Fn(&Totals) -> bool| {
            1 + self.by_policy.iter().filter(|other| is_better(other)).count()
        };
        let ranks = |totals: &Totals| {
            let live = rank(&|other| other.liveness() < totals.liveness());
            (live, rank(&|other| other.safety() < totals.safety()))
        };
        self.by_policy.iter().map(ranks).collect()
    }

    /// The policies, the most alive first, then the safest.
    pub fn order(&self) -> Vec<usize> {
        let ranks = self.ranks();
        let mut order: Vec<usize> = (0..self.policies.len()).collect();
        order.sort_by_key(|policy| ranks[*policy]);
        order
    }
}
