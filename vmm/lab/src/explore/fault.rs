//! The faults of the victim: the fault modes that can be explored.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use devices::fault::{Effect, FaultMode};
use iommu::time::Timeout;
use serde::{Serialize, Serializer};

/// A [`FaultMode`] that can be explored, or none.
///
/// Between two actions no time passes, and every order is tried: times and shares of a mode do not
/// matter. One exception: completions that are later than ICT may also come after the unit has
/// given up on their requests. Modes of a link are explored only where the function keeps its
/// state. `choke` is not explored, as it counts requests of one function, and here are never more
/// than two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExploredFault(Option<FaultMode>);

/// The faults that are explored unless the user chooses others, and the words for them.
const NAMED: [(&str, ExploredFault); 15] = [
    ("none", ExploredFault(None)),
    ("no-completion", ExploredFault(Some(FaultMode::NoCompletion))),
    ("ignore-invalidate", ExploredFault(Some(FaultMode::IgnoreInvalidate))),
    ("late", ExploredFault(Some(FaultMode::Late(Duration::ZERO)))),
    ("too-late", ExploredFault(Some(FaultMode::Late(Duration::MAX)))),
    ("lossy", ExploredFault(Some(FaultMode::Lossy(1)))),
    ("duplicate", ExploredFault(Some(FaultMode::Duplicate))),
    ("early", ExploredFault(Some(FaultMode::EarlyCompletion))),
    ("byte-swap", ExploredFault(Some(FaultMode::ByteSwap))),
    ("drop-at-next", ExploredFault(Some(FaultMode::DropAtNext))),
    ("merge", ExploredFault(Some(FaultMode::Merge(Duration::ZERO)))),
    ("split", ExploredFault(Some(FaultMode::Split(2)))),
    ("sleep", ExploredFault(Some(FaultMode::Sleep))),
    ("silent", ExploredFault(Some(FaultMode::Silent))),
    ("flap", ExploredFault(Some(FaultMode::Flap { down: Duration::ZERO, keep: true }))),
];

impl ExploredFault {
    /// Nothing goes wrong.
    pub const NONE: Self = Self(None);

    /// One of each kind.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMED.into_iter().map(|(_, fault)| fault)
    }

    /// The mode.
    pub(super) fn mode(self) -> Option<FaultMode> {
        self.0
    }

    /// The mode's effect on the victim and its link.
    pub(super) fn effect(self) -> Effect {
        self.0.map(FaultMode::effect).unwrap_or_default()
    }

    /// Whether the victim completes invalidations whose range its ATC keeps.
    pub fn lies(self) -> bool {
        self.effect().invalidate.lies()
    }

    /// Whether completions may come after the unit has given up on their requests.
    pub(super) fn exceeds(self, ict: Timeout) -> bool {
        matches!((self.0, ict), (Some(FaultMode::Late(delay)), Timeout::After(ict)) if delay > ict)
    }
}

/// A fault mode that cannot be explored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fault '{fault}' cannot be explored; there are {}", words())]
pub struct UnexploredFault {
    fault: String,
}

fn words() -> String {
    NAMED.map(|(word, _)| word).join(", ")
}

impl TryFrom<FaultMode> for ExploredFault {
    type Error = UnexploredFault;

    fn try_from(mode: FaultMode) -> Result<Self, UnexploredFault> {
        match mode {
            FaultMode::NoCompletion
            | FaultMode::IgnoreInvalidate
            | FaultMode::Late(_)
            | FaultMode::Lossy(_)
            | FaultMode::Duplicate
            | FaultMode::EarlyCompletion
            | FaultMode::ByteSwap
            | FaultMode::DropAtNext
            | FaultMode::Merge(_)
            | FaultMode::Split(_)
            | FaultMode::Sleep
            | FaultMode::Silent
            | FaultMode::Flap { keep: true, .. } => Ok(Self(Some(mode))),
            _ => Err(UnexploredFault { fault: mode.to_string() }),
        }
    }
}

impl FromStr for ExploredFault {
    type Err = UnexploredFault;

    fn from_str(text: &str) -> Result<Self, UnexploredFault> {
        if let Some((_, fault)) = NAMED.into_iter().find(|(word, _)| *word == text) {
            return Ok(fault);
        }
        let mode = text.parse::<FaultMode>();
        mode.map_err(|_| UnexploredFault { fault: text.to_owned() })?.try_into()
    }
}

impl fmt::Display for ExploredFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (NAMED.into_iter().find(|(_, fault)| fault == self), self.0) {
            (Some((word, _)), _) => f.write_str(word),
            (None, Some(mode)) => mode.fmt(f),
            (None, None) => Ok(()),
        }
    }
}

impl Serialize for ExploredFault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        for fault in ExploredFault::all() {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        assert_eq!("dup".parse(), "duplicate".parse::<ExploredFault>());
        assert_eq!("hang".parse::<ExploredFault>().unwrap().to_string(), "no-completion");
        assert_eq!("late:2s".parse::<ExploredFault>().unwrap().to_string(), "late:2s");
    }

    #[test]
    fn a_mode_that_cannot_be_explored_is_refused_with_the_words() {
        for text in [
            "surprise",
            "dpc",
            "slow:1ms",
            "flap:200ms",
            "choke:1:1ms",
            "slow-reset:1s",
            "all-ones-unit",
            "nonsense",
        ] {
            let error = text.parse::<ExploredFault>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("fault '{text}' cannot be explored; there are none, "))
            );
        }
    }

    #[test]
    fn a_completion_is_too_late_if_it_takes_longer_than_ict() {
        let ict = Timeout::After(Duration::from_secs(60));
        let exceeds = |text: &str, ict| text.parse::<ExploredFault>().unwrap().exceeds(ict);
        assert!(exceeds("too-late", ict) && exceeds("late:61s", ict));
        assert!(!exceeds("late", ict) && !exceeds("late:60s", ict) && !exceeds("lossy", ict));
        assert!(!exceeds("too-late", Timeout::Never));
    }
}
