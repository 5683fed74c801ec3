//! A policy: what software does when a Device-TLB invalidation takes too long. Data, not code:
//! a new policy is a new row in [`super::presets`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::fields::{Completion, IteMarks, OnIte, OnTimeout, Precheck};
use super::presets::{self, PRESETS};
use crate::time::{ParseDurationError, Timeout};

/// What software does when a Device-TLB invalidation takes too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What it is called: [`Policy::from_str`] reads it again.
    pub name: String,
    /// What is asked before.
    pub precheck: Precheck,
    /// How long software waits. The unit's own time-out is not the policy's.
    pub deadline: Timeout,
    /// What is done then.
    pub on_timeout: OnTimeout,
    /// What is done when the unit has given up by itself.
    pub on_ite: OnIte,
    /// What the unit is then believed to have dropped.
    pub ite_marks: IteMarks,
    /// How completions are recognised.
    pub completion: Completion,
    /// Whether the waiting loop tells the lock-up detectors that it is alive.
    pub watchdog: bool,
}

/// What [`Policy::from_str`] says of a text that names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePolicyError {
    /// No such preset.
    #[error("unknown policy '{text}'; the policies are {known}")]
    Unknown {
        /// What was asked for.
        text: String,
        /// What there is.
        known: String,
    },
    /// A preset that takes no duration was given one.
    #[error("the policy '{name}' takes no duration; for a bound of your own write bounded:{given}")]
    NoDuration {
        /// The preset.
        name: String,
        /// The duration.
        given: String,
    },
    /// The duration of a preset does not read as one.
    #[error("policy '{text}': {source}")]
    Duration {
        /// What was asked for.
        text: String,
        /// What is wrong.
        #[source]
        source: ParseDurationError,
    },
}

/// Values of a policy that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the deadline of '{name}' never passes, so that on_timeout = \"{on_timeout}\" has no effect; give \
     it a deadline, or leave on_timeout out"
)]
pub struct ImpossiblePolicy {
    /// The policy.
    pub name: String,
    /// What would be done.
    pub on_timeout: OnTimeout,
}

impl Policy {
    /// Whether its values go together.
    ///
    /// # Errors
    /// If something would be done after a deadline that never passes.
    pub fn check(&self) -> Result<(), ImpossiblePolicy> {
        if self.deadline == Timeout::Never && self.on_timeout != OnTimeout::Report {
            return Err(ImpossiblePolicy { name: self.name.clone(), on_timeout: self.on_timeout });
        }
        Ok(())
    }
}

impl FromStr for Policy {
    type Err = ParsePolicyError;

    /// Reads a preset's name, with `:` and a duration where the preset takes one.
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
    fn every_preset_survives_being_written_and_read() {
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
    fn nonsense_is_refused_with_what_would_be_right() {
        let message = |text: &str| text.parse::<Policy>().unwrap_err().to_string();
        assert!(message("linus").contains("'linus'"));
        assert!(message("linus").contains("linux-7.0, bounded:<t>"));
        assert!(message("bounded:0s").contains("'0s'"));
        assert!(message("bounded:").contains("bounded:"));
        assert!(message("linux:1s").contains("bounded:1s"));
    }
}
