//! The controller's access to guest memory: by its ATC while ATS is enabled, else by untranslated
//! requests.

use std::time::Duration;

use iommu::ats::RequestError;
use iommu::ids::Iova;

use super::spec::Status;
use crate::dma::{Bus, Dma, DmaError, DmaPath, Transfer};

/// A piece of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) length: usize,
}

/// Guest memory, during one call.
pub(super) struct Memory<'a> {
    pub(super) dma: &'a mut Dma,
    pub(super) bus: Bus<'a>,
    /// The function's Completion Timeout; `None` if it is disabled.
    pub(super) completion_timeout: Option<Duration>,
    /// A request was not answered.
    pub(super) is_unanswered: bool,
}

impl Memory<'_> {
    /// Whether a request was not answered since the last call, and if so after which time the
    /// function gives it up; never with Completion Timeout Disable.
    pub(super) fn take_unanswered(&mut self) -> Option<Option<Duration>> {
        std::mem::take(&mut self.is_unanswered).then_some(self.completion_timeout)
    }

    pub(super) fn read(&mut self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        match self.run(address, Transfer::Read(data)) {
            Err(REFUSED) => self.run(address, Transfer::Read(data)),
            outcome => outcome,
        }
    }

    pub(super) fn write(&mut self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        match self.run(address, Transfer::Write(data)) {
            Err(REFUSED) => self.run(address, Transfer::Write(data)),
            outcome => outcome,
        }
    }

    /// Reads `segments`, one after the other, until `data` is full.
    ///
    /// # Errors
    /// [`Status::DataTransferError`].
    pub(super) fn gather(
        &mut self,
        segments: &[Segment],
        mut data: &mut [u8],
    ) -> Result<(), Status> {
        for segment in segments {
            let (piece, rest) = data.split_at_mut(segment.length.min(data.len()));
            self.read(segment.address, piece).map_err(|_| Status::DataTransferError)?;
            data = rest;
        }
        Ok(())
    }

    /// Writes `data` to `segments`, one after the other.
    ///
    /// # Errors
    /// [`Status::DataTransferError`].
    pub(super) fn scatter(&mut self, segments: &[Segment], mut data: &[u8]) -> Result<(), Status> {
        for segment in segments {
            let (piece, rest) = data.split_at(segment.length.min(data.len()));
            self.write(segment.address, piece).map_err(|_| Status::DataTransferError)?;
            data = rest;
        }
        Ok(())
    }

    fn run(&mut self, address: u64, transfer: Transfer<'_>) -> Result<(), DmaError> {
        let path = DmaPath {
            use_atc: self.dma.uses_ats(&self.bus.rights),
            pasid: None,
            privileged: false,
        };
        let outcome = self.dma.run(Iova(address), transfer, path, &mut self.bus);
        self.is_unanswered |= outcome.is_err_and(DmaError::is_unanswered);
        outcome
    }
}

/// The unit does not let the function use ATS. The function sends no Translation Requests after
/// this error, so a second attempt is an untranslated request.
const REFUSED: DmaError = DmaError::Translation(RequestError::UnsupportedRequest);
