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

mod host;
mod policy;
mod presets;
mod ring;
mod status;
mod submitter;

use serde::Serialize;

pub use host::{HostError, HostSide};
pub use policy::{Completion, OnTimeout, ParsePolicyError, Policy, Precheck};
pub use presets::{PRESETS, Preset};

use crate::ids::Bdf;

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
}

impl Verdict {
    /// Whether the caller is told that the invalidation is complete.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Completed | Self::Skipped)
    }
}

/// What software can learn about a function without its ATC.
pub trait Presence {
    /// Reads the function's vendor ID over the link and says whether anybody answered.
    fn is_present(&mut self, function: Bdf) -> bool;

    /// Whether hot-plug has marked the function as disconnected. Costs nothing.
    fn is_disconnected(&self, function: Bdf) -> bool;
}
