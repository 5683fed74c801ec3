//! A policy: what software does when a Device-TLB invalidation takes too long. A policy is data: a
//! new one is a row in [`super::presets`].

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::fields::{Completion, IteMarks, OnIte, OnTimeout, Precheck, Suspects};
use super::presets::{self, PRESETS};
use crate::time::{ParseDurationError, Timeout};

/// The actions of software when a Device-TLB invalidation takes too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The name, which [`Policy::from_str`] reads.
    pub name: String,
    /// The check before a submission.
    pub precheck: Precheck,
    /// How long a waiter waits. The unit has a time-out of its own, ICT.
    pub deadline: Timeout,
    /// The submitter's action when the deadline passes.
    pub on_timeout: OnTimeout,
    /// The action of a waiter when the unit has set ITE.
    pub on_ite: OnIte,
    /// The slots that software marks as aborted after ITE.
    pub ite_marks: IteMarks,
    /// How a waiter recognizes its completion.
    pub completion: Completion,
    /// Whether the waiting loop resets the lock-up detectors.
    pub watchdog: bool,
    /// Back pressure: how many invalidations of one function may be in the ring at once, `None` for
    /// any number. Further callers wait outside the ring, with interrupts enabled. A function that has
    /// timed out gets no invalidation until it is reset. With [`Completion::Leak`] the invalidations
    /// that were given up count until the unit has answered them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<NonZeroU16>,
    /// Against which functions `on_timeout` acts.
    #[serde(default)]
    pub suspects: Suspects,
}

/// The error of [`Policy::from_str`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePolicyError {
    /// No preset has this name.
    #[error("unknown policy '{text}'; the policies are {known}")]
    Unknown {
        /// The text.
        text: String,
        /// The usages of all presets.
        known: String,
    },
    /// The preset takes no duration.
    #[error("the policy '{name}' takes no duration; for a bound of your own write bounded:{given}")]
    NoDuration {
        /// The preset.
        name: String,
        /// The duration that was given.
        given: String,
    },
    /// The duration is invalid.
    #[error("policy '{text}': {source}")]
    Duration {
        /// The text.
        text: String,
        /// The error.
        #[source]
        source: ParseDurationError,
    },
}

/// Fields of a policy that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the deadline of '{name}' never passes, so that on_timeout = \"{on_timeout}\" has no effect; give \
     it a deadline, or leave on_timeout out"
)]
pub struct ImpossiblePolicy {
    /// The name of the policy.
    pub name: String,
    /// The action after a deadline that never passes.
    pub on_timeout: OnTimeout,
}

impl Policy {
    /// Checks the fields against each other.
    ///
    /// # Errors
    /// If the policy has an action after a deadline that never passes.
    pub fn check(&self) -> Result<(), ImpossiblePolicy> {
        if self.deadline == Timeout::Never && self.on_timeout != OnTimeout::Report {
            return Err(ImpossiblePolicy { name: self.name.clone(), on_timeout: self.on_timeout });
        }
        Ok(())
    }
}

impl FromStr for Policy {
    type Err = ParsePolicyError;

    /// Reads the name of a preset, followed by `:` and a duration if the preset takes one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, duration) = match text.split_once(':') {
            Some((name, duration)) => (name, Some(duration)),
            None => (text, None),
        };
        let preset = PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
            ParsePolicyError::Unknown { text: text.to_owned(), known: presets::names() }
        })?;
        let mut policy = preset.policy();
        if let Some(given) = duration {
            if !preset.takes_duration {
                let (name, given) = (name.to_owned(), given.to_owned());
                return Err(ParsePolicyError::NoDuration { name, given });
            }
            policy.deadline = crate::time::parse_duration(given)
                .map(Timeout::After)
                .map_err(|source| ParsePolicyError::Duration { text: text.to_owned(), source })?;
            policy.name = text.to_owned();
        }
        Ok(policy)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_preset_is_parsed_from_its_text() {
        for preset in PRESETS {
            let policy = preset.policy();
            assert_eq!(policy.to_string().parse::<Policy>(), Ok(policy));
        }
    }

    #[test]
    fn a_duration_replaces_the_deadline() {
        let policy: Policy = "present+bounded:250ms".parse().unwrap();
        assert_eq!(policy.deadline, Timeout::After(Duration::from_millis(250)));
        assert_eq!(policy.precheck, Precheck::Present);
        assert_eq!(policy.to_string(), "present+bounded:250ms");
    }

    #[test]
    fn an_invalid_policy_is_named_with_advice() {
        let message = |text: &str| text.parse::<Policy>().unwrap_err().to_string();
        assert!(message("linus").contains("'linus'"));
        assert!(message("linus").contains("linux-7.0, pass-through, bounded:<t>"));
        assert!(message("bounded:0s").contains("'0s'"));
        assert!(message("bounded:").contains("bounded:"));
        assert!(message("linux:1s").contains("bounded:1s"));
    }
}
