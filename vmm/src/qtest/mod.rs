//! The machine without CPUs, driven from outside as QEMU is by its tests.
//!
//! ```text
//!   text  --> server: lines --> Command --> Session --> Machine: RAM, devices::chipset
//!   tests ----------------------------------/   \------> virtual clock, moved by commands alone
//! ```
//!
//! - [`Machine`]: RAM, the chipset and the clock. Needs no `/dev/kvm`.
//! - [`Command`]: one line of QEMU's qtest protocol. [`Session`]: what it does, and the answer.
//! - [`serve`], [`serve_socket`]: the protocol over a stream.

mod command;
mod machine;
mod server;
mod session;

pub use command::{Command, Encoding, ParseCommandError, Width};
pub use machine::{Machine, MachineConfig, TooManyTimers};
pub use server::{MAX_LINE, serve, serve_socket};
pub use session::Session;
