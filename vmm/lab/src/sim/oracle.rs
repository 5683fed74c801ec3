//! The owner of each page, by which each access to memory is found stale or not.
//!
//! A mapping is stamped: its output address, above all memory, differs from that of each other
//! mapping of the run, and only here becomes the address of a page. An address therefore names the
//! mapping that translated it, also if the page has a new owner since.

use std::time::Duration;

use devices::stale::Concluded;
use iommu::ids::{Gpa, Iova, PAGE_SIZE, Pasid};
use iommu::time::Instant;

/// The first stamped address: above all memory.
const STAMPS: u64 = 1 << 32;

/// A mapping, by its number in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MappingId(u32);

/// A page that was given to a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    pub(super) device: u16,
    /// The address space.
    pub(super) space: Option<Pasid>,
    pub(super) iova: Iova,
    /// The page's number.
    pub(super) page: u32,
    /// Since when it has been unmapped, with its invalidation put off.
    pub(super) deferred: Option<Instant>,
    /// The end of its invalidation, after which the page is given back.
    released: Option<Concluded>,
}

#[cfg(test)]
impl Mapping {
    /// Whether software has unmapped the page, and is yet to flush it or waits for its flush.
    pub(super) fn is_unmapped(&self) -> bool {
        self.deferred.is_some()
    }
}

/// An access by a translation that should be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stale {
    /// The time since the translation should have been gone.
    pub(super) age: Duration,
    /// The page belongs to another device by now.
    pub(super) foreign: bool,
    /// The caller was told that the invalidation is complete.
    pub(super) told_success: bool,
    /// The address of the page.
    pub(super) target: Gpa,
}

/// All mappings of the run, and what becomes of pages.
#[derive(Debug)]
pub(super) struct Oracle {
    mappings: Vec<Mapping>,
    /// The device for which each page is mapped.
    owners: Vec<Option<u16>>,
    /// Pages without an owner. The one given back last is given out first, as allocators do.
    free: Vec<u32>,
}

impl Oracle {
    pub(super) fn new() -> Self {
        Self { mappings: Vec::with_capacity(256), owners: Vec::new(), free: Vec::new() }
    }

    /// Gives a page to a device.
    pub(super) fn map(&mut self, device: u16, space: Option<Pasid>, iova: Iova) -> MappingId {
        let page = self.free.pop().unwrap_or_else(|| {
            self.owners.push(None);
            self.owners.len() as u32 - 1
        });
        self.owners[page as usize] = Some(device);
        let (deferred, released) = (None, None);
        self.mappings.push(Mapping { device, space, iova, page, deferred, released });
        MappingId(self.mappings.len() as u32 - 1)
    }

    pub(super) fn get(&self, id: MappingId) -> &Mapping {
        &self.mappings[id.0 as usize]
    }

    /// The address that page tables hold for this mapping.
    pub(super) fn stamp(&self, id: MappingId) -> Gpa {
        Gpa(STAMPS + u64::from(id.0) * PAGE_SIZE)
    }

    /// Software has unmapped the page, and puts its invalidation off.
    pub(super) fn defer(&mut self, id: MappingId, now: Instant) {
        self.mappings[id.0 as usize].deferred = Some(now);
    }

    /// Software takes the page back, whatever it was told: from then on each access by the mapping
    /// is stale.
    pub(super) fn release(&mut self, id: MappingId, end: Concluded) {
        let mapping = &mut self.mappings[id.0 as usize];
        mapping.released = Some(end);
        self.owners[mapping.page as usize] = None;
        self.free.push(mapping.page);
    }

    /// When the page was given back, if it was.
    pub(super) fn released(&self, id: MappingId) -> Option<Instant> {
        self.get(id).released.map(|end| end.at)
    }

    /// A device's access comes out of the unit at `address`: by which mapping, and whether that is
    /// stale. `None` if it is no stamped address.
    pub(super) fn judge(&self, address: Gpa, now: Instant) -> Option<(MappingId, Option<Stale>)> {
        let number = address.0.checked_sub(STAMPS)? / PAGE_SIZE;
        let mapping = self.mappings.get(usize::try_from(number).ok()?)?;
        let stale = mapping.released.map(|end| Stale {
            age: end.age(now),
            told_success: end.success,
            target: Gpa(u64::from(mapping.page) * PAGE_SIZE + address.0 % PAGE_SIZE),
            foreign: self.owners[mapping.page as usize]
                .is_some_and(|owner| owner != mapping.device),
        });
        Some((MappingId(number as u32), stale))
    }
}
