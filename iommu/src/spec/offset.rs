//! The offset of each register in the unit's page, in bytes (`VT-d 11.4`).

/// VER, architecture version.
pub const VER: u16 = 0x00;
/// CAP, capabilities.
pub const CAP: u16 = 0x08;
/// ECAP, extended capabilities.
pub const ECAP: u16 = 0x10;
/// GCMD, global command.
pub const GCMD: u16 = 0x18;
/// GSTS, global status.
pub const GSTS: u16 = 0x1c;
/// RTADDR, root table address.
pub const RTADDR: u16 = 0x20;
/// CCMD, context command (register-based invalidation).
pub const CCMD: u16 = 0x28;
/// FSTS, fault status.
pub const FSTS: u16 = 0x34;
/// FECTL, fault event control; its data, address and upper address follow.
pub const FECTL: u16 = 0x38;
/// IQH, invalidation queue head.
pub const IQH: u16 = 0x80;
/// IQT, invalidation queue tail.
pub const IQT: u16 = 0x88;
/// IQA, invalidation queue address.
pub const IQA: u16 = 0x90;
/// ICS, invalidation completion status.
pub const ICS: u16 = 0x9c;
/// IECTL, invalidation event control; its data, address and upper address follow.
pub const IECTL: u16 = 0xa0;
/// IQERCD, invalidation queue error record.
pub const IQERCD: u16 = 0xb0;
/// IRTA, interrupt remapping table address.
pub const IRTA: u16 = 0xb8;
/// PQH, page request queue head.
pub const PQH: u16 = 0xc0;
/// PQT, page request queue tail.
pub const PQT: u16 = 0xc8;
/// PQA, page request queue address.
pub const PQA: u16 = 0xd0;
/// PRS, page request status.
pub const PRS: u16 = 0xdc;
/// PECTL, page request event control; its data, address and upper address follow.
pub const PECTL: u16 = 0xe0;
/// IVA, address of a register-based IOTLB invalidation. ECAP.IRO gives its offset.
pub const IVA: u16 = 0xf0;
/// IOTLB, register-based IOTLB invalidation.
pub const IOTLB: u16 = 0xf8;
/// FRCD, the first fault record. CAP.FRO gives its offset.
pub const FRCD: u16 = 0x220;
