//! Runs the same host and fault under KVM and in the simulation, and compares the results.
//!
//! ```text
//!   calibrate: the guest measures what an exit, a doorbell, a check cost --> Measured --> sim::Costs
//!
//!   Pair (host, fault, when) --+--> kvm: the built-in guest flushes ------> events --> Observer --+
//!                              |                                                                  +--> Agreement
//!                              +--> simulated: lab::sim, these costs --> events --> Observer --+
//! ```
//!
//! Both observe the *caller* of one flush for the victim. With a host that is the unit that the guest
//! sees, on bare metal the guest's driver, in the simulation a CPU. `docs/validation.md` says what is
//! compared and why.

mod agreement;
pub(crate) mod command;
mod costs;
mod direct;
mod grid;
mod kvm;
mod observe;
mod pair;
mod simulated;

use crate::host::HostChoice;
use vmm::{Error, Exit};

pub(crate) use agreement::Agreement;
use agreement::Limits;
pub(crate) use costs::Measured;
pub(crate) use observe::{Affected, Observation, Told};
pub(crate) use pair::{FAULTS, MAX_CPUS, Pair, UnknownFault, faults, usual_policies};

/// Most runs of a pair under KVM. A loaded host lengthens stalls, and a pause that exceeds a bound
/// changes the outcome.
const TRIES: usize = 5;

/// A comparison that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValidateError {
    /// The machine could not be built, or could not go on.
    #[error(transparent)]
    Vmm(#[from] Error),
    /// The simulation could not be built.
    #[error(transparent)]
    Simulation(#[from] lab::sim::SimulationError),
    /// The guest did not finish.
    #[error("the guest ended with {exit:?} under '{pair}'; the end of its console:\n{console}")]
    Guest {
        /// Host and fault.
        pair: String,
        /// The way in which the guest ended.
        exit: Exit,
        /// The end of its console.
        console: String,
    },
    /// The guest did not report everything that it is to measure.
    #[error("the guest has not reported {0}; it is not the guest of this program")]
    Unmeasured(&'static str),
    /// A signal, with its exit status.
    #[error("interrupted")]
    Interrupted(u8),
}

/// Measures the costs of operations on this host.
///
/// # Errors
/// If the guest cannot run.
pub(crate) fn calibrate() -> Result<Measured, ValidateError> {
    costs::calibrate()
}

/// Runs one pair under KVM and in the simulation. Under KVM it runs up to five times until both agree;
/// the result keeps the observations of the other tries.
///
/// # Errors
/// If either cannot be run.
pub(crate) fn run(pair: &Pair, measured: &Measured) -> Result<Agreement, ValidateError> {
    let simulated = simulated::run(pair, measured)?;
    let limits = Limits::new(measured.exit);
    let limits = match pair.host {
        HostChoice::Direct => limits.with_own_resubmission(pair.ict(), pair.cpus),
        HostChoice::Forwarded(_) => limits,
    };
    let attempt = || -> Result<Agreement, ValidateError> {
        Ok(Agreement::new(kvm::run(pair)?, simulated.clone(), limits))
    };
    let mut best = attempt()?;
    for _ in 1..TRIES {
        if best.agrees() {
            break;
        }
        best = best.or(attempt()?);
    }
    Ok(best)
}
