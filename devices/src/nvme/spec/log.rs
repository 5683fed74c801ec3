//! Log pages (`NVMe 5.14.1`): identifiers, and offsets of the fields that are not zero.

/// Error Information.
pub(crate) const ERROR: u8 = 0x01;
/// SMART / Health Information.
pub(crate) const SMART: u8 = 0x02;
/// Firmware Slot Information.
pub(crate) const FIRMWARE_SLOT: u8 = 0x03;
/// Changed Namespace List.
pub(crate) const CHANGED_NAMESPACES: u8 = 0x04;

/// Bytes in the SMART / Health page, and in the Firmware Slot page.
pub(crate) const PAGE_SIZE: usize = 512;
/// Bytes in the Changed Namespace List.
pub(crate) const NAMESPACE_LIST_SIZE: usize = 4096;

/// An entry of the Error Information page.
pub(crate) mod error {
    pub(crate) const SIZE: usize = 64;
    pub(crate) const COUNT: usize = 0;
    pub(crate) const SUBMISSION_QUEUE: usize = 8;
    pub(crate) const COMMAND_ID: usize = 10;
    /// Status Field, with the phase tag in bit 0.
    pub(crate) const STATUS: usize = 12;
    pub(crate) const PARAMETER_LOCATION: usize = 14;
    pub(crate) const LBA: usize = 16;
    pub(crate) const NAMESPACE: usize = 24;

    /// Parameter Error Location: the error belongs to no parameter.
    pub(crate) const NO_PARAMETER: u16 = 0xffff;
}

/// SMART / Health Information. Counters have 16 bytes each.
pub(crate) mod smart {
    pub(crate) const CRITICAL_WARNING: usize = 0;
    /// Composite Temperature, in kelvin.
    pub(crate) const TEMPERATURE: usize = 1;
    /// Available Spare, in percent.
    pub(crate) const SPARE: usize = 3;
    /// Available Spare Threshold, in percent.
    pub(crate) const SPARE_THRESHOLD: usize = 4;
    /// In thousands of 512 bytes, rounded up.
    pub(crate) const DATA_UNITS_READ: usize = 32;
    /// In thousands of 512 bytes, rounded up.
    pub(crate) const DATA_UNITS_WRITTEN: usize = 48;
    pub(crate) const HOST_READS: usize = 64;
    pub(crate) const HOST_WRITES: usize = 80;
    pub(crate) const POWER_CYCLES: usize = 112;
    pub(crate) const UNSAFE_SHUTDOWNS: usize = 144;
    pub(crate) const MEDIA_ERRORS: usize = 160;
    pub(crate) const ERROR_ENTRIES: usize = 176;
}

/// Firmware Slot Information.
pub(crate) mod firmware_slot {
    pub(crate) const ACTIVE_SLOT: usize = 0;
    /// The revision in slot 1: eight characters.
    pub(crate) const REVISION_1: usize = 8;
}
