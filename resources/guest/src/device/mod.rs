//! Devices that do DMA on request: the ATS test endpoint of ghostlink, and QEMU's edu in its place
//! where only plain DMA matters.

pub mod edu;
pub mod endpoint;
pub mod nvme;

use crate::pci::Bdf;

/// What a DMA operation ends with, when not well. The numbers are the endpoint's RESULT register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DmaError {
    /// The root complex refused it.
    UnsupportedRequest = 1,
    /// The root complex could not do it.
    CompleterAbort = 2,
    /// Nobody answered: the link is gone.
    CompletionTimeout = 3,
    /// The page is not there, or not for that access.
    NoTranslation = 4,
    /// A translation was asked for with ATS off.
    AtsOff = 5,
    /// The device does not understand the command.
    BadCommand = 6,
    /// The function may not issue requests.
    BusMasterOff = 7,
    /// Page requests are not enabled.
    PageRequestsOff = 8,
    /// As many page requests are outstanding as are allowed.
    NoAllocation = 9,
    /// PASIDs are not enabled.
    PasidOff = 10,
    /// The device did not get done, or its registers are gone.
    Dead = 11,
}

/// A device that copies memory.
pub trait CopyEngine {
    /// Its requester id.
    fn bdf(&self) -> Bdf;

    /// Reads `length` bytes at `source` and writes them at `destination`, by untranslated requests.
    /// Both are I/O virtual addresses; neither range may cross a page.
    fn copy(&self, source: u64, destination: u64, length: u32) -> Result<(), DmaError>;
}
