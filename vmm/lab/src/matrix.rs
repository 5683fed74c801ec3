//! The runs of a comparison: every policy with every fault, workload and seed.

use crate::sim::{Catalog, CatalogError, FaultRow, RunId, RunSpec, Workload};
use iommu::submit::Policy;
use iommu::time::Timeout;
use iommu::unit::Ordering;
use serde::{Deserialize, Serialize};

use super::text::suggestion;

/// Seeds for each cell, if nothing else is said.
pub const SEEDS: u64 = 20;
/// The workloads that are compared if nothing else is said.
pub const WORKLOADS: [&str; 3] = ["strict", "lazy", "teardown"];

/// Rows and seeds: everything that decides what is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// Seeds for each cell, from 0.
    pub seeds: u64,
    /// The unit's own time-out.
    pub ict: Timeout,
    /// The invalidations for which a wait descriptor waits.
    pub ordering: Ordering,
    /// Its rows.
    pub policies: Vec<Policy>,
    /// Its columns.
    pub faults: Vec<FaultRow>,
    /// The workloads.
    pub workloads: Vec<Workload>,
}

/// Names that a user selects from the tables; an empty list selects the usual rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// All, if it is empty.
    pub policies: Vec<String>,
    /// All, if it is empty.
    pub faults: Vec<String>,
    /// [`WORKLOADS`] and all that a file adds, if it is empty.
    pub workloads: Vec<String>,
    /// [`SEEDS`], if it is missing.
    pub seeds: Option<u64>,
    /// [`RunSpec::ICT`], if it is missing.
    pub ict: Option<Timeout>,
    /// Serial, if it is missing.
    pub ordering: Option<Ordering>,
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
            names => named(names, |name| catalog.fault(name).cloned())?,
        };
        let workloads = match selection.workloads.as_slice() {
            [] => usual_workloads(catalog),
            names => named(names, |name| catalog.workload(name).cloned())?,
        };
        let seeds = selection.seeds.unwrap_or(SEEDS);
        if seeds == 0 {
            return Err(MatrixError::NoSeeds);
        }
        let ict = selection.ict.unwrap_or(Timeout::After(RunSpec::ICT));
        let ordering = selection.ordering.unwrap_or_default();
        Ok(Self { seeds, ict, ordering, policies, faults, workloads })
    }

    /// The number of runs.
    pub fn len(&self) -> usize {
        let cells = self.policies.len() * self.faults.len() * self.workloads.len();
        cells.saturating_mul(usize::try_from(self.seeds).unwrap_or(usize::MAX))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The run at `place`, from 0: policy by policy, fault by fault, workload by workload, seed by
    /// seed. `None` after the last.
    pub fn spec(&self, place: usize) -> Option<RunSpec> {
        let place = u64::try_from(place).ok()?;
        let (rest, seed) = (place / self.seeds, place % self.seeds);
        let rest = usize::try_from(rest).ok()?;
        let (rest, workload) = (rest / self.workloads.len(), rest % self.workloads.len());
        let (policy, fault) = (rest / self.faults.len(), rest % self.faults.len());
        let mut spec = RunSpec::new(
            self.policies.get(policy)?.clone(),
            self.faults[fault].clone(),
            self.workloads[workload].clone(),
            seed,
        );
        self.set_unit(&mut spec);
        Some(spec)
    }

    /// Gives a run of these rows this matrix's unit.
    pub fn set_unit(&self, spec: &mut RunSpec) {
        spec.unit.ict = self.ict;
        spec.unit.ordering = self.ordering;
    }

    /// The identifier of the run at `place`.
    pub fn id(&self, place: usize) -> Option<RunId> {
        self.spec(place).map(|spec| spec.id())
    }

    /// Names of policies, faults and workloads.
    pub fn names(&self) -> [Vec<String>; 3] {
        [
            self.policies.iter().map(|row| row.name.clone()).collect(),
            self.faults.iter().map(|row| row.name.clone()).collect(),
            self.workloads.iter().map(|row| row.name.clone()).collect(),
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
mod tests {
    use super::*;

    fn selection(policies: &[&str], seeds: u64) -> Selection {
        let policies = policies.iter().map(|name| (*name).to_owned()).collect();
        Selection { policies, seeds: Some(seeds), ..Selection::default() }
    }

    #[test]
    fn runs_are_in_the_order_of_their_rows_and_each_is_there_once() {
        let catalog = Catalog::default();
        let matrix = Matrix::new(&catalog, &selection(&["linux", "amd"], 3)).unwrap();
        let ids: Vec<RunId> = (0..matrix.len()).map(|place| matrix.id(place).unwrap()).collect();
        assert_eq!(ids.len(), 2 * catalog.faults.len() * WORKLOADS.len() * 3);
        assert_eq!(matrix.id(ids.len()), None);
        let first: Vec<u64> = ids.iter().take(4).map(|id| id.seed).collect();
        assert_eq!(first, [0, 1, 2, 0]);
        assert_eq!((&*ids[0].policy, &*ids[ids.len() - 1].policy), ("linux", "amd"));
        let different: std::collections::HashSet<&RunId> = ids.iter().collect();
        assert_eq!(different.len(), ids.len());
    }

    #[test]
    fn names_that_are_none_are_refused_with_one_that_may_be_meant() {
        let refused = |names: &[&str], seeds| {
            Matrix::new(&Catalog::default(), &selection(names, seeds)).unwrap_err().to_string()
        };
        let error = refused(&["linus"], 1);
        assert!(error.contains("'linus'") && error.contains("did you mean 'linux'?"), "{error}");
        assert!(refused(&["amd", "amd"], 1).contains("'amd' is named twice"));
        assert!(refused(&["amd"], 0).contains("0 seeds"));
        // A preset with a duration of one's own is as good as a row.
        let matrix = Matrix::new(&Catalog::default(), &selection(&["bounded:7ms"], 1)).unwrap();
        assert_eq!(matrix.policies[0].name, "bounded:7ms");
    }
}
