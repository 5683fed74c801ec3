//! The reads of descriptors from the ring.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileMemory, VolatileSlice};

use super::super::config::UnitConfig;
use crate::Memory;
use crate::ids::PAGE_SIZE;
use crate::spec::control::TableMode;
use crate::spec::queue::{QueueAddress, QueueErrorInfo};

/// Checks whether the ring can be read (`VT-d 6.5.2.11`, IQEI 1 and 5 to 7).
pub(super) fn check_ring(
    ring: QueueAddress,
    tail: u32,
    mode: TableMode,
    config: &UnitConfig,
) -> Result<(), QueueErrorInfo> {
    if tail >= ring.bytes() {
        return Err(QueueErrorInfo::TailOutOfRing);
    }
    if !tail.is_multiple_of(ring.descriptor_bytes()) {
        return Err(QueueErrorInfo::TailMisaligned);
    }
    match mode {
        TableMode::Invalid => Err(QueueErrorInfo::InvalidTableMode),
        TableMode::Scalable if !ring.wide() && !config.narrow_descriptors => {
            Err(QueueErrorInfo::InvalidWidth)
        }
        TableMode::Legacy if ring.wide() && !config.scalable_mode => {
            Err(QueueErrorInfo::InvalidWidth)
        }
        _ => Ok(()),
    }
}

/// The ring in memory.
pub(super) struct Fetcher<'a> {
    ring: QueueAddress,
    memory: &'a Memory,
    /// The whole ring, if it is contiguous in memory. This saves a look-up for each descriptor.
    slice: Option<VolatileSlice<'a>>,
}

impl<'a> Fetcher<'a> {
    // Called once for each doorbell, from one place.
    #[inline(always)]
    pub(super) fn new(ring: QueueAddress, memory: &'a Memory) -> Self {
        let base = GuestAddress(ring.page() * PAGE_SIZE);
        let slice = GuestMemoryBackend::get_slice(memory, base, ring.bytes() as usize).ok();
        Self { ring, memory, slice }
    }

    /// The descriptor at `head`. The upper half of a 256-bit descriptor must be zero: types up to 9
    /// do not use it.
    pub(super) fn fetch(&self, head: u32) -> Result<u128, QueueErrorInfo> {
        let low = self.read(head)?;
        if self.ring.wide() && self.read(head + 16)? != 0 {
            return Err(QueueErrorInfo::ReservedField);
        }
        Ok(low)
    }

    fn read(&self, offset: u32) -> Result<u128, QueueErrorInfo> {
        let raw = match &self.slice {
            Some(slice) => slice.get_ref::<u128>(offset as usize).ok().map(|slot| slot.load()),
            None => {
                let base = self.ring.page() * PAGE_SIZE;
                self.memory.read_obj(GuestAddress(base + u64::from(offset))).ok()
            }
        };
        raw.map(u128::from_le).ok_or(QueueErrorInfo::FetchFailed)
    }
}
