//! The policy laboratory: many simulated runs, and their comparison.
//!
//! ```text
//!   Catalog, Selection --> Matrix --> Plan (matrix, shard, command)
//!                                       |
//!            work: place --> RunSpec --> sim::run ----------> Record     on as many threads as wanted
//!                                                                |        in the order of the plan
//!                              store: results.jsonl <------------+------> Summary
//!                                       |                                    |
//!                              merge: shards --> one                table, CSV, report with plots
//!
//!   explain: RunId --> RunSpec --> events --> summary, steps, trace
//! ```
//!
//! Everything is a function of the plan: neither the number of threads nor of machines, nor an
//! interruption, shows in a result. The crate knows neither KVM nor the command line.
#![forbid(unsafe_code)]

mod compare;
pub mod csv;
mod digest;
mod error;
pub mod experiment;
pub mod explore;
pub mod file;
pub mod matrix;
mod merge;
mod narrate;
pub mod plan;
mod plot;
pub mod policies;
pub mod properties;
mod record;
mod report;
pub mod seeds;
pub mod shard;
pub mod share;
pub mod sim;
#[cfg(test)]
mod snapshot_tests;
mod store;
mod summary;
pub mod table;
pub mod text;
mod timelines;
pub mod toml_file;
mod totals;
mod trace;
mod tracks;
mod views;
mod work;

pub use compare::{Options, Outcome, Progress, compare};
pub use digest::digest;
pub use error::LabError;
pub use merge::{MergeError, merge};
pub use narrate::narrate;
pub use record::Record;
pub use store::StoreError;
pub use summary::{FaultKind, Group, Row, Summary, Totals, Worst};
pub use timelines::{Replay, replay};
pub use trace::write as write_trace;
pub use views::{CSV, REPORT};
