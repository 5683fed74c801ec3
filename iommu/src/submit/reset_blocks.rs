//! Functions that the driver blocks in the unit while it resets them, as Linux's
//! `pci_dev_reset_iommu_prepare` and `pci_dev_reset_iommu_done` do (`PCIe 10.3.1`, Implementation
//! Note: a function may ignore Invalidate Requests while it is reset).
//!
//! ```text
//!   prepare:  context entry: P = 0; the function gets no further invalidation
//!             the invalidations under way end; [context cache] [IOTLB] [Device-TLB] [wait]
//!   the function is reset
//!   done:     the context entry is restored
//! ```

use std::collections::BTreeMap;

use vm_memory::{Bytes, GuestAddress};

use super::hardware::Hardware;
use super::quarantine::{Quarantine, clear_present};
use crate::Memory;
use crate::ids::{Bdf, DomainId, Gpa};
use crate::spec::tables::ContextLow;

/// A function that is reset, or is about to be.
#[derive(Debug)]
struct ResetBlock {
    /// Resets that have begun and are not over.
    depth: u32,
    /// The address and the former low half of its context entry, if that was present.
    entry: Option<(Gpa, u64)>,
    /// The unit has read the context entry again.
    is_confirmed: bool,
}

/// All functions that are blocked for a reset.
#[derive(Debug, Default)]
pub(super) struct ResetBlocks {
    functions: BTreeMap<Bdf, ResetBlock>,
    changes: u64,
}

impl ResetBlocks {
    pub(super) fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Whether `function` gets no invalidation.
    pub(super) fn covers(&self, function: Bdf) -> bool {
        self.functions.contains_key(&function)
    }

    /// Whether the unit blocks `function`.
    pub(super) fn is_blocked(&self, function: Bdf) -> bool {
        self.functions.get(&function).is_some_and(|block| block.is_confirmed)
    }

    /// How often the answer of [`Self::is_blocked`] may have changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// A reset of `function` begins: clears P in its context entry. Returns the domain under which the
    /// unit may have cached the entry; `None` if another reset of the function is not over.
    pub(super) fn begin(&mut self, function: Bdf, hw: &Hardware<'_>) -> Option<DomainId> {
        if let Some(block) = self.functions.get_mut(&function) {
            block.depth += 1;
            return None;
        }
        let (entry, domain) = clear_present(function, hw);
        let entry = entry.filter(|(_, low)| ContextLow::from_bits(*low).present());
        let block = ResetBlock { depth: 1, entry, is_confirmed: false };
        self.functions.insert(function, block);
        self.changes += 1;
        Some(domain)
    }

    /// The unit has read the context entry of `function` again. Returns whether that is new.
    pub(super) fn confirm(&mut self, function: Bdf) -> bool {
        let Some(block) = self.functions.get_mut(&function) else { return false };
        self.changes += 1;
        !std::mem::replace(&mut block.is_confirmed, true)
    }

    /// A reset of `function` is over. Returns whether it was the last one: the context entry is then
    /// restored, or left to the function's quarantine.
    pub(super) fn end(
        &mut self,
        function: Bdf,
        quarantine: &mut Quarantine,
        memory: &Memory,
    ) -> bool {
        let Some(block) = self.functions.get_mut(&function) else { return false };
        block.depth -= 1;
        if block.depth > 0 {
            return false;
        }
        self.changes += 1;
        let entry = self.functions.remove(&function).and_then(|block| block.entry);
        if let Some((address, value)) = entry
            && !quarantine.adopt(function, (address, value))
        {
            // The entry was read from there, so that the write cannot fail.
            let _ = memory.write_obj(value.to_le(), GuestAddress(address.0));
        }
        true
    }
}
