//! The explorer: it tries every order in which device, unit, software and a fault can act, up to a
//! bound, and random orders beyond it. It checks each for broken invariants.
//!
//! ```text
//!   state --- which actions are possible? --+--> action --> state ...    breadth first: what is found
//!     ^                                     +--> action --> state ...    first is shortest
//!     |                                     +--> ..
//!     +-- HostSide (driver and unit), two functions with ATCs, the messages between them
//! ```
//!
//! [`HostSide`](iommu::submit::HostSide) with its policies and its unit,
//! [`Link`](devices::pcie::link::Link) and [`Atc`](devices::dma::atc::Atc) are those that run under KVM.
//! A state cannot be copied: it is reached by doing its actions again, which takes microseconds,
//! since nothing in it waits.
//!
//! `Downstream`, which the root complex and the simulation share, does not fit here: its hierarchy
//! delivers a message to a function and takes the answer in one step, and functions need to be
//! configured first. Here each message waits until the search delivers it, and a world is built
//! for each trace.
//!
//! - [`action`]: the actions. `fault`: the faults of the victim. `world`: the state, and the
//!   effects of actions on it.
//! - `search`: the orders that are tried. `narrate`: a trace in plain words.

pub mod action;
mod candidates;
mod fault;
mod narrate;
mod search;
mod tables;
mod world;

use std::collections::BTreeMap;

use devices::pcie::link::Obeys;
use iommu::submit::{FlushPath, HostError, OnIte, OnTimeout, Policy, PolicyPath, Precheck};
use iommu::time::Timeout;
use iommu::unit::Ordering;
use serde::Serialize;

pub use action::Action;
pub use candidates::{Fate, candidates, try_candidates};
pub use fault::{ExploredFault, UnexploredFault};

/// An invariant, by the name of its violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Invariant {
    /// A waiter is woken by another's completion: it believes that its invalidation is done.
    FalseCompletion,
    /// A waiter is never woken, although nothing is under way that could wake it.
    LostWait,
    /// A function uses a translation whose invalidation the caller was told is done.
    StaleAfterSuccess,
    /// A function uses a translation whose invalidation the caller was told has failed. Callers in
    /// Linux give the page away all the same.
    StaleAfterFailure,
    /// A caller waits for as long as the hard lock-up detector allows. Looked for only with
    /// [`ExploreConfig::properties`].
    Late,
    /// The neighbor, which is healthy, is isolated or reset, and it has not owed an answer for
    /// 100 ms, which would make it look mute. Looked for only with [`ExploreConfig::properties`].
    Unfair,
}

impl Invariant {
    /// Those that are looked for always.
    pub const ALL: [Self; 4] =
        [Self::FalseCompletion, Self::LostWait, Self::StaleAfterSuccess, Self::StaleAfterFailure];

    /// The name in tables and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FalseCompletion => "false completion",
            Self::LostWait => "lost wait",
            Self::StaleAfterSuccess => "stale after success",
            Self::StaleAfterFailure => "stale after failure",
            Self::Late => "late",
            Self::Unfair => "unfair",
        }
    }

    /// The property that its violation breaks: live, safe or fair.
    pub const fn property(self) -> &'static str {
        match self {
            Self::LostWait | Self::Late => "live",
            Self::FalseCompletion | Self::StaleAfterSuccess | Self::StaleAfterFailure => "safe",
            Self::Unfair => "fair",
        }
    }

    /// Whether `policy` promises that the invariant holds. It promises nothing after a reported
    /// failure. A policy that skips functions that look gone, treats them as removed, turns ATS off
    /// in them, or does not send again what was lost, reports success without an answer of the
    /// hardware. Where the function lies under `fault`, no policy
    /// can know that a translation is gone.
    pub fn is_claimed_by(self, policy: &Policy, fault: ExploredFault) -> bool {
        match self {
            Self::FalseCompletion | Self::LostWait => true,
            Self::StaleAfterSuccess => {
                policy.precheck_on(explored_path(policy)) == Precheck::None
                    && !matches!(policy.on_timeout, OnTimeout::Remove | OnTimeout::DisableAts)
                    && !matches!(policy.on_ite, OnIte::RepeatWait | OnIte::DisableAts)
                    && !fault.lies()
            }
            Self::StaleAfterFailure | Self::Late | Self::Unfair => false,
        }
    }
}

/// The path on which the explored calls are submitted: that which `policy` describes.
pub(crate) const fn explored_path(policy: &Policy) -> FlushPath {
    match policy.path {
        PolicyPath::Any | PolicyPath::Unmap => FlushPath::Unmap,
        PolicyPath::Teardown => FlushPath::Teardown,
        PolicyPath::Reset => FlushPath::Reset,
    }
}

/// The input of an exploration.
#[derive(Debug, Clone)]
pub struct ExploreConfig {
    /// The host's policy for invalidations that take too long.
    pub policy: Policy,
    /// The fault of the victim.
    pub fault: ExploredFault,
    /// When the unit raises ITE.
    pub ict: Timeout,
    /// The order in which the unit completes waits.
    pub ordering: Ordering,
    /// When ATCs drop what an Invalidate Request names.
    pub obeys: Obeys,
    /// Whether to look for late callers and harm to the neighbor too.
    pub properties: bool,
    /// Whether the neighbor may answer at any time before the unit gives up, as `PCIe 10.3.1` permits.
    /// A policy may take it for mute while it owes an answer for 100 ms. If not, it answers before
    /// time passes.
    pub slow_neighbor: bool,
    /// Actions in a row that are tried in every order.
    pub depth: usize,
    /// The number of random traces, which are three times as long as `depth`.
    pub random: u64,
    /// The seed of the random traces.
    pub seed: u64,
}

/// A trace that ends in a broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The shortest trace that was found.
    pub trace: Vec<Action>,
    /// The trace in plain words, numbered.
    #[serde(rename = "story")]
    pub narration: Vec<String>,
}

/// The result of an exploration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Different states that were reached by trying every order.
    pub states: usize,
    /// Every order up to the depth was tried: there were not more states than fit.
    pub complete: bool,
    /// The broken invariants, with a trace for each.
    pub violations: BTreeMap<Invariant, Violation>,
}

impl Report {
    /// Whether the policy keeps its promises in all explored orders.
    pub fn keeps_claims(&self, policy: &Policy, fault: ExploredFault) -> bool {
        !self.violations.keys().any(|invariant| invariant.is_claimed_by(policy, fault))
    }
}

/// Explores one policy under one fault.
///
/// # Errors
/// There is no memory for the host's few pages.
pub fn explore(config: &ExploreConfig) -> Result<Report, HostError> {
    let mut search = search::Search::new(config);
    search.all_orders()?;
    search.random_orders()?;
    search.report()
}

#[cfg(test)]
mod properties_tests;
#[cfg(test)]
mod tests;
