//! How modes are written: `silent`, `slow:1ms..90s`, `flap:200ms:keep`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use humantime::format_duration;
use iommu::time::parse_duration;

use super::mode::FaultMode;
use crate::pcie::readiness::ReadyTime;

/// The text of every mode with its parameter, and its effect in a line.
pub const MODES: [(&str, &str); 23] = [
    ("silent", "the link is gone; only Link Status shows it"),
    ("ghost", "the link is gone, and the port still reports an active one"),
    ("disable", "Link Disable is set"),
    ("surprise", "the card is pulled out, with the hot-plug events"),
    ("safe", "the attention button is pressed; the card goes when the slot is powered down"),
    ("dpc", "an uncorrectable error, contained if software has enabled DPC"),
    ("aer", "the link is gone, and AER alone reports it"),
    ("no-completion", "ATCs drop what they are told to, and send no Invalidate Completion"),
    ("ignore-invalidate", "ATCs keep what they are told to drop, and send no completion"),
    ("early", "ATCs keep what they are told to drop, and send completions all the same"),
    ("byte-swap", "ATCs read addresses in the wrong byte order, drop another page, and complete"),
    ("drop-at-next", "completions come at once; ATCs drop the range when the next request arrives"),
    ("sleep", "the functions are in D3hot: configuration space answers, and nothing else does"),
    ("slow-reset:T", "after a reset, functions drop all requests for T, 1m at most"),
    ("merge:T", "completions wait for T, and come as one message with several ITags"),
    ("split:N", "each completion comes in N messages, 2 to 8, with that Completion Count"),
    ("choke:N:T", "N requests at once, each for T; further ones are lost"),
    ("slow:T", "completions come after T, a time or a distribution: 200ms, 1ms..90s, exp:50ms"),
    ("lossy:P", "this share of the completions is lost: 0.1"),
    ("dup", "each completion comes twice"),
    ("late:T", "completions come after T, when no caller waits any more"),
    ("flap:T", "the link is gone for T; what is below is reset then, or not: flap:T:keep"),
    ("all-ones-unit", "the guest's remapping unit reads as all ones; takes no port"),
];

/// Earlier names of modes, which are still read, each with its name of today.
const ALIASES: [(&str, &str); 2] = [("hang", "no-completion"), ("deaf", "ignore-invalidate")];

/// `text` with the name of today if it begins with an earlier name of a mode: `deaf:30s` is
/// `ignore-invalidate:30s`. The name ends at a colon, at a slash, or with the text.
pub fn current_name(text: &str) -> Cow<'_, str> {
    let end = text.find([':', '/']).unwrap_or(text.len());
    match ALIASES.iter().find(|(alias, _)| *alias == &text[..end]) {
        Some((_, name)) => Cow::Owned(format!("{name}{}", &text[end..])),
        None => Cow::Borrowed(text),
    }
}

/// The longest time in a mode; far beyond any wait.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The error of [`FaultMode::from_str`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseModeError(pub(super) String);

impl FromStr for FaultMode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = &*current_name(text);
        let (name, parameter) = match text.split_once(':') {
            Some((name, parameter)) => (name, Some(parameter)),
            None => (text, None),
        };
        let mode = match (name, parameter) {
            ("silent", None) => Self::Silent,
            ("ghost", None) => Self::Ghost,
            ("disable", None) => Self::Disable,
            ("surprise", None) => Self::Surprise,
            ("safe", None) => Self::Safe,
            ("dpc", None) => Self::Dpc,
            ("aer", None) => Self::Aer,
            ("no-completion", None) => Self::NoCompletion,
            ("ignore-invalidate", None) => Self::IgnoreInvalidate,
            ("early", None) => Self::EarlyCompletion,
            ("byte-swap", None) => Self::ByteSwap,
            ("drop-at-next", None) => Self::DropAtNext,
            ("sleep", None) => Self::Sleep,
            ("slow-reset", Some(time)) => Self::SlowReset(parse_ready_time(time)?),
            ("merge", Some(time)) => Self::Merge(parse_time(time)?),
            ("split", Some(parts)) => Self::Split(parse_number(parts, 2, 8)?),
            ("choke", Some(parameter)) => parse_choke(parameter)?,
            ("dup", None) => Self::Duplicate,
            ("all-ones-unit", None) => Self::AllOnesUnit,
            ("slow", Some(delay)) => Self::Slow(delay.parse()?),
            ("lossy", Some(share)) => Self::Lossy(parse_share(share)?),
            ("late", Some(time)) => Self::Late(parse_time(time)?),
            ("flap", Some(parameter)) => parse_flap(parameter)?,
            _ => return Err(unknown(name, parameter)),
        };
        Ok(mode)
    }
}

fn unknown(name: &str, parameter: Option<&str>) -> ParseModeError {
    let is_it = |known: &str| known.split(':').next() == Some(name);
    if let Some((known, _)) = MODES.iter().find(|(known, _)| is_it(known)) {
        let reason = if parameter.is_some() { "takes no parameter" } else { "needs its parameter" };
        return ParseModeError(format!("mode '{name}' {reason}; write {known}"));
    }
    let names = || MODES.iter().map(|(known, _)| known.split(':').next().unwrap_or(known));
    let distance = |known: &&str| match !name.is_empty() && known.starts_with(name) {
        true => 1,
        false => strsim::damerau_levenshtein(name, known),
    };
    let near = names().min_by_key(distance).filter(|known| distance(known) <= 2);
    let hint = near.map(|known| format!("did you mean '{known}'? ")).unwrap_or_default();
    let known: Vec<&str> = MODES.iter().map(|(known, _)| *known).collect();
    ParseModeError(format!("there is no mode '{name}'; {hint}there are {}", known.join(", ")))
}

fn parse_number(text: &str, least: u8, most: u8) -> Result<u8, ParseModeError> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    let reason = || ParseModeError(format!("'{text}' is no number from {least} to {most}"));
    number.ok_or_else(reason)
}

fn parse_ready_time(text: &str) -> Result<Duration, ParseModeError> {
    let time: Result<ReadyTime, _> = text.parse();
    time.map(|time| time.0).map_err(|error| ParseModeError(error.to_string()))
}

fn parse_choke(text: &str) -> Result<FaultMode, ParseModeError> {
    let Some((depth, time)) = text.split_once(':') else {
        return Err(ParseModeError(format!("'{text}' has no time; write choke:{text}:1ms")));
    };
    let depth = parse_number(depth, 1, 32)?;
    Ok(FaultMode::Choke { depth, time: parse_time(time)? })
}

pub(super) fn parse_time(text: &str) -> Result<Duration, ParseModeError> {
    let time = parse_duration(text).map_err(|error| ParseModeError(error.to_string()))?;
    if time > LONGEST {
        return Err(ParseModeError(format!("'{text}' is too long; at most 24h")));
    }
    Ok(time)
}

pub(super) fn parse_share(text: &str) -> Result<u32, ParseModeError> {
    match text.parse::<f64>() {
        // Exact for whole millionths; the range is checked.
        Ok(share) if (0.0..=1.0).contains(&share) => Ok((share * 1e6).round() as u32),
        _ => Err(ParseModeError(format!("'{text}' is no share; write a number from 0 to 1"))),
    }
}

fn parse_flap(text: &str) -> Result<FaultMode, ParseModeError> {
    let (time, keep) = match text.rsplit_once(':') {
        Some((time, "keep")) => (time, true),
        Some((time, "lost")) => (time, false),
        Some((_, other)) => {
            return Err(ParseModeError(format!("'{other}' is neither keep nor lost")));
        }
        None => (text, false),
    };
    Ok(FaultMode::Flap { down: parse_time(time)?, keep })
}

impl fmt::Display for FaultMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Silent => f.write_str("silent"),
            Self::Ghost => f.write_str("ghost"),
            Self::Disable => f.write_str("disable"),
            Self::Surprise => f.write_str("surprise"),
            Self::Safe => f.write_str("safe"),
            Self::Dpc => f.write_str("dpc"),
            Self::Aer => f.write_str("aer"),
            Self::NoCompletion => f.write_str("no-completion"),
            Self::IgnoreInvalidate => f.write_str("ignore-invalidate"),
            Self::EarlyCompletion => f.write_str("early"),
            Self::ByteSwap => f.write_str("byte-swap"),
            Self::DropAtNext => f.write_str("drop-at-next"),
            Self::Sleep => f.write_str("sleep"),
            Self::SlowReset(time) => write!(f, "slow-reset:{}", format_duration(time)),
            Self::Merge(time) => write!(f, "merge:{}", format_duration(time)),
            Self::Split(parts) => write!(f, "split:{parts}"),
            Self::Choke { depth, time } => write!(f, "choke:{depth}:{}", format_duration(time)),
            Self::Duplicate => f.write_str("dup"),
            Self::AllOnesUnit => f.write_str("all-ones-unit"),
            Self::Slow(delay) => write!(f, "slow:{delay}"),
            Self::Lossy(ppm) => write!(f, "lossy:{}", f64::from(ppm) / 1e6),
            Self::Late(time) => write!(f, "late:{}", format_duration(time)),
            Self::Flap { down, keep } => {
                let kept = if keep { ":keep" } else { "" };
                write!(f, "flap:{}{kept}", format_duration(down))
            }
        }
    }
}
