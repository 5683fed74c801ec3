//! Harm to healthy devices: what a policy does to devices that have no fault.

use serde::{Deserialize, Serialize};

use super::machine::{Device, Machine};

/// How many healthy devices were harmed, of one run or of many together. A device is healthy if the
/// fault did not happen to its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Healthy {
    /// Healthy devices.
    pub devices: u64,
    /// Those that were put in quarantine, or that a port above blocked.
    pub fenced: u64,
    /// Those that were reset although the workload did not want it.
    pub reset: u64,
    /// Those that were taken for removed, or that their driver has let go.
    pub removed: u64,
    /// Those that were kept from working: their driver has given up an I/O.
    pub failed_io: u64,
    /// Those in which ATS was turned off for good.
    #[serde(default)]
    pub ats_off: u64,
}

impl Healthy {
    /// Adds the devices of `other`.
    pub const fn merge(&mut self, other: Self) {
        self.devices += other.devices;
        self.fenced += other.fenced;
        self.reset += other.reset;
        self.removed += other.removed;
        self.failed_io += other.failed_io;
        self.ats_off += other.ats_off;
    }

    /// Harms to healthy devices. A device that was harmed in two ways counts twice.
    pub const fn harms(self) -> u64 {
        self.fenced + self.reset + self.removed + self.failed_io + self.ats_off
    }
}

impl Machine<'_> {
    /// Notes which devices are isolated, if that may have changed.
    pub(super) fn watch_isolation(&mut self) {
        let host = &self.downstream.host;
        let changes = host.block_changes();
        if std::mem::replace(&mut self.isolations, changes) == changes {
            return;
        }
        for function in host.isolated() {
            let Some(device) = self.slots.device(function) else { continue };
            let state = &mut self.devices[usize::from(device)];
            match host.is_removed(function) {
                true => state.was_removed = true,
                false => state.was_fenced = true,
            }
        }
        for (device, state) in (0..).zip(&mut self.devices) {
            state.was_fenced |= host.is_below_fence(self.slots.function(device));
        }
    }

    /// The harm to all devices without a fault, up to now.
    pub(super) fn harm_to_healthy(&self) -> Healthy {
        let mut healthy = Healthy::default();
        for (index, state) in (0..).zip(&self.devices) {
            if self.is_victim(index) {
                continue;
            }
            let Device { planned_resets, was_fenced, was_removed, has_failed_io, .. } = state;
            let resets = self.downstream.drivers.resets[usize::from(index)];
            healthy.devices += 1;
            healthy.fenced += u64::from(*was_fenced);
            healthy.reset += u64::from(resets > *planned_resets);
            healthy.removed += u64::from(*was_removed);
            healthy.failed_io += u64::from(*has_failed_io);
            let has_no_ats = self.downstream.drivers.ats_off[usize::from(index)];
            healthy.ats_off += u64::from(has_no_ats);
        }
        healthy
    }
}
