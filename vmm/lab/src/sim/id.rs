//! The name of a run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A run's name: `policy/fault/workload/seed`, as in `bounded:100ms/no-completion/strict/17`. With
/// the tables that the names stand in, it says everything about the run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    /// The policy's name.
    pub policy: String,
    /// The fault's name.
    pub fault: String,
    /// The workload's name.
    pub workload: String,
    /// The seed of all random choices.
    pub seed: u64,
}

/// The error of [`RunId::from_str`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a run; write policy/fault/workload/seed, as in bounded:100ms/no-completion/strict/17"
)]
pub struct ParseRunIdError(String);

impl FromStr for RunId {
    type Err = ParseRunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut words = text.split('/').map(str::to_owned);
            let mut word = || words.next().filter(|word| !word.is_empty());
            let (policy, fault, workload) = (word()?, word()?, word()?);
            let seed = word()?.parse().ok()?;
            words.next().is_none().then_some(Self { policy, fault, workload, seed })
        };
        parse().ok_or_else(|| ParseRunIdError(text.to_owned()))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.policy, self.fault, self.workload, self.seed)
    }
}

impl Serialize for RunId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::text::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_survives_being_written_and_read(
            policy in "[a-z+:0-9]{1,20}",
            fault in "[a-z:.0-9]{1,20}",
            workload in "[a-z0-9-]{1,20}",
            seed: u64,
        ) {
            let id = RunId { policy, fault, workload, seed };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_text() {
        for text in ["", "a/b/c", "a/b/c/d", "a//c/1", "a/b/c/1/", "a/b/c/-1"] {
            let error = text.parse::<RunId>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("'{text}'")), "{error}");
        }
    }
}
