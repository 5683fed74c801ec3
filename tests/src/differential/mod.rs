//! The differential test: random scripts run on our machine and on QEMU's, and what both answer is
//! compared.
//!
//! ```text
//!   seed --> generate --> Script --+--> Ours: vmm::qtest::Machine, in this process --+
//!                                  |                                                +--> compare
//!                                  +--> Qemu: a child, over its qtest protocol ------+       |
//!                                                            shrink <-- a difference <-------+
//! ```
//!
//! A [`Script`] is a list of groups of steps. Scripts stay clear of what QEMU is known to do in
//! another way; each of those differences has a script of its own that shows it, see
//! `docs/differences.md`.

pub mod compare;
pub mod generate;
pub mod ours;
pub mod place;
pub mod qemu;
pub mod random;
pub mod reasons;
pub mod script;
pub mod shrink;

pub use compare::{Difference, compare};
pub use ours::Ours;
pub use qemu::{Qemu, QemuError};
pub use random::Random;
pub use script::{Group, Script, Step};
pub use shrink::shrink;

/// The unit of QEMU's that a script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Legacy tables, 128-bit descriptors.
    Legacy,
    /// Legacy mode with interrupt remapping.
    Remapping,
    /// Scalable-mode tables with a second stage, 256-bit descriptors.
    Scalable,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Legacy, Self::Remapping, Self::Scalable];
}
