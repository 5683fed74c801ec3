//! The walk through second-stage tables (`VT-d 3.7`, `VT-d 9.8`).

use vm_memory::{Bytes, GuestAddress};

use super::super::config::UnitConfig;
use super::context::Context;
use super::{Failure, Mapping, Reason, with_offset};
use crate::Memory;
use crate::ats::RequestError;
use crate::ids::{Gpa, Iova, PAGE_SIZE};
use crate::spec::tables::SecondStageEntry;

const CA: RequestError = RequestError::CompleterAbort;

/// Address bits of an entry that no physical address has: 51 down to the host address width.
const BEYOND_HOST: u64 = ((1 << 52) - 1) & !((1 << UnitConfig::HOST_ADDRESS_WIDTH) - 1);

/// A walk about to begin.
pub(super) struct Walk<'a> {
    pub(super) root: Gpa,
    /// 3, 4 or 5.
    pub(super) levels: u8,
    pub(super) context: &'a Context,
}

impl Walk<'_> {
    /// Follows `address` down to the page that maps it.
    pub(super) fn run(&self, address: Iova, memory: &Memory) -> Result<Mapping, Failure> {
        let fpd = self.context.fault_disable;
        let fail = |reason| Failure::qualified(self.context.reason(reason), CA, fpd);
        if address.0 >> (12 + 9 * u32::from(self.levels)) != 0 {
            let reason = self.context.reason(Reason::BeyondWidth);
            return Err(Failure::recoverable(reason, fpd));
        }
        let (mut table, mut read, mut write) = (self.root.0, true, true);
        let mut level = self.levels;
        loop {
            let order = 12 + 9 * (level - 1);
            let slot = table + ((address.0 >> order) & 0x1ff) * 8;
            let bits = memory.read_obj::<u64>(GuestAddress(slot)).map_err(|_| {
                fail(if level == self.levels {
                    Reason::RootInaccessible
                } else {
                    Reason::TableInaccessible
                })
            })?;
            let entry = SecondStageEntry::from_bits(u64::from_le(bits));
            (read, write) = (read && entry.read(), write && entry.write());
            if !entry.read() && !entry.write() {
                return Ok(Mapping { output: Gpa(0), order: 12, read: false, write: false });
            }
            let leaf = level == 1 || (entry.large() && level <= 3);
            if self.has_reserved_bits(entry, level, leaf) {
                return Err(fail(Reason::TableReserved));
            }
            if leaf {
                let output = with_offset(entry.page() * PAGE_SIZE, address, order);
                return Ok(Mapping { output, order, read, write });
            }
            table = entry.page() * PAGE_SIZE;
            level -= 1;
        }
    }

    fn has_reserved_bits(&self, entry: SecondStageEntry, level: u8, leaf: bool) -> bool {
        // Bits between 12 and the page's order are the address's lower bits, and zero.
        let below_page = if leaf { (1 << (9 * (level - 1))) - 1 } else { 0 };
        entry.into_bits() & BEYOND_HOST != 0
            || entry.transient()
            || entry.snoop()
            || (level > 3 && entry.large())
            || entry.page() & below_page != 0
    }
}
