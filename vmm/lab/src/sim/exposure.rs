//! Exposure: pages that were given back while their device could still reach them.
//!
//! A stale access needs luck: the device has to use the translation. Exposure needs none. It begins
//! when the page is given back, and ends when the device cannot reach the page any more.

use std::time::Duration;

use iommu::time::Instant;

use super::machine::Machine;
use super::oracle::{Mapping, MappingId};

/// The exposed pages of one device.
#[derive(Debug, Default)]
pub(super) struct Exposed {
    pages: Vec<Page>,
    /// Whether the device could reach memory when that was looked at last.
    reaches_memory: bool,
}

#[derive(Debug)]
struct Page {
    mapping: MappingId,
    /// Since when the device has been able to reach the page, if it is.
    since: Option<Instant>,
    /// The time for which it was before.
    before: Duration,
}

impl Page {
    /// The device cannot reach the page at `now`.
    fn pause(&mut self, now: Instant) {
        self.before += self.since.take().map_or(Duration::ZERO, |since| now - since);
    }
}

impl Machine<'_> {
    /// A page was given back, and its device may hold a translation of it.
    pub(super) fn expose(&mut self, mapping: MappingId) {
        let device = self.oracle.get(mapping).device;
        let Some(released) = self.oracle.released(mapping) else { return };
        if !self.is_cached(mapping) {
            return;
        }
        let reaches_memory = self.reaches_memory(device);
        let exposed = &mut self.devices[usize::from(device)].exposed;
        if exposed.pages.iter().any(|page| page.mapping == mapping) {
            return;
        }
        if exposed.pages.is_empty() {
            exposed.reaches_memory = reaches_memory;
            self.exposed.push(device);
        }
        let since = reaches_memory.then_some(released);
        exposed.pages.push(Page { mapping, since, before: Duration::ZERO });
    }

    /// The ATC of `device` may have changed.
    pub(super) fn note_atc_change(&mut self, device: u16) {
        self.has_atc_changed |= !self.devices[usize::from(device)].exposed.pages.is_empty();
    }

    /// Ends the exposure of pages that their devices cannot reach any more.
    pub(super) fn watch_exposed(&mut self) {
        if self.exposed.is_empty() {
            return;
        }
        let has_atc_changed = std::mem::take(&mut self.has_atc_changed);
        let mut devices = std::mem::take(&mut self.exposed);
        devices.retain(|device| self.watch_exposed_of(*device, has_atc_changed));
        self.exposed = devices;
    }

    /// Returns whether `device` still holds translations of pages that were given back.
    fn watch_exposed_of(&mut self, device: u16, has_atc_changed: bool) -> bool {
        let (now, reaches_memory) = (self.now, self.reaches_memory(device));
        let mut exposed = std::mem::take(&mut self.devices[usize::from(device)].exposed);
        let was_reaching = std::mem::replace(&mut exposed.reaches_memory, reaches_memory);
        if has_atc_changed || was_reaching != reaches_memory {
            exposed.pages.retain_mut(|page| {
                match (self.is_cached(page.mapping), reaches_memory) {
                    (true, true) => _ = page.since.get_or_insert(now),
                    (true, false) => page.pause(now),
                    (false, _) => {
                        page.pause(now);
                        self.note_exposure(page.before);
                        return false;
                    }
                }
                true
            });
        }
        let remain = !exposed.pages.is_empty();
        self.devices[usize::from(device)].exposed = exposed;
        remain
    }

    /// The horizon: pages that are still exposed count up to here.
    pub(super) fn end_exposure(&mut self) {
        for device in std::mem::take(&mut self.exposed) {
            let exposed = std::mem::take(&mut self.devices[usize::from(device)].exposed);
            for mut page in exposed.pages {
                page.pause(self.now);
                self.note_exposure(page.before);
            }
        }
    }

    fn note_exposure(&mut self, time: Duration) {
        if !time.is_zero() {
            self.result.exposure.record(time);
        }
    }

    /// Whether the ATC of its device holds the translation of `mapping`, and not a newer one.
    fn is_cached(&self, mapping: MappingId) -> bool {
        let &Mapping { device, space, iova, .. } = self.oracle.get(mapping);
        let stamp = self.oracle.stamp(mapping);
        let cached = self.downstream.hierarchy.cached(usize::from(device), space, iova);
        cached.is_some_and(|translation| translation.output == stamp)
    }

    /// Whether requests of a device get to memory.
    fn reaches_memory(&self, device: u16) -> bool {
        let slot = usize::from(self.slots.slot(device));
        let (host, function) = (&self.downstream.host, self.slots.function(device));
        let is_blocked = host.is_blocked(function) || host.is_below_fence(function);
        self.downstream.hierarchy.is_link_up(slot) && !is_blocked
    }
}
