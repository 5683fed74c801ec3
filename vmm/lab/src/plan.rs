//! The plan of a comparison, in the file `plan.json`.

use std::path::Path;

use crate::sim::{Catalog, CatalogError, RunId, RunSpec};
use serde::{Deserialize, Serialize};

use super::matrix::Matrix;
use super::seeds::Round;
use super::shard::Shard;
use super::store::{self, StoreError};

/// Everything that decides the contents of `results.jsonl`. Rows are stored in full, so that the
/// plan has the same meaning without the user's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of the program: another one may measure differently.
    pub version: String,
    /// The options for the machine, which 'compare' and 'explain' share.
    pub machine: String,
    /// The options that select the runs.
    pub selection: String,
    /// The part of the comparison.
    pub shard: Shard,
    /// The runs.
    #[serde(flatten)]
    pub matrix: Matrix,
}

impl Plan {
    /// The plan of this program.
    pub fn new(matrix: Matrix, machine: String, selection: String, shard: Shard) -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), machine, selection, shard, matrix }
    }

    /// The command that makes all of it again, on one machine.
    pub fn command(&self) -> String {
        format!("ghostlink compare{}{}", self.machine, self.selection)
    }

    /// The command that shows one run.
    pub fn explain(&self, run: &RunId) -> String {
        format!("ghostlink explain {run}{}", self.machine)
    }

    /// The run that is called `run`.
    ///
    /// # Errors
    ///
    /// It is of other rows.
    pub fn spec(&self, run: &RunId) -> Result<RunSpec, CatalogError> {
        let Matrix { policies, faults, workloads, units, .. } = self.matrix.clone();
        let catalog = Catalog { policies, faults, workloads, units };
        self.matrix.machine.spec(&catalog, run)
    }

    /// The first runs of this part; which come after them, their results decide.
    pub fn first_round(&self) -> Round {
        Round::first(self.matrix.seeds, self.matrix.cells_with_runs(), self.shard)
    }

    /// The content of the file.
    pub fn json(&self) -> String {
        // Text and numbers into memory: that does not fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads the plan of a directory.
    ///
    /// # Errors
    ///
    /// There is none that this program can read.
    pub fn read(directory: &Path) -> Result<Self, StoreError> {
        let text = store::read_plan(directory)?;
        serde_json::from_str(&text).map_err(|error| StoreError::Line {
            path: directory.join(store::PLAN),
            line: error.line(),
            what: error.to_string(),
        })
    }
}
