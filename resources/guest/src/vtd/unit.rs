//! The register block and its handshakes.

use crate::machine::apic;
use crate::machine::mmio::Mmio;
use crate::machine::time::{Ticks, poll};
use crate::vtd::queue::Queue;
use crate::vtd::registers::{self as reg, Capability, ExtendedCapability};

/// The address of the unit, here and in QEMU's q35.
const BASE: u64 = 0xfed9_0000;
const SIZE: u64 = 0x1000;

/// A remapping unit.
#[derive(Clone, Copy)]
pub struct Unit {
    registers: Mmio,
}

impl Unit {
    /// The unit, if one answers and has an invalidation queue.
    pub fn find() -> Option<Self> {
        let unit = Self { registers: Mmio::new(BASE, SIZE)? };
        let answers = unit.capability().0 != u64::MAX && unit.capability().0 != 0;
        (answers && unit.extended_capability().has_queue()).then_some(unit)
    }

    /// Its registers.
    pub fn registers(self) -> Mmio {
        self.registers
    }

    /// The value of CAP.
    pub fn capability(self) -> Capability {
        Capability(self.registers.read64(reg::CAP))
    }

    /// The value of ECAP.
    pub fn extended_capability(self) -> ExtendedCapability {
        ExtendedCapability(self.registers.read64(reg::ECAP))
    }

    /// Levels of the second-stage tables: four if the unit supports them, else three.
    pub fn table_levels(self) -> u8 {
        if self.capability().has_levels(4) { 4 } else { 3 }
    }

    /// Sets or clears `bit` in GCMD, keeps all other bits, and waits until GSTS follows.
    pub fn command(self, bit: u32, on: bool) -> Result<(), &'static str> {
        let kept = self.registers.read32(reg::GSTS) & reg::PERSISTENT;
        let value = if on { kept | bit } else { kept & !bit };
        self.registers.write32(reg::GCMD, value);
        let follows = || (self.registers.read32(reg::GSTS) & bit != 0) == on;
        if poll(Ticks::from_ms(1000), follows) { Ok(()) } else { Err("GSTS does not follow GCMD") }
    }

    /// Latches a root table: its address and, in bits 11:10, the translation table mode.
    pub fn set_root(self, root: u64) -> Result<(), &'static str> {
        self.registers.write64(reg::RTADDR, root);
        self.command(reg::ROOT_POINTER, true)
    }

    /// Turns the queue on.
    pub fn enable_queue(self, queue: &Queue) -> Result<(), &'static str> {
        self.registers.write64(reg::IQT, 0);
        self.registers.write64(reg::IQA, queue.address_register());
        self.command(reg::QUEUED_INVALIDATION, true)
    }

    /// Turns translation on or off.
    pub fn translate(self, on: bool) -> Result<(), &'static str> {
        self.command(reg::TRANSLATION, on)
    }

    /// Turns everything off, clears errors, and masks event interrupts, as after a reset.
    pub fn shut_down(self) -> Result<(), &'static str> {
        self.translate(false)?;
        self.pass_interrupts()?;
        // With an error set, the queue would never run empty.
        let errors = reg::QUEUE_ERROR | reg::COMPLETION_ERROR | reg::TIME_OUT_ERROR;
        self.registers.write32(reg::FSTS, errors);
        self.command(reg::QUEUED_INVALIDATION, false)?;
        self.registers.write32(reg::FECTL, reg::EVENT_MASKED);
        self.registers.write32(reg::IECTL, reg::EVENT_MASKED);
        self.registers.write32(reg::ICS, reg::WAIT_COMPLETED);
        if self.extended_capability().has_page_requests() {
            self.registers.write32(reg::PECTL, reg::EVENT_MASKED);
            let status = reg::PAGE_REQUEST_PENDING | reg::PAGE_REQUEST_OVERFLOW;
            self.registers.write32(reg::PRS, status);
        }
        self.clear_faults();
        Ok(())
    }

    /// Sends fault events to this processor.
    pub fn enable_fault_event(self, vector: u8) {
        let (address, data) = apic::message(vector);
        self.registers.write32(reg::FEDATA, data);
        self.registers.write32(reg::FEADDR, address);
        self.registers.write32(reg::FEUADDR, 0);
        self.registers.write32(reg::FECTL, 0);
    }

    /// Sends page request events to this processor.
    pub fn enable_page_request_event(self, vector: u8) {
        let (address, data) = apic::message(vector);
        self.registers.write32(reg::PEDATA, data);
        self.registers.write32(reg::PEADDR, address);
        self.registers.write32(reg::PEUADDR, 0);
        self.registers.write32(reg::PECTL, 0);
    }

    /// Sends invalidation completion events to this processor.
    pub fn enable_wait_event(self, vector: u8) {
        let (address, data) = apic::message(vector);
        self.registers.write32(reg::IEDATA, data);
        self.registers.write32(reg::IEADDR, address);
        self.registers.write32(reg::IEUADDR, 0);
        self.registers.write32(reg::IECTL, 0);
    }
}
