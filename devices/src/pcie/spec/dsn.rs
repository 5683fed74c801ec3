//! Device Serial Number (`PCIe 7.9.3`).

/// Capability id.
pub const ID: u16 = 0x0003;
/// Version of the capability.
pub const VERSION: u8 = 1;
/// Bytes in the capability.
pub const LENGTH: u16 = 12;
/// Serial Number, lower half.
pub const LOWER: u16 = 4;
/// Serial Number, upper half.
pub const UPPER: u16 = 8;
