//! QEMU's `iommu-testdev`: writes by DMA through the remapping unit, then reads memory without it,
//! and compares.
//!
//! ```text
//!   DOORBELL arms --> a read of TRIGGER --> pattern, LENGTH bytes, to IOVA (DMA)
//!                                       --> LENGTH bytes from GPA, without the unit --> compare --> RESULT
//! ```
//!
//! A conventional function without capabilities, on bus 0. Registers and results are those of
//! QEMU's `docs/specs/iommu-testdev.rst`, but for the limit [`MAX_LENGTH`]. No hardware can do what
//! it does: it learns the outcome of a posted write, and reads memory as the CPU does.

use iommu::ats::{Access, AddressType, DmaRequest};
use iommu::ids::{Gpa, Iova, PAGE_SIZE};
use iommu::time::Instant;

use crate::pcie::header::{ConfigBuilder, HeaderType, Identity};
use crate::pcie::reset::Reset;
use crate::pcie::{Function, FunctionCore, Upstream};

/// Vendor ID.
pub const VENDOR_ID: u16 = 0x1b36;
/// Device ID.
pub const DEVICE_ID: u16 = 0x0005;
/// Bytes in BAR 0.
pub const SIZE: u32 = 4096;
/// The longest transfer, in bytes; QEMU has no limit.
pub const MAX_LENGTH: u32 = 1 << 20;

/// Registers in BAR 0, each of 32 bits, in accesses of 32 bits.
pub mod regs {
    /// A read runs the DMA, if it is armed. Reads 0.
    pub const TRIGGER: u64 = 0x00;
    /// Lower half of the address of the DMA.
    pub const IOVA_LOW: u64 = 0x04;
    /// Upper half.
    pub const IOVA_HIGH: u64 = 0x08;
    /// Length in bytes.
    pub const LENGTH: u64 = 0x0c;
    /// See [`Outcome`](super::Outcome).
    pub const RESULT: u64 = 0x10;
    /// Bit 0 arms, or disarms. Reads 0.
    pub const DOORBELL: u64 = 0x14;
    /// Bit 0 secure, bits 2:1 address space, bit 3 valid; for other architectures.
    pub const ATTRIBUTES: u64 = 0x18;
    /// Lower half of the address that is read without the unit.
    pub const GPA_LOW: u64 = 0x1c;
    /// Upper half.
    pub const GPA_HIGH: u64 = 0x20;
}

const IDENTITY: Identity =
    Identity { vendor: VENDOR_ID, device: DEVICE_ID, class: 0x00_ff_00, revision: 0 };
const PATTERN: [u8; 4] = 0x1234_5678_u32.to_le_bytes();
const PAGE: usize = PAGE_SIZE as usize;

/// The values of RESULT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// Memory has the pattern.
    Ok = 0,
    /// Armed.
    Busy = 0xffff_fffe,
    /// Not armed.
    Idle = 0xffff_ffff,
    /// LENGTH is 0, or above [`MAX_LENGTH`].
    BadLength = 0xdead_0001,
    /// The DMA write failed, in at least one page.
    WriteFailed = 0xdead_0002,
    /// There is no memory at GPA.
    ReadFailed = 0xdead_0003,
    /// Memory has other data.
    Mismatch = 0xdead_0004,
    /// TRIGGER was read before it was armed.
    NotArmed = 0xdead_0005,
    /// The attributes contradict each other.
    BadAttributes = 0xdead_0006,
}

/// The `iommu-testdev` device.
#[derive(Debug)]
pub struct IommuTestdev {
    core: FunctionCore,
    registers: Registers,
}

#[derive(Debug)]
struct Registers {
    iova: u64,
    gpa: u64,
    length: u32,
    result: u32,
    attributes: u32,
    is_armed: bool,
}

impl Default for Registers {
    fn default() -> Self {
        let (result, attributes) = (Outcome::Idle as u32, 0b010);
        Self { iova: 0, gpa: 0, length: 0, result, attributes, is_armed: false }
    }
}

impl Default for IommuTestdev {
    fn default() -> Self {
        Self::new()
    }
}

impl IommuTestdev {
    /// A device after reset.
    pub fn new() -> Self {
        let mut builder = ConfigBuilder::new(IDENTITY, HeaderType::Endpoint);
        builder.has_io_space_enable();
        let bar = builder.memory_bar(0, SIZE);
        Self { core: FunctionCore::new(builder, Some(bar)), registers: Registers::default() }
    }

    fn trigger(&mut self, upstream: &mut dyn Upstream, now: Instant) {
        let outcome = match std::mem::take(&mut self.registers.is_armed) {
            true => self.run(upstream, now).err().unwrap_or(Outcome::Ok),
            false => Outcome::NotArmed,
        };
        self.registers.result = outcome as u32;
    }

    fn run(&self, upstream: &mut dyn Upstream, now: Instant) -> Result<(), Outcome> {
        let Registers { iova, gpa, length, .. } = self.registers;
        if !(1..=MAX_LENGTH).contains(&length) {
            return Err(Outcome::BadLength);
        }
        if self.registers.attributes_contradict() {
            return Err(Outcome::BadAttributes);
        }
        if !self.core.is_bus_master() {
            return Err(Outcome::WriteFailed);
        }
        // Writes are posted: the device sends all of them, also behind one that is blocked.
        let mut is_written = true;
        for (address, piece) in pieces(iova, length) {
            let request = DmaRequest {
                requester: self.core.id,
                pasid: None,
                privileged: false,
                address: Iova(address),
                address_type: AddressType::Untranslated,
                access: Access::Write,
            };
            is_written &= upstream.write_observed(request, &piece, now).is_ok();
        }
        if !is_written {
            return Err(Outcome::WriteFailed);
        }
        for (address, piece) in pieces(gpa, length) {
            let mut data = vec![0; piece.len()];
            if !upstream.peek(Gpa(address), &mut data) {
                return Err(Outcome::ReadFailed);
            }
            // The pieces of both differ, since IOVA and GPA may have other offsets in their pages.
            // The pattern begins anew at both.
            if data != piece {
                return Err(Outcome::Mismatch);
            }
        }
        Ok(())
    }
}

/// `length` bytes of the pattern from `address` on, split at page boundaries.
fn pieces(address: u64, length: u32) -> impl Iterator<Item = (u64, Vec<u8>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = address.wrapping_add(u64::from(done));
        let to_page_end = (PAGE - at as usize % PAGE) as u32;
        let piece = to_page_end.min(length - done);
        let pattern = PATTERN.into_iter().cycle().skip(done as usize % PATTERN.len());
        let data = pattern.take(piece as usize).collect();
        done += piece;
        (piece > 0).then_some((at, data))
    })
}

impl Registers {
    /// Whether the secure bit and the address space differ.
    fn attributes_contradict(&self) -> bool {
        let (secure, space) = (self.attributes & 1 != 0, self.attributes >> 1 & 3);
        let count = self.attributes & 8 != 0;
        count && (space == 0 && !secure || space == 1 && secure)
    }

    fn read(&self, offset: u64) -> u32 {
        match offset {
            regs::IOVA_LOW => self.iova as u32,
            regs::IOVA_HIGH => (self.iova >> 32) as u32,
            regs::LENGTH => self.length,
            regs::RESULT => self.result,
            regs::ATTRIBUTES => self.attributes,
            regs::GPA_LOW => self.gpa as u32,
            regs::GPA_HIGH => (self.gpa >> 32) as u32,
            _ => 0,
        }
    }

    fn write(&mut self, offset: u64, value: u32) {
        let low = |old: u64| old & !0xffff_ffff | u64::from(value);
        let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            regs::IOVA_LOW => self.iova = low(self.iova),
            regs::IOVA_HIGH => self.iova = high(self.iova),
            regs::LENGTH => self.length = value,
            regs::RESULT => self.result = value,
            regs::DOORBELL => {
                self.is_armed = value & 1 != 0;
                let state = if self.is_armed { Outcome::Busy } else { Outcome::Idle };
                self.result = state as u32;
            }
            regs::ATTRIBUTES => self.attributes = value,
            regs::GPA_LOW => self.gpa = low(self.gpa),
            regs::GPA_HIGH => self.gpa = high(self.gpa),
            _ => {}
        }
    }
}

impl Function for IommuTestdev {
    fn core(&self) -> &FunctionCore {
        &self.core
    }

    fn core_mut(&mut self) -> &mut FunctionCore {
        &mut self.core
    }

    /// An access that is not an aligned double word reads all ones.
    fn memory_read(
        &mut self,
        address: u64,
        data: &mut [u8],
        upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        data.fill(0xff);
        let Some(offset) = self.core.claim(address, data.len()) else { return };
        if let Ok(data) = <&mut [u8; 4]>::try_from(data)
            && offset.is_multiple_of(4)
        {
            if offset == regs::TRIGGER {
                self.trigger(upstream, now);
            }
            *data = self.registers.read(offset).to_le_bytes();
        }
    }

    fn memory_write(
        &mut self,
        address: u64,
        data: &[u8],
        _upstream: &mut dyn Upstream,
        _now: Instant,
    ) {
        let Some(offset) = self.core.claim(address, data.len()) else { return };
        if let Ok(data) = <[u8; 4]>::try_from(data)
            && offset.is_multiple_of(4)
        {
            self.registers.write(offset, u32::from_le_bytes(data));
        }
    }

    fn reset(&mut self, reset: Reset, _now: Instant) {
        self.core.reset(reset);
        self.registers = Registers::default();
    }
}

#[cfg(test)]
mod tests;
