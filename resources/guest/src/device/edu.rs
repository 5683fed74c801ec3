//! QEMU's edu device. It copies between memory and its own buffer, about 100 ms per operation.

use crate::device::{CopyEngine, DmaError};
use crate::machine::mmio::Mmio;
use crate::machine::time::{Ticks, poll};
use crate::pci::enumerate::bar0;
use crate::pci::{Bdf, config};

/// Device and vendor id.
pub const ID: u32 = 0x11e8_1234;

const BAR_SIZE: u64 = 1 << 20;
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
const START: u64 = 1 << 0;
const TO_MEMORY: u64 = 1 << 1;
/// The device's address of its own buffer.
const BUFFER: u64 = 0x40000;

/// An edu device.
pub struct Edu {
    bdf: Bdf,
    registers: Mmio,
}

impl Edu {
    /// Enables the device; `None` if its BAR has no address.
    pub fn open(bdf: Bdf) -> Option<Self> {
        let registers = bar0(bdf, BAR_SIZE)?;
        config::enable(bdf, config::COMMAND_MEMORY | config::COMMAND_BUS_MASTER);
        Some(Self { bdf, registers })
    }

    fn transfer(&self, from: u64, to: u64, length: u32, direction: u64) -> Result<(), DmaError> {
        self.registers.write64(SOURCE, from);
        self.registers.write64(DESTINATION, to);
        self.registers.write64(COUNT, length.into());
        self.registers.write64(COMMAND, START | direction);
        let idle = || self.registers.read64(COMMAND) & START == 0;
        if poll(Ticks::from_ms(1000), idle) { Ok(()) } else { Err(DmaError::Dead) }
    }
}

impl CopyEngine for Edu {
    fn bdf(&self) -> Bdf {
        self.bdf
    }

    /// Succeeds even if the unit refuses a request, since the device does not report that.
    fn copy(&self, source: u64, destination: u64, length: u32) -> Result<(), DmaError> {
        self.transfer(source, BUFFER, length, 0)?;
        self.transfer(BUFFER, destination, length, TO_MEMORY)
    }
}
