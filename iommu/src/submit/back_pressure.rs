//! Back pressure: how many submissions of each function may be in the ring, and which functions get
//! none.
//!
//! ```text
//!                    polled + unanswered < in_flight
//!   queued ---------------------------------------------> in the ring
//!     |                                                     | given up, and its own function is to blame
//!     |  function is withheld                               v
//!     +----------------------> Device-TLB is waived     unanswered; the function is withheld
//! ```
//!
//! A waiter that gives up does not know which request the unit waits for. On a unit that completes
//! waits in order, the waits of healthy functions stand behind that of a mute one. If they were
//! withheld too, their ATCs would keep what they should drop. Hence only the function whose wait the
//! unit stands at is to blame: that of the oldest wait without a completion, unless a younger wait has
//! completed, which shows that waits do not stand behind each other.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;

use super::Policy;
use super::fields::Suspects;
use super::status::Token;
use super::waiter::Waiter;
use crate::ids::Bdf;

/// The most waits of [`BackPressure::stuck`]: more than a unit holds requests to two functions.
const MOST_STUCK: usize = 64;

/// The submissions of one function.
#[derive(Debug, Default)]
struct Load {
    /// Invalidations in the ring that a waiter polls.
    polled: u32,
    /// Invalidations that a waiter has given up, and that the unit may still hold.
    unanswered: u32,
    gate: Gate,
    /// It was reset while the unit may have held requests to it: the next ITE that names it is about
    /// those.
    ignores_ite: bool,
}

/// Whether a function gets invalidations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Gate {
    #[default]
    Open,
    /// It is being reset. Callers wait outside the ring.
    Paused,
    /// It has timed out since its last reset. Callers go on without it.
    Withheld,
}

/// The submissions of all functions, against the limit of the policy.
#[derive(Debug)]
pub(super) struct BackPressure {
    limit: Option<NonZeroU16>,
    /// Whether waits are watched: there is a limit, or the policy acts against the oldest alone.
    is_on: bool,
    loads: BTreeMap<Bdf, Load>,
    /// The status words of submissions that waiters have given up, with the functions of each.
    given_up: Vec<(Token, Bdf)>,
    /// Waits that were given up, whose own function was to blame, and whose requests the unit may still
    /// hold: the number of each, and the function.
    stuck: VecDeque<(u64, Bdf)>,
    /// One more than the highest number of a wait that has completed.
    completed: u64,
}

impl BackPressure {
    pub(super) fn new(policy: &Policy) -> Self {
        let limit = policy.in_flight;
        let is_on = limit.is_some() || policy.suspects == Suspects::Oldest;
        let (loads, given_up, stuck) = (BTreeMap::new(), Vec::new(), VecDeque::new());
        Self { limit, is_on, loads, given_up, stuck, completed: 0 }
    }

    /// Whether waits are watched.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether `waiter` may be put in the ring now. A submission with more invalidations of a function
    /// than the limit goes alone.
    pub(super) fn admits(&self, waiter: &Waiter) -> bool {
        let Some(limit) = self.limit else { return true };
        waiter.functions().all(|function| {
            let Some(load) = self.loads.get(&function) else { return true };
            if load.gate == Gate::Paused {
                return false;
            }
            let in_ring = load.polled + load.unanswered;
            let more = waiter.functions().filter(|other| *other == function).count() as u32;
            in_ring == 0 || in_ring + more <= u32::from(limit.get())
        })
    }

    /// Whether `function` gets no invalidation until it is reset or the unit has answered.
    pub(super) fn is_withheld(&self, function: Bdf) -> bool {
        self.limit.is_some_and(|limit| {
            let load = self.loads.get(&function);
            load.is_some_and(|load| {
                load.gate == Gate::Withheld || load.unanswered >= u32::from(limit.get())
            })
        })
    }

    /// The functions that have timed out since their last reset.
    pub(super) fn withheld(&self) -> impl Iterator<Item = Bdf> {
        self.loads
            .iter()
            .filter(|(_, load)| load.gate == Gate::Withheld)
            .map(|(function, _)| *function)
    }

    /// `waiter` was put in the ring.
    pub(super) fn enter(&mut self, waiter: &Waiter) {
        if self.is_on() {
            for function in waiter.functions() {
                self.loads.entry(function).or_default().polled += 1;
            }
        }
    }

    /// `waiter`, which polled, has seen its status write.
    pub(super) fn complete(&mut self, waiter: &Waiter) {
        if !self.is_on() {
            return;
        }
        self.leave(waiter);
        self.completed = self.completed.max(waiter.wait + 1);
        self.stuck.retain(|(wait, _)| *wait > waiter.wait);
    }

    /// `waiter`, which polled for `token`, gives up. `can_recall` tells whether the driver will see
    /// when the unit writes that.
    pub(super) fn give_up(&mut self, waiter: &Waiter, token: Token, can_recall: bool) {
        if !self.is_on() {
            return;
        }
        let is_to_blame = self.blames(waiter);
        self.leave(waiter);
        if !is_to_blame {
            return;
        }
        for function in waiter.functions() {
            if self.stuck.len() < MOST_STUCK {
                self.stuck.push_back((waiter.wait, function));
            }
            if can_recall {
                self.given_up.push((token, function));
                self.loads.entry(function).or_default().unanswered += 1;
            }
        }
    }

    /// The unit has aborted the wait of `waiter`, which polled.
    pub(super) fn abort(&mut self, waiter: &Waiter) {
        if self.is_on() {
            self.leave(waiter);
        }
    }

    fn leave(&mut self, waiter: &Waiter) {
        for function in waiter.functions() {
            if let Some(load) = self.loads.get_mut(&function) {
                load.polled = load.polled.saturating_sub(1);
            }
        }
    }

    /// The unit has written the tokens for which `is_pending` does not hold.
    pub(super) fn recall(&mut self, is_pending: impl Fn(Token) -> bool) {
        let Self { given_up, loads, .. } = self;
        given_up.retain(|(token, function)| {
            let is_pending = is_pending(*token);
            if !is_pending && let Some(load) = loads.get_mut(function) {
                load.unanswered = load.unanswered.saturating_sub(1);
            }
            is_pending
        });
    }

    /// The unit has aborted all waits, after a request to `function`, or to one that it does not name.
    /// It may still hold requests that were sent later.
    pub(super) fn abort_all(&mut self, function: Option<Bdf>) {
        self.recall(|_| false);
        match function {
            None => self.stuck.clear(),
            Some(function) => {
                if let Some(at) = self.stuck.iter().position(|(_, stuck)| *stuck == function) {
                    self.stuck.remove(at);
                }
            }
        }
    }

    /// Whether `waiter`, which has not seen its status write in time, waits for its own functions, as
    /// far as the driver can tell.
    pub(super) fn blames(&self, waiter: &Waiter) -> bool {
        let is_own = |function| waiter.functions().any(|own| own == function);
        self.completed > waiter.wait
            || self.stuck.iter().all(|(wait, function)| *wait >= waiter.wait || is_own(*function))
    }

    /// `function` has timed out. Returns whether that is new.
    pub(super) fn withhold(&mut self, function: Bdf) -> bool {
        self.limit.is_some() && {
            let load = self.loads.entry(function).or_default();
            std::mem::replace(&mut load.gate, Gate::Withheld) != Gate::Withheld
        }
    }

    /// ITE names `function`. Returns whether that is about a request that was sent after its last
    /// reset.
    pub(super) fn is_new_ite(&mut self, function: Bdf) -> bool {
        let load = self.loads.get_mut(&function);
        load.is_none_or(|load| !std::mem::take(&mut load.ignores_ite))
    }

    /// `function` is about to be reset.
    pub(super) fn pause(&mut self, function: Bdf) {
        if self.limit.is_some() {
            self.loads.entry(function).or_default().gate = Gate::Paused;
        }
    }

    /// `function` was reset. Its ATC is empty, and the unit may still hold requests to it.
    pub(super) fn reset(&mut self, function: Bdf) {
        if let Some(load) = self.loads.get_mut(&function) {
            load.ignores_ite |= load.gate != Gate::Open;
            load.gate = Gate::Open;
        }
    }
}
