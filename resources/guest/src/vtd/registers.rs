//! Offsets and bits of the unit's registers (VT-d 11.4).

#![allow(missing_docs, reason = "the names are the specification's")]

pub const VER: u64 = 0x00;
pub const CAP: u64 = 0x08;
pub const ECAP: u64 = 0x10;
pub const GCMD: u64 = 0x18;
pub const GSTS: u64 = 0x1c;
pub const RTADDR: u64 = 0x20;
pub const FSTS: u64 = 0x34;
pub const FECTL: u64 = 0x38;
pub const FEDATA: u64 = 0x3c;
pub const FEADDR: u64 = 0x40;
pub const FEUADDR: u64 = 0x44;
pub const IQH: u64 = 0x80;
pub const IQT: u64 = 0x88;
pub const IQA: u64 = 0x90;
pub const ICS: u64 = 0x9c;
pub const IECTL: u64 = 0xa0;
pub const IEDATA: u64 = 0xa4;
pub const IEADDR: u64 = 0xa8;
pub const IEUADDR: u64 = 0xac;
pub const IQERCD: u64 = 0xb0;
pub const IRTA: u64 = 0xb8;
pub const PQH: u64 = 0xc0;
pub const PQT: u64 = 0xc8;
pub const PQA: u64 = 0xd0;
pub const PRS: u64 = 0xdc;
pub const PECTL: u64 = 0xe0;
pub const PEDATA: u64 = 0xe4;
pub const PEADDR: u64 = 0xe8;
pub const PEUADDR: u64 = 0xec;

/// Bits of GCMD, and of GSTS at the same places.
pub const TRANSLATION: u32 = 1 << 31;
pub const ROOT_POINTER: u32 = 1 << 30;
pub const QUEUED_INVALIDATION: u32 = 1 << 26;
pub const INTERRUPT_REMAPPING: u32 = 1 << 25;
pub const INTERRUPT_POINTER: u32 = 1 << 24;
/// The bits of GSTS that a write of GCMD has to repeat, without the one-shot bits.
pub const PERSISTENT: u32 = 0x96ff_ffff;

/// Bits of FSTS.
pub const FAULT_OVERFLOW: u32 = 1 << 0;
pub const FAULT_PENDING: u32 = 1 << 1;
pub const QUEUE_ERROR: u32 = 1 << 4;
pub const COMPLETION_ERROR: u32 = 1 << 5;
pub const TIME_OUT_ERROR: u32 = 1 << 6;

/// FECTL, IECTL, PECTL: interrupt mask.
pub const EVENT_MASKED: u32 = 1 << 31;
/// ICS: a wait descriptor with the interrupt flag has completed.
pub const WAIT_COMPLETED: u32 = 1 << 0;

/// PRS: a page request has been written to the queue.
pub const PAGE_REQUEST_PENDING: u32 = 1 << 0;
/// PRS: the queue was full.
pub const PAGE_REQUEST_OVERFLOW: u32 = 1 << 1;

/// IQA: 256-bit descriptors.
pub const IQA_WIDE: u64 = 1 << 11;

/// ITESID of IQERCD: the source id of the time-out.
pub fn time_out_source(iqercd: u64) -> u16 {
    (iqercd >> 32) as u16
}

/// IQEI of IQERCD: the reason of the queue error.
pub fn queue_error_reason(iqercd: u64) -> u8 {
    (iqercd & 0xf) as u8
}

/// CAP.
#[derive(Clone, Copy, Debug)]
pub struct Capability(pub u64);

impl Capability {
    /// Second-stage tables of `levels` levels (3, 4 or 5).
    pub fn has_levels(self, levels: u8) -> bool {
        self.0 >> (8 + levels - 2) & 1 != 0
    }

    pub fn has_2m_pages(self) -> bool {
        self.0 >> 34 & 1 != 0
    }

    pub fn has_1g_pages(self) -> bool {
        self.0 >> 35 & 1 != 0
    }

    /// Number of fault records.
    pub fn fault_records(self) -> u64 {
        (self.0 >> 40 & 0xff) + 1
    }

    /// Offset of the first fault record.
    pub fn fault_record_offset(self) -> u64 {
        (self.0 >> 24 & 0x3ff) * 16
    }

    pub fn drains_writes(self) -> bool {
        self.0 >> 54 & 1 != 0
    }

    pub fn drains_reads(self) -> bool {
        self.0 >> 55 & 1 != 0
    }
}

/// ECAP.
#[derive(Clone, Copy, Debug)]
pub struct ExtendedCapability(pub u64);

impl ExtendedCapability {
    pub fn has_queue(self) -> bool {
        self.0 >> 1 & 1 != 0
    }

    pub fn has_device_tlb(self) -> bool {
        self.0 >> 2 & 1 != 0
    }

    pub fn has_interrupt_remapping(self) -> bool {
        self.0 >> 3 & 1 != 0
    }

    /// 32-bit destinations of interrupts.
    pub fn has_wide_destinations(self) -> bool {
        self.0 >> 4 & 1 != 0
    }

    /// Page requests, and their drain by wait descriptors.
    pub fn has_page_requests(self) -> bool {
        self.0 >> 29 & 1 != 0 && self.0 >> 42 & 1 != 0
    }

    pub fn has_scalable_mode(self) -> bool {
        self.0 >> 43 & 1 != 0
    }

    pub fn has_scalable_second_stage(self) -> bool {
        self.has_scalable_mode() && self.0 >> 46 & 1 != 0
    }
}
