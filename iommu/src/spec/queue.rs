//! Registers of the invalidation queue (`VT-d 11.4.9`).

use bitfield_struct::bitfield;
use serde::Serialize;

/// IQA, address and size of the ring (`VT-d 11.4.9.3`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct QueueAddress {
    /// QS: the ring has 2^QS pages.
    #[bits(3)]
    pub size: u8,
    __: u8,
    /// DW: descriptors have 256 bits, not 128.
    pub wide: bool,
    /// IQA: bits 63:12 of the ring's address.
    #[bits(52)]
    pub page: u64,
}

impl QueueAddress {
    /// The ring's size in bytes.
    pub const fn bytes(self) -> u32 {
        4096 << self.size()
    }

    /// A descriptor's size in bytes, 16 or 32.
    pub const fn descriptor_bytes(self) -> u32 {
        if self.wide() { 32 } else { 16 }
    }
}

/// The bits of IQH and IQT that hold an offset into the ring: 18:4.
pub const QUEUE_OFFSET: u32 = 0x0007_fff0;

/// IQERCD, the invalidation queue error record (`VT-d 11.4.9.9`).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct QueueErrorRecord {
    /// IQEI: a [`QueueErrorInfo`], 0 for none.
    #[bits(4)]
    pub info: u8,
    #[bits(28)]
    __: u32,
    /// ITESID: the function of the request that timed out.
    #[bits(16)]
    pub timeout_source: u16,
    /// ICESID: the function that sent an unexpected completion.
    #[bits(16)]
    pub completion_source: u16,
}

/// IQERCD.IQEI, the reason for which the unit has stopped fetching (`VT-d 11.4.9.9`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, thiserror::Error, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum QueueErrorInfo {
    /// The tail lies outside the ring.
    #[error("the tail is outside the ring")]
    TailOutOfRing = 1,
    /// The descriptor cannot be read.
    #[error("the descriptor cannot be read")]
    FetchFailed = 2,
    /// The type does not exist in this mode, or its capability is missing.
    #[error("the descriptor's type is not valid here")]
    InvalidType = 3,
    /// A reserved field is set, or a granularity or mask is not legal.
    #[error("a reserved field is set or a field has an illegal value")]
    ReservedField = 4,
    /// The descriptor width does not fit the translation table mode.
    #[error("the descriptor width does not fit the mode")]
    InvalidWidth = 5,
    /// The tail is not aligned to 256-bit descriptors.
    #[error("the tail is not aligned to the descriptor width")]
    TailMisaligned = 6,
    /// RTADDR.TTM is not valid.
    #[error("the translation table mode is not valid")]
    InvalidTableMode = 7,
}
