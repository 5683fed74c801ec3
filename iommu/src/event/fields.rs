//! Types of the fields of events.

use std::time::Duration;

use serde::Serialize;

/// One of the two remapping units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum UnitRole {
    /// The guest-visible unit.
    Guest,
    /// The physical unit, which the host's driver programs.
    Host,
}

/// The state of a port's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The link carries TLPs.
    Up,
    /// The link drops all TLPs.
    Down,
}

/// A TLP that a link, a port or a function has dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
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
    /// An error message of the function.
    ErrorMessage,
}

/// Why a function or a port drops a TLP that its link has carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// It is in D3hot, or its physical function is (`PCIe 5.3.1.4.1`).
    Sleeping,
    /// It has as many Invalidate Requests as it can take (`PCIe 10.3.5`).
    QueueFull,
    /// It is not ready after a reset, or after its return to D0 (`PCIe 6.6`).
    NotReady,
}

/// The result of a Page Request in the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum PageRequestOutcome {
    /// The unit has put it in the page request queue.
    Queued,
    /// The queue is full, or was full and software has not cleared PRS.PRO since.
    Overflowed,
    /// The unit's tables do not allow page requests.
    Refused,
    /// The queue does not lie in memory.
    Lost,
}

/// A lock-up detector of Linux, at its default threshold
/// (`Documentation/admin-guide/lockup-watchdogs.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum LockupDetector {
    /// The hard lock-up detector: interrupts were off for 10 s.
    Hard,
    /// The soft lock-up detector: no other task ran for 20 s.
    Soft,
}

impl LockupDetector {
    /// How long a CPU is stuck when the detector reports it.
    pub const fn threshold(self) -> Duration {
        match self {
            Self::Hard => Duration::from_secs(10),
            Self::Soft => Duration::from_secs(20),
        }
    }
}

/// A cache of translations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum TranslationCache {
    /// The ATC of a function.
    Atc,
    /// The IOTLB of the unit, or a cache behind it.
    Iotlb,
}

impl TranslationCache {
    /// Its usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Atc => "ATC",
            Self::Iotlb => "IOTLB",
        }
    }
}
