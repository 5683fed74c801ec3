//! Functions that a worker resets after a time-out, while their callers go on.
//!
//! ```text
//!   deadline --> callers go on --WORKER--> Bus Master and ATS off, FLR --RESET--> it answers: set up again
//!                                    |                     ^                 \--> it does not: blocked until
//!                                    +--> blocked first ---+                      a reset from outside
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::timers::RESET_TIME;
use crate::ids::Bdf;
use crate::time::Instant;

/// From the time-out to the moment when the worker runs: an assumption.
const WORKER: Duration = Duration::from_millis(1);

/// The next step of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The worker runs, and blocks the function in the unit.
    Block,
    /// The worker resets the function.
    Reset,
    /// The function must answer.
    Check,
}

/// All functions that are being recovered, or could not be.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    /// The next step of each and its time; `None` if the reset has failed.
    functions: BTreeMap<Bdf, Option<(Instant, Step)>>,
}

impl Recoveries {
    /// Whether no function is being recovered, and none could not be.
    pub(super) fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Whether `function` is being recovered, or could not be.
    pub(super) fn covers(&self, function: Bdf) -> bool {
        self.functions.contains_key(&function)
    }

    /// The functions that wait for a reset from outside.
    pub(super) fn failed(&self) -> impl Iterator<Item = Bdf> {
        self.functions.iter().filter(|(_, step)| step.is_none()).map(|(function, _)| *function)
    }

    /// A recovery begins with the step `first`. Returns whether that is new.
    pub(super) fn begin(&mut self, function: Bdf, first: Step, now: Instant) -> bool {
        let is_new = !self.covers(function);
        if is_new {
            self.functions.insert(function, Some((now + WORKER, first)));
        }
        is_new
    }

    /// The time of the next step.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.functions.values().flatten().map(|(at, _)| *at).min()
    }

    /// Takes a step that is due. After [`Step::Block`] call [`Self::reset_at`]. After [`Step::Reset`] the
    /// check follows; after [`Step::Check`] call [`Self::end`], or the recovery has failed.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(Bdf, Step)> {
        let is_due = |step: &Option<(Instant, Step)>| step.is_some_and(|(at, _)| at <= now);
        let (function, next) = self.functions.iter_mut().find(|(_, step)| is_due(step))?;
        let (_, step) = next.take()?;
        if step == Step::Reset {
            *next = Some((now + RESET_TIME, Step::Check));
        }
        Some((*function, step))
    }

    /// The reset of `function` begins at `until`, or earlier with [`Self::expedite`].
    pub(super) fn reset_at(&mut self, function: Bdf, until: Instant) {
        self.functions.insert(function, Some((until, Step::Reset)));
    }

    /// The reset of `function`, if it is still to begin, begins at `now`.
    pub(super) fn expedite(&mut self, function: Bdf, now: Instant) {
        if let Some(Some((at, Step::Reset))) = self.functions.get_mut(&function) {
            *at = (*at).min(now);
        }
    }

    /// `function` was reset, and is set up.
    pub(super) fn end(&mut self, function: Bdf) -> bool {
        self.functions.remove(&function).is_some()
    }

    /// `function` was reset from outside, which ends a recovery that has failed.
    pub(super) fn end_failed(&mut self, function: Bdf) -> bool {
        self.functions.get(&function).is_some_and(Option::is_none) && self.end(function)
    }
}
