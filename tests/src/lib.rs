//! The common parts of the integration tests: a rig that embeds the VMM, boots the built-in guest,
//! and returns all events.
//!
//! ```text
//!   Rig: VmConfig  --start-->  Machine: events as they happen, links, stop
//!                                 |
//!                                join --> Run: exit, events, Summary
//! ```
//!
//! Tests assert on typed events. They wait for events and never for a time, and no time is a reason
//! to fail. The one time limit here ends a test with a machine that hangs.
#![forbid(unsafe_code)]

pub mod differential;
pub mod fuzz;
mod need;
pub mod repository;
mod rig;
mod run;
mod watch;

pub use need::{Judge, Need, Release, browser, directory, judge, qemu, wanted};
pub use rig::{Machine, Rig};
pub use run::{Run, after, count};

use iommu::ids::Bdf;

/// The built-in guest's first endpoint, whose link drops.
pub const VICTIM: Bdf = Bdf::new(1, 0, 0);
/// The port above it.
pub const VICTIM_PORT: Bdf = Bdf::new(0, 1, 0);
/// Its second endpoint, the healthy neighbour of the victim.
pub const NEIGHBOR: Bdf = Bdf::new(2, 0, 0);
/// The port above it.
pub const NEIGHBOR_PORT: Bdf = Bdf::new(0, 2, 0);
