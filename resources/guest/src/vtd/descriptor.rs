//! Descriptors of the invalidation queue (VT-d 6.5.2). In the 256-bit form the upper half is 0.

use crate::pci::Bdf;
use crate::vtd::page_requests::PageRequest;
use crate::vtd::registers::Capability;

const CONTEXT_CACHE: u64 = 1;
const IOTLB: u64 = 2;
const DEVICE_TLB: u64 = 3;
const INTERRUPT_ENTRY_CACHE: u64 = 4;
const WAIT: u64 = 5;
const PASID_CACHE: u64 = 7;
const PAGE_GROUP_RESPONSE: u64 = 9;
const TYPE_MASK: u64 = 0xf;

const GLOBAL: u64 = 1 << 4;
const PAGE: u64 = 3 << 4;
const PASID_CACHE_GLOBAL: u64 = 3 << 4;
const ONE_INTERRUPT_ENTRY: u64 = 1 << 4;

const WAIT_INTERRUPT: u64 = 1 << 4;
const WAIT_STATUS_WRITE: u64 = 1 << 5;
const WAIT_FENCE: u64 = 1 << 6;
const WAIT_PAGE_REQUEST_DRAIN: u64 = 1 << 7;

/// One descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// The first quadword.
    pub low: u64,
    /// The second.
    pub high: u64,
}

impl Descriptor {
    /// Drops every cached context entry.
    pub const fn all_contexts() -> Self {
        Self { low: CONTEXT_CACHE | GLOBAL, high: 0 }
    }

    /// Drops every cached PASID entry; scalable mode only.
    pub const fn all_pasids() -> Self {
        Self { low: PASID_CACHE | PASID_CACHE_GLOBAL, high: 0 }
    }

    /// Drops every cached translation.
    pub fn all_translations(capability: Capability) -> Self {
        Self { low: IOTLB | GLOBAL | drains(capability), high: 0 }
    }

    /// Drops the translations of one page of a domain.
    pub fn page(domain: u16, iova: u64, capability: Capability) -> Self {
        Self {
            low: IOTLB | PAGE | drains(capability) | u64::from(domain) << 16,
            high: iova & !0xfff,
        }
    }

    /// Invalidates one page in the Device-TLB of a device.
    pub fn device_page(device: Bdf, iova: u64) -> Self {
        Self { low: DEVICE_TLB | u64::from(device.0) << 32, high: iova & !0xfff }
    }

    /// Drops every cached entry of the interrupt remapping table.
    pub const fn all_interrupt_entries() -> Self {
        Self { low: INTERRUPT_ENTRY_CACHE, high: 0 }
    }

    /// Drops one cached entry of the interrupt remapping table.
    pub fn interrupt_entry(index: u8) -> Self {
        let index = u64::from(index) << 32;
        Self { low: INTERRUPT_ENTRY_CACHE | ONE_INTERRUPT_ENTRY | index, high: 0 }
    }

    /// The device that has to answer the descriptor, if any.
    pub fn device(&self) -> Option<Bdf> {
        (self.low & TYPE_MASK == DEVICE_TLB).then_some(Bdf((self.low >> 32) as u16))
    }

    /// A wait that writes `data` to `address` when all descriptors before it are done.
    pub fn wait(address: u64, data: u32) -> Self {
        Self { low: WAIT | WAIT_STATUS_WRITE | u64::from(data) << 32, high: address }
    }

    /// A wait that raises the completion event when all descriptors before it are done.
    pub const fn wait_interrupt() -> Self {
        Self { low: WAIT | WAIT_INTERRUPT, high: 0 }
    }

    /// As [`Descriptor::wait`], with a fence: later descriptors start after it.
    pub fn fence(address: u64, data: u32) -> Self {
        let wait = Self::wait(address, data);
        Self { low: wait.low | WAIT_FENCE, ..wait }
    }

    /// A wait that completes when all received page requests are in the page request queue.
    pub const fn page_request_drain() -> Self {
        Self { low: WAIT | WAIT_FENCE | WAIT_PAGE_REQUEST_DRAIN, high: 0 }
    }

    /// The response to the group of a page request, with a response code.
    pub fn page_group_response(request: &PageRequest, code: u8) -> Self {
        const PASID_PRESENT: u64 = 1 << 4;
        let pasid = request.pasid.map_or(0, |pasid| PASID_PRESENT | u64::from(pasid) << 32);
        let low = PAGE_GROUP_RESPONSE | u64::from(code) << 12 | u64::from(request.source) << 16;
        // The type's high part is 0: bits 11:9.
        Self { low: low | pasid, high: u64::from(request.group) << 3 }
    }

    /// A fence without status write and interrupt.
    pub const fn silent_fence() -> Self {
        Self { low: WAIT | WAIT_FENCE, high: 0 }
    }

    /// A descriptor with a reserved type.
    pub const fn invalid() -> Self {
        Self { low: TYPE_MASK, high: 0 }
    }

    /// Whether this is the first quadword of a wait descriptor.
    pub const fn is_wait(low: u64) -> bool {
        low & TYPE_MASK == WAIT
    }
}

/// The bits by which an invalidation drains requests in flight, if the unit supports them.
fn drains(capability: Capability) -> u64 {
    let writes = u64::from(capability.drains_writes()) << 6;
    let reads = u64::from(capability.drains_reads()) << 7;
    writes | reads
}
