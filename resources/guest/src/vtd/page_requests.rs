//! The page request queue (VT-d 7.4), to which the unit writes the requests of devices.

use crate::machine::memory::Pages;
use crate::vtd::registers as reg;
use crate::vtd::unit::Unit;

/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: u32 = 32;
const RING_BYTES: u32 = 4096;

/// A page request of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Requester id.
    pub source: u16,
    /// Its PASID, if it has one.
    pub pasid: Option<u32>,
    /// Read access is requested.
    pub read: bool,
    /// Write access is requested.
    pub write: bool,
    /// The last request of its group.
    pub last: bool,
    /// Page request group index.
    pub group: u16,
    /// Page address.
    pub address: u64,
}

/// A page request queue of one page.
pub struct PageRequests {
    unit: Unit,
    ring: Pages,
}

impl PageRequests {
    /// Requests that the queue holds: one slot stays free.
    pub const CAPACITY: u16 = (RING_BYTES / DESCRIPTOR_BYTES - 1) as u16;

    /// Gives the unit an empty queue; its events go to this processor.
    pub fn enable(unit: Unit, vector: u8) -> Self {
        let queue = Self { unit, ring: Pages::one() };
        let registers = unit.registers();
        registers.write64(reg::PQH, 0);
        registers.write64(reg::PQT, 0);
        registers.write64(reg::PQA, queue.ring.address());
        unit.enable_page_request_event(vector);
        queue
    }

    /// Takes the oldest request, if there is one. `Err` if it is not a page request descriptor.
    pub fn take(&self) -> Result<Option<PageRequest>, &'static str> {
        const TYPE: u64 = 1;
        let registers = self.unit.registers();
        let head = registers.read64(reg::PQH) as u32;
        if u64::from(head) == registers.read64(reg::PQT) {
            return Ok(None);
        }
        let word = |index: usize| self.ring.read(head as usize / 8 + index);
        let (low, high) = (word(0), word(1));
        if low & 0xff != TYPE || word(2) != 0 || word(3) != 0 {
            return Err("the page request queue holds another descriptor");
        }
        registers.write64(reg::PQH, u64::from((head + DESCRIPTOR_BYTES) % RING_BYTES));
        Ok(Some(PageRequest {
            source: (low >> 16) as u16,
            pasid: (low >> 8 & 1 != 0).then_some((low >> 32) as u32 & 0xf_ffff),
            read: high & 1 != 0,
            write: high >> 1 & 1 != 0,
            last: high >> 2 & 1 != 0,
            group: (high >> 3 & 0x1ff) as u16,
            address: high & !0xfff,
        }))
    }

    /// The value of PRS.
    pub fn status(&self) -> u32 {
        self.unit.registers().read32(reg::PRS)
    }

    /// Clears bits of PRS.
    pub fn acknowledge(&self, bits: u32) {
        self.unit.registers().write32(reg::PRS, bits);
    }
}
