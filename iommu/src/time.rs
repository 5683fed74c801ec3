//! Time as an argument: nothing in this crate reads a clock. The caller passes the time to each
//! state machine, and asks it for its next deadline.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time, in nanoseconds since power-on.
///
/// Under KVM it follows the host's monotonic clock, in a simulation a virtual clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Instant(u64);

impl Instant {
    /// Power-on.
    pub const START: Self = Self(0);

    /// `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The earliest of `times`. `None` stands for never.
    pub fn earliest<const N: usize>(times: [Option<Self>; N]) -> Option<Self> {
        // This runs after each step of a simulation. `into_iter().flatten().min()` is ten times
        // slower, because it copies the array byte by byte.
        times.iter().fold(None, |first, time| match (first, *time) {
            (Some(first), Some(time)) => Some(std::cmp::min(first, time)),
            (first, time) => first.or(time),
        })
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at 584 years after power-on.
    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time since `earlier`; zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// How long a waiter waits before it gives up.
///
/// Written as `never`, or as a duration with its unit: `100ms`, `60s`, `1m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Timeout {
    /// The waiter never gives up.
    #[default]
    Never,
    /// The waiter gives up after this time.
    After(Duration),
}

impl Timeout {
    /// When a wait ends that begins at `start`; `None` for never.
    pub fn expires(self, start: Instant) -> Option<Instant> {
        match self {
            Self::Never => None,
            Self::After(duration) => Some(start + duration),
        }
    }
}

/// The error of [`parse_duration`] and of [`Timeout::from_str`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a duration ({reason}); write a number with its unit, as in 100ms or 60s")]
pub struct ParseDurationError {
    text: String,
    reason: String,
}

/// Reads a duration above zero: `100ms`, `60s` or `1m 30s`.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let error = |reason: String| ParseDurationError { text: text.to_owned(), reason };
    let duration = humantime::parse_duration(text).map_err(|e| error(e.to_string()))?;
    if duration.is_zero() {
        return Err(error("zero is no wait at all".to_owned()));
    }
    Ok(duration)
}

impl FromStr for Timeout {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "never" => Ok(Self::Never),
            _ => parse_duration(text).map(Self::After),
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::After(duration) => humantime::format_duration(*duration).fmt(f),
        }
    }
}

impl Serialize for Timeout {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_timeout_is_parsed_from_its_text(nanos in 1..u64::MAX) {
            let timeout = Timeout::After(Duration::from_nanos(nanos));
            prop_assert_eq!(timeout.to_string().parse::<Timeout>(), Ok(timeout));
        }
    }

    #[test]
    fn invalid_text_is_named_in_the_error() {
        assert_eq!("never".parse(), Ok(Timeout::Never));
        for text in ["", "100", "0s", "-1s", "soon", "1 fortnight"] {
            let error = text.parse::<Timeout>().unwrap_err();
            assert!(error.to_string().contains(&format!("'{text}'")), "{error}");
        }
    }

    #[test]
    fn instants_saturate() {
        let end = Instant::from_nanos(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Instant::START - end, Duration::ZERO);
    }

    #[test]
    fn earliest_ignores_times_that_never_come() {
        let [soon, late] = [1, 2].map(|nanos| Some(Instant::from_nanos(nanos)));
        assert_eq!(Instant::earliest([late, None, soon]), soon);
        assert_eq!(Instant::earliest([None, late]), late);
        assert_eq!(Instant::earliest([None; 2]), None);
    }
}
