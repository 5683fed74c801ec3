//! What events say by a word.

use std::time::Duration;

use serde::Serialize;

/// Which of the two remapping units speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitRole {
    /// The one that the guest sees and programs.
    Guest,
    /// The physical one, which the host's driver programs.
    Host,
}

/// What a port's link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// It carries everything.
    Up,
    /// It carries nothing.
    Down,
}

/// What a link that is down has swallowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// A configuration read; it reads as all ones.
    ConfigRead,
    /// A configuration write.
    ConfigWrite,
    /// A memory read of the function's registers; it reads as all ones.
    MemoryRead,
    /// A memory write to the function's registers.
    MemoryWrite,
    /// The function's own DMA.
    Dma,
    /// The function's interrupt.
    Msi,
    /// A Translation Request of the function.
    TranslationRequest,
    /// An Invalidate Request to the function.
    InvalidateRequest,
    /// An Invalidate Completion of the function.
    InvalidateCompletion,
    /// A Page Request of the function.
    PageRequest,
    /// A PRG Response to the function.
    PageGroupResponse,
}

/// What a unit has done with a Page Request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PageRequestOutcome {
    /// It lies in the page request queue.
    Queued,
    /// The queue is full, or has been since software last cleared PRS.PRO.
    Overflowed,
    /// The tables do not allow it.
    Refused,
    /// The queue is not in memory.
    Lost,
}

/// Linux's lock-up detectors, at their default thresholds
/// (`Documentation/admin-guide/lockup-watchdogs.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LockupDetector {
    /// Interrupts off for 10 s.
    Hard,
    /// No other task for 20 s.
    Soft,
}

impl LockupDetector {
    /// In the order in which they speak.
    pub const ALL: [Self; 2] = [Self::Hard, Self::Soft];

    /// How long a CPU must be stuck.
    pub const fn threshold(self) -> Duration {
        match self {
            Self::Hard => Duration::from_secs(10),
            Self::Soft => Duration::from_secs(20),
        }
    }
}
