//! The life of a device that is gone: what software does with it before it knows, and when each piece
//! of software knows.

use std::time::Duration;

use iommu::time::Instant;
use serde::{Deserialize, Serialize};

use super::Latencies;
use super::cpu::Purpose;
use super::machine::Machine;

/// Waits that are shorter are those of a healthy machine.
const HANGS: Duration = Duration::from_millis(1);

/// What was done with devices whose link was down, and when software knew. Of one run or of many
/// together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gone {
    /// Devices whose link went down.
    pub devices: u64,
    /// From the loss to the first verdict of the remapping driver other than complete.
    pub remapping: Latencies,
    /// From the loss to the moment when the device's driver gives up an I/O, or is told to let the
    /// device go.
    pub driver: Latencies,
    /// From the loss to the moment when hot-plug marks the device as disconnected.
    pub hot_plug: Latencies,
    /// I/Os that were begun after the loss, each with a mapping.
    pub maps: u64,
    /// Invalidations that were wanted after the loss, without teardowns.
    pub unmaps: u64,
    /// Teardowns after the loss.
    pub teardowns: u64,
    /// Resets of the device that were tried after the loss.
    pub resets: u64,
    /// Reads of its vendor ID after the loss.
    pub checks: u64,
    /// Calls for the device that waited for more than a millisecond after the loss.
    pub own_hangs: u64,
    /// Calls for other devices that did.
    pub other_hangs: u64,
}

impl Gone {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.devices += other.devices;
        self.remapping.merge(&other.remapping);
        self.driver.merge(&other.driver);
        self.hot_plug.merge(&other.hot_plug);
        self.maps += other.maps;
        self.unmaps += other.unmaps;
        self.teardowns += other.teardowns;
        self.resets += other.resets;
        self.checks += other.checks;
        self.own_hangs += other.own_hangs;
        self.other_hangs += other.other_hangs;
    }
}

/// A piece of software that may learn that a device is gone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Learner {
    /// The driver of the remapping unit.
    Remapping,
    /// The driver of the device.
    Driver,
    /// The hot-plug driver.
    HotPlug,
}

/// The loss of one device.
#[derive(Debug, Default)]
pub(super) struct Loss {
    since: Option<Instant>,
    /// What each learner knows.
    known: [bool; 3],
}

impl Machine<'_> {
    /// The link of `device` has changed.
    pub(super) fn note_link(&mut self, device: u16, is_up: bool) {
        let now = self.now;
        let loss = &mut self.devices[usize::from(device)].loss;
        if is_up {
            *loss = Loss::default();
        } else if loss.since.is_none() {
            loss.since = Some(now);
            self.result.gone.devices += 1;
        }
    }

    /// A piece of software learns that `device` does not answer.
    pub(super) fn learn(&mut self, device: u16, learner: Learner) {
        let loss = &mut self.devices[usize::from(device)].loss;
        let Some(since) = loss.since else { return };
        if std::mem::replace(&mut loss.known[learner as usize], true) {
            return;
        }
        let gone = &mut self.result.gone;
        let latencies = match learner {
            Learner::Remapping => &mut gone.remapping,
            Learner::Driver => &mut gone.driver,
            Learner::HotPlug => &mut gone.hot_plug,
        };
        latencies.record(self.now - since);
    }

    /// Counts something that is done with `device` after its loss.
    pub(super) fn note_attempt(&mut self, device: u16, count: fn(&mut Gone) -> &mut u64) {
        if self.devices[usize::from(device)].loss.since.is_some() {
            *count(&mut self.result.gone) += 1;
        }
    }

    /// A caller wants an invalidation for `device`.
    pub(super) fn note_wanted(&mut self, device: u16, purpose: Purpose) {
        match purpose {
            Purpose::Unbind => self.note_attempt(device, |gone| &mut gone.teardowns),
            Purpose::Reuse | Purpose::Deferred => {
                self.note_attempt(device, |gone| &mut gone.unmaps);
            }
            // The reset is counted.
            Purpose::Prepare => {}
        }
    }

    /// A call for `device` has waited for so long.
    pub(super) fn note_hang(&mut self, device: u16, waited: Duration) {
        if waited < HANGS || self.result.gone.devices == 0 {
            return;
        }
        let is_own = self.devices[usize::from(device)].loss.since.is_some();
        let gone = &mut self.result.gone;
        *(if is_own { &mut gone.own_hangs } else { &mut gone.other_hangs }) += 1;
    }
}
