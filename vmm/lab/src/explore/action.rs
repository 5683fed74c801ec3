//! A step that can happen next.

use std::fmt;

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

/// A page of a function, by its number. Each function has two, each unmapped by a CPU of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Page(pub Who, pub u8);

impl Page {
    /// All pages.
    pub const ALL: [Self; 4] = [
        Self(Who::Victim, 0),
        Self(Who::Victim, 1),
        Self(Who::Neighbor, 0),
        Self(Who::Neighbor, 1),
    ];

    /// The page of the same function that is unmapped first: its pages are alike.
    pub(super) const fn first(self) -> Self {
        Self(self.0, 0)
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} of {}", self.1, self.0)
    }
}

/// A step that can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A CPU unmaps a page, and waits for its invalidation: IOTLB, Device-TLB, wait. When the call
    /// returns the page goes to another user, and another takes its place.
    Unmap(Page),
    /// The oldest Invalidate Request that is under way to a function reaches it.
    Deliver(Who),
    /// The oldest Invalidate Completion of a function reaches the unit.
    Answer(Who),
    /// The oldest Invalidate Completion of a function is lost.
    Lose(Who),
    /// The oldest Invalidate Completion of a function reaches the unit twice.
    Twice(Who),
    /// A function uses a page: by its ATC, or it asks for a translation first.
    Use(Page),
    /// Time passes, until something is due.
    Wait,
    /// The neighbor's invalidations go round the ring, until the next descriptors lie where those
    /// of an abandoned wait were.
    GoRound,
    /// The victim's link goes down, and no driver is told.
    LinkDown,
    /// The victim's link comes up again. The victim has noticed nothing.
    LinkUp,
    /// The victim is put into D3hot.
    Sleep,
    /// The victim is in D0 again, with its state.
    Wake,
    /// The victim is reset by FLR, and the host knows. After that it answers again.
    Reset,
}
