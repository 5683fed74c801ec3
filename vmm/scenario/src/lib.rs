//! Scenarios: Linux boots in front of a remapping unit, loses a device, and what it does is compared with
//! what was expected.
//!
//! ```text
//!   FILE --> Scenario --> VmConfig --> Vm::run --+--> console, line by line --> caller
//!                |                               +--> events, counted as they come
//!                |                                         |
//!                +--> expectations --> judge <-- Observation
//!                                        |
//!                                     RunResult: verdicts, figures, behaviour --> JSON, KTAP, JUnit
//! ```
//!
//! - [`Scenario`]: a file, with all checks that need no machine.
//! - [`run()`]: one run on this machine's KVM.
//! - [`RunResult`]: what the run has shown.
#![forbid(unsafe_code)]

mod boot;
mod file;
mod fix;
pub mod host;
mod judge;
#[cfg(test)]
mod mutation;
mod names;
mod observation;
mod result;
mod run;
mod tally;
#[cfg(test)]
mod tests;
pub mod unit;

pub use boot::{Boot, BootError};
pub use file::{Bounds, End, Expectation, Look, Pattern, Scenario, Step};
pub use fix::{Assume, Fix, Release};
pub use observation::Observation;
pub use result::{Behavior, Detected, FixFound, Outcome, Reading, RunResult, Status, Verdict};
pub use run::{OnLine, OnSilence, Options, RunError, run};
pub use tally::{Counts, Matched, Tally};
