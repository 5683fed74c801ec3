//! The runs of a comparison: every policy with every fault, workload, unit and seed.

use crate::sim::{Catalog, CatalogError, FaultRow, RunId, RunSpec, UnitRow, Workload};
use devices::pcie::link::Obeys;
use iommu::submit::Policy;
use iommu::time::Timeout;
use serde::{Deserialize, Serialize};

use super::seeds::{Place, Seeds};
use super::text::suggestion;

/// The workloads that are compared if nothing else is said.
pub const WORKLOADS: [&str; 3] = ["strict", "lazy", "teardown"];
/// A workload that is compared as well if neither workloads nor units nor numbers of CPUs are chosen.
/// From 16 CPUs for each device on, a bound is multiplied until the unit runs out of room.
pub const CROWD: &str = "strict@16";
/// The units that are compared if nothing else is said, with the first of the workloads. The others are
/// run on the first unit only. If workloads or numbers of CPUs are chosen, only the first is there.
pub const UNITS: [&str; 3] = [UnitRow::DEFAULT, "parallel", "blocking"];

/// The settings of the simulated machine that all runs of a comparison share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSettings {
    /// The time-out of a unit whose row has none.
    pub ict: Timeout,
    /// When ATCs drop what an Invalidate Request names.
    #[serde(default)]
    pub obeys: Obeys,
}

impl Default for MachineSettings {
    fn default() -> Self {
        Self { ict: Timeout::After(RunSpec::ICT), obeys: Obeys::default() }
    }
}

impl MachineSettings {
    /// The run that `id` names, with the rows of `catalog`, on this machine.
    ///
    /// # Errors
    ///
    /// A name that is in no table.
    pub fn spec(&self, catalog: &Catalog, id: &RunId) -> Result<RunSpec, CatalogError> {
        Ok(self.apply(catalog.spec(id)?, catalog.unit(&id.unit)?))
    }

    fn apply(&self, mut spec: RunSpec, unit: &UnitRow) -> RunSpec {
        (spec.unit.ict, spec.obeys) = (self.ict, self.obeys);
        spec.on(unit)
    }
}

/// Rows and seeds: everything that decides what is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// Seeds for each cell, from 0.
    pub seeds: Seeds,
    /// The machine.
    #[serde(flatten)]
    pub machine: MachineSettings,
    /// Its rows.
    pub policies: Vec<Policy>,
    /// Its columns.
    pub faults: Vec<FaultRow>,
    /// The workloads.
    pub workloads: Vec<Workload>,
    /// The units.
    pub units: Vec<UnitRow>,
    /// The tables from which a user has chosen rows by name.
    #[serde(default)]
    pub named: Named,
    /// Workloads but for the first are run on the first unit only.
    #[serde(default)]
    pub one_axis: bool,
}

/// The tables from which a user has chosen rows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Named {
    /// Policies.
    pub policies: bool,
    /// Workloads.
    pub workloads: bool,
    /// Units.
    pub units: bool,
}

/// Names that a user selects from the tables; an empty list selects the usual rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// All, if it is empty.
    pub policies: Vec<String>,
    /// All, if it is empty.
    pub faults: Vec<String>,
    /// [`WORKLOADS`] and all that a file adds, if it is empty; and [`CROWD`], if units and numbers of
    /// CPUs are not chosen either.
    pub workloads: Vec<String>,
    /// [`UNITS`] and all that a file adds, if it is empty; the first of them if workloads or numbers of
    /// CPUs are chosen.
    pub units: Vec<String>,
    /// Numbers of CPUs for each device: each workload is run with each of them. As the workloads
    /// say, if it is empty.
    pub cpus_per_device: Vec<u16>,
    /// As many as the intervals of the shares need, within a budget, if it is missing:
    /// [`Seeds::within_budget`].
    pub seeds: Option<u64>,
    /// [`RunSpec::ICT`], if it is missing.
    pub ict: Option<Timeout>,
    /// [`Obeys::AtAnswer`], if it is missing.
    pub obeys: Option<Obeys>,
}

impl Selection {
    /// Whether neither workloads nor units nor numbers of CPUs are chosen.
    fn has_usual_machine(&self) -> bool {
        self.workloads.is_empty() && self.units.is_empty() && self.cpus_per_device.is_empty()
    }

    /// The settings of the machine.
    pub fn machine(&self) -> MachineSettings {
        let usual = MachineSettings::default();
        MachineSettings {
            ict: self.ict.unwrap_or(usual.ict),
            obeys: self.obeys.unwrap_or(usual.obeys),
        }
    }
}

/// A matrix that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    /// An unknown name, or a name that is given twice.
    #[error("{0}")]
    Name(String),
    /// No seeds, no runs.
    #[error("0 seeds are no runs; give at least 1")]
    NoSeeds,
}

impl Matrix {
    /// The runs that `selection` names, with the rows of `catalog`.
    ///
    /// # Errors
    ///
    /// A name that is in no table, a name that is there twice, no seeds.
    pub fn new(catalog: &Catalog, selection: &Selection) -> Result<Self, MatrixError> {
        let policies = match selection.policies.as_slice() {
            [] => catalog.policies.clone(),
            names => named(names, |name| catalog.policy(name))?,
        };
        let faults = match selection.faults.as_slice() {
            [] => catalog.faults.clone(),
            names => named(names, |name| catalog.fault(name))?,
        };
        let one_axis = selection.has_usual_machine();
        let workloads = match selection.workloads.as_slice() {
            [] if one_axis => {
                let usual = usual_workloads(catalog).into_iter();
                let crowd = catalog.workload(CROWD).map_err(|e| MatrixError::Name(explain(&e)))?;
                usual.chain([crowd]).collect()
            }
            [] => usual_workloads(catalog),
            names => named(names, |name| catalog.workload(name))?,
        };
        let workloads = with_cpus(workloads, &selection.cpus_per_device)?;
        let units = match selection.units.as_slice() {
            [] => usual_units(catalog, one_axis),
            names => named(names, |name| catalog.unit(name).cloned())?,
        };
        let seeds = match selection.seeds {
            Some(0) => return Err(MatrixError::NoSeeds),
            Some(seeds) => Seeds::Fixed(seeds),
            // Their cost is known when the cells are.
            None => Seeds::within_budget(1),
        };
        let named = Named {
            policies: !selection.policies.is_empty(),
            workloads: !selection.workloads.is_empty(),
            units: !selection.units.is_empty(),
        };
        let machine = selection.machine();
        let mut matrix =
            Self { seeds, machine, policies, faults, workloads, units, named, one_axis };
        matrix.leave_out_policies_without_runs()?;
        if selection.seeds.is_none() {
            matrix.seeds = Seeds::within_budget(matrix.cost());
        }
        Ok(matrix)
    }

    /// Whether `policy` is run with `workload` on `unit`. If its system does not exist with such a
    /// unit, or it describes another path in the kernel, the result would have no meaning for any
    /// machine: the run is made only if both were chosen by name. Nor is it made with a workload and a
    /// unit that both differ from the first one if one axis at a time is varied.
    pub fn applies(&self, policy: &Policy, workload: &Workload, unit: &UnitRow) -> bool {
        if self.one_axis
            && self.workloads.first().is_some_and(|first| first.name != workload.name)
            && self.units.first().is_some_and(|first| first.name != unit.name)
        {
            return false;
        }
        let Named { policies, workloads, units } = self.named;
        (policy.applies_to(unit.ordering) || policies && units)
            && (policy.describes(workload.kind.path()) || policies && workloads)
    }

    /// The workloads and units with which `policy` is run, by their indices.
    fn cells_of(&self, policy: &Policy) -> Vec<(usize, usize)> {
        let units = |workload| (0..self.units.len()).map(move |unit| (workload, unit));
        let pairs = (0..self.workloads.len()).flat_map(units);
        let applies = |&(workload, unit): &(usize, usize)| {
            self.applies(policy, &self.workloads[workload], &self.units[unit])
        };
        pairs.filter(applies).collect()
    }

    /// A policy that applies to nothing here is refused if it was named, and else left out.
    fn leave_out_policies_without_runs(&mut self) -> Result<(), MatrixError> {
        let mut policies = std::mem::take(&mut self.policies);
        let has_runs = |policy: &Policy| !self.cells_of(policy).is_empty();
        if self.named.policies
            && let Some(policy) = policies.iter().find(|policy| !has_runs(policy))
        {
            let is_on_path = |row: &Workload| policy.describes(row.kind.path());
            let reason = match self.workloads.iter().any(is_on_path) {
                true => format!(
                    "'{policy}' exists with no unit of this order; to run it all the same, name the \
                     unit"
                ),
                false => format!(
                    "'{policy}' describes the path {}, on which no workload here is; to run it all the \
                     same, name the workload",
                    policy.path
                ),
            };
            return Err(MatrixError::Name(reason));
        }
        policies.retain(has_runs);
        self.policies = policies;
        Ok(())
    }

    /// The number of cells: of each policy with each fault, workload and unit, those included that
    /// have no runs.
    pub fn cells(&self) -> usize {
        let rows = [self.policies.len(), self.faults.len(), self.workloads.len(), self.units.len()];
        rows.into_iter().fold(1, usize::saturating_mul)
    }

    /// The cells that have runs, in order.
    pub fn cells_with_runs(&self) -> impl Iterator<Item = usize> {
        (0..self.cells()).filter(|cell| {
            self.rows(*cell)
                .is_some_and(|(policy, _, workload, unit)| self.applies(policy, workload, unit))
        })
    }

    /// The cost of one seed for each cell, in runs of four CPUs.
    fn cost(&self) -> u64 {
        let cost = |policy: &Policy| {
            let cpus = self
                .cells_of(policy)
                .into_iter()
                .map(|(workload, _)| u64::from(self.workloads[workload].cpus).div_ceil(4).max(1));
            cpus.sum::<u64>().saturating_mul(self.faults.len() as u64)
        };
        self.policies.iter().map(cost).fold(0, u64::saturating_add)
    }

    /// The rows of a cell. Cells are in order policy by policy, fault by fault, workload by workload,
    /// unit by unit.
    fn rows(&self, cell: usize) -> Option<(&Policy, &FaultRow, &Workload, &UnitRow)> {
        let (rest, unit) = (cell / self.units.len(), cell % self.units.len());
        let (rest, workload) = (rest / self.workloads.len(), rest % self.workloads.len());
        let (policy, fault) = (rest / self.faults.len(), rest % self.faults.len());
        let policy = self.policies.get(policy)?;
        Some((policy, &self.faults[fault], &self.workloads[workload], &self.units[unit]))
    }

    /// The run at `place`; `None` if there is no such cell.
    pub fn spec(&self, Place { cell, seed }: Place) -> Option<RunSpec> {
        let (policy, fault, workload, unit) = self.rows(cell)?;
        let spec = RunSpec::new(policy.clone(), fault.clone(), workload.clone(), seed);
        Some(self.machine.apply(spec, unit))
    }

    /// The identifier of the run at `place`.
    pub fn id(&self, place: Place) -> Option<RunId> {
        self.spec(place).map(|spec| spec.id())
    }

    /// Names of policies, faults, workloads and units.
    pub fn names(&self) -> [Vec<String>; 4] {
        [
            self.policies.iter().map(|row| row.name.clone()).collect(),
            self.faults.iter().map(|row| row.name.clone()).collect(),
            self.workloads.iter().map(|row| row.name.clone()).collect(),
            self.units.iter().map(|row| row.name.clone()).collect(),
        ]
    }
}

/// The usual ones of the built-in table, and all others that there are: a user has added them.
fn usual_workloads(catalog: &Catalog) -> Vec<Workload> {
    let built_in = Catalog::default();
    let is_usual = |row: &&Workload| {
        WORKLOADS.contains(&row.name.as_str()) || built_in.workload(&row.name).is_err()
    };
    catalog.workloads.iter().filter(is_usual).cloned().collect()
}

/// As [`usual_workloads`], for units; only the first of [`UNITS`] unless `all` are wanted.
fn usual_units(catalog: &Catalog, all: bool) -> Vec<UnitRow> {
    let built_in = Catalog::default();
    let usual = if all { &UNITS[..] } else { &UNITS[..1] };
    let is_usual =
        |row: &&UnitRow| usual.contains(&row.name.as_str()) || built_in.unit(&row.name).is_err();
    catalog.units.iter().filter(is_usual).cloned().collect()
}

/// Each workload with each number of CPUs for each device.
fn with_cpus(workloads: Vec<Workload>, cpus: &[u16]) -> Result<Vec<Workload>, MatrixError> {
    if cpus.is_empty() {
        return Ok(workloads);
    }
    for (index, number) in cpus.iter().enumerate() {
        let twice = cpus[..index].contains(number);
        let named = workloads.iter().find(|row| row.name.contains('@'));
        let reason = match named {
            _ if *number == 0 => "0 CPUs for each device do nothing; give at least 1".to_owned(),
            _ if twice => format!("{number} CPUs for each device are named twice; name them once"),
            Some(row) => format!(
                "'{}' has its number of CPUs already; name the workload without it, or leave out \
                 the numbers for all workloads",
                row.name
            ),
            None => continue,
        };
        return Err(MatrixError::Name(reason));
    }
    let each = |row: &Workload| cpus.iter().map(|cpus| row.with_cpus_per_device(*cpus)).collect();
    Ok(workloads.iter().flat_map(|row| -> Vec<Workload> { each(row) }).collect())
}

fn named<T>(
    names: &[String],
    row: impl Fn(&str) -> Result<T, CatalogError>,
) -> Result<Vec<T>, MatrixError> {
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(MatrixError::Name(format!("'{name}' is named twice; name it once")));
        }
    }
    let rows = names.iter().map(|name| row(name).map_err(|e| MatrixError::Name(explain(&e))));
    rows.collect()
}

/// The error for a name, with a suggestion.
pub fn explain(error: &CatalogError) -> String {
    let meant = match error {
        CatalogError::Unknown { name, known, .. } => suggestion(name, known.split(", ")),
        _ => None,
    };
    match meant {
        Some(meant) => format!("{error}; did you mean '{meant}'?"),
        None => error.to_string(),
    }
}

#[cfg(test)]
#[path = "matrix_tests.rs"]
mod tests;
