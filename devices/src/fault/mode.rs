//! The faults, by what software can observe of them.

use std::time::Duration;

use crate::pcie::link::AnswerDelay;

/// A fault. Each is told apart from the others by what software can observe, see
/// `docs/failure-modes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultMode {
    /// The link is gone; Link Status shows it, but no event is latched and no
    /// interrupt raised.
    Silent,
    /// The link is gone, and the port still reports an active one.
    Ghost,
    /// Link Disable is set (`PCIe 7.5.3.7`).
    Disable,
    /// The card is pulled out: presence and data link layer state change, with the hot-plug
    /// interrupt (`PCIe 6.7.3`).
    Surprise,
    /// The attention button is pressed, and the card is pulled out when the guest's driver has
    /// powered the slot down (`PCIe 6.7.2.5`).
    Safe,
    /// The port detects an uncorrectable error, and Downstream Port Containment takes the link
    /// down, with its interrupt (`PCIe 6.2.11`). Has no effect where software has not enabled it.
    Dpc,
    /// The link is gone, and nothing but a Surprise Down error in AER says so (`PCIe 6.2`).
    Aer,
    /// Configuration space answers and DMA goes on. The ATC drops the range of an Invalidate
    /// Request, and no completion comes.
    NoCompletion,
    /// Configuration space answers and DMA goes on. The ATC keeps its entries, and no completion
    /// comes.
    IgnoreInvalidate,
    /// ATCs keep their entries, and send completions: the device lies.
    EarlyCompletion,
    /// ATCs read the address of an Invalidate Request in the wrong byte order, drop another range,
    /// and send completions. So did Intel's E2000 before stepping C0 (Linux a18615b1cfc0).
    ByteSwap,
    /// ATCs send completions at once, and drop a range only when the next Invalidate Request
    /// arrives. Software must send each twice, as Linux does for Intel's QAT (`dtlb_extra_inval`,
    /// e65a6897be5e).
    DropAtNext,
    /// The functions are in D3hot: configuration space answers, and nothing else does.
    Sleep,
    /// After a reset the functions take this long to become ready, instead of their own time.
    SlowReset(Duration),
    /// Invalidate Completions wait for this time. Those of a function that wait at the same time
    /// come as one message, with several bits in the ITag vector (`PCIe 10.3.2`).
    Merge(Duration),
    /// Every Invalidate Completion comes in this many messages, 2 to 8, as from a function that uses
    /// so many traffic classes (`PCIe 10.3.2`).
    Split(u8),
    /// A function handles `depth` Invalidate Requests at once, 1 to 32, and loses further ones.
    Choke {
        /// Invalidate Requests that a function handles at once.
        depth: u8,
        /// How long each takes.
        time: Duration,
    },
    /// Invalidate Requests are answered late.
    Slow(AnswerDelay),
    /// This share of the Invalidate Completions is lost, in parts per million.
    Lossy(u32),
    /// Every Invalidate Completion comes twice.
    Duplicate,
    /// Invalidate Requests are answered after this time, which is meant to be longer than any wait.
    Late(Duration),
    /// The link goes down silently, and comes up again after `down`.
    Flap {
        /// How long it is down.
        down: Duration,
        /// Whether the functions below notice nothing, and their ATCs keep their entries. Otherwise
        /// the link trains anew, which resets the functions.
        keep: bool,
    },
    /// The guest's remapping unit reads as all ones, and takes no writes. Concerns no port.
    AllOnesUnit,
}
