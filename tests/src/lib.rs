//! What the integration tests share: a rig that embeds the VMM, boots the built-in guest and gives
//! back everything that happened.
//!
//! ```text
//!   Rig: VmConfig  --start-->  Machine: events as they happen, links, stop
//!                                 |
//!                                join --> Run: exit, events, Summary
//! ```
//!
//! Tests assert on typed events. They wait for an event, never for a time, and a time is never what
//! they fail on; the one limit here ends a test whose machine hangs.
#![forbid(unsafe_code)]

pub mod differential;
pub mod fuzz;
mod need;
mod rig;
mod run;
mod watch;

pub use need::{Need, qemu, wanted};
pub use rig::{Machine, Rig};
pub use run::{Run, after, count};

use iommu::ids::Bdf;

/// Where the built-in guest finds the first endpoint: the one whose link drops.
pub const VICTIM: Bdf = Bdf::new(1, 0, 0);
/// The port above it.
pub const VICTIM_PORT: Bdf = Bdf::new(0, 1, 0);
/// Where it finds the second endpoint: the victim's healthy neighbour.
pub const NEIGHBOR: Bdf = Bdf::new(2, 0, 0);
/// The port above it.
pub const NEIGHBOR_PORT: Bdf = Bdf::new(0, 2, 0);
