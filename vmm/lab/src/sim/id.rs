//! The name of a run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::UnitRow;

/// A run's name: `policy/fault/workload/unit/seed`, as in
/// `bounded:100ms/no-completion/strict/serial/17`. With the tables that the names stand in, it says
/// everything about the run. A name of four parts, as earlier versions wrote them, is a run on the
/// unit `serial`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    /// The policy's name.
    pub policy: String,
    /// The fault's name.
    pub fault: String,
    /// The workload's name.
    pub workload: String,
    /// The unit's name.
    pub unit: String,
    /// The seed of all random choices.
    pub seed: u64,
}

/// The error of [`RunId::from_str`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a run; write policy/fault/workload/unit/seed, as in \
     bounded:100ms/no-completion/strict/serial/17"
)]
pub struct ParseRunIdError(String);

impl FromStr for RunId {
    type Err = ParseRunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split('/').collect();
        let parsed = match words[..] {
            [policy, fault, workload, unit, seed] => Some(([policy, fault, workload, unit], seed)),
            [policy, fault, workload, seed] => {
                Some(([policy, fault, workload, UnitRow::DEFAULT], seed))
            }
            _ => None,
        };
        let error = || ParseRunIdError(text.to_owned());
        let (names, seed) = parsed.ok_or_else(error)?;
        if names.contains(&"") {
            return Err(error());
        }
        let seed = seed.parse().map_err(|_| error())?;
        let [policy, fault, workload, unit] = names.map(str::to_owned);
        Ok(Self { policy, fault, workload, unit, seed })
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, fault, workload, unit, seed } = self;
        write!(f, "{policy}/{fault}/{workload}/{unit}/{seed}")
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
            workload in "[a-z0-9@-]{1,20}",
            unit in "[a-z0-9-]{1,20}",
            seed: u64,
        ) {
            let id = RunId { policy, fault, workload, unit, seed };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn four_parts_are_a_run_on_a_serial_unit() {
        let id: RunId = "linux/silent/strict/7".parse().unwrap();
        assert_eq!((&*id.unit, id.seed), ("serial", 7));
        assert_eq!(id.to_string(), "linux/silent/strict/serial/7");
    }

    #[test]
    fn nonsense_is_refused_with_its_text() {
        for text in [
            "",
            "a/b/c",
            "a/b/c/d",
            "a//c/1",
            "a/b/c/1/",
            "a/b/c/-1",
            "a/b/c//1",
            "a/b/c/d/-1",
            "a/b/c/d/1/",
            "a/b/c/d/e/1",
        ] {
            let error = text.parse::<RunId>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("'{text}'")), "{error}");
        }
    }
}
