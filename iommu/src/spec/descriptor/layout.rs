//! Layouts of descriptors (`VT-d 6.5.2`). Each has 128 bits. In a ring of 256-bit descriptors the
//! upper half is zero.

use bitfield_struct::bitfield;

/// Descriptor types: bits 11:9 and 3:0.
pub mod kind {
    /// Context-cache invalidate.
    pub const CONTEXT_CACHE: u8 = 1;
    /// IOTLB invalidate.
    pub const IOTLB: u8 = 2;
    /// Device-TLB invalidate.
    pub const DEVICE_TLB: u8 = 3;
    /// Interrupt entry cache invalidate.
    pub const INTERRUPT_ENTRY_CACHE: u8 = 4;
    /// Invalidation wait.
    pub const WAIT: u8 = 5;
    /// PASID-based IOTLB invalidate.
    pub const PASID_IOTLB: u8 = 6;
    /// PASID-cache invalidate.
    pub const PASID_CACHE: u8 = 7;
    /// PASID-based Device-TLB invalidate.
    pub const PASID_DEVICE_TLB: u8 = 8;
    /// Page group response.
    pub const PAGE_GROUP_RESPONSE: u8 = 9;
}

/// Context-cache invalidate (`VT-d 6.5.2.1`).
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct ContextCacheDescriptor {
    /// Type, low part.
    #[bits(4, default = kind::CONTEXT_CACHE)]
    pub kind: u8,
    /// G: 1 global, 2 domain, 3 device.
    #[bits(2)]
    pub granularity: u8,
    #[bits(10)]
    __: u16,
    /// DID.
    #[bits(16)]
    pub domain: u16,
    /// SID.
    #[bits(16)]
    pub source_id: u16,
    /// FM: the function-number bits of SID to ignore: 0 none, 1 bit 2, 2 bits 2:1, 3 bits 2:0.
    #[bits(2)]
    pub function_mask: u8,
    #[bits(78)]
    __: u128,
}

/// IOTLB invalidate (`VT-d 6.5.2.3`), also in its PASID-based form (`VT-d 6.5.2.4`).
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct IotlbDescriptor {
    /// Type, low part.
    #[bits(4, default = kind::IOTLB)]
    pub kind: u8,
    /// G: 1 global, 2 domain, 3 page. PASID-based: 2 all pages of the PASID, 3 page.
    #[bits(2)]
    pub granularity: u8,
    /// DW: drain writes.
    pub drain_writes: bool,
    /// DR: drain reads.
    pub drain_reads: bool,
    __: u8,
    /// DID.
    #[bits(16)]
    pub domain: u16,
    /// PASID, in the PASID-based form.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    __: u16,
    /// AM: 2^AM pages.
    #[bits(6)]
    pub mask: u8,
    /// IH: upper levels have not changed.
    pub hint: bool,
    #[bits(5)]
    __: u8,
    /// ADDR: bits 63:12.
    #[bits(52)]
    pub page: u64,
}

/// Device-TLB invalidate (`VT-d 6.5.2.5`).
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct DeviceTlbDescriptor {
    /// Type, low part.
    #[bits(4, default = kind::DEVICE_TLB)]
    pub kind: u8,
    #[bits(8)]
    __: u8,
    /// PFSID, bits 3:0.
    #[bits(4)]
    pub physical_function_low: u8,
    /// MIP: the most requests that may be pending in the function, 0 for 32.
    #[bits(5)]
    pub max_pending: u8,
    #[bits(11)]
    __: u16,
    /// SID: the function with the Device-TLB.
    #[bits(16)]
    pub source_id: u16,
    #[bits(4)]
    __: u8,
    /// PFSID, bits 15:4.
    #[bits(12)]
    pub physical_function_high: u16,
    /// S: the range is larger than a page, see [`PageRange::decode`].
    pub size: bool,
    #[bits(11)]
    __: u16,
    /// ADDR: bits 63:12.
    #[bits(52)]
    pub page: u64,
}

/// PASID-based Device-TLB invalidate (`VT-d 6.5.2.6`).
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct PasidDeviceTlbDescriptor {
    /// Type, low part.
    #[bits(4, default = kind::PASID_DEVICE_TLB)]
    pub kind: u8,
    /// MIP: the most requests that may be pending in the function, 0 for 32.
    #[bits(5)]
    pub max_pending: u8,
    #[bits(3)]
    __: u8,
    /// PFSID, bits 3:0.
    #[bits(4)]
    pub physical_function_low: u8,
    /// SID: the function with the Device-TLB.
    #[bits(16)]
    pub source_id: u16,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    /// PFSID, bits 15:4.
    #[bits(12)]
    pub physical_function_high: u16,
    /// GI: all PASIDs of the function.
    pub global: bool,
    #[bits(10)]
    __: u16,
    /// S: the range is larger than a page, see [`PageRange::decode`].
    pub size: bool,
    /// ADDR: bits 63:12.
    #[bits(52)]
    pub page: u64,
}

/// Interrupt entry cache invalidate (`VT-d 6.5.2.8`).
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct InterruptEntryCacheDescriptor {
    /// Type, low part.
    #[bits(4, default = kind::INTERRUPT_ENTRY_CACHE)]
    pub kind: u8,
    /// G: set for the entries that index and mask select, clear for all entries.
    pub selective: bool,
    #[bits(22)]
    __: u32,
    /// IM: the number of low bits of the index to ignore.
    #[bits(5)]
    pub mask: u8,
    /// IIDX: the first entry.
    #[bits(16)]
    pub index: u16,
    #[bits(80)]
    __: u128,
}

/// Invalidation wait (`VT-d 6.5.2.9`).
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct WaitDescriptor {
    /// Type, low part.
    #[bits(4, default = kind::WAIT)]
    pub kind: u8,
    /// IF: interrupt on completion.
    pub interrupt: bool,
    /// SW: write the status data on completion.
    pub status_write: bool,
    /// FN: descriptors behind this one start only after it has completed.
    pub fence: bool,
    /// PD: the unit drains page requests first.
    pub page_request_drain: bool,
    #[bits(24)]
    __: u32,
    /// Status data.
    pub status_data: u32,
    #[bits(2)]
    __: u8,
    /// Status address, bits 63:2.
    #[bits(62)]
    pub status_dword: u64,
}

/// PASID-cache invalidate (`VT-d 6.5.2.2`).
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct PasidCacheDescriptor {
    /// Type, low part.
    #[bits(4, default = kind::PASID_CACHE)]
    pub kind: u8,
    /// G: 0 domain, 1 PASID in a domain, 3 global.
    #[bits(2)]
    pub granularity: u8,
    #[bits(10)]
    __: u16,
    /// DID.
    #[bits(16)]
    pub domain: u16,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    #[bits(76)]
    __: u128,
}

/// Page group response (`VT-d 7.6.1`).
#[bitfield(u128)]
#[derive(PartialEq, Eq)]
pub struct PageGroupResponseDescriptor {
    /// Type, low part.
    #[bits(4, default = kind::PAGE_GROUP_RESPONSE)]
    pub kind: u8,
    /// PP: the response has a PASID.
    pub pasid_present: bool,
    #[bits(7)]
    __: u8,
    /// RC: 0 success, 1 invalid request, 15 failure.
    #[bits(4)]
    pub code: u8,
    /// RID: the function that asked.
    #[bits(16)]
    pub requester: u16,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    __: u16,
    #[bits(2)]
    __: u8,
    /// LPIG of old revisions, ignored.
    pub last: bool,
    /// PRGI: the PRG Index.
    #[bits(9)]
    pub group: u16,
    #[bits(52)]
    __: u64,
}
