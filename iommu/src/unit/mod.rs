//! The remapping unit: registers in front, queue and tables behind.
//!
//! ```text
//!  read/write --> registers --> GCMD: tables and queue on and off
//!                           --> IQT:  queue ------> Output::Invalidate --> link
//!                           --> FSTS: resume   <--- handle_completion / time_out / handle_timeout
//!  dma, translation_request --> translate ----> address, or a fault record
//!  page requests --> page_requests ----> ring in memory, Output::PageGroupResponse
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
mod page_requests;
mod preset;
mod queue;
mod register_invalidation;
mod registers;
mod translate;
mod values;

use std::collections::VecDeque;
use std::sync::Arc;

pub use config::{UnitConfig, UnitConfigError};
pub use preset::{ParseUnitPresetError, UnitPreset};
pub use translate::{BlockedRequest, DmaPort, Mapped, Translator, in_interrupt_range};
pub use values::{AddressWidths, LargePages, Ordering, ParseOrderingError};

use interrupts::InterruptRemapper;
use queue::Queue;
use registers::Registers;

use crate::Memory;
use crate::ats::{
    DmaRequest, InvalidateRequest, Msi, PageGroupResponse, RequestError, Translation,
    TranslationRequest,
};
use crate::event::{Tracer, UnitRole};
use crate::ids::Gpa;
use crate::spec::control::{GlobalBits, TableMode};
use crate::spec::descriptor::DecodeRules;
use crate::spec::offset;
use crate::time::Instant;

/// What a unit wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send this down the link to its function.
    Invalidate(InvalidateRequest),
    /// Send this down the link to its function.
    PageGroupResponse(PageGroupResponse),
    /// Interrupt a CPU. The unit's own events are never remapped (`VT-d 5.1.6`).
    Msi(Msi),
}

/// A VT-d remapping unit.
#[derive(Debug)]
pub struct Unit {
    config: UnitConfig,
    tracer: Tracer,
    registers: Registers,
    translator: Arc<Translator>,
    /// The way of requests that come by [`Unit::dma`].
    port: DmaPort,
    interrupts: InterruptRemapper,
    queue: Queue,
    /// How the root table that SRTP has latched is to be read, and what descriptors are legal then.
    mode: TableMode,
    rules: DecodeRules,
    /// The fault record that is written next.
    next_record: u8,
    outputs: VecDeque<Output>,
}

impl Unit {
    /// Bytes of the unit's page.
    pub const SIZE: u64 = 4096;

    /// A unit after power-on. Events go to `tracer`.
    pub fn new(config: UnitConfig, tracer: Tracer) -> Self {
        let translator = Arc::new(Translator::new(config));
        let mut unit = Self {
            config,
            tracer,
            registers: Registers::new(&config),
            port: translator.port(),
            translator,
            interrupts: InterruptRemapper::new(&config),
            queue: Queue::default(),
            mode: TableMode::Legacy,
            rules: DecodeRules::default(),
            next_record: 0,
            outputs: VecDeque::new(),
        };
        unit.rules = unit.decode_rules();
        unit
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
        let (dwords, _) = data.as_chunks();
        for (index, dword) in (0..).zip(dwords) {
            self.write_dword(offset + 4 * index, u32::from_le_bytes(*dword), memory, now);
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
            offset::FECTL | offset::IECTL | offset::PECTL => self.event_control_written(at),
            offset::ICS => self.completion_status_written(),
            offset::PRS => self.page_request_status_written(),
            offset::IQT => self.run_queue(memory, now),
            _ => {}
        }
    }

    /// Acts on the difference between the persistent bits and GSTS, and on each one-shot bit.
    /// Software is told not to change several at once but does; tables are therefore latched
    /// before anything is switched on (`VT-d 11.4.4`).
    fn global_command(&mut self, command: GlobalBits, memory: &Memory, now: Instant) {
        if command.set_root_table() {
            let root = self.registers.root_table();
            self.translator.set_root(root);
            self.mode = self.translator.mode();
            self.rules = self.decode_rules();
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
        let address = self.port.translate(request, memory).map(|mapped| mapped.address());
        address.map_err(|blocked| self.report(blocked, now))
    }

    /// The DMA side, for devices with threads of their own: they translate by a [`DmaPort`] without
    /// the unit's lock, and [`Self::report`] what was blocked.
    pub fn translator(&self) -> Arc<Translator> {
        self.translator.clone()
    }

    /// Records a request that a [`DmaPort`] has blocked, and says how it is answered.
    pub fn report(&mut self, blocked: BlockedRequest, now: Instant) -> RequestError {
        self.record_fault(&blocked.0, now);
        blocked.0.answer
    }

    /// What an ATS Translation Request is answered (`VT-d 4.1.2`). A range without permissions is
    /// no error: it says that there is no translation.
    pub fn translation_request(
        &mut self,
        request: &TranslationRequest,
        memory: &Memory,
        now: Instant,
    ) -> Result<Translation, RequestError> {
        self.port.translation_request(request, memory).map_err(|(answer, fault)| {
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
