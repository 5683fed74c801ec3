//! The ways in which a device vanishes.
//!
//! - [`mode`]: what a fault does; `docs/failure-modes.md` has the table of what software sees of it.

pub mod mode;

pub use mode::{AnswerDelay, FaultMode};
