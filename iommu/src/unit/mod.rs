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
//! A unit is a state machine without a clock. Calls take the time as an argument, and outputs wait
//! in [`Unit::poll_output`]. The same type is the guest-visible unit and the physical unit below
//! it. They differ in their [`UnitConfig`], and in the caller that drains the outputs.

mod config;
mod faults;
mod interrupts;
mod observation;
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
pub use observation::Observation;
pub use preset::{ParseUnitPresetError, UnitPreset};
pub use translate::{BlockedRequest, DmaPort, Mapped, TableEntry, Translator, in_interrupt_range};
pub use values::{AddressWidths, IteLoses, LargePages, Ordering, ParseOrderingError, Version};

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

/// An action that the caller carries out for the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send this request down the link to its function.
    Invalidate(InvalidateRequest),
    /// Send this response down the link to its function.
    PageGroupResponse(PageGroupResponse),
    /// Interrupt a CPU. The unit's own events are not remapped (`VT-d 5.1.6`).
    Msi(Msi),
}

/// The registers that outlast a reset: fault records, FSTS, ICS, PRS and IQERCD. Their fields are
/// RW1CS or ROS in the specification (`VT-d 11.3`, `VT-d 11.4`). Those of a unit after power-on are
/// the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StickyRegisters(Vec<(u16, u32)>);

/// A VT-d remapping unit.
#[derive(Debug)]
pub struct Unit {
    config: UnitConfig,
    tracer: Tracer,
    registers: Registers,
    translator: Arc<Translator>,
    /// The port for requests through [`Unit::dma`].
    port: DmaPort,
    interrupts: InterruptRemapper,
    queue: Queue,
    /// The format of the root table that SRTP has latched, and the descriptors that are legal with
    /// it.
    mode: TableMode,
    rules: DecodeRules,
    /// The index of the next fault record.
    next_record: u8,
    outputs: VecDeque<Output>,
    /// What an observer has to be told, if there is one.
    record: Option<observation::Record>,
    /// There is a sink of events, or an observer.
    is_watched: bool,
}

impl Unit {
    /// The size of the unit's register page in bytes.
    pub const SIZE: u64 = 4096;

    /// A unit after power-on, which sends events to `tracer`.
    pub fn new(config: UnitConfig, tracer: Tracer) -> Self {
        let translator = Arc::new(Translator::new(config));
        let mut unit = Self {
            config,
            is_watched: tracer.is_on(),
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
            record: None,
        };
        unit.rules = unit.decode_rules();
        unit
    }

    /// The unit's name in events.
    pub fn role(&self) -> UnitRole {
        self.config.role
    }

    /// Reads registers at `offset` of the page. Software may access aligned dwords and qwords
    /// (`VT-d 11.2`); anything else reads as all ones.
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

    /// Writes registers at `offset` of the page. Software may access aligned dwords and qwords
    /// (`VT-d 11.2`); anything else is ignored. A qword is written as two dwords, the low one
    /// first.
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

    /// Acts on each one-shot bit, and on the persistent bits that differ from GSTS. Software must
    /// change one bit at a time (`VT-d 11.4.4`). Since some software does not, tables are latched
    /// before anything is enabled.
    fn global_command(&mut self, command: GlobalBits, memory: &Memory, now: Instant) {
        if command.set_root_table() {
            let root = self.registers.root_table();
            self.translator.set_root(root);
            self.mode = self.translator.mode();
            self.rules = self.decode_rules();
            if self.config.srtp_flushes {
                self.translator.invalidate_all();
            }
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
        let was_enabled = self.registers.status().translation();
        self.translator.set_enabled(command.translation());
        if was_enabled && !command.translation() && self.config.scalable_mode {
            self.translator.invalidate_all();
        }
        self.switch_interrupt_remapping(command);
        if !command.translation() && !self.interrupts.enabled() {
            self.next_record = 0;
        }
        let status = self.registers.status().with_translation(command.translation());
        self.registers.set_status(status);
    }

    /// Translates a DMA request.
    ///
    /// # Errors
    /// The completion status for the function. The fault is recorded where the specification
    /// demands it (`VT-d 7.1.3`).
    pub fn dma(
        &mut self,
        request: &DmaRequest,
        memory: &Memory,
        now: Instant,
    ) -> Result<Gpa, RequestError> {
        let address = self.port.translate(request, memory).map(|mapped| mapped.address());
        address.map_err(|blocked| self.report(blocked, now))
    }

    /// The DMA side of the unit, for devices with threads of their own. They translate through a
    /// [`DmaPort`] without the unit's lock, and pass blocked requests to [`Self::report`].
    pub fn translator(&self) -> Arc<Translator> {
        self.translator.clone()
    }

    /// Records a request that a [`DmaPort`] has blocked. Returns the completion status for the
    /// function.
    pub fn report(&mut self, blocked: BlockedRequest, now: Instant) -> RequestError {
        self.record_fault(&blocked.0, now);
        blocked.0.answer
    }

    /// Answers an ATS Translation Request (`VT-d 4.1.2`). A range without permissions means that
    /// there is no translation, and is not an error.
    ///
    /// # Errors
    /// The completion status for the function.
    pub fn translation_request(
        &mut self,
        request: &TranslationRequest,
        memory: &Memory,
        now: Instant,
    ) -> Result<Translation, RequestError> {
        let (answer, fault) = self.port.translation_request(request, memory);
        if let Some(fault) = fault {
            self.record_fault(&fault, now);
        }
        answer
    }

    /// All registers as name, offset and value, for debugging.
    pub fn dump(&self) -> Vec<(&'static str, u16, u64)> {
        let value = |layout: &registers::Layout| {
            let high = if layout.dwords == 2 { self.registers.read(layout.offset + 4) } else { 0 };
            u64::from(self.registers.read(layout.offset)) | u64::from(high) << 32
        };
        let layouts = registers::layouts(&self.config);
        layouts.iter().map(|layout| (layout.name, layout.offset, value(layout))).collect()
    }

    /// The registers that outlast a reset of the machine, unless it is a power-good reset.
    pub fn sticky_registers(&self) -> StickyRegisters {
        StickyRegisters(self.registers.sticky(&self.config))
    }

    /// Puts back what [`Self::sticky_registers`] has returned for the unit before a reset. The unit
    /// must be new, and have the same settings.
    pub fn restore_sticky_registers(&mut self, registers: &StickyRegisters) {
        self.registers.restore(&registers.0);
    }

    /// Takes the oldest output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// The offset of a legal access: an aligned dword or qword in the page.
fn register_access(offset: u64, size: usize) -> Option<u16> {
    let aligned = matches!(size, 4 | 8) && offset.is_multiple_of(size as u64);
    u16::try_from(offset).ok().filter(|offset| aligned && u64::from(*offset) < Unit::SIZE)
}

#[cfg(test)]
mod tests;
