//! What faults do to the tree.

use iommu::event::LinkState;
use iommu::time::Instant;

use super::Hierarchy;
use crate::fault::FaultMode;

impl Hierarchy {
    /// Lets `mode` happen to the port with index `port`. There is nothing to happen to a port that
    /// does not exist.
    pub fn inject(&mut self, port: usize, mode: FaultMode, now: Instant) {
        if mode == FaultMode::Silent {
            self.set_link(port, LinkState::SilentlyDown, now);
        }
    }

    /// Ends `mode` at the port with index `port`.
    pub fn lift(&mut self, port: usize, mode: FaultMode, now: Instant) {
        if mode == FaultMode::Silent {
            self.set_link(port, LinkState::Up, now);
        }
    }
}
