//! The remapping unit: registers in front, queue and tables behind.
//!
//! ```text
//!  read/write --> registers --> GCMD: tables and queue on and off
//!                           --> IQT:  queue ------> Output::Invalidate --> link
//!                           --> FSTS: resume   <--- handle_completion / time_out / handle_timeout
//!  dma, translation_request --> translate ----> address, or a fault record
//!  remap_interrupt ---------> interrupts ---> message to the local APICs, or a fault record
//!                               faults -------> Output::Msi
//! ```
//!
//! A unit is a state machine without a clock: every call that needs the time gets it, and what the
//! unit wants sent waits in [`Unit::poll_output`]. The same type is the unit that a guest programs
//! and the physical one below it; they differ in their [`UnitConfig`] and in who drains the outputs.

mod config;
mod faults;
mod interrupts;
mod outstanding;
mod queue;
mod registers;
mod translate;

use std::collections::VecDeque;

pub use config::{
    AddressWidths, LargePages, Ordering, ParseOrderingError, UnitConfig, UnitConfigError,
};
pub use translate::in_interrupt_range;

use interrupts::InterruptRemapper;
use queue::Queue;
use registers::Registers;
use translate::Translator;

use crate::Memory;
use crate::ats::{
    DmaRequest, InvalidateRequest, Msi, RequestError, Translation, TranslationRequest,
};
use crate::event::{Tracer, UnitRole};
use crate::ids::Gpa;
use crate::spec::control::GlobalBits;
use crate::spec::offset;
use crate::time::Instant;

/// What a unit wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send this down the link to its function.
    Invalidate(InvalidateRequest),
    /// Interrupt a CPU. The unit's own events are never remapped (`VT-d 5.1.6`).
    Msi(Msi),
}

/// A VT-d remapping unit.
#[derive(Debug)]
pub struct Unit {
    config: UnitConfig,
    tracer: Tracer,
    registers: Registers,
    translator: Translator,
    interrupts: InterruptRemapper,
    queue: Queue,
    /// The fault record that is written next.
    next_record: u8,
    outputs: VecDeque<Output>,
}

impl Unit {
    /// Bytes of the unit's page.
    pub const SIZE: u64 = 4096;

    /// A unit after power-on. Events go to `tracer`.
    pub fn new(config: UnitConfig, tracer: Tracer) -> Self {
        Self {
            config,
            tracer,
            registers: Registers::new(&config),
            translator: Translator::new(config),
            interrupts: InterruptRemapper::new(&config),
            queue: Queue::default(),
            next_record: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Its name in events.
    pub fn role(&self) -> UnitRole {
        self.config.role
    }

    /// Software reads `data.len()` bytes at `offset` of the page: aligned dwords and qwords
    /// (`VT-d 11.2`). Anything else reads as all ones.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        match register_access(offset, data.len()) {
            Some(offset) => {
                for (dword, at) in data.chunks_exact_mut(4).zip((offset..).step_by(4)) {
                    dword.copy_from_slice(&self.registers.read(at).to_le_bytes());
                }
            }
            None => data.fill(0xff),
        }
    }

    /// Software writes `data` at `offset` of the page: aligned dwords and qwords, a qword as two
    /// dwords, low one first (`VT-d 11.2`). Anything else is ignored.
    pub fn write(&mut self, offset: u64, data: &[u8], memory: &Memory, now: Instant) {
        let Some(offset) = register_access(offset, data.len()) else { return };
        for (dword, at) in data.chunks_exact(4).zip((offset..).step_by(4)) {
            let value = u32::from_le_bytes([dword[0], dword[1], dword[2], dword[3]]);
            self.write_dword(at, value, memory, now);
        }
    }

    fn write_dword(&mut self, at: u16, value: u32, memory: &Memory, now: Instant) {
        const CCMD_HIGH: u16 = offset::CCMD + 4;
        const IOTLB_HIGH: u16 = offset::IOTLB + 4;
        self.registers.write(at, value);
        match at {
            offset::GCMD => self.global_command(GlobalBits::from_bits(value), memory, now),
            CCMD_HIGH => self.context_command(),
            IOTLB_HIGH => self.iotlb_command(),
            offset::FSTS => {
                self.fault_status_written();
                self.run_queue(memory, now);
            }
            offset::FRCD.. => self.fault_status_written(),
            offset::FECTL | offset::IECTL => self.event_control_written(at),
            offset::ICS => self.completion_status_written(),
            offset::IQT => self.run_queue(memory, now),
            _ => {}
        }
    }

    /// Acts on the difference between the persistent bits and GSTS, and on each one-shot bit.
    /// Software is told not to change several at once but does; tables are therefore latched
    /// before anything is switched on (`VT-d 11.4.4`).
    fn global_command(&mut self, command: GlobalBits, memory: &Memory, now: Instant) {
        if command.set_root_table() {
            self.translator.set_root(self.registers.root_table());
            self.registers.set_status(self.registers.status().with_set_root_table(true));
        }
        if command.set_interrupt_table() {
            self.set_interrupt_table();
        }
        if command.queued_invalidation() {
            self.enable_queue(memory, now);
        } else {
            self.disable_queue();
        }
        self.translator.set_enabled(command.translation());
        self.switch_interrupt_remapping(command);
        if !command.translation() && !self.interrupts.enabled() {
            self.next_record = 0;
        }
        let status = self.registers.status().with_translation(command.translation());
        self.registers.set_status(status);
    }

    /// Where a DMA request goes in memory. An error is answered to the function, and recorded
    /// where the specification says so (`VT-d 7.1.3`).
    pub fn dma(
        &mut self,
        request: &DmaRequest,
        memory: &Memory,
        now: Instant,
    ) -> Result<Gpa, RequestError> {
        self.translator.dma(request, memory).map_err(|fault| {
            self.record_fault(&fault, now);
            fault.answer
        })
    }

    /// What an ATS Translation Request is answered (`VT-d 4.1.2`). A range without permissions is
    /// no error: it says that there is no translation.
    pub fn translation_request(
        &mut self,
        request: &TranslationRequest,
        memory: &Memory,
        now: Instant,
    ) -> Result<Translation, RequestError> {
        self.translator.translation_request(request, memory).map_err(|(answer, fault)| {
            if let Some(fault) = fault {
                self.record_fault(&fault, now);
            }
            answer
        })
    }

    /// All registers as name, offset and value, for people who look into a unit.
    pub fn dump(&self) -> Vec<(&'static str, u16, u64)> {
        let value = |layout: &registers::Layout| {
            let high = if layout.dwords == 2 { self.registers.read(layout.offset + 4) } else { 0 };
            u64::from(self.registers.read(layout.offset)) | u64::from(high) << 32
        };
        let layouts = registers::layouts(&self.config);
        layouts.iter().map(|layout| (layout.name, layout.offset, value(layout))).collect()
    }

    /// Takes the oldest thing that the unit wants done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// The offset of an access that the registers answer: an aligned dword or qword inside the page.
fn register_access(offset: u64, size: usize) -> Option<u16> {
    let aligned = matches!(size, 4 | 8) && offset.is_multiple_of(size as u64);
    u16::try_from(offset).ok().filter(|offset| aligned && u64::from(*offset) < Unit::SIZE)
}

#[cfg(test)]
mod tests;
