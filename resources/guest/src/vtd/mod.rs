//! Driver for the VT-d remapping unit: registers, tables, invalidation queue.
//!
//! [`Unit`] is the register block with its handshakes, [`Queue`] the invalidation queue with its
//! submit-and-wait loop. [`tables`] builds the tables that the unit walks.

pub mod bring_up;
pub mod descriptor;
pub mod faults;
pub mod interrupt_table;
pub mod page_requests;
pub mod queue;
pub mod registers;
pub mod submit;
pub mod tables;
pub mod unit;

pub use descriptor::Descriptor;
pub use page_requests::{PageRequest, PageRequests};
pub use queue::{Queue, Width};
pub use submit::{Flush, Outcome, TimeoutPolicy};
pub use unit::Unit;
