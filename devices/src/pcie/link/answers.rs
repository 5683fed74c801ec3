//! The answers of functions to Invalidate Requests: late, wrong, or missing.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use iommu::ats::{InvalidateRequest, PageRange};
use iommu::ids::Bdf;
use serde::{Deserialize, Serialize};

/// The behavior of the functions below a link on Invalidate Requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum InvalidateBehavior {
    /// Their ATCs drop the range, and they send a completion.
    #[default]
    Complete,
    /// They send no completion. Their ATCs drop the range if they obey [at once](Obeys::AtOnce).
    NoCompletion,
    /// Their ATCs keep their entries, and they send no completion.
    Ignore,
    /// Their ATCs keep their entries, and they send a completion.
    KeepEntries,
    /// They read the message body in the wrong byte order: their ATCs drop another range, and they
    /// send a completion.
    SwapBytes,
    /// They send a completion at once, and their ATCs drop the range when the next Invalidate
    /// Request arrives.
    DropAtNext,
}

/// When an ATC drops what an Invalidate Request names. `PCIe 10.1.1` permits both: a function may use
/// a translation until it sends the Invalidate Completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obeys {
    /// When the function sends the completion, and never if it sends none: the worst that the
    /// specification permits.
    #[default]
    AtAnswer,
    /// When the request arrives.
    AtOnce,
}

impl Obeys {
    /// Both.
    pub const ALL: [Self; 2] = [Self::AtAnswer, Self::AtOnce];
}

impl fmt::Display for Obeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtAnswer => "at-answer",
            Self::AtOnce => "at-once",
        })
    }
}

/// The error of [`Obeys::from_str`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' does not say when an ATC obeys; write at-answer or at-once")]
pub struct ParseObeysError(String);

impl FromStr for Obeys {
    type Err = ParseObeysError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|obeys| obeys.to_string() == text);
        named.ok_or_else(|| ParseObeysError(text.to_owned()))
    }
}

impl InvalidateBehavior {
    /// Whether the functions send completions.
    pub fn answers(self) -> bool {
        !matches!(self, Self::NoCompletion | Self::Ignore)
    }

    /// Whether the functions send completions although their ATCs keep the range.
    pub fn lies(self) -> bool {
        matches!(self, Self::KeepEntries | Self::SwapBytes | Self::DropAtNext)
    }

    /// The Invalidate Request whose range an ATC drops when `request` arrives; `None` if it drops
    /// nothing. `pending` has the requests whose range is still to be dropped.
    pub fn dropped(
        self,
        request: InvalidateRequest,
        pending: &mut PendingInvalidations,
    ) -> Option<InvalidateRequest> {
        match self {
            Self::Complete | Self::NoCompletion => Some(request),
            Self::Ignore | Self::KeepEntries => None,
            Self::SwapBytes => {
                Some(InvalidateRequest { range: swap_bytes(request.range), ..request })
            }
            Self::DropAtNext => pending.replace(request),
        }
    }
}

/// The last Invalidate Request of each function, if its range is still to be dropped. The oldest one
/// beyond `Self::MOST` is forgotten: a guest may give virtual functions new ids again and again.
#[derive(Debug, Default)]
pub struct PendingInvalidations(Vec<InvalidateRequest>);

impl PendingInvalidations {
    /// More than a machine has functions.
    const MOST: usize = 4096;

    /// Puts `request` in the place of the last one to its function, which is returned.
    fn replace(&mut self, request: InvalidateRequest) -> Option<InvalidateRequest> {
        let is_same = |last: &&mut InvalidateRequest| last.destination == request.destination;
        match self.0.iter_mut().find(is_same) {
            Some(last) => Some(std::mem::replace(last, request)),
            None => {
                if self.0.len() == Self::MOST {
                    self.0.remove(0);
                }
                self.0.push(request);
                None
            }
        }
    }

    /// The range that the next Invalidate Request to `function` drops.
    pub fn of(&self, function: Bdf) -> Option<PageRange> {
        self.0.iter().find(|last| last.destination == function).map(|last| last.range)
    }

    /// Forgets the request to `function`, whose ATC is empty.
    pub fn forget(&mut self, function: Bdf) {
        self.0.retain(|last| last.destination != function);
    }
}

/// The range that the message body of `range` stands for in the other byte order. The body has the
/// address in bits 63:12, and S in bit 11 (`PCIe 10.3.1`).
fn swap_bytes(range: PageRange) -> PageRange {
    const SIZE: u64 = 1 << 11;
    let (address, size) = range.encode();
    let body = (address | if size { SIZE } else { 0 }).swap_bytes();
    PageRange::decode(body, body & SIZE != 0)
}

/// A fault of the Invalidate Completions that come up a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompletionFault {
    /// This share of them is lost, in parts per million.
    Lossy(u32),
    /// Each comes twice.
    Duplicate,
    /// Each comes after this time.
    Late(AnswerDelay),
    /// Each waits for this time. Those of a function that wait at the same time come as one, with
    /// several bits in the ITag vector.
    Merge(Duration),
    /// Each comes in this many messages, 2 to 8, with that Completion Count.
    Split(u8),
    /// Each comes after `time`. A function handles `depth` requests at once, 1 to 32, and loses
    /// further ones.
    Choke {
        /// Invalidate Requests that a function handles at once.
        depth: u8,
        /// How long each takes.
        time: Duration,
    },
}

/// How late an Invalidate Completion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnswerDelay {
    /// Always the same.
    Fixed(Duration),
    /// Uniformly distributed between the two.
    Uniform(Duration, Duration),
    /// Exponentially distributed, with this mean.
    Exponential(Duration),
    /// Pareto distributed: a heavy tail.
    Pareto {
        /// The mean.
        mean: Duration,
        /// The tail index, in thousandths: above 1000, so that the mean is finite.
        milli_index: u32,
    },
    /// One of two.
    Bimodal {
        /// The usual one.
        fast: Duration,
        /// The other one.
        slow: Duration,
        /// The share of the other one, in parts per million.
        slow_ppm: u32,
    },
}

impl AnswerDelay {
    /// The longest delay that is drawn from a distribution: a year, far beyond any wait.
    pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
}

/// The outcome of an Invalidate Completion on its way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompletionOutcome {
    /// The completion goes on at once.
    Arrives,
    /// The completion goes on at once, twice.
    ArrivesTwice,
    /// The completion goes on after this time.
    ArrivesAfter(Duration),
    /// The completion goes on after this time, or with one of the function that goes on before.
    ArrivesMerged(Duration),
    /// The completion goes on at once, as this many messages that are counted.
    ArrivesInParts(u8),
    /// The completion does not go on.
    IsLost,
    /// The function sends no completion.
    IsNotSent,
}
