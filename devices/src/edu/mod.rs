//! QEMU's educational device, `edu`, which kvm-unit-tests and other test suites use for DMA.
//!
//! ```text
//!   BAR 0 --> Registers ---> factorial --(a moment)--> result, interrupt
//!                       \--> DMA engine --(100 ms)---> Upstream: untranslated reads and writes
//!   interrupt status != 0 --> MSI if software has turned it on, else INTA
//! ```
//!
//! A conventional function without ATS, on bus 0. Registers and behaviour are those of QEMU's
//! `docs/specs/edu.rst`. As in QEMU, a failed read of memory leaves zeros in the buffer, and the
//! pieces after it are read anyway.

mod dma;
pub mod regs;

use std::time::Duration;

use iommu::time::Instant;

use crate::Error;
use crate::pcie::caps::msi::Msi;
use crate::pcie::header::{ConfigBuilder, HeaderType, Identity};
use crate::pcie::reset::Reset;
use crate::pcie::{Function, FunctionCore, Upstream};
use regs::{Effect, Registers};

/// Vendor ID.
pub const VENDOR_ID: u16 = 0x1234;
/// Device ID.
pub const DEVICE_ID: u16 = 0x11e8;
/// Time from the command that starts a DMA to the access to memory.
pub const DMA_DELAY: Duration = Duration::from_millis(100);
/// Time from the write of a number to its factorial. QEMU computes in a thread, and specifies no
/// time.
pub const FACTORIAL_DELAY: Duration = Duration::from_micros(10);

const IDENTITY: Identity =
    Identity { vendor: VENDOR_ID, device: DEVICE_ID, class: 0x00_ff_00, revision: 0x10 };

/// The `edu` device.
#[derive(Debug)]
pub struct Edu {
    core: FunctionCore,
    msi: Msi,
    registers: Registers,
    buffer: Box<[u8; regs::BUFFER_SIZE]>,
    /// When the computation ends, and when the DMA runs.
    factorial_due: Option<Instant>,
    dma_due: Option<Instant>,
}

impl Edu {
    /// A device after reset.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if its capabilities do not fit.
    pub fn new() -> Result<Self, Error> {
        let mut builder = ConfigBuilder::new(IDENTITY, HeaderType::Endpoint);
        builder.has_io_space_enable();
        let bar = builder.memory_bar(0, regs::SIZE);
        let msi = Msi::add_without_mask(&mut builder)?;
        builder.uses_inta();
        Ok(Self {
            core: FunctionCore::new(builder, Some(bar)),
            msi,
            registers: Registers::default(),
            buffer: Box::new([0; regs::BUFFER_SIZE]),
            factorial_due: None,
            dma_due: None,
        })
    }

    /// Sets bits of the interrupt status. Each call sends an interrupt, also if the bits are set
    /// already.
    fn raise(&mut self, bits: u32) {
        self.registers.interrupts |= bits;
        if self.registers.interrupts != 0 && self.core.is_bus_master() {
            let msi = self.msi.raise(&mut self.core.config);
            self.core.send_msi(msi);
        }
    }

    fn run_dma(&mut self, upstream: &mut dyn Upstream, now: Instant) {
        if let Some(transfer) = self.registers.transfer()
            && self.core.is_bus_master()
        {
            transfer.run(self.core.id, &mut self.buffer, upstream, now);
        }
        if self.registers.finish_dma() {
            self.raise(regs::DMA_DONE);
        }
    }
}

impl Function for Edu {
    fn core(&self) -> &FunctionCore {
        &self.core
    }

    fn core_mut(&mut self) -> &mut FunctionCore {
        &mut self.core
    }

    fn memory_read(
        &mut self,
        address: u64,
        data: &mut [u8],
        _upstream: &mut dyn Upstream,
        _now: Instant,
    ) {
        if let Some(offset) = self.core.claim(address, data.len()) {
            self.registers.read(offset, data);
        }
    }

    fn memory_write(
        &mut self,
        address: u64,
        data: &[u8],
        _upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        let Some(offset) = self.core.claim(address, data.len()) else { return };
        match self.registers.write(offset, data) {
            Some(Effect::Compute) => self.factorial_due = Some(now + FACTORIAL_DELAY),
            Some(Effect::StartDma) => self.dma_due = Some(now + DMA_DELAY),
            Some(Effect::Raise(bits)) => self.raise(bits),
            None => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Instant::earliest([self.factorial_due, self.dma_due])
    }

    fn handle_timeout(&mut self, upstream: &mut dyn Upstream, now: Instant) {
        if self.factorial_due.take_if(|due| *due <= now).is_some()
            && self.registers.finish_factorial()
        {
            self.raise(regs::FACTORIAL_DONE);
        }
        if self.dma_due.take_if(|due| *due <= now).is_some() {
            self.run_dma(upstream, now);
        }
    }

    fn asserts_inta(&self) -> bool {
        self.registers.interrupts != 0
            && !self.msi.is_enabled(&self.core.config)
            && !self.core.command().interrupt_disable()
    }

    fn reset(&mut self, reset: Reset, _now: Instant) {
        self.core.reset(reset);
        self.registers = Registers::default();
        self.buffer.fill(0);
        (self.factorial_due, self.dma_due) = (None, None);
    }
}

#[cfg(test)]
mod tests;
