//! Every policy that the fields of a policy can express, to find those that are live, safe and fair.

use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Duration;

use iommu::submit::{Completion, HostError, OnIte, OnTimeout, PRESETS, Policy, Suspects};
use iommu::time::Timeout;

use super::{ExploreConfig, ExploredFault, Invariant, explore};
use crate::work::in_order;

/// The bound of candidates that have one.
const BOUND: Duration = Duration::from_millis(100);
/// A depth at which most candidates fail.
const SHALLOW: usize = 4;
/// Actions at the deadline that need nothing but the queue and the function.
const ON_TIMEOUT: [OnTimeout; 6] = [
    OnTimeout::Report,
    OnTimeout::Retry(1),
    OnTimeout::Quarantine,
    OnTimeout::QuarantinePosted,
    OnTimeout::Remove,
    OnTimeout::Reset,
];

/// All combinations of bound, action at the deadline, action at ITE, status word, back pressure and
/// suspects. There is no presence check among them: a function that is present and mute passes it.
pub fn candidates() -> Vec<Policy> {
    // Everything that is not varied is as in this preset.
    let Some(preset) = PRESETS.iter().find(|preset| preset.name == "bounded") else {
        return Vec::new();
    };
    let base = Policy { deadline: Timeout::Never, ..preset.policy() };
    let mut all = Vec::new();
    for on_ite in OnIte::ALL {
        for completion in Completion::ALL {
            for in_flight in [None, NonZeroU16::new(1)] {
                let base =
                    Policy { on_ite: *on_ite, completion: *completion, in_flight, ..base.clone() };
                all.push(base.clone());
                for on_timeout in ON_TIMEOUT {
                    for suspects in Suspects::ALL {
                        let deadline = Timeout::After(BOUND);
                        all.push(Policy {
                            deadline,
                            on_timeout,
                            suspects: *suspects,
                            ..base.clone()
                        });
                    }
                }
            }
        }
    }
    all.retain(|policy| policy.check().is_ok());
    for policy in &mut all {
        policy.name = name(policy);
    }
    all
}

/// The fields of a candidate, as a name.
fn name(policy: &Policy) -> String {
    let Policy { deadline, on_timeout, on_ite, completion, in_flight, suspects, .. } = policy;
    let limit = in_flight.map_or(String::new(), |limit| format!(", in_flight {limit}"));
    let at_deadline = match deadline {
        Timeout::Never => "no bound".to_owned(),
        Timeout::After(_) => format!("{on_timeout} ({suspects})"),
    };
    format!("{at_deadline}, ITE {on_ite}, {completion}{limit}")
}

/// The fate of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// An invariant was broken under a fault, after so many events.
    Fails(Invariant, ExploredFault, usize),
    /// Nothing was broken in any order; in how many states.
    Holds {
        /// The states of all faults together.
        states: usize,
        /// Every order was tried.
        complete: bool,
    },
}

/// The fate of each of `policies` under all of `faults`, with the other settings of `config`, on
/// `jobs` threads.
///
/// # Errors
/// There is no memory for the host's few pages.
pub fn try_candidates(
    policies: &[Policy],
    faults: &[ExploredFault],
    config: &ExploreConfig,
    jobs: NonZeroUsize,
) -> Result<Vec<Fate>, HostError> {
    let mut fates = Vec::with_capacity(policies.len());
    in_order(
        0..policies.len(),
        jobs,
        |nth| try_candidate(&policies[nth], faults, config),
        |_, fate| {
            fates.push(fate?);
            Ok::<(), HostError>(())
        },
        || false,
    )?;
    Ok(fates)
}

/// Explores a candidate under all of `faults`, with the other settings of `config`, first in short
/// traces, in which most fail.
fn try_candidate(
    policy: &Policy,
    faults: &[ExploredFault],
    config: &ExploreConfig,
) -> Result<Fate, HostError> {
    let (mut states, mut complete) = (0, true);
    for depth in [SHALLOW.min(config.depth), config.depth] {
        (states, complete) = (0, true);
        for fault in faults {
            let config = ExploreConfig {
                policy: policy.clone(),
                fault: *fault,
                properties: true,
                depth,
                ..config.clone()
            };
            let report = explore(&config)?;
            let shortest = report.violations.iter().min_by_key(|(_, found)| found.trace.len());
            if let Some((invariant, found)) = shortest {
                return Ok(Fate::Fails(*invariant, *fault, found.trace.len()));
            }
            states += report.states;
            complete &= report.complete;
        }
    }
    Ok(Fate::Holds { states, complete })
}
