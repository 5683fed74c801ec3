//! Interrupt remapping (`VT-d 5.1`): from a message to the interrupt that it stands for, or a fault.
//!
//! ```text
//!                IRES=0: passes
//! message -----> compatibility format: passes with CFIS=1 and EIME=0, else 0x25
//!          \---> remappable: handle (+ subhandle) --> entry cache --> source valid? --> message
//!                                                        | miss
//!                                                   table at IRTA
//! ```
//!
//! An entry that has been used stays as it was until an IEC descriptor names it. What is not
//! present or not as it must be is never kept (CAP.CM is 0), and latching another table keeps the
//! cache (CAP.ESIRTPS is 0). The unit's own events do not come this way (`VT-d 5.1.6`).

mod cache;
mod entry;

use vm_memory::{Bytes, GuestAddress};

use cache::EntryCache;
use entry::Entry;

use super::Unit;
use super::config::UnitConfig;
use crate::Memory;
use crate::ats::{Msi, RequestError};
use crate::ids::{Bdf, PAGE_SIZE};
use crate::spec::control::GlobalBits;
use crate::spec::fault::FaultReason;
use crate::spec::interrupt::{InterruptTableAddress, Irte, RemappableAddress, RemappableData};
use crate::time::Instant;

/// Why an interrupt was blocked, and all that a fault record says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterruptFault {
    pub(crate) requester: Option<Bdf>,
    /// Which entry, where the request got as far as naming one.
    pub(crate) index: Option<u16>,
    pub(crate) reason: FaultReason,
    /// The entry asks for no record (FPD), and the reason allows that.
    pub(crate) silenced: bool,
}

/// A failure, before it is known who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failure {
    index: Option<u16>,
    reason: FaultReason,
    silenced: bool,
}

impl Failure {
    /// Recorded always; the request names no entry.
    const fn of_request(reason: FaultReason) -> Self {
        Self { index: None, reason, silenced: false }
    }

    /// Recorded always.
    const fn of_entry(index: u16, reason: FaultReason) -> Self {
        Self { index: Some(index), reason, silenced: false }
    }

    /// Recorded unless `fpd`.
    const fn qualified(index: u16, reason: FaultReason, fpd: bool) -> Self {
        Self { index: Some(index), reason, silenced: fpd }
    }
}

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// To be delivered as it is.
    Direct,
    /// To be delivered as this entry says.
    Entry(u16),
}

/// What a message is turned into, and the entry that had to be read for it.
struct Remapped {
    message: Msi,
    read: Option<(u16, Entry)>,
}

/// The table that messages are looked up in, and the cache of what was found.
#[derive(Debug, Default)]
pub(super) struct InterruptRemapper {
    host_address_width: u8,
    /// IRTA as it was latched.
    table: InterruptTableAddress,
    /// GSTS.IRES.
    enabled: bool,
    /// GSTS.CFIS.
    compatibility: bool,
    cache: EntryCache,
}

impl InterruptRemapper {
    pub(super) fn new(config: &UnitConfig) -> Self {
        Self { host_address_width: config.host_address_width, ..Self::default() }
    }

    pub(super) fn enabled(&self) -> bool {
        self.enabled
    }

    /// An IEC descriptor: nothing for all entries, or the first one and how many low bits of the
    /// index do not count.
    pub(super) fn invalidate(&mut self, scope: Option<(u16, u8)>) {
        match scope {
            None => self.cache.clear(),
            Some((first, mask)) => self.cache.invalidate(first, mask),
        }
    }

    /// Which entry a message names (`VT-d 5.1.2`).
    fn decode(&self, msi: Msi) -> Result<Request, Failure> {
        if !self.enabled {
            return Ok(Request::Direct);
        }
        let address = RemappableAddress::from_bits(msi.address);
        if !address.remappable() {
            // CFIS has no meaning with EIME: 8-bit destinations are a thing of the past then.
            let passes = self.compatibility && !self.table.extended();
            let blocked = Failure::of_request(FaultReason::IR_COMPATIBILITY_BLOCKED);
            return if passes { Ok(Request::Direct) } else { Err(blocked) };
        }
        let mut index = u32::from(address.handle());
        if address.subhandle_valid() {
            let data = RemappableData::from_bits(msi.data);
            if data.reserved() != 0 {
                return Err(Failure::of_request(FaultReason::IR_REQUEST_RESERVED));
            }
            index += u32::from(data.subhandle());
        }
        // The sum can be wider than a record's field for it.
        let recorded = index as u16;
        if index >= self.table.entries() {
            return Err(Failure::of_entry(recorded, FaultReason::IR_INDEX_BEYOND_TABLE));
        }
        Ok(Request::Entry(recorded))
    }

    /// The entry `index` of the table, as memory has it.
    fn read(&self, index: u16, memory: &Memory) -> Result<Entry, Failure> {
        let address = self.table.page() * PAGE_SIZE + u64::from(index) * size_of::<Irte>() as u64;
        if address >> self.host_address_width != 0 {
            return Err(Failure::of_entry(index, FaultReason::IR_INDEX_BEYOND_TABLE));
        }
        let raw: u128 = memory
            .read_obj(GuestAddress(address))
            .map_err(|_| Failure::of_entry(index, FaultReason::IR_ENTRY_INACCESSIBLE))?;
        let irte = Irte::from_bits(u128::from_le(raw));
        let qualified = |reason| Failure::qualified(index, reason, irte.fault_disable());
        if !irte.present() {
            return Err(qualified(FaultReason::IR_ENTRY_NOT_PRESENT));
        }
        Entry::decode(irte, self.table.extended()).map_err(qualified)
    }

    /// What a message is turned into. Has no effect.
    fn look_up(
        &self,
        requester: Option<Bdf>,
        msi: Msi,
        memory: &Memory,
    ) -> Result<Remapped, Failure> {
        let Request::Entry(index) = self.decode(msi)? else {
            return Ok(Remapped { message: msi, read: None });
        };
        let (entry, read) = match self.cache.lookup(index) {
            Some(entry) => (entry, None),
            None => {
                let entry = self.read(index, memory)?;
                (entry, Some((index, entry)))
            }
        };
        if !entry.takes(requester) {
            let reason = FaultReason::IR_SOURCE_MISMATCH;
            return Err(Failure::qualified(index, reason, entry.fault_disable));
        }
        Ok(Remapped { message: entry.message, read })
    }
}

impl Unit {
    /// GCMD.SIRTP: the table is where IRTA says from now on. What the cache holds stays
    /// (CAP.ESIRTPS is 0).
    pub(super) fn set_interrupt_table(&mut self) {
        if self.config.interrupt_remapping {
            self.interrupts.table = self.registers.interrupt_table();
            self.registers.set_status(self.registers.status().with_set_interrupt_table(true));
        }
    }

    /// GCMD.IRE and GCMD.CFI, persistent bits both.
    pub(super) fn switch_interrupt_remapping(&mut self, command: GlobalBits) {
        if self.config.interrupt_remapping {
            self.interrupts.enabled = command.interrupt_remapping();
            self.interrupts.compatibility = command.compatibility_interrupts();
            let status = self.registers.status();
            self.registers.set_status(
                status
                    .with_interrupt_remapping(self.interrupts.enabled)
                    .with_compatibility_interrupts(self.interrupts.compatibility),
            );
        }
    }

    /// What a message to 0xfeexxxxx delivers to the local APICs. `requester` is who sent it; `None`
    /// is an I/O APIC that has no requester id, of which the source is not validated.
    ///
    /// A 32-bit destination has its bits 31:8 in bits 63:40 of the address, as in FEUADDR.
    ///
    /// # Errors
    /// Why the interrupt is blocked (`VT-d 5.1.4.1`). By then the fault has been recorded, where it
    /// has to be; a message is posted, so that its sender hears nothing.
    pub fn remap_interrupt(
        &mut self,
        requester: Option<Bdf>,
        msi: Msi,
        memory: &Memory,
        now: Instant,
    ) -> Result<Msi, FaultReason> {
        match self.interrupts.look_up(requester, msi, memory) {
            Ok(Remapped { message, read }) => {
                if let Some((index, entry)) = read {
                    self.interrupts.cache.insert(index, entry);
                }
                Ok(message)
            }
            Err(Failure { index, reason, silenced }) => {
                let fault = InterruptFault { requester, index, reason, silenced };
                self.record_interrupt_fault(&fault, now);
                Err(reason)
            }
        }
    }

    /// What [`Self::remap_interrupt`] would return at this moment, without any effect: for who must
    /// know in advance which vector will be ended. `None` for a message that would be blocked.
    pub fn preview_interrupt(
        &self,
        requester: Option<Bdf>,
        msi: Msi,
        memory: &Memory,
    ) -> Option<Msi> {
        self.interrupts.look_up(requester, msi, memory).ok().map(|remapped| remapped.message)
    }

    /// Refuses a request to 0xfeexxxxx that is untranslated and without PASID and yet is no
    /// interrupt: a read, or a write of anything but an aligned dword. With interrupt remapping on
    /// that is a fault (0x29).
    pub fn refuse_in_interrupt_range(&mut self, requester: Bdf, now: Instant) -> RequestError {
        if self.interrupts.enabled {
            let fault = InterruptFault {
                requester: Some(requester),
                index: None,
                reason: FaultReason::IR_MALFORMED,
                silenced: false,
            };
            self.record_interrupt_fault(&fault, now);
        }
        RequestError::UnsupportedRequest
    }
}
