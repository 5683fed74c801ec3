//! The errors of the simulation.

use devices::fault::ScheduleError;
use iommu::submit::HostError;

/// A run that cannot be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// Workload, unit and fault contradict each other.
    #[error("{what} cannot be simulated: {reason}")]
    Refused {
        /// The run.
        what: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// The devices refuse it.
    #[error(transparent)]
    Devices(#[from] devices::Error),
}

impl From<ScheduleError> for SimulationError {
    fn from(error: ScheduleError) -> Self {
        Self::Devices(error.into())
    }
}

impl From<HostError> for SimulationError {
    fn from(error: HostError) -> Self {
        Self::Devices(error.into())
    }
}
