//! How delays of Invalidate Completions are written: `200ms`, `exp:50ms`, `pareto:50ms:1.5`.

use std::fmt;
use std::str::FromStr;

use humantime::format_duration;

use super::mode_text::{ParseModeError, parse_share, parse_time};
use crate::pcie::link::AnswerDelay;

/// The form of every delay, and its distribution in a line.
pub const DELAYS: [(&str, &str); 5] = [
    ("T", "always T: 200ms"),
    ("T..T", "uniform between the two: 1ms..90s"),
    ("exp:T", "exponential, with the mean T: exp:50ms"),
    (
        "pareto:T:A",
        "heavy tail: Pareto with the mean T and the tail index A, 1.001 to 100: pareto:50ms:1.5. The \
         share of answers later than t falls as t^-A",
    ),
    (
        "bimodal:T:T:P",
        "the first T, or for the share P of the answers the second: bimodal:1ms:10s:0.001",
    ),
];

impl FromStr for AnswerDelay {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split(':').collect();
        match words[..] {
            ["exp", mean] => Ok(Self::Exponential(parse_time(mean)?)),
            ["pareto", mean, index] => {
                Ok(Self::Pareto { mean: parse_time(mean)?, milli_index: parse_index(index)? })
            }
            ["bimodal", fast, slow, share] => Ok(Self::Bimodal {
                fast: parse_time(fast)?,
                slow: parse_time(slow)?,
                slow_ppm: parse_share(share)?,
            }),
            [_] => parse_plain(text),
            _ => {
                let known: Vec<&str> = DELAYS.iter().map(|(form, _)| *form).collect();
                let known = known.join(", ");
                Err(ParseModeError(format!("'{text}' is no delay; write one of {known}")))
            }
        }
    }
}

fn parse_plain(text: &str) -> Result<AnswerDelay, ParseModeError> {
    let Some((from, to)) = text.split_once("..") else {
        return Ok(AnswerDelay::Fixed(parse_time(text)?));
    };
    let (from, to) = (parse_time(from)?, parse_time(to)?);
    if from > to {
        return Err(ParseModeError(format!("'{text}' ends before it begins")));
    }
    Ok(AnswerDelay::Uniform(from, to))
}

/// The tail index of a Pareto distribution, in thousandths.
fn parse_index(text: &str) -> Result<u32, ParseModeError> {
    let error = |reason: &str| Err(ParseModeError(format!("'{text}' {reason}")));
    match text.parse::<f64>() {
        Ok(index) if (0.0..=1.0).contains(&index) => {
            error("is a tail index without a finite mean; give one above 1, such as 1.5")
        }
        // Exact for whole thousandths; the range is checked.
        Ok(index) if (1.001..=100.0).contains(&index) => Ok((index * 1000.0).round() as u32),
        _ => error("is no tail index; write a number from 1.001 to 100"),
    }
}

impl fmt::Display for AnswerDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Fixed(time) => format_duration(time).fmt(f),
            Self::Uniform(from, to) => {
                write!(f, "{}..{}", format_duration(from), format_duration(to))
            }
            Self::Exponential(mean) => write!(f, "exp:{}", format_duration(mean)),
            Self::Pareto { mean, milli_index } => {
                let index = f64::from(milli_index) / 1000.0;
                write!(f, "pareto:{}:{index}", format_duration(mean))
            }
            Self::Bimodal { fast, slow, slow_ppm } => {
                let share = f64::from(slow_ppm) / 1e6;
                write!(f, "bimodal:{}:{}:{share}", format_duration(fast), format_duration(slow))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_as_it_is_written() {
        for text in [
            "200ms",
            "1ms..1m 30s",
            "exp:50ms",
            "pareto:50ms:1.5",
            "bimodal:1ms:10s:0.001",
            "1m 30s",
        ] {
            assert_eq!(text.parse::<AnswerDelay>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_has_no_finite_mean_or_is_no_delay_is_refused_with_its_value() {
        for (text, value, right) in [
            ("pareto:50ms:1", "'1'", "finite mean"),
            ("pareto:50ms:0.5", "'0.5'", "finite mean"),
            ("pareto:50ms:inf", "'inf'", "1.001 to 100"),
            ("pareto:50ms:NaN", "'NaN'", "1.001 to 100"),
            ("pareto:50ms", "'pareto:50ms'", "pareto:T:A"),
            ("pareto:0s:2", "'0s'", "with its unit"),
            ("bimodal:1ms:1s:2", "'2'", "0 to 1"),
            ("bimodal:1ms:1s", "'bimodal:1ms:1s'", "bimodal:T:T:P"),
            ("exp:48h", "'48h'", "24h"),
            ("2s..1s", "'2s..1s'", "before it begins"),
            ("gauss:1s", "'gauss:1s'", "exp:T"),
        ] {
            let error = text.parse::<AnswerDelay>().unwrap_err().to_string();
            assert!(error.contains(value) && error.contains(right), "{text}: {error}");
        }
    }
}
