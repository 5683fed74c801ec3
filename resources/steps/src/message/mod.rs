//! What the runner in the guest says, one line each.
//!
//! | Line | Meaning |
//! |---|---|
//! | `[    4.210000] start 2 6.12.117+deb12-amd64` | CPUs that are online, and the release of the kernel |
//! | `[    4.220000] plan 5` | the number of steps |
//! | `[    4.300000] step 1 nvme` | a step begins |
//! | `[    5.300000] ok 1 nvme` | the step has succeeded |
//! | `[    5.310000] not ok 2 ats:1` | the step has failed |
//! | `[    5.320000] skip 3 debugfs: REASON` | the step cannot be done with this kernel |
//! | `[    6.000000] value remove_ms=12` | a value; `never` if the time limit has passed |
//! | `[    6.000000] # TEXT` | evidence for the reader |
//! | `[    6.100000] mark drop` | what a fault can wait for |
//! | `[    6.200000] log 4 6.150000 TEXT` | a record of the kernel's log: its level and its own time |
//! | `[    9.000000] end` | all steps are done |
//!
//! The number in brackets is the time since the start of the kernel in seconds, as printk prints
//! it.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::step::Word;

/// Text of one line without control characters, of at most [`Text::MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Text(String);

impl Text {
    /// The longest text, in bytes. Longer ones are cut.
    pub const MAX: usize = 1024;

    /// `text`, with a space for each control character, without blanks at the end, and cut if it
    /// is too long.
    pub fn new(text: &str) -> Self {
        let visible = |character: char| if character.is_control() { ' ' } else { character };
        let mut length = 0;
        let fits = |character: &char| {
            length += character.len_utf8();
            length <= Self::MAX
        };
        let mut text: String = text.chars().map(visible).take_while(fits).collect();
        text.truncate(text.trim_end().len());
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a value: `remove_ms`. It has 1 to 64 characters: lower-case ASCII letters, digits and
/// `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueName(String);

impl ValueName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ValueName {
    type Err = ParseMessageError;

    fn from_str(text: &str) -> Result<Self, ParseMessageError> {
        let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(right);
        fits.then(|| Self(text.to_owned())).ok_or(ParseMessageError::Value)
    }
}

/// A measured value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// A number, in the unit that the name of the value ends with.
    Number(u64),
    /// It has not happened before the step's time limit. Above every number.
    Never,
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Never => f.write_str("never"),
        }
    }
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The step has succeeded.
    Ok,
    /// The step has failed. Evidence in front of it says why.
    NotOk,
    /// The step cannot be done, for this reason.
    Skip(Text),
}

/// What the runner says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The runner has started.
    Start {
        /// The release of the kernel, as `uname -r` prints it.
        release: Text,
        /// CPUs that are online.
        cpus: u32,
    },
    /// So many steps are to come.
    Plan {
        /// The number of steps.
        steps: u32,
    },
    /// A step begins.
    Step {
        /// The position of the step, from 1 up.
        number: u32,
        /// The word of the step.
        word: Text,
    },
    /// A step has ended.
    Result {
        /// The position of the step, from 1 up.
        number: u32,
        /// The word of the step. It has no blanks.
        word: Text,
        /// The result.
        outcome: Outcome,
    },
    /// A value of a step.
    Value {
        /// The name of the value.
        name: ValueName,
        /// The value.
        quantity: Quantity,
    },
    /// Evidence for the reader.
    Evidence(Text),
    /// What a fault can wait for.
    Mark(Word),
    /// A record of the kernel's log.
    Log {
        /// The level, 0 (emergency) to 7 (debug).
        level: u8,
        /// When the kernel made the record.
        at: Duration,
        /// The text.
        text: Text,
    },
    /// All steps are done.
    End,
}

/// A message with the time since the start of the guest's kernel, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    /// The time.
    pub at: Duration,
    /// The message.
    pub message: Message,
}

/// A line is not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseMessageError {
    /// The line does not begin with `[SECONDS.MICROSECONDS] `.
    Stamp,
    /// The line is longer than [`Stamped::LONGEST`].
    Length,
    /// No message begins with this word.
    Kind,
    /// A number is missing or out of range.
    Number,
    /// A step's word is missing.
    Word,
    /// A value is not `NAME=NUMBER` or `NAME=never`.
    Value,
}

impl Error for ParseMessageError {}

impl fmt::Display for ParseMessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stamp => "the line does not begin with a time in brackets",
            Self::Length => "the line is too long",
            Self::Kind => {
                "the word behind the time is none of start, plan, step, ok, not ok, skip, value, #, \
                 mark, log, end"
            }
            Self::Number => "a number is missing or out of range",
            Self::Word => "a word is missing",
            Self::Value => "a value is not NAME=NUMBER or NAME=never",
        })
    }
}

impl Stamped {
    /// The longest line, in bytes.
    pub const LONGEST: usize = 4096;
}

impl fmt::Display for Stamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:5}.{:06}] {}", self.at.as_secs(), self.at.subsec_micros(), self.message)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { release, cpus } => write!(f, "start {cpus} {release}"),
            Self::Plan { steps } => write!(f, "plan {steps}"),
            Self::Step { number, word } => write!(f, "step {number} {word}"),
            Self::Result { number, word, outcome } => match outcome {
                Outcome::Ok => write!(f, "ok {number} {word}"),
                Outcome::NotOk => write!(f, "not ok {number} {word}"),
                Outcome::Skip(reason) => write!(f, "skip {number} {word} {reason}"),
            },
            Self::Value { name, quantity } => write!(f, "value {}={quantity}", name.0),
            Self::Evidence(text) => write!(f, "# {text}"),
            Self::Mark(word) => write!(f, "mark {}", word.as_str()),
            Self::Log { level, at, text } => {
                write!(f, "log {level} {}.{:06} {text}", at.as_secs(), at.subsec_micros())
            }
            Self::End => f.write_str("end"),
        }
    }
}

impl FromStr for Stamped {
    type Err = ParseMessageError;

    fn from_str(line: &str) -> Result<Self, ParseMessageError> {
        if line.len() > Self::LONGEST {
            return Err(ParseMessageError::Length);
        }
        let line = line.trim_end_matches(['\r', '\n']);
        let (at, message) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] "))
            .ok_or(ParseMessageError::Stamp)?;
        let at = time(at.trim_start_matches(' ')).ok_or(ParseMessageError::Stamp)?;
        Ok(Self { at, message: message.parse()? })
    }
}

impl FromStr for Message {
    type Err = ParseMessageError;

    fn from_str(line: &str) -> Result<Self, ParseMessageError> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "start" => {
                let (cpus, release) = number_and_rest(rest)?;
                let release = Text::new(release);
                Ok(Self::Start { release, cpus })
            }
            "plan" => Ok(Self::Plan { steps: number(rest)? }),
            "step" => {
                let (number, word) = number_and_rest(rest)?;
                Ok(Self::Step { number, word: word_of(word)? })
            }
            "ok" => result(rest, Outcome::Ok),
            "not" => {
                let rest = rest.strip_prefix("ok ").ok_or(ParseMessageError::Kind)?;
                result(rest, Outcome::NotOk)
            }
            "skip" => {
                let (number, rest) = number_and_rest(rest)?;
                let (word, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                let outcome = Outcome::Skip(Text::new(reason));
                Ok(Self::Result { number, word: word_of(word)?, outcome })
            }
            "value" => {
                let (name, value) = rest.split_once('=').ok_or(ParseMessageError::Value)?;
                let quantity = match value {
                    "never" => Quantity::Never,
                    _ => Quantity::Number(number(value).map_err(|_| ParseMessageError::Value)?),
                };
                Ok(Self::Value { name: name.parse()?, quantity })
            }
            "#" => Ok(Self::Evidence(Text::new(rest))),
            "mark" => rest.parse().map(Self::Mark).map_err(|()| ParseMessageError::Word),
            "log" => {
                let (level, rest) = number_and_rest(rest)?;
                let (at, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let at = time(at).ok_or(ParseMessageError::Number)?;
                if level > 7 {
                    return Err(ParseMessageError::Number);
                }
                Ok(Self::Log { level: level as u8, at, text: Text::new(text) })
            }
            "end" if rest.is_empty() => Ok(Self::End),
            _ => Err(ParseMessageError::Kind),
        }
    }
}

/// Seconds, a dot, and six digits.
fn time(text: &str) -> Option<Duration> {
    let (seconds, micros) = text.split_once('.')?;
    let micros: u32 = if micros.len() == 6 { number(micros).ok()? } else { return None };
    Some(Duration::new(number(seconds).ok()?, micros * 1000))
}

/// A decimal number without sign.
fn number<T: FromStr>(text: &str) -> Result<T, ParseMessageError> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| text.parse().ok()).flatten().ok_or(ParseMessageError::Number)
}

fn number_and_rest(text: &str) -> Result<(u32, &str), ParseMessageError> {
    let (first, rest) = text.split_once(' ').ok_or(ParseMessageError::Number)?;
    Ok((number(first)?, rest))
}

fn word_of(text: &str) -> Result<Text, ParseMessageError> {
    let word = Text::new(text);
    let is_word = !word.0.is_empty() && !word.0.contains(char::is_whitespace);
    is_word.then_some(word).ok_or(ParseMessageError::Word)
}

fn result(rest: &str, outcome: Outcome) -> Result<Message, ParseMessageError> {
    let (number, word) = number_and_rest(rest)?;
    Ok(Message::Result { number, word: word_of(word)?, outcome })
}
