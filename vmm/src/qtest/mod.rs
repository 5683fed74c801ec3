//! The machine without CPUs, driven from outside as QEMU is by its tests.
//!
//! ```text
//!   text  --> server: lines --> Command --> Session --> Machine: RAM, devices::chipset
//!   tests ----------------------------------/   \------> virtual clock, moved by commands alone
//!   QMP   --> Monitor: reset, quit, queries -----^
//! ```
//!
//! - [`Machine`]: RAM, the chipset and the clock. Needs no `/dev/kvm`.
//! - [`Command`]: one line of QEMU's qtest protocol. [`Session`]: what it does, and the answer.
//! - [`serve`]: the protocol over a stream. [`serve_sockets`]: at a unix socket, with QMP at another.

mod command;
mod machine;
mod qmp;
mod server;
mod session;
mod sockets;

pub use command::{Command, Encoding, ParseCommandError, Width};
pub use machine::{Machine, MachineConfig, TooManyTimers};
pub use server::{MAX_LINE, serve};
pub use session::Session;
pub use sockets::{Log, SIGNALS, SocketError, Sockets, serve_sockets};
