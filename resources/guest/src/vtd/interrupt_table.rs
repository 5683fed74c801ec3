//! The interrupt remapping table (VT-d 5.1.3), and messages in remappable format.

use crate::machine::apic;
use crate::machine::memory::Pages;
use crate::pci::Bdf;
use crate::vtd::bring_up::healthy_limit;
use crate::vtd::registers as reg;
use crate::vtd::{Descriptor, Queue, Unit};

/// S in IRTA: 2^(7+1) entries of 16 bytes, one page.
const SIZE: u64 = 7;

const EXTENDED: u64 = 1 << 11;

const PRESENT: u64 = 1 << 0;
const LEVEL: u64 = 1 << 4;
const VECTOR_SHIFT: u32 = 16;
const VALIDATE_BY_ID: u64 = 1 << 18;

/// The requester id of the I/O APIC, here and in QEMU's q35. The DMAR table has it.
pub const IO_APIC: Bdf = Bdf::new(0xff, 0);

/// The bits of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destinations {
    /// 8 bits, in the second byte of the field.
    Narrow,
    /// 32 bits, with EIME set in IRTA.
    Wide,
}

/// The trigger mode of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Edge: no EOI is needed at the I/O APIC.
    Edge,
    /// Level: an EOI ends the interrupt at the I/O APIC.
    Level,
}

/// A table of 256 entries, none of them present at first.
pub struct InterruptTable {
    entries: Pages,
    destinations: Destinations,
}

impl InterruptTable {
    /// An empty table.
    pub fn new(destinations: Destinations) -> Self {
        Self { entries: Pages::one(), destinations }
    }

    /// The value of IRTA.
    pub fn address_register(&self) -> u64 {
        let extended = if self.destinations == Destinations::Wide { EXTENDED } else { 0 };
        self.entries.address() | extended | SIZE
    }

    /// Makes entry `index` deliver interrupts of `source` alone, to this processor as `vector`.
    pub fn set(&self, index: u8, source: Bdf, vector: u8, trigger: Trigger) {
        let word = 2 * usize::from(index);
        let shift = if self.destinations == Destinations::Wide { 32 } else { 40 };
        let level = if trigger == Trigger::Level { LEVEL } else { 0 };
        let destination = u64::from(apic::id()) << shift;
        self.entries.write(word + 1, VALIDATE_BY_ID | u64::from(source.0));
        let vector = u64::from(vector) << VECTOR_SHIFT;
        self.entries.write(word, PRESENT | level | vector | destination);
    }
}

/// The message for entry `index` in Linux's form: the handle of entry 0, and a subhandle.
pub fn message(index: u8) -> (u32, u32) {
    const REMAPPABLE: u32 = 0xfee0_0000 | 1 << 4;
    const SUBHANDLE_VALID: u32 = 1 << 3;
    const HANDLE_SHIFT: u32 = 5;
    (REMAPPABLE | SUBHANDLE_VALID | u32::from(index) << HANDLE_SHIFT, 0)
}

impl Unit {
    /// Turns interrupt remapping on, with an empty cache.
    pub fn remap_interrupts(
        self,
        table: &InterruptTable,
        queue: &Queue,
    ) -> Result<(), &'static str> {
        self.registers().write64(reg::IRTA, table.address_register());
        self.command(reg::INTERRUPT_POINTER, true)?;
        let flush = queue.flush(&[Descriptor::all_interrupt_entries()], healthy_limit());
        if !flush.is_healthy() {
            return Err("the interrupt entry cache cannot be flushed");
        }
        self.command(reg::INTERRUPT_REMAPPING, true)
    }

    /// Turns interrupt remapping off: messages are not remapped.
    pub fn pass_interrupts(self) -> Result<(), &'static str> {
        self.command(reg::INTERRUPT_REMAPPING, false)
    }
}
