//! The errors of the laboratory.

use crate::sim::RunId;

use super::merge::MergeError;
use super::store::StoreError;

/// An error of the laboratory.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The results cannot be kept, or not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The simulation refuses a run.
    #[error("{run} cannot be run: {source}")]
    Run {
        /// The run.
        run: Box<RunId>,
        /// The simulation's reason.
        source: Box<crate::sim::SimulationError>,
    },
    /// Shards do not belong together.
    #[error(transparent)]
    Merge(#[from] MergeError),
}
