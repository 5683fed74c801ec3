//! The ATS test endpoint. It does DMA by untranslated requests, or by translations in its ATC.

use crate::device::{CopyEngine, DmaError};
use crate::machine::mmio::Mmio;
use crate::machine::time::{Ticks, poll};
use crate::pci::enumerate::bar0;
use crate::pci::{Bdf, config};

/// Device and vendor id.
pub const ID: u32 = 0x6c6b_1234;
/// The value of the ID register.
pub const SIGNATURE: u32 = 0x0001_6c6b;
/// Bytes of BAR 0.
pub const BAR_SIZE: u64 = 0x1000;

/// Registers in BAR 0.
pub mod register {
    #![allow(missing_docs, reason = "the table in the README explains them")]
    pub const ID: u64 = 0x00;
    pub const STATUS: u64 = 0x04;
    pub const COMMAND: u64 = 0x08;
    pub const RESULT: u64 = 0x0c;
    pub const IOVA: u64 = 0x10;
    pub const LENGTH: u64 = 0x18;
    pub const PATTERN: u64 = 0x1c;
    pub const PERIOD: u64 = 0x20;
    pub const COUNT: u64 = 0x24;
    pub const ATC_ENTRIES: u64 = 0x2c;
    pub const INVALIDATIONS: u64 = 0x30;
    pub const PASID: u64 = 0x40;
    pub const GROUP: u64 = 0x44;
    pub const RESPONSE: u64 = 0x48;
    pub const OUTSTANDING: u64 = 0x50;
    pub const GENERATOR_CONTROL: u64 = 0x100;
    pub const GENERATOR_PERIOD: u64 = 0x104;
    pub const GENERATOR_ADDRESS: u64 = 0x108;
}

/// A command, by its number in the COMMAND register.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Command {
    /// Copies memory into the device's buffer.
    Read = 1,
    /// Copies the buffer into memory.
    Write = 2,
    /// Fills memory with PATTERN.
    Fill = 3,
    /// Writes to IOVA every PERIOD, until `StopRepeating`.
    StartRepeating = 4,
    /// Stops the repeating write.
    StopRepeating = 5,
    /// Requests a translation, and keeps it in the ATC.
    Translate = 6,
    /// Sends an MSI.
    Interrupt = 7,
    /// Sends a page request.
    PageRequest = 8,
}

/// Whether a command uses the ATC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Untranslated requests.
    Untranslated,
    /// A translation in the ATC, which the device requests on a miss.
    Atc,
}

/// An ATS test endpoint.
#[derive(Clone, Copy)]
pub struct Endpoint {
    bdf: Bdf,
    registers: Mmio,
}

impl Endpoint {
    /// Enables the function; `None` if its BAR has no address, or another device answers there.
    pub fn open(bdf: Bdf) -> Option<Self> {
        let registers = bar0(bdf, BAR_SIZE)?;
        config::enable(bdf, config::COMMAND_MEMORY | config::COMMAND_BUS_MASTER);
        let endpoint = Self { bdf, registers };
        (endpoint.read(register::ID) == SIGNATURE).then_some(endpoint)
    }

    /// Enables ATS, with 4-KiB pages as the smallest translation unit. The ATC is empty then, since
    /// ATS is turned off before. False if the function has no ATS.
    pub fn enable_ats(&self) -> bool {
        const CONTROL: u16 = 6;
        const ENABLE: u16 = 1 << 15;
        let Some(ats) = config::extended_capability(self.bdf, config::EXTENDED_ATS) else {
            return false;
        };
        config::write16(self.bdf, ats + CONTROL, 0);
        config::write16(self.bdf, ats + CONTROL, ENABLE);
        config::read16(self.bdf, ats + CONTROL) & ENABLE != 0
    }

    /// Enables page requests, of which `allocation` may be outstanding, and PASIDs. False if the
    /// function lacks either, or does not report Stopped after the reset.
    pub fn enable_page_requests(&self, allocation: u32) -> bool {
        const CONTROL: u16 = 4;
        const STATUS: u16 = 6;
        const ALLOCATION: u16 = 12;
        const ENABLE: u16 = 1 << 0;
        const RESET: u16 = 1 << 1;
        const STOPPED: u16 = 1 << 8;
        const PASID_CONTROL: u16 = 6;
        let found = |id| config::extended_capability(self.bdf, id);
        let (Some(pri), Some(pasid)) = (found(config::EXTENDED_PRI), found(config::EXTENDED_PASID))
        else {
            return false;
        };
        config::write16(self.bdf, pri + CONTROL, RESET);
        if config::read16(self.bdf, pri + STATUS) & STOPPED == 0 {
            return false;
        }
        config::write32(self.bdf, pri + ALLOCATION, allocation);
        config::write16(self.bdf, pri + CONTROL, ENABLE);
        config::write16(self.bdf, pasid + PASID_CONTROL, ENABLE);
        config::read16(self.bdf, pri + CONTROL) == ENABLE
    }

    /// Requests read access to the page at `iova`, as the only request of its group.
    pub fn request_page(&self, iova: u64, pasid: Option<u32>, group: u16) -> Result<(), DmaError> {
        const WITH_PASID: u32 = 1 << 6;
        const READABLE: u32 = 1 << 7;
        const LAST: u32 = 1 << 9;
        let with_pasid = pasid.map_or(0, |pasid| {
            self.write(register::PASID, pasid);
            WITH_PASID
        });
        self.registers.write64(register::IOVA, iova);
        self.write(register::GROUP, group.into());
        let command = Command::PageRequest as u32 | READABLE | LAST | with_pasid;
        self.write(register::COMMAND, command);
        self.result()
    }

    /// Group and response code of the last PRG Response, if one has come.
    pub fn last_response(&self) -> Option<(u16, u8)> {
        const PRESENT: u32 = 1 << 31;
        let response = self.read(register::RESPONSE);
        let group = (response >> 4 & 0x1ff) as u16;
        (response & PRESENT != 0).then_some((group, (response & 0xf) as u8))
    }

    /// Programs the function's MSI, address and data. False if it has no such capability.
    pub fn enable_msi(&self, (address, data): (u32, u32)) -> bool {
        const CONTROL: u16 = 2;
        const ENABLE: u16 = 1 << 0;
        let Some(msi) = config::capability(self.bdf, config::CAPABILITY_MSI) else {
            return false;
        };
        config::write32(self.bdf, msi + 4, address);
        config::write32(self.bdf, msi + 8, 0);
        config::write16(self.bdf, msi + 12, data as u16);
        let control = config::read16(self.bdf, msi + CONTROL);
        config::write16(self.bdf, msi + CONTROL, control | ENABLE);
        true
    }

    /// Reads a register of BAR 0.
    pub fn read(&self, register: u64) -> u32 {
        self.registers.read32(register)
    }

    /// Writes a register of BAR 0.
    pub fn write(&self, register: u64, value: u32) {
        self.registers.write32(register, value);
    }

    /// The registers of BAR 0.
    pub fn registers(&self) -> Mmio {
        self.registers
    }

    /// Fills `length` bytes at `iova` with `pattern`.
    pub fn fill(&self, iova: u64, length: u32, pattern: u32, via: Via) -> Result<(), DmaError> {
        self.write(register::PATTERN, pattern);
        self.run(Command::Fill, iova, length, via)
    }

    /// Carries out a command and waits for its end.
    pub fn run(&self, command: Command, iova: u64, length: u32, via: Via) -> Result<(), DmaError> {
        const USE_ATC: u32 = 1 << 4;
        self.registers.write64(register::IOVA, iova);
        self.write(register::LENGTH, length);
        let via = if via == Via::Atc { USE_ATC } else { 0 };
        self.write(register::COMMAND, command as u32 | via);
        self.result()
    }

    /// The result of the last command. Waits while the command waits for a completion.
    pub fn result(&self) -> Result<(), DmaError> {
        const PENDING: u32 = 11;
        // Longer than the longest Completion Timeout that the guest programs.
        let limit = Ticks::from_ms(1000);
        let mut result = PENDING;
        poll(limit, || {
            result = self.read(register::RESULT);
            result != PENDING
        });
        match result {
            0 => Ok(()),
            1 => Err(DmaError::UnsupportedRequest),
            2 => Err(DmaError::CompleterAbort),
            3 => Err(DmaError::CompletionTimeout),
            4 => Err(DmaError::NoTranslation),
            5 => Err(DmaError::AtsOff),
            6 => Err(DmaError::BadCommand),
            7 => Err(DmaError::BusMasterOff),
            8 => Err(DmaError::PageRequestsOff),
            9 => Err(DmaError::NoAllocation),
            10 => Err(DmaError::PasidOff),
            12 => Err(DmaError::NoTag),
            _ => Err(DmaError::Dead),
        }
    }

    /// Reads eight bytes at `iova` each millisecond, by the ATC, until the function is reset or
    /// [`Self::stop_reads`].
    pub fn start_reads(&self, iova: u64) {
        const RUN: u32 = 1 << 0;
        const USE_ATC: u32 = 1 << 2;
        self.registers.write64(register::GENERATOR_ADDRESS, iova);
        self.write(register::GENERATOR_PERIOD, 1000);
        self.write(register::GENERATOR_CONTROL, RUN | USE_ATC);
    }

    /// Ends what [`Self::start_reads`] has started.
    pub fn stop_reads(&self) {
        self.write(register::GENERATOR_CONTROL, 0);
    }

    /// Whether no request of the function waits for its completion.
    pub fn is_idle(&self) -> bool {
        const WAITS: u32 = 1 << 1;
        self.read(register::STATUS) & WAITS == 0
    }

    /// Whether the function has logged that the Completion Timeout of a request has passed.
    pub fn has_timed_out(&self) -> bool {
        const STATUS: u16 = 4;
        const COMPLETION_TIMEOUT: u32 = 1 << 14;
        config::extended_capability(self.bdf, config::EXTENDED_AER)
            .is_some_and(|aer| config::read32(self.bdf, aer + STATUS) & COMPLETION_TIMEOUT != 0)
    }

    /// Waits for `times` more writes of the repeating write; false after `limit`.
    pub fn wait_for_writes(&self, times: u32, limit: Ticks) -> bool {
        let before = self.read(register::COUNT);
        poll(limit, || self.read(register::COUNT).wrapping_sub(before) >= times)
    }
}

impl CopyEngine for Endpoint {
    fn bdf(&self) -> Bdf {
        self.bdf
    }

    fn copy(&self, source: u64, destination: u64, length: u32) -> Result<(), DmaError> {
        self.run(Command::Read, source, length, Via::Untranslated)?;
        self.run(Command::Write, destination, length, Via::Untranslated)
    }
}
