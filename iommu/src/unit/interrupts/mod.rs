//! Interrupt remapping (`VT-d 5.1`): from a message to the interrupt for the local APICs, or a
//! fault.
//!
//! ```text
//!                IRES=0: passes
//! message -----> compatibility format: passes with CFIS=1 and EIME=0, else 0x25
//!          \---> remappable: handle (+ subhandle) --> entry cache --> source valid? --> message
//!                                                        | miss
//!                                                   table at IRTA
//! ```
//!
//! A cached entry stays until an IEC descriptor invalidates it. An entry that is not present or not
//! valid is cached with CAP.CM only. Latching another table keeps the cache unless CAP.ESIRTPS is set. The unit's own events are not remapped (`VT-d 5.1.6`).

mod cache;
mod entry;

use vm_memory::{Bytes, GuestAddress};

use cache::{Cached, EntryCache};
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

/// A blocked interrupt, with the fields of its fault record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterruptFault {
    pub(crate) requester: Option<Bdf>,
    /// The index of the entry; `None` if the request is malformed.
    pub(crate) index: Option<u16>,
    pub(crate) reason: FaultReason,
    /// FPD is set, and the reason is a qualified fault: there is no record.
    pub(crate) silenced: bool,
}

/// A fault before its requester is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failure {
    index: Option<u16>,
    reason: FaultReason,
    silenced: bool,
}

impl Failure {
    /// A fault without an entry, which is always recorded.
    const fn of_request(reason: FaultReason) -> Self {
        Self { index: None, reason, silenced: false }
    }

    /// A fault in an entry, which is always recorded.
    const fn of_entry(index: u16, reason: FaultReason) -> Self {
        Self { index: Some(index), reason, silenced: false }
    }

    /// A fault in an entry, which is recorded unless `fpd` is set.
    const fn qualified(index: u16, reason: FaultReason, fpd: bool) -> Self {
        Self { index: Some(index), reason, silenced: fpd }
    }
}

/// A decoded message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// It is delivered unchanged.
    Direct,
    /// The entry with this index is delivered.
    Entry(u16),
}

/// The remapped message or its fault, and the entry that was read from memory for it.
struct Remapped {
    message: Result<Msi, Failure>,
    read: Option<(u16, Cached)>,
}

/// The table address, the cache, and the status bits.
#[derive(Debug, Default)]
pub(super) struct InterruptRemapper {
    host_address_width: u8,
    /// IRTA at the last SIRTP.
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

    /// Executes an IEC descriptor, for the entries from an index and a number of ignored low bits,
    /// or for all.
    pub(super) fn invalidate(&mut self, scope: Option<(u16, u8)>) {
        match scope {
            None => self.cache.clear(),
            Some((first, mask)) => self.cache.invalidate(first, mask),
        }
    }

    /// Decodes a message (`VT-d 5.1.2`).
    fn decode(&self, msi: Msi) -> Result<Request, Failure> {
        if !self.enabled {
            return Ok(Request::Direct);
        }
        let address = RemappableAddress::from_bits(msi.address);
        if !address.remappable() {
            // CFIS has no effect with EIME.
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
        // The sum may have 17 bits; a fault record has 16.
        let recorded = index as u16;
        if index >= self.table.entries() {
            return Err(Failure::of_entry(recorded, FaultReason::IR_INDEX_BEYOND_TABLE));
        }
        Ok(Request::Entry(recorded))
    }

    /// Reads the entry `index` from memory.
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

    /// Remaps a message without any effect.
    fn look_up(&self, requester: Option<Bdf>, msi: Msi, memory: &Memory) -> Remapped {
        let index = match self.decode(msi) {
            Ok(Request::Entry(index)) => index,
            Ok(Request::Direct) => return Remapped { message: Ok(msi), read: None },
            Err(failure) => return Remapped { message: Err(failure), read: None },
        };
        let (entry, read) = match self.cache.lookup(index) {
            Some(entry) => (entry, None),
            None => {
                let entry = self.read(index, memory);
                (entry, Some((index, entry)))
            }
        };
        let message = entry.and_then(|entry| match entry.takes(requester) {
            true => Ok(entry.message),
            false => {
                let reason = FaultReason::IR_SOURCE_MISMATCH;
                Err(Failure::qualified(index, reason, entry.fault_disable))
            }
        });
        Remapped { message, read }
    }
}

impl Unit {
    /// GCMD.SIRTP: latches IRTA. The cache is kept unless CAP.ESIRTPS is set (`VT-d 6.7`).
    pub(super) fn set_interrupt_table(&mut self) {
        if self.config.interrupt_remapping {
            self.interrupts.table = self.registers.interrupt_table();
            if self.config.sirtp_flushes {
                self.interrupts.invalidate(None);
            }
            self.registers.set_status(self.registers.status().with_set_interrupt_table(true));
        }
    }

    /// Sets the persistent bits IRE and CFI of GCMD.
    pub(super) fn switch_interrupt_remapping(&mut self, command: GlobalBits) {
        if self.config.interrupt_remapping {
            let disabled = self.interrupts.enabled && !command.interrupt_remapping();
            if disabled && self.config.sirtp_flushes {
                self.interrupts.invalidate(None);
            }
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

    /// Remaps a message to 0xfeexxxxx. `requester` is its sender; an I/O APIC without requester id
    /// is `None`, and is not validated.
    ///
    /// The result has bits 31:8 of a 32-bit destination in bits 63:40 of the address, as in
    /// FEUADDR.
    ///
    /// # Errors
    /// The reason for which the interrupt is blocked (`VT-d 5.1.4.1`). The fault is recorded
    /// already, if it must be. The message is posted, so that its sender learns nothing.
    pub fn remap_interrupt(
        &mut self,
        requester: Option<Bdf>,
        msi: Msi,
        memory: &Memory,
        now: Instant,
    ) -> Result<Msi, FaultReason> {
        let Remapped { message, read } = self.interrupts.look_up(requester, msi, memory);
        if let Some((index, entry)) = read
            && (entry.is_ok() || self.config.caching_mode)
        {
            self.interrupts.cache.insert(index, entry);
        }
        message.map_err(|Failure { index, reason, silenced }| {
            let fault = InterruptFault { requester, index, reason, silenced };
            self.record_interrupt_fault(&fault, now);
            reason
        })
    }

    /// The result of [`Self::remap_interrupt`] at this moment, without any effect; `None` if the
    /// message would be blocked. The I/O APIC uses it to learn the vector of a wire before it is
    /// raised.
    pub fn preview_interrupt(
        &self,
        requester: Option<Bdf>,
        msi: Msi,
        memory: &Memory,
    ) -> Option<Msi> {
        self.interrupts.look_up(requester, msi, memory).message.ok()
    }

    /// Refuses an untranslated request without PASID to 0xfeexxxxx that is not an interrupt: a
    /// read, or a write of anything but an aligned dword. With interrupt remapping enabled it
    /// records fault 0x29.
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
