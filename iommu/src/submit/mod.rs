//! The host side: a driver's submit-and-wait loop as a state machine, and the physical unit below
//! it.
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
//! A waiter that gives up leaves its descriptors in the physical unit's queue. Other submitters
//! stand behind them, and their status write may still come.

mod back_pressure;
mod fields;
mod flush;
mod hardware;
mod host;
mod policy;
mod port_fences;
mod presets;
mod quarantine;
mod queue;
mod recovery;
mod reset_blocks;
mod ring;
mod status;
mod submitter;
mod timers;
mod waiter;
mod waiters;

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

pub use fields::{
    Completion, FlushPath, IteMarks, LockScope, OnIte, OnTimeout, ParseFieldError, PolicyPath,
    Precheck, PrecheckOn, Slots, Suspects, Units,
};
pub use flush::Flush;
pub use host::{HostError, HostSide};
pub use policy::{ImpossiblePolicy, ParsePolicyError, Policy};
pub use port_fences::PortFence;
pub use presets::{PRESETS, Preset};

use crate::ids::Bdf;
use crate::time::Instant;

/// The number of an invalidation, from submission to verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Ticket(pub u64);

/// How a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Success: the status write came.
    Completed,
    /// Success: nothing was submitted, because the function is gone by the precheck.
    Skipped,
    /// Failure: the policy's deadline passed.
    DeadlinePassed,
    /// Failure: the unit set ITE, and the policy gives up. Most do if the function in ITESID is gone.
    UnitTimedOut,
    /// Success: the unit blocks the function, which can use no stale translation. The caller could
    /// not handle a failure anyway (linux-iommu, 2026-03-05).
    Quarantined,
    /// Success: the function is treated as removed.
    Removed,
    /// Success: the function was reset, and its ATC is empty.
    Reset,
    /// Success: a port above the function blocks the requests by which it could use stale
    /// translations.
    Fenced,
    /// Success: a worker resets the function. Until then the function can use stale translations.
    Recovering,
    /// Success: the driver blocks the function in the unit while it resets it, and the reset empties
    /// the ATC. Until the unit has noticed, or the function is reset, it can use stale translations.
    Blocked,
    /// Failure: the function has timed out before and was not reset since, so that the policy sends it
    /// no invalidation. Those of the unit's own caches were carried out.
    Withheld,
    /// Success: the host has turned ATS off in the function, which may not have noticed.
    AtsDisabled,
    /// Failure: the host has ended the domain of the caller.
    Crashed,
}

impl Verdict {
    /// Whether the caller learns that the invalidation is complete.
    pub const fn is_success(self) -> bool {
        !matches!(self, Self::DeadlinePassed | Self::UnitTimedOut | Self::Withheld | Self::Crashed)
    }
}

/// The end of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// The ticket from [`HostSide::submit`].
    pub ticket: Ticket,
    /// The invalidation.
    pub flush: Flush,
    /// How the wait has ended.
    pub verdict: Verdict,
    /// How often the call was put in the ring; 0 if it was skipped or found no room.
    pub attempts: u32,
    /// How often the unit's ITE has aborted the call.
    pub aborts: u32,
}

/// Counters of the host side over all callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Submissions that were put in the ring.
    pub submitted: u64,
    /// Submissions that were not the first of their call.
    pub resubmitted: u64,
    /// Submissions that the unit's ITE has aborted.
    pub aborted: u64,
    /// Calls that found the ring full.
    pub queue_full: u64,
    /// Calls that waited outside the ring, because it held as many invalidations of the function as the
    /// policy allows.
    #[serde(default)]
    pub held_back: u64,
    /// Reads of vendor IDs.
    pub presence_checks: u64,
    /// Waiters that took another's status write for their own, before the unit had completed their
    /// wait.
    pub false_completions: u64,
}

impl Counters {
    /// Adds the counters of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.submitted += other.submitted;
        self.resubmitted += other.resubmitted;
        self.aborted += other.aborted;
        self.queue_full += other.queue_full;
        self.held_back += other.held_back;
        self.presence_checks += other.presence_checks;
        self.false_completions += other.false_completions;
    }
}

/// How the host's driver reaches a function other than by invalidations.
pub trait FunctionAccess {
    /// Reads the function's vendor ID over the link. Returns whether the function has answered.
    fn is_present(&mut self, function: Bdf) -> bool;

    /// Whether hot-plug has marked the function as disconnected. This takes no time.
    fn is_disconnected(&self, function: Bdf) -> bool;

    /// Initiates a Function Level Reset (`PCIe 6.6.2`). The driver does not learn whether the reset
    /// arrives, or whether the function supports it.
    fn reset(&mut self, _function: Bdf, _now: Instant) {}

    /// Turns ATS off in the function, for good (`PCIe 10.5.1`). The driver does not learn whether
    /// the write arrives.
    fn disable_ats(&mut self, _function: Bdf, _now: Instant) {}

    /// Clears Bus Master Enable and ATS Enable in the function, and initiates an FLR. The driver does
    /// not learn whether the writes arrive.
    fn begin_recovery(&mut self, _function: Bdf, _now: Instant) {}

    /// Sets the function up as before [`Self::begin_recovery`].
    fn end_recovery(&mut self, _function: Bdf, _now: Instant) {}

    /// The reset of `function`, which the driver had blocked for it, is over, and the function may be
    /// set up: Linux restores its configuration space after that.
    fn end_reset(&mut self, _function: Bdf, _now: Instant) {}

    /// Sets up `fence` at the port above `function`, by writes to the port's configuration space.
    /// Returns the buses below that port; `None` if there is no port that has the fence.
    fn fence_port(
        &mut self,
        _function: Bdf,
        _fence: PortFence,
        _now: Instant,
    ) -> Option<RangeInclusive<u8>> {
        None
    }

    /// Ends `fence` at the port above `function`.
    fn unfence_port(&mut self, _function: Bdf, _fence: PortFence, _now: Instant) {}
}
