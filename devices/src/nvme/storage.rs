//! The storage of a namespace: a trait, an implementation in memory, and one medium for several
//! controllers.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes in a logical block.
pub const BLOCK_SIZE: u64 = 512;

/// A medium with a volatile write cache. Data that was written can be read at once, and survives a
/// power cycle after a flush.
pub trait Storage: fmt::Debug + Send {
    /// The size in blocks of [`BLOCK_SIZE`] bytes.
    fn blocks(&self) -> u64;

    /// Reads `data.len()` bytes at `offset`.
    ///
    /// # Errors
    /// [`StorageError`], if the read failed. The contents of `data` are then undefined.
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), StorageError>;

    /// Writes `data` at `offset`.
    ///
    /// # Errors
    /// [`StorageError`], if the write failed. Any part of `data` may have been written.
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), StorageError>;

    /// Makes all data durable that was written so far.
    ///
    /// # Errors
    /// [`StorageError`], if the flush failed.
    fn flush(&mut self) -> Result<(), StorageError>;

    /// A power cycle: data that was not flushed may be lost.
    fn power_cycle(&mut self) {}
}

/// Why an operation on a medium failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The medium does not have these bytes.
    #[error("{length} bytes at {offset:#x} do not lie within the medium's {size} bytes")]
    OutOfRange {
        /// The first byte.
        offset: u64,
        /// Number of bytes.
        length: usize,
        /// The medium's size in bytes.
        size: u64,
    },
    /// The medium has failed.
    #[error("the medium failed: {0}")]
    Medium(String),
}

/// Blocks in memory. A power cycle loses all data that was not flushed.
pub struct MemoryStorage {
    /// The data including the write cache.
    current: Vec<u8>,
    /// The data after a power cycle. It differs from `current` within `dirty` only.
    durable: Vec<u8>,
    dirty: Range<usize>,
}

impl MemoryStorage {
    /// `blocks` blocks of zeros. All memory is allocated now.
    pub fn new(blocks: u32) -> Self {
        let size = usize::try_from(u64::from(blocks) * BLOCK_SIZE).unwrap_or(usize::MAX);
        Self { current: vec![0; size], durable: vec![0; size], dirty: 0..0 }
    }

    fn span(&self, offset: u64, length: usize) -> Result<Range<usize>, StorageError> {
        let size = self.current.len();
        usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(length)?))
            .filter(|span| span.end <= size)
            .ok_or(StorageError::OutOfRange { offset, length, size: size as u64 })
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage")
            .field("blocks", &self.blocks())
            .field("dirty", &self.dirty)
            .finish()
    }
}

impl Storage for MemoryStorage {
    fn blocks(&self) -> u64 {
        self.current.len() as u64 / BLOCK_SIZE
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), StorageError> {
        let span = self.span(offset, data.len())?;
        data.copy_from_slice(&self.current[span]);
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), StorageError> {
        let span = self.span(offset, data.len())?;
        self.current[span.clone()].copy_from_slice(data);
        self.dirty = match self.dirty.is_empty() {
            true => span,
            false => self.dirty.start.min(span.start)..self.dirty.end.max(span.end),
        };
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let dirty = std::mem::take(&mut self.dirty);
        self.durable[dirty.clone()].copy_from_slice(&self.current[dirty]);
        Ok(())
    }

    fn power_cycle(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        self.current[dirty.clone()].copy_from_slice(&self.durable[dirty]);
    }
}

/// A medium that several controllers of one device share. They have one write cache.
///
/// The controllers run on one thread at a time, so the lock is always free.
#[derive(Debug)]
pub(super) struct SharedStorage {
    medium: Arc<Mutex<Box<dyn Storage>>>,
    blocks: u64,
    /// A power cycle of this controller is one of the medium: it is that of the physical function.
    is_owner: bool,
}

impl SharedStorage {
    /// `medium`, for the physical function.
    pub(super) fn new(medium: Box<dyn Storage>) -> Self {
        let blocks = medium.blocks();
        Self { medium: Arc::new(Mutex::new(medium)), blocks, is_owner: true }
    }

    /// The same medium, for a virtual function.
    pub(super) fn share(&self) -> Self {
        Self { medium: self.medium.clone(), blocks: self.blocks, is_owner: false }
    }

    fn medium(&self) -> MutexGuard<'_, Box<dyn Storage>> {
        self.medium.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for SharedStorage {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), StorageError> {
        self.medium().read(offset, data)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), StorageError> {
        self.medium().write(offset, data)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.medium().flush()
    }

    fn power_cycle(&mut self) {
        if self.is_owner {
            self.medium().power_cycle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_medium_loses_power_with_the_physical_function_only() {
        let mut owner = SharedStorage::new(Box::new(MemoryStorage::new(8)));
        let mut other = owner.share();
        let read = |storage: &mut SharedStorage| {
            let mut data = [0; 4];
            storage.read(512, &mut data).unwrap();
            data
        };
        assert_eq!(other.blocks(), 8);
        other.write(512, &[1; 4]).unwrap();
        other.power_cycle();
        assert_eq!(read(&mut owner), [1; 4]);
        other.flush().unwrap();
        owner.write(512, &[2; 4]).unwrap();
        owner.power_cycle();
        assert_eq!(read(&mut other), [1; 4]);
    }

    const SIZE: usize = 8 * BLOCK_SIZE as usize;

    #[test]
    fn what_lies_outside_is_refused() {
        let mut storage = MemoryStorage::new(8);
        assert_eq!(storage.blocks(), 8);
        for (offset, length) in [(SIZE as u64, 1), (SIZE as u64 - 1, 2), (u64::MAX, 1)] {
            let refused = StorageError::OutOfRange { offset, length, size: SIZE as u64 };
            assert_eq!(storage.write(offset, &vec![1; length]), Err(refused.clone()));
            assert_eq!(storage.read(offset, &mut vec![1; length]), Err(refused));
        }
    }

    proptest! {
        #[test]
        fn a_power_cycle_keeps_exactly_what_was_flushed(
            steps in prop::collection::vec((0..SIZE, 0..200_usize, any::<u8>(), 0..10), 0..40),
        ) {
            let mut storage = MemoryStorage::new(8);
            let (mut current, mut durable) = (vec![0; SIZE], vec![0; SIZE]);
            for (offset, length, byte, action) in steps {
                let end = (offset + length).min(SIZE);
                match action {
                    0 => { storage.flush().unwrap(); durable.clone_from(&current); }
                    1 => { storage.power_cycle(); current.clone_from(&durable); }
                    _ => {
                        storage.write(offset as u64, &vec![byte; end - offset]).unwrap();
                        current[offset..end].fill(byte);
                    }
                }
                let mut read = vec![0; SIZE];
                storage.read(0, &mut read).unwrap();
                prop_assert_eq!(&read, &current);
            }
        }
    }
}
