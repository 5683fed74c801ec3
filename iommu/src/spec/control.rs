//! Global command and status (`VT-d 11.4.4`), root table address (`VT-d 11.4.5`) and
//! register-based invalidation (`VT-d 11.4.6`).

use bitfield_struct::bitfield;

/// GCMD and GSTS: software sets a bit in GCMD, and GSTS reports it.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct GlobalBits {
    #[bits(23)]
    __: u32,
    /// CFI: compatibility-format interrupts pass although remapping is on.
    pub compatibility_interrupts: bool,
    /// SIRTP: latch the interrupt table (one shot).
    pub set_interrupt_table: bool,
    /// IRE: interrupt remapping.
    pub interrupt_remapping: bool,
    /// QIE: queued invalidation.
    pub queued_invalidation: bool,
    /// WBF: flush write buffers (one shot).
    pub flush_write_buffer: bool,
    #[bits(2)]
    __: u8,
    /// SRTP: latch the root table (one shot).
    pub set_root_table: bool,
    /// TE: DMA remapping.
    pub translation: bool,
}

/// RTADDR.TTM, the translation table mode: the format of the root table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TableMode {
    /// 00: legacy.
    #[default]
    Legacy,
    /// 01: scalable.
    Scalable,
    /// 10, or a mode that the unit lacks.
    Invalid,
}

/// RTADDR, the root table address register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct RootTableAddress {
    #[bits(10)]
    __: u16,
    /// TTM: 00 legacy, 01 scalable, 10 reserved, 11 abort-DMA.
    #[bits(2)]
    pub mode: u8,
    /// RTA: bits 63:12 of the table's address.
    #[bits(52)]
    pub page: u64,
}

/// CCMD, register-based invalidation of the context cache.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextCommand {
    /// DID.
    #[bits(16)]
    pub domain: u16,
    /// SID.
    #[bits(16)]
    pub source_id: u16,
    /// FM: the function-number bits of SID to ignore: 0 none, 1 bit 2, 2 bits 2:1, 3 bits 2:0.
    #[bits(2)]
    pub function_mask: u8,
    #[bits(25)]
    __: u32,
    /// CAIG: the granularity of the invalidation that the unit has done, 0 for none.
    #[bits(2)]
    pub actual: u8,
    /// CIRG: the granularity requested: 1 global, 2 domain, 3 device.
    #[bits(2)]
    pub granularity: u8,
    /// ICC: start. The unit clears it when it is done.
    pub start: bool,
}

/// IVA, the address for a register-based page-selective invalidation of the IOTLB.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InvalidateAddress {
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

/// IOTLB, register-based invalidation of the IOTLB.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IotlbCommand {
    __: u32,
    /// DID.
    #[bits(16)]
    pub domain: u16,
    /// DW: drain writes.
    pub drain_writes: bool,
    /// DR: drain reads.
    pub drain_reads: bool,
    #[bits(7)]
    __: u8,
    /// IAIG: the granularity of the invalidation that the unit has done, 0 for none.
    #[bits(2)]
    pub actual: u8,
    __: bool,
    /// IIRG: the granularity requested: 1 global, 2 domain, 3 page.
    #[bits(2)]
    pub granularity: u8,
    __: bool,
    /// IVT: start. The unit clears it when it is done.
    pub start: bool,
}
