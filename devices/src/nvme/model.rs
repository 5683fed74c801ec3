//! The model of this controller: its identification, limits and properties.

use std::time::Duration;

/// Vendor ID.
pub const VENDOR_ID: u16 = 0x1234;
/// Device ID.
pub const DEVICE_ID: u16 = 0x6c6e;
/// Device ID of virtual functions.
pub const VF_DEVICE_ID: u16 = 0x6c6f;
/// Model Number.
pub(super) const MODEL: &str = "ghostlink NVMe controller";
/// Firmware Revision.
pub(super) const FIRMWARE: &[u8; 8] = b"1.0     ";

/// MDTS: log2 of the pages that one command may transfer.
pub(super) const MAX_TRANSFER_ORDER: u8 = 5;
/// Bytes that one command may transfer.
pub const MAX_TRANSFER: usize = 4096 << MAX_TRANSFER_ORDER;
/// Namespaces that a controller can have.
pub const MAX_NAMESPACES: usize = 16;
/// Queue pairs: the admin queue's, and eight for I/O.
pub(super) const QUEUES: usize = 9;
/// Entries in the largest queue.
pub(super) const MAX_ENTRIES: u16 = 1024;
/// Interrupt vectors: one for each completion queue.
pub const VECTORS: u16 = QUEUES as u16;
/// Asynchronous Event Requests that can be outstanding.
pub(super) const MAX_EVENT_REQUESTS: usize = 4;
/// Entries in the error log.
pub(super) const ERROR_LOG_ENTRIES: usize = 16;

/// The composite temperature, in kelvin. It never changes.
pub(super) const TEMPERATURE: u16 = 310;
/// The default over temperature threshold, in kelvin.
pub(super) const WARNING_TEMPERATURE: u16 = 343;
/// CCTEMP, in kelvin.
pub(super) const CRITICAL_TEMPERATURE: u16 = WARNING_TEMPERATURE + 10;

/// Time from the fetch of an I/O command to its execution, by default.
pub const DEFAULT_LATENCY: Duration = Duration::from_micros(10);
/// The shortest latency. Without one, a guest that keeps a queue full would keep the VMM in one
/// call for ever.
pub const MIN_LATENCY: Duration = Duration::from_micros(1);
