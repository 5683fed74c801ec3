//! A policy: what software does when a Device-TLB invalidation takes too long. A policy is data: a
//! new one is a row in [`super::presets`].

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::fields::{
    Completion, FlushPath, IteMarks, LockScope, OnIte, OnTimeout, PolicyPath, Precheck, PrecheckOn,
    Slots, Suspects, Units,
};
use super::presets::{self, Preset};
use crate::time::{ParseDurationError, Timeout};
use crate::unit::Ordering;

/// The actions of software when a Device-TLB invalidation takes too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The name, which [`Policy::from_str`] reads.
    pub name: String,
    /// The path in a kernel that it describes.
    #[serde(default)]
    pub path: PolicyPath,
    /// The check before a submission.
    pub precheck: Precheck,
    /// The paths on which that check is made.
    #[serde(default)]
    pub precheck_on: PrecheckOn,
    /// How long a waiter waits. The unit has a time-out of its own, ICT.
    pub deadline: Timeout,
    /// How long a waiter waits for a submission without Device-TLB invalidations; if it is missing,
    /// as long as [`Self::deadline`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_deadline: Option<Timeout>,
    /// The submitter's action when the deadline passes.
    pub on_timeout: OnTimeout,
    /// The action of a waiter when the unit has set ITE.
    pub on_ite: OnIte,
    /// The slots that software marks as aborted after ITE.
    pub ite_marks: IteMarks,
    /// How a waiter recognizes its completion.
    pub completion: Completion,
    /// How the descriptors of one call share a wait descriptor.
    #[serde(default)]
    pub slots: Slots,
    /// Whether wait descriptors have FN set: the unit then executes no later descriptor before the
    /// wait has completed (`VT-d 6.5.2.9`).
    #[serde(default, rename = "fn")]
    pub fenced_waits: bool,
    /// The lock that callers hold while they wait. The simulation applies it; [`super::HostSide`]
    /// takes submissions at any time.
    #[serde(default)]
    pub lock: LockScope,
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
    /// Whether the driver blocks a function in the unit before it resets it, and waits for the
    /// invalidations that are under way: Linux's `pci_dev_reset_iommu_prepare` and
    /// `pci_dev_reset_iommu_done` (c279e83953d9). Until the reset is over the function gets no
    /// invalidation.
    #[serde(default)]
    pub reset_prepare: bool,
    /// The units with which its system exists.
    #[serde(default)]
    pub units: Units,
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
pub enum ImpossiblePolicy {
    /// An action after a deadline that never passes.
    #[error(
        "the deadline of '{name}' never passes, so that on_timeout = \"{on_timeout}\" has no effect; \
         give it a deadline, or leave on_timeout out"
    )]
    NoDeadline {
        /// The name of the policy.
        name: String,
        /// The action.
        on_timeout: OnTimeout,
    },
    /// A path for a check that is not made.
    #[error(
        "'{name}' makes no check, so that precheck_on = \"{precheck_on}\" has no effect; give it a \
         precheck, or leave precheck_on out"
    )]
    NoPrecheck {
        /// The name of the policy.
        name: String,
        /// The path.
        precheck_on: PrecheckOn,
    },
}

impl Policy {
    /// Checks the fields against each other.
    ///
    /// # Errors
    /// If the policy has an action after a deadline that never passes, or a path for a check that it
    /// does not make.
    pub fn check(&self) -> Result<(), ImpossiblePolicy> {
        let name = || self.name.clone();
        let never = |deadline: Timeout| deadline == Timeout::Never;
        let has_no_deadline = never(self.deadline) && self.other_deadline.is_none_or(never);
        if has_no_deadline && self.on_timeout != OnTimeout::Report {
            let on_timeout = self.on_timeout;
            return Err(ImpossiblePolicy::NoDeadline { name: name(), on_timeout });
        }
        if self.precheck == Precheck::None && self.precheck_on != PrecheckOn::Every {
            let precheck_on = self.precheck_on;
            return Err(ImpossiblePolicy::NoPrecheck { name: name(), precheck_on });
        }
        Ok(())
    }

    /// The check before a submission on `path`.
    pub const fn precheck_on(&self, path: FlushPath) -> Precheck {
        match (self.precheck_on, path) {
            (PrecheckOn::Teardown, FlushPath::Unmap) => Precheck::None,
            _ => self.precheck,
        }
    }

    /// Whether the descriptors of a call on `path` are submitted one after the other, each with a
    /// wait descriptor of its own.
    pub const fn splits(&self, path: FlushPath) -> bool {
        match self.slots {
            Slots::Batch => false,
            Slots::Pair => true,
            Slots::ByPath => !matches!(path, FlushPath::Unmap),
        }
    }

    /// Whether the system of this policy exists with such a unit. If not, a result has no meaning
    /// for any machine: tables show *n/a*, and the run is made only if both were asked for by name.
    pub const fn applies_to(&self, ordering: Ordering) -> bool {
        match self.units {
            Units::Any => true,
            // AMD's COMPLETION_WAIT, Arm's CMD_SYNC and RISC-V's IOFENCE.C cover all commands in
            // front of them.
            Units::InOrder => !matches!(ordering, Ordering::Parallel),
        }
    }

    /// Whether this policy describes invalidations on `path`. If not, the same holds as for
    /// [`Self::applies_to`].
    pub const fn describes(&self, path: FlushPath) -> bool {
        self.path.includes(path)
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
        let preset = Preset::find(name).ok_or_else(|| ParsePolicyError::Unknown {
            text: text.to_owned(),
            known: presets::names(),
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
    use crate::submit::PRESETS;

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
        assert!(message("linus").contains("linux-iqe, pass-through, bounded:<t>"));
        assert!(message("bounded:0s").contains("'0s'"));
        assert!(message("bounded:").contains("bounded:"));
        assert!(message("linux:1s").contains("bounded:1s"));
    }

    #[test]
    fn fields_that_contradict_each_other_are_refused_by_name() {
        let message = |policy: Policy| policy.check().unwrap_err().to_string();
        let linux: Policy = "linux".parse().unwrap();
        let acts = Policy { on_timeout: OnTimeout::Crash, ..linux.clone() };
        assert!(message(acts.clone()).contains("on_timeout = \"crash\""));
        let other_deadline = Some(Timeout::After(Duration::from_millis(1)));
        assert_eq!(Policy { other_deadline, ..acts }.check(), Ok(()));
        let unchecked = Policy { precheck_on: PrecheckOn::Teardown, ..linux };
        assert!(message(unchecked).contains("precheck_on = \"teardown\""));
        for preset in PRESETS {
            assert_eq!(preset.policy().check(), Ok(()), "{}", preset.name);
        }
    }

    #[test]
    fn a_policy_of_another_unit_does_not_apply_where_waits_cover_less() {
        let applies = |name: &str| {
            let policy: Policy = name.parse().unwrap();
            [Ordering::Serial, Ordering::Parallel].map(|ordering| policy.applies_to(ordering))
        };
        for name in ["amd", "amd-6.6", "smmuv3", "smmuv3-quarantine", "riscv", "riscv-ats-broken"] {
            assert_eq!(applies(name), [true, false], "{name}");
        }
        for name in ["linux", "bounded", "xen", "xen-4.15", "vt-d-sequence"] {
            assert_eq!(applies(name), [true, true], "{name}");
        }
    }

    #[test]
    fn a_row_with_a_path_describes_that_path_only() {
        use FlushPath::*;
        for preset in PRESETS {
            let policy = preset.policy();
            let paths = [Unmap, Teardown, Reset].map(|path| policy.describes(path));
            let expected = match preset.name.rsplit('-').next() {
                Some("unmap" | "iqe") => [true, false, false],
                Some("teardown") => [false, true, false],
                Some("reset") => [false, false, true],
                _ => [true; 3],
            };
            assert_eq!(paths, expected, "{}", preset.name);
        }
    }
}
