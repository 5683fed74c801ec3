//! Feature identifiers (`NVMe 5.21.1`).

pub(crate) const ARBITRATION: u8 = 0x01;
pub(crate) const POWER_MANAGEMENT: u8 = 0x02;
pub(crate) const TEMPERATURE_THRESHOLD: u8 = 0x04;
pub(crate) const ERROR_RECOVERY: u8 = 0x05;
pub(crate) const VOLATILE_WRITE_CACHE: u8 = 0x06;
pub(crate) const NUMBER_OF_QUEUES: u8 = 0x07;
pub(crate) const INTERRUPT_COALESCING: u8 = 0x08;
pub(crate) const INTERRUPT_VECTOR: u8 = 0x09;
pub(crate) const WRITE_ATOMICITY: u8 = 0x0a;
pub(crate) const ASYNCHRONOUS_EVENTS: u8 = 0x0b;
