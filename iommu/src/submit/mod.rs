//! The host side: a driver's submit-and-wait loop as a state machine, in front of a physical unit.
//!
//! ```text
//!  guest-visible unit          HostSide                                     physical unit
//!  InvalidateRequest --submit-> precheck -> Device-TLB + wait in the ring -> Output::Invalidate
//!                                                   |                            link, ATC
//!                               poll:  status word <-+--------------------- handle_completion
//!                                      FSTS.ITE    <----------------------- its own time-out
//!                                      deadline    <-- policy
//!  acknowledge / time_out <-verdict-
//! ```
//!
//! The wait is real: what it gives up on is still in the physical unit's queue, other submitters
//! stand behind it, and its status write may yet come.

mod fields;
mod flush;
mod hardware;
mod host;
mod policy;
mod presets;
mod quarantine;
mod queue;
mod ring;
mod status;
mod submitter;
mod timers;
mod waiter;
mod waiters;

use serde::{Deserialize, Serialize};

pub use fields::{Completion, IteMarks, OnIte, OnTimeout, ParseFieldError, Precheck};
pub use flush::Flush;
pub use host::{HostError, HostSide};
pub use policy::{ImpossiblePolicy, ParsePolicyError, Policy};
pub use presets::{PRESETS, Preset};

use crate::ids::Bdf;
use crate::time::Instant;

/// Names one invalidation from submission to verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Ticket(pub u64);

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The status write came.
    Completed,
    /// Nothing was submitted: the precheck said that the device is gone. The caller is told that
    /// all is well.
    Skipped,
    /// The policy's deadline passed.
    DeadlinePassed,
    /// The unit raised ITE, and the function that it named is gone.
    UnitTimedOut,
    /// The unit blocks the function: it can use nothing stale. The caller is told that all is well,
    /// as nobody could do anything about a failure (linux-iommu, 2026-03-05).
    Quarantined,
    /// The function is taken for removed. The caller is told that all is well.
    Removed,
    /// The function has been reset, and its ATC is empty.
    Reset,
}

impl Verdict {
    /// Whether the caller is told that the invalidation is complete.
    pub const fn is_success(self) -> bool {
        !matches!(self, Self::DeadlinePassed | Self::UnitTimedOut)
    }
}

/// How one call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// The call, as [`HostSide::submit`] has named it.
    pub ticket: Ticket,
    /// What was asked for.
    pub flush: Flush,
    /// What the caller is told.
    pub verdict: Verdict,
    /// How often it was put on the queue; 0 if it was skipped or found no room.
    pub attempts: u32,
    /// How often the unit's ITE has aborted it.
    pub aborts: u32,
}

/// What the host side has done so far, over all callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Submissions that were put on the queue, each time anew.
    pub submitted: u64,
    /// Those of them that were not the first for their caller.
    pub resubmitted: u64,
    /// Submissions that the unit's ITE has aborted.
    pub aborted: u64,
    /// Callers that found the queue full.
    pub queue_full: u64,
    /// Reads of vendor IDs.
    pub presence_checks: u64,
    /// Waiters that took another's status write for their own: the unit was not done with theirs.
    pub false_completions: u64,
}

impl Counters {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.submitted += other.submitted;
        self.resubmitted += other.resubmitted;
        self.aborted += other.aborted;
        self.queue_full += other.queue_full;
        self.presence_checks += other.presence_checks;
        self.false_completions += other.false_completions;
    }
}

/// How the host's driver reaches a function other than by invalidations: it looks for it, and resets it.
pub trait FunctionAccess {
    /// Reads the function's vendor ID over the link and says whether anybody answered.
    fn is_present(&mut self, function: Bdf) -> bool;

    /// Whether hot-plug has marked the function as disconnected. Costs nothing.
    fn is_disconnected(&self, function: Bdf) -> bool;

    /// Initiates a Function Level Reset (`PCIe 6.6.2`). Nothing says whether that arrives, or whether
    /// the function has one.
    fn reset(&mut self, _function: Bdf, _now: Instant) {}
}
