//! The time in which a function becomes ready after a reset, or after its return to D0, and its
//! answer to configuration requests meanwhile.
//!
//! ```text
//!   FLR, hot reset, power-on, VF Enable --(reset)--\
//!                                                   > ready
//!   D3hot to D0 --------------------------(wake)---/
//! ```
//!
//! Until a function is ready it drops all requests and messages, and sends none. Configuration
//! requests may be answered with Request Retry Status (RRS).

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// How long a function takes to become ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// After a reset of any kind, and after VF Enable.
    pub reset: Duration,
    /// After its return from D3hot to D0.
    pub wake: Duration,
    /// Its answer to configuration requests meanwhile.
    pub answer: NotReadyAnswer,
}

/// The answer of a function that is not ready to configuration requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotReadyAnswer {
    /// Request Retry Status (`PCIe 2.3.1`). The root complex does not try again: other reads than
    /// those of the vendor ID read as all ones, and writes are lost.
    #[default]
    Rrs,
    /// None: reads end by Completion Timeout, and read as all ones.
    Timeout,
    /// As [`Self::Rrs`], and the function claims Immediate Readiness (`PCIe 7.5.1.1.4`, `PCIe
    /// 7.5.2.1`): it lies if it takes any time.
    Immediate,
}

/// A time to become ready: `0s` to [`Self::LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyTime(pub Duration);

impl ReadyTime {
    /// The longest time. Linux waits 60 s for a function.
    pub const LONGEST: Duration = Duration::from_secs(60);
    /// Software must wait this long after a reset (`PCIe 6.6.1`, `PCIe 6.6.2`).
    pub const RESET: Self = Self(Duration::from_millis(100));
    /// Software must wait this long after the return from D3hot (`PCIe 5.3.1.4`).
    pub const WAKE: Self = Self(Duration::from_millis(10));
}

/// The error of [`ReadyTime::from_str`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' {reason}; write a time from 0s to 1m, as in 100ms")]
pub struct ParseReadyTimeError {
    text: String,
    reason: &'static str,
}

impl FromStr for ReadyTime {
    type Err = ParseReadyTimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| ParseReadyTimeError { text: text.to_owned(), reason };
        if text.trim_start().starts_with('-') {
            return Err(error("is negative"));
        }
        if text.trim() == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let time = humantime::parse_duration(text).map_err(|_| error("is not a duration"))?;
        if time > Self::LONGEST {
            return Err(error("is longer than a minute"));
        }
        Ok(Self(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_at_most_a_minute_and_not_negative() {
        for (text, time) in [("0", 0), ("0s", 0), ("100ms", 100), ("1m", 60_000), ("1s 5ms", 1005)]
        {
            assert_eq!(text.parse(), Ok(ReadyTime(Duration::from_millis(time))), "{text}");
        }
        for (text, reason) in [
            ("-5ms", "'-5ms' is negative; write a time from 0s to 1m"),
            ("61s", "'61s' is longer than a minute"),
            ("100", "'100' is not a duration"),
            ("", "'' is not a duration"),
        ] {
            let error = text.parse::<ReadyTime>().unwrap_err().to_string();
            assert!(error.starts_with(reason), "{error}");
        }
    }
}
