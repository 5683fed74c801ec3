//! The part of a comparison for one of several machines.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of `count` parts, written `2/8`. Cells are dealt out like cards, so that each part has
/// its share of the expensive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Shard {
    /// From 0.
    index: usize,
    count: NonZeroUsize,
}

impl Shard {
    /// All of the work.
    pub const WHOLE: Self = Self { index: 0, count: NonZeroUsize::MIN };

    /// Part `index`, from 0, of `count`; `None` if there are not that many.
    pub const fn new(index: usize, count: NonZeroUsize) -> Option<Self> {
        if index < count.get() { Some(Self { index, count }) } else { None }
    }

    /// The number of the part, from 0.
    pub const fn index(self) -> usize {
        self.index
    }

    /// The number of parts.
    pub const fn count(self) -> usize {
        self.count.get()
    }

    /// Whether the cell at `place` of the matrix belongs to this part, with all its runs.
    pub const fn has(self, place: usize) -> bool {
        place % self.count.get() == self.index
    }
}

/// A text that names no part of the work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no part of the work; write i/n with i from 1 to n, as in 2/8")]
pub struct ParseShardError(String);

impl FromStr for Shard {
    type Err = ParseShardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(index, count)| {
            let (index, count): (usize, NonZeroUsize) = (index.parse().ok()?, count.parse().ok()?);
            (1..=count.get()).contains(&index).then(|| Self { index: index - 1, count })
        });
        parsed.ok_or_else(|| ParseShardError(text.to_owned()))
    }
}

impl TryFrom<String> for Shard {
    type Error = ParseShardError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_parts_are_the_whole(total in 0_usize..200, count in 1_usize..20) {
            let parts: Vec<Shard> =
                (1..=count).map(|index| format!("{index}/{count}").parse().unwrap()).collect();
            let mut places: Vec<usize> = parts
                .iter()
                .flat_map(|part| (0..total).filter(|place| part.has(*place)))
                .collect();
            places.sort_unstable();
            prop_assert_eq!(places, (0..total).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_written_is_read_and_nonsense_is_refused() {
        assert_eq!("2/8".parse::<Shard>().unwrap().to_string(), "2/8");
        assert_eq!("1/1".parse(), Ok(Shard::WHOLE));
        for text in ["", "0/8", "9/8", "1/0", "2", "a/b", "-1/8", "1/8/2"] {
            let error = text.parse::<Shard>().unwrap_err().to_string();
            assert!(error.contains(&format!("'{text}'")) && error.contains("2/8"), "{error}");
        }
    }
}
