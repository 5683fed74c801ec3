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

use crate::Release;

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
    /// Scalable-mode tables with a first stage. QEMU has it from 11 on.
    FirstStage,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Legacy, Self::Remapping, Self::Scalable, Self::FirstStage];

    /// Whether tables are those of scalable mode, and descriptors have 256 bits.
    pub const fn is_scalable(self) -> bool {
        matches!(self, Self::Scalable | Self::FirstStage)
    }

    /// The options of QEMU's unit.
    pub(super) const fn options(self, release: Release) -> &'static str {
        match (self, release) {
            (Self::Legacy, _) => "device-iotlb=on,intremap=off,aw-bits=48",
            (Self::Remapping, _) => "device-iotlb=on,intremap=on,eim=off,aw-bits=48",
            (Self::Scalable, Release::Seven) => {
                "device-iotlb=on,intremap=off,aw-bits=48,snoop-control=on,x-scalable-mode=on"
            }
            (Self::Scalable, Release::Eleven) => {
                "device-iotlb=on,intremap=off,aw-bits=48,snoop-control=on,scalable-mode=on"
            }
            (Self::FirstStage, _) => {
                "device-iotlb=on,intremap=off,aw-bits=48,scalable-mode=on,fsts=on"
            }
        }
    }
}
