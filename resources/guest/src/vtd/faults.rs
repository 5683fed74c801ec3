//! Primary fault records (VT-d 7.2.1).

use crate::vtd::registers as reg;
use crate::vtd::unit::Unit;

/// A fault that the unit recorded.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Requester id.
    pub source: u16,
    /// Reason code.
    pub reason: u8,
    /// Page address.
    pub address: u64,
}

impl Fault {
    /// The entry of the interrupt remapping table, if the fault is about an interrupt.
    pub fn interrupt_index(&self) -> u64 {
        self.address >> 48
    }
}

const RECORD_BYTES: u64 = 16;
const FAULT: u32 = 1 << 31;

impl Unit {
    /// Takes the oldest record, if there is one, and clears it.
    pub fn take_fault(self) -> Option<Fault> {
        let registers = self.registers();
        let status = registers.read32(reg::FSTS);
        if status & reg::FAULT_PENDING == 0 {
            return None;
        }
        let index = u64::from(status >> 8 & 0xff);
        let record = self.capability().fault_record_offset() + index * RECORD_BYTES;
        let top = registers.read32(record + 12);
        let source = registers.read32(record + 8);
        let address = registers.read64(record);
        registers.write32(record + 12, FAULT);
        Some(Fault { source: source as u16, reason: top as u8, address: address & !0xfff })
    }

    /// Clears every record, and the overflow bit.
    pub fn clear_faults(self) {
        let registers = self.registers();
        let capability = self.capability();
        if registers.read32(reg::FSTS) & (reg::FAULT_PENDING | reg::FAULT_OVERFLOW) == 0 {
            return;
        }
        for index in 0..capability.fault_records() {
            let record = capability.fault_record_offset() + index * RECORD_BYTES;
            registers.write32(record + 12, FAULT);
        }
        registers.write32(reg::FSTS, reg::FAULT_OVERFLOW);
    }
}
