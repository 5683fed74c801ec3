//! The ways in which a device vanishes, and when it does.
//!
//! ```text
//!   text, TOML --> Fault (spec): trigger, port, mode, duration
//!                    |
//!                  Schedule: counts points of the protocol, keeps time --> Action
//!                    |                                                       |
//!                  root complex: notes points <----- inject, lift -----------+
//! ```
//!
//! - [`mode`]: the faults; `docs/failure-modes.md` has the table of what software sees of each.
//! - [`effect`]: what each does to port, link and functions.
//! - [`spec`]: one fault of a schedule, as it is written. `docs/faults.md` explains the syntax.
//! - [`schedule`]: which of them are due.

mod delay_text;
pub mod effect;
pub mod mode;
mod mode_text;
pub mod schedule;
pub mod spec;

pub use crate::pcie::link::AnswerDelay;
pub use delay_text::DELAYS;
pub use effect::{Effect, PortEffect};
pub use mode::FaultMode;
pub use mode_text::{MODES, ParseModeError, current_name};
pub use schedule::{PortInfo, Schedule, ScheduleError};
pub use spec::{Fault, GuestConsole, ParseFaultError, Point, Trigger};
