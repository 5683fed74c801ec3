//! What can happen next, and what goes wrong.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// One of the two functions: the one that something happens to, and one that is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// 01:00.0.
    Victim,
    /// 02:00.0.
    Neighbor,
}

impl Who {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Victim, Self::Neighbor];
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Victim => "the victim",
            Self::Neighbor => "the neighbor",
        })
    }
}

/// A page of a function, by its number. The victim has two, each unmapped by a CPU of its own, the
/// neighbor one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Page(pub Who, pub u8);

impl Page {
    /// All pages.
    pub const ALL: [Self; 3] = [Self(Who::Victim, 0), Self(Who::Victim, 1), Self(Who::Neighbor, 0)];
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} of {}", self.1, self.0)
    }
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A CPU unmaps a page, and waits for its invalidation: IOTLB, Device-TLB, wait. When the call
    /// returns the page is given to somebody else, and another takes its place.
    Unmap(Page),
    /// The oldest Invalidate Request that is under way to a function reaches it.
    Deliver(Who),
    /// The oldest Invalidate Completion of a function reaches the unit.
    Answer(Who),
    /// It is lost.
    Lose(Who),
    /// It comes twice.
    Twice(Who),
    /// A function uses a page: by its ATC, or it asks for a translation first.
    Use(Page),
    /// Time passes, until something is due.
    Wait,
    /// The neighbor's invalidations go round the ring, until the next descriptors lie where those of
    /// an abandoned wait were.
    GoRound,
    /// The victim's link goes down, and nobody is told.
    LinkDown,
    /// It comes up again; the victim has noticed nothing.
    LinkUp,
    /// The victim is reset by FLR, and the host knows. After that it answers again.
    Reset,
}

/// What goes wrong with the victim. Between two actions no time passes; who answers late lets time pass
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mishap {
    /// Nothing.
    None,
    /// It drops what it is told to, whenever it gets to that, and never says so; DMA goes on.
    Hang,
    /// It takes no Invalidate Requests, and says nothing; DMA goes on.
    Deaf,
    /// Its answers may come late, but before the unit gives up on them.
    Late,
    /// They may come after that, too.
    TooLate,
    /// One of its answers may be lost.
    Lossy,
    /// One of its answers may come twice.
    Duplicate,
    /// Its link may go down.
    Silent,
    /// Its link may go down, and come up again.
    Flap,
}

impl Mishap {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Hang,
        Self::Deaf,
        Self::Late,
        Self::TooLate,
        Self::Lossy,
        Self::Duplicate,
        Self::Silent,
        Self::Flap,
    ];

    /// How it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hang => "hang",
            Self::Deaf => "deaf",
            Self::Late => "late",
            Self::TooLate => "too-late",
            Self::Lossy => "lossy",
            Self::Duplicate => "duplicate",
            Self::Silent => "silent",
            Self::Flap => "flap",
        }
    }
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such mishap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown fault '{0}'; there are none, hang, deaf, late, too-late, lossy, duplicate, silent, flap"
)]
pub struct ParseMishapError(String);

impl FromStr for Mishap {
    type Err = ParseMishapError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|mishap| mishap.name() == text);
        named.ok_or_else(|| ParseMishapError(text.to_owned()))
    }
}
