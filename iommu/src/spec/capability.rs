//! The capability registers: CAP (`VT-d 11.4.2`) and ECAP (`VT-d 11.4.3`).

use bitfield_struct::bitfield;
use serde::Serialize;

/// CAP, the capability register.
#[bitfield(u64)]
#[derive(PartialEq, Eq, Serialize)]
pub struct Cap {
    /// ND: domain ids have 4 + 2 * ND bits.
    #[bits(3)]
    pub domains: u8,
    /// AFL: advanced fault logging, deprecated.
    pub advanced_fault_logging: bool,
    /// RWBF: software must flush write buffers.
    pub write_buffer_flush: bool,
    /// PLMR: protected low-memory region.
    pub protected_low_memory: bool,
    /// PHMR: protected high-memory region.
    pub protected_high_memory: bool,
    /// CM: caching mode, in which the unit may cache entries that are not present.
    pub caching_mode: bool,
    /// SAGAW: bit 1, 2, 3 for second-stage tables of 3 (39 bits), 4 (48), 5 (57) levels.
    #[bits(5)]
    pub second_stage_widths: u8,
    #[bits(3)]
    __: u8,
    /// MGAW: width of a guest address in bits, less one.
    #[bits(6)]
    pub guest_address_width: u8,
    /// ZLR: zero-length reads of write-only pages succeed.
    pub zero_length_read: bool,
    __: bool,
    /// FRO: offset of the fault records in units of 16 bytes.
    #[bits(10)]
    pub fault_record_offset: u16,
    /// SSLPS: bit 0 for 2-MiB, bit 1 for 1-GiB second-stage pages.
    #[bits(4)]
    pub second_stage_large_pages: u8,
    __: bool,
    /// PSI: page-selective invalidation.
    pub page_selective: bool,
    /// NFR: number of fault records, less one.
    #[bits(8)]
    pub fault_records: u8,
    /// MAMV: largest address mask of a page-selective invalidation.
    #[bits(6)]
    pub max_address_mask: u8,
    /// DWD: invalidations can drain writes.
    pub write_drain: bool,
    /// DRD: invalidations can drain reads.
    pub read_drain: bool,
    /// FS1GP: 1-GiB first-stage pages.
    pub first_stage_1g: bool,
    #[bits(2)]
    __: u8,
    /// PI: posted interrupts.
    pub posted_interrupts: bool,
    /// FS5LP: five-level first-stage tables.
    pub first_stage_5_level: bool,
    /// ECMDS: enhanced commands.
    pub enhanced_commands: bool,
    /// ESIRTPS: setting the interrupt table flushes the interrupt entry cache.
    pub sirtp_flushes: bool,
    /// ESRTPS: setting the root table flushes everything.
    pub srtp_flushes: bool,
}

/// ECAP, the extended capability register.
#[bitfield(u64)]
#[derive(PartialEq, Eq, Serialize)]
pub struct Ecap {
    /// C: table walks are coherent.
    pub coherent: bool,
    /// QI: queued invalidation.
    pub queued_invalidation: bool,
    /// DT: Device-TLBs.
    pub device_tlb: bool,
    /// IR: interrupt remapping.
    pub interrupt_remapping: bool,
    /// EIM: 32-bit APIC ids.
    pub extended_interrupt_mode: bool,
    __: bool,
    /// PT: pass-through.
    pub pass_through: bool,
    /// SC: snoop control.
    pub snoop_control: bool,
    /// IRO: offset of IVA in units of 16 bytes.
    #[bits(10)]
    pub iotlb_offset: u16,
    #[bits(2)]
    __: u8,
    /// MHMV: largest mask of an interrupt entry cache invalidation.
    #[bits(4)]
    pub max_handle_mask: u8,
    __: bool,
    /// MTS: memory types in tables.
    pub memory_type: bool,
    /// NEST: nested translation.
    pub nested: bool,
    #[bits(2)]
    __: u8,
    /// PRS: page requests.
    pub page_requests: bool,
    __: bool,
    /// SRS: supervisor requests.
    pub supervisor_requests: bool,
    __: bool,
    /// NWFS: the unit honors the No Write flag of translation requests.
    pub no_write_flag: bool,
    /// EAFS: extended accessed flag.
    pub extended_accessed: bool,
    /// PSS: width of a PASID in bits, less one.
    #[bits(5)]
    pub pasid_width: u8,
    /// PASID: requests with PASID.
    pub pasid: bool,
    /// DIT: Device-TLB invalidations are throttled by PFSID.
    pub device_tlb_throttle: bool,
    /// PDS: wait descriptors can drain page requests.
    pub page_request_drain: bool,
    /// SMTS: scalable mode.
    pub scalable_mode: bool,
    /// VCS: virtual commands.
    pub virtual_commands: bool,
    /// SSADS: second-stage accessed and dirty bits.
    pub second_stage_dirty: bool,
    /// SSTS: second-stage translation in scalable mode.
    pub second_stage: bool,
    /// FSTS: first-stage translation in scalable mode.
    pub first_stage: bool,
    /// SMPWCS: coherent walks in scalable mode.
    pub scalable_coherent: bool,
    /// RPS: `RID_PASID`.
    pub rid_pasid: bool,
    __: bool,
    /// PMS: performance monitoring.
    pub performance_monitoring: bool,
    /// ADMS: abort-DMA mode.
    pub abort_dma_mode: bool,
    /// RPRIVS: `RID_PRIV`.
    pub rid_priv: bool,
    #[bits(10)]
    __: u16,
}
