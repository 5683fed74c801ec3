//! Devices that do DMA on request: the ATS test endpoint of ghostlink, QEMU's edu, which replaces
//! it where untranslated DMA is enough, and an NVMe controller.

pub mod edu;
pub mod endpoint;
pub mod nvme;

use crate::pci::Bdf;

/// The error of a DMA operation. The numbers are those of the endpoint's RESULT register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DmaError {
    /// The root complex refused the request.
    UnsupportedRequest = 1,
    /// The root complex could not complete the request.
    CompleterAbort = 2,
    /// No completion came within the function's Completion Timeout.
    CompletionTimeout = 3,
    /// The page is not mapped, or does not permit that access.
    NoTranslation = 4,
    /// The command needs a translation, and ATS is off.
    AtsOff = 5,
    /// The device does not understand the command.
    BadCommand = 6,
    /// The function may not issue requests.
    BusMasterOff = 7,
    /// Page requests are not enabled.
    PageRequestsOff = 8,
    /// The allocation of outstanding page requests is used up.
    NoAllocation = 9,
    /// PASIDs are not enabled.
    PasidOff = 10,
    /// As many requests wait for completions as the function has tags.
    NoTag = 12,
    /// The device does not finish, or its registers read as all ones.
    Dead = 255,
}

/// A device that copies memory.
pub trait CopyEngine {
    /// Its requester id.
    fn bdf(&self) -> Bdf;

    /// Reads `length` bytes at `source` and writes them at `destination`, by untranslated requests.
    /// Both are I/O virtual addresses; neither range may cross a page.
    fn copy(&self, source: u64, destination: u64, length: u32) -> Result<(), DmaError>;
}
