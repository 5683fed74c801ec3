//! Scatter Gather Lists: the addresses of a command's data (`NVMe 4.4`). Data Block, Segment and
//! Last Segment descriptors are supported.
//!
//! ```text
//!   command: Data Block                                     all of it
//!            Segment ------> Data Block, ..., Segment ----> Data Block, ..., Last Segment --+
//!            Last Segment -> Data Block, ..., Data Block <----------------------------------+
//! ```

use bitfield_struct::bitfield;

use super::memory::{Memory, Segment};
use super::spec::Status;

/// Bytes in a descriptor.
const DESCRIPTOR_SIZE: usize = 16;
/// Descriptors that a command may have in all segments.
pub(super) const MAX_DESCRIPTORS: usize = 256;

/// A descriptor, as a number of 128 bits.
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) address: u64,
    /// In bytes.
    pub(super) length: u32,
    #[bits(24)]
    __: u32,
    #[bits(4)]
    subtype: u8,
    #[bits(4)]
    kind_bits: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    DataBlock = 0,
    Segment = 2,
    LastSegment = 3,
}

impl Descriptor {
    fn kind(self) -> Result<Kind, Status> {
        match (self.kind_bits(), self.subtype()) {
            (0, 0) => Ok(Kind::DataBlock),
            (2, 0) => Ok(Kind::Segment),
            (3, 0) => Ok(Kind::LastSegment),
            _ => Err(Status::InvalidSglType),
        }
    }
}

/// The pieces of `length` bytes.
///
/// # Errors
/// Why the list is invalid, and [`Status::DataTransferError`] if it cannot be read.
pub(super) fn walk(
    first: Descriptor,
    length: usize,
    memory: &mut Memory<'_>,
) -> Result<Vec<Segment>, Status> {
    let mut list = List { segments: Vec::new(), left: length, descriptors: 0 };
    let mut next = match first.kind()? {
        Kind::DataBlock => {
            list.push(first)?;
            None
        }
        _ => Some(first),
    };
    while let Some(pointer) = next {
        next = list.follow(pointer, memory)?;
    }
    match list.left {
        0 => Ok(list.segments),
        _ => Err(Status::InvalidSglLength),
    }
}

struct List {
    segments: Vec<Segment>,
    /// Bytes for which no Data Block was found yet.
    left: usize,
    descriptors: usize,
}

impl List {
    /// Adds the Data Blocks of one segment. Returns the descriptor of the next segment.
    fn follow(
        &mut self,
        pointer: Descriptor,
        memory: &mut Memory<'_>,
    ) -> Result<Option<Descriptor>, Status> {
        let is_last = pointer.kind()? == Kind::LastSegment;
        let length = pointer.length() as usize;
        if length == 0 || !length.is_multiple_of(DESCRIPTOR_SIZE) {
            return Err(Status::InvalidSglSegment);
        }
        let count = length / DESCRIPTOR_SIZE;
        self.descriptors = self.descriptors.saturating_add(count);
        if self.descriptors > MAX_DESCRIPTORS {
            return Err(Status::InvalidSglCount);
        }
        let mut bytes = [0; MAX_DESCRIPTORS * DESCRIPTOR_SIZE];
        let bytes = &mut bytes[..length];
        memory.read(pointer.address(), bytes).map_err(|_| Status::DataTransferError)?;
        let descriptors = bytes.as_chunks::<DESCRIPTOR_SIZE>().0.iter();
        for (index, bytes) in descriptors.enumerate() {
            let descriptor = Descriptor::from(u128::from_le_bytes(*bytes));
            let ends_segment = index + 1 == count && !is_last;
            match (descriptor.kind()?, ends_segment) {
                (Kind::DataBlock, false) => self.push(descriptor)?,
                (Kind::Segment | Kind::LastSegment, true) => return Ok(Some(descriptor)),
                _ => return Err(Status::InvalidSglSegment),
            }
        }
        Ok(None)
    }

    fn push(&mut self, descriptor: Descriptor) -> Result<(), Status> {
        let length = descriptor.length() as usize;
        self.left = self.left.checked_sub(length).ok_or(Status::InvalidSglLength)?;
        self.segments.push(Segment { address: descriptor.address(), length });
        Ok(())
    }
}
