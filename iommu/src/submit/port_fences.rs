//! Fences at ports: the port above a function blocks what the function could do by stale
//! translations. Ports answer configuration requests while devices are mute, and no fence stands in
//! the queue.
//!
//! ```text
//!   deadline --> configuration write to the port --> Device-TLBs below it are waived
//!   reset of each function that was waived ------> configuration write that ends the fence
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::ids::Bdf;

/// A fence at the port above a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumIter)]
#[serde(rename_all = "kebab-case")]
pub enum PortFence {
    /// ACS Translation Blocking: Translation Requests and requests with translated addresses become
    /// ACS Violations (`PCIe 6.12.1.1`). Untranslated requests and all messages pass.
    BlockTranslation,
    /// Bus Master Enable is clear: all memory requests from below, interrupts included, become
    /// Unsupported Requests (`PCIe 7.5.1.1.3`). Messages pass.
    BusMasterOff,
    /// Link Disable: nothing passes, and what is below is reset when the link comes up
    /// (`PCIe 7.5.3.7`).
    LinkDisable,
    /// Downstream Port Containment, triggered by software: nothing passes until software clears the
    /// trigger (`PCIe 6.2.11`).
    Dpc,
}

impl PortFence {
    /// All fences.
    pub const ALL: [Self; 4] =
        [Self::BlockTranslation, Self::BusMasterOff, Self::LinkDisable, Self::Dpc];

    /// Its word in files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::BlockTranslation => "block-translation",
            Self::BusMasterOff => "bus-master-off",
            Self::LinkDisable => "link-disable",
            Self::Dpc => "dpc",
        }
    }
}

impl fmt::Display for PortFence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A fence that is set up.
#[derive(Debug)]
struct Active {
    /// The function that has timed out.
    function: Bdf,
    fence: PortFence,
    /// The buses below the port.
    buses: RangeInclusive<u8>,
    /// Functions whose invalidations were waived since their last reset.
    waived: BTreeSet<Bdf>,
}

/// All fences at ports.
#[derive(Debug, Default)]
pub(super) struct PortFences {
    active: Vec<Active>,
    /// Functions that were reset while the unit may have held requests to them. The unit may still
    /// name them once in ITE.
    ignore_next_ite: BTreeSet<Bdf>,
    changes: u64,
}

impl PortFences {
    /// Whether no fence is anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Whether a fence is at a port above `function`.
    pub(super) fn covers(&self, function: Bdf) -> bool {
        self.active.iter().any(|active| active.buses.contains(&function.bus()))
    }

    /// How often the answer of [`Self::covers`] may have changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The functions whose reset a fence waits for.
    pub(super) fn waived(&self) -> impl Iterator<Item = Bdf> {
        self.active.iter().flat_map(|active| active.waived.iter().copied())
    }

    /// `fence` is set up at the port above `function`.
    pub(super) fn begin(&mut self, function: Bdf, fence: PortFence, buses: RangeInclusive<u8>) {
        self.changes += 1;
        self.active.push(Active { function, fence, buses, waived: BTreeSet::from([function]) });
    }

    /// An invalidation of `function`, below a fence, was waived.
    pub(super) fn waive(&mut self, function: Bdf) {
        let covering = |active: &&mut Active| active.buses.contains(&function.bus());
        if let Some(active) = self.active.iter_mut().find(covering) {
            active.waived.insert(function);
        }
    }

    /// `function` was reset. Returns the function and the fence if that was the last reset for which the
    /// fence waited.
    pub(super) fn reset(&mut self, function: Bdf) -> Option<(Bdf, PortFence)> {
        let at = self.active.iter().position(|active| active.waived.contains(&function))?;
        self.ignore_next_ite.insert(function);
        self.active[at].waived.remove(&function);
        if !self.active[at].waived.is_empty() {
            return None;
        }
        self.changes += 1;
        let Active { function, fence, .. } = self.active.swap_remove(at);
        Some((function, fence))
    }

    /// Whether an ITE that names `function` is about a request that was sent after its last reset.
    pub(super) fn is_new_ite(&mut self, function: Bdf) -> bool {
        !self.ignore_next_ite.remove(&function)
    }
}
