//! Results of many runs: totals of each cell of policy, fault, workload and unit, and what is read off
//! them.
//!
//! A *group* is a workload on a unit. Policies are ranked within a group, never over several: the
//! workload and the unit decide too much. The totals do not depend on the order in which runs are
//! added. Their size grows with the matrix, not with the number of runs.

use super::matrix::Matrix;
use super::record::Record;
use super::share::Share;
pub use super::totals::{Totals, Worst};

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
    /// The kind of each fault.
    pub kinds: Vec<FaultKind>,
    /// Policy by policy, fault by fault, workload by workload, unit by unit.
    cells: Vec<Totals>,
}

/// What a fault says about the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no fault.
    Healthy,
    /// A device that keeps to the specification can have it.
    Conforming,
    /// Only a device that breaks the specification has it.
    Broken,
}

/// A workload on a unit, by their places in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// The workload.
    pub workload: usize,
    /// The unit.
    pub unit: usize,
}

/// A policy in a group.
#[derive(Debug, Clone)]
pub struct Row {
    /// The policy.
    pub policy: usize,
    /// Its runs under faults of devices that keep to the specification, or of the kind that
    /// [`Summary::ranked_kind`] names. Each fault weighs as much as its cell has runs: the same, with
    /// a fixed number of seeds.
    pub totals: Totals,
    /// Its runs under faults of devices that break the specification.
    pub broken: Totals,
    /// Its runs without a fault.
    pub healthy: Totals,
    /// Its rank in liveness, from 1: one more than the number of policies whose share of runs that
    /// are not live has an interval below that of this policy. Policies that the intervals do not
    /// tell apart have one rank.
    pub live: usize,
    /// As `live`, for the runs that are not safe.
    pub safe: usize,
    /// The fault with the largest share of runs that are not live.
    pub least_live: Option<(usize, Share)>,
    /// The fault with the largest share of runs that are not safe.
    pub least_safe: Option<(usize, Share)>,
}

impl Summary {
    /// Nothing yet, with the names of `matrix`.
    pub fn new(matrix: &Matrix) -> Self {
        let [policies, faults, workloads, units] = matrix.names();
        let kinds = matrix.faults.iter().map(|row| match &row.fault {
            None => FaultKind::Healthy,
            Some(_) if row.conforming => FaultKind::Conforming,
            Some(_) => FaultKind::Broken,
        });
        let kinds = kinds.collect();
        let cells = vec![Totals::default(); matrix.cells()];
        Self { policies, faults, workloads, units, kinds, cells }
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
        let place = self.place(policy, fault, Group { workload, unit });
        self.cells[place].add(record);
        true
    }

    /// The place of a cell.
    fn place(&self, policy: usize, fault: usize, Group { workload, unit }: Group) -> usize {
        let pair = policy * self.faults.len() + fault;
        (pair * self.workloads.len() + workload) * self.units.len() + unit
    }

    /// Totals of one policy under one fault in one group.
    pub fn cell(&self, policy: usize, fault: usize, group: Group) -> &Totals {
        &self.cells[self.place(policy, fault, group)]
    }

    /// Whether the cell at this place of the matrix has a share whose interval is wider than so many
    /// percentage points.
    pub fn is_open(&self, cell: usize, points: u32) -> bool {
        self.cells.get(cell).is_some_and(|totals| totals.is_open(points))
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

    /// The number of runs.
    pub fn runs(&self) -> u64 {
        self.cells.iter().map(Totals::runs).sum()
    }

    /// The groups that have runs, unit by unit.
    pub fn groups(&self) -> Vec<Group> {
        let units = 0..self.units.len();
        let group = |unit| (0..self.workloads.len()).map(move |workload| Group { workload, unit });
        let has_runs = |group: &Group| {
            (0..self.policies.len()).any(|policy| self.totals(policy, *group, |_| true).runs() > 0)
        };
        units.flat_map(group).filter(has_runs).collect()
    }

    /// The number of faults of a kind.
    pub fn faults_of(&self, kind: FaultKind) -> usize {
        self.kinds.iter().filter(|other| **other == kind).count()
    }

    /// The kind of faults that policies are ranked by: of devices that keep to the specification, or
    /// others if there are none.
    pub fn ranked_kind(&self) -> FaultKind {
        let kinds = [FaultKind::Conforming, FaultKind::Broken];
        kinds.into_iter().find(|kind| self.faults_of(*kind) > 0).unwrap_or(FaultKind::Healthy)
    }

    /// The name of a group: `strict on unit serial`.
    pub fn group_name(&self, Group { workload, unit }: Group) -> String {
        format!("{} on unit {}", self.workloads[workload], self.units[unit])
    }

    /// Totals of one policy in one group, of the faults that `wanted` selects.
    pub fn totals(&self, policy: usize, group: Group, wanted: impl Fn(usize) -> bool) -> Totals {
        let mut totals = Totals::default();
        for fault in (0..self.faults.len()).filter(|fault| wanted(*fault)) {
            totals.merge(self.cell(policy, fault, group));
        }
        totals
    }

    /// Totals of one policy over all groups, of the faults that `wanted` selects.
    pub fn over_groups(&self, policy: usize, wanted: impl Fn(usize) -> bool) -> Totals {
        let mut totals = Totals::default();
        for group in self.groups() {
            totals.merge(&self.totals(policy, group, &wanted));
        }
        totals
    }

    /// The policies without runs in a group: they exist with no such unit, or describe another path.
    pub fn without_runs(&self, group: Group) -> impl Iterator<Item = usize> {
        (0..self.policies.len()).filter(move |policy| {
            !(0..self.faults.len()).any(|fault| self.cell(*policy, fault, group).is_run())
        })
    }

    /// The policies with runs in a group: the most alive first, then the safest.
    pub fn rows(&self, group: Group) -> Vec<Row> {
        let missing: Vec<usize> = self.without_runs(group).collect();
        let policies = (0..self.policies.len()).filter(|policy| !missing.contains(policy));
        let mut rows: Vec<Row> = policies.map(|policy| self.row(policy, group)).collect();
        let intervals: Vec<_> = rows
            .iter()
            .map(|row| (row.totals.not_live().interval(), row.totals.not_safe().interval()))
            .collect();
        for row in &mut rows {
            let (live, safe) = (row.totals.not_live().interval(), row.totals.not_safe().interval());
            row.live = 1 + intervals.iter().filter(|(other, _)| other.is_below(live)).count();
            row.safe = 1 + intervals.iter().filter(|(_, other)| other.is_below(safe)).count();
        }
        rows.sort_by_key(|row| (row.live, row.safe));
        rows
    }

    fn row(&self, policy: usize, group: Group) -> Row {
        let faults =
            || (0..self.faults.len()).filter(|fault| self.kinds[*fault] == self.ranked_kind());
        let of_kind = |kind| self.totals(policy, group, |fault| self.kinds[fault] == kind);
        let worst = |share: fn(&Totals) -> Share| {
            let shares = faults().map(|fault| (fault, share(self.cell(policy, fault, group))));
            let found = shares.filter(|(_, share)| share.part > 0);
            // Of equals the first.
            found.reduce(|a, b| if b.1.value() > a.1.value() { b } else { a })
        };
        Row {
            policy,
            totals: of_kind(self.ranked_kind()),
            broken: of_kind(FaultKind::Broken),
            healthy: of_kind(FaultKind::Healthy),
            live: 0,
            safe: 0,
            least_live: worst(Totals::not_live),
            least_safe: worst(Totals::not_safe),
        }
    }

    /// The fewest and the most seeds of a cell that was run.
    pub fn seeds(&self) -> (u64, u64) {
        let runs = || self.cells.iter().map(Totals::runs).filter(|runs| *runs > 0);
        (runs().min().unwrap_or(0), runs().max().unwrap_or(0))
    }

    /// Cells that were run, and those of them with a share whose interval is wider than so many
    /// percentage points.
    pub fn open_cells(&self, points: u32) -> (usize, usize) {
        let run = || self.cells.iter().filter(|totals| totals.is_run());
        (run().count(), run().filter(|totals| totals.is_open(points)).count())
    }
}
