//! What a scenario and the runner in its guest have in common: the steps that the guest takes, and
//! the lines that it sends about them.
//!
//! ```text
//!   scenario file --Step--> kernel's command line, behind `--` --Step--> runner
//!   VMM          <--Stamped<Message>--    debug console        <-------- runner
//! ```
//!
//! Both sides parse with the same types, so that a step that does not exist is refused when the
//! file is read. The guest is hostile: [`Stamped`] takes any line and fails with an error, and
//! [`Text`] holds neither control characters nor more than [`Text::MAX`] bytes.

#![forbid(unsafe_code)]

mod message;
mod step;
pub mod test_host;

pub use message::{Message, Outcome, ParseMessageError, Quantity, Stamped, Text, ValueName};
pub use step::{
    Disk, DomainType, HELP, Help, MAX_STEPS, MachineReset, ParseStepError, Pattern, Step,
    VfioAction, VtdMode, Word,
};
