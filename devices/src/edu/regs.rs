//! BAR 0 of `edu`: 1 MiB with these registers.
//!
//! | offset | register | |
//! |---|---|---|
//! | 0x00 | [`ID`] | RO |
//! | 0x04 | [`LIVENESS`] | reads the inverse of what was written |
//! | 0x08 | [`FACTORIAL`] | a number; after a delay its factorial modulo 2^32 |
//! | 0x20 | [`STATUS`] | bit 0 RO: computing; bit 7: raise [`FACTORIAL_DONE`] after it |
//! | 0x24 | [`INTERRUPTS`] | RO interrupt status |
//! | 0x60 | [`RAISE`] | WO sets bits of the interrupt status |
//! | 0x64 | [`ACKNOWLEDGE`] | WO clears bits of the interrupt status |
//! | 0x80 | [`DMA_SOURCE`] | address in memory, or from [`BUFFER`] up in the device |
//! | 0x88 | [`DMA_DESTINATION`] | as [`DMA_SOURCE`] |
//! | 0x90 | [`DMA_COUNT`] | bytes |
//! | 0x98 | [`DMA_COMMAND`] | bit 0 run, bit 1 to memory, bit 2 raise [`DMA_DONE`] after it |
//!
//! Below 0x80 accesses have four bytes, from there up four or eight; a write of four bytes replaces
//! all of a DMA register. Other reads give all ones, other writes are ignored. Writes to the DMA
//! registers are ignored while a transfer runs.

use iommu::ats::Access;

use super::dma::Transfer;

/// Bytes in BAR 0.
pub const SIZE: u32 = 1 << 20;
/// Bytes in the buffer.
pub const BUFFER_SIZE: usize = 4096;
/// The value of [`ID`]: version 1.0, and the magic number of `edu`.
pub const ID_VALUE: u32 = 0x0100_00ed;

/// Identification.
pub const ID: u64 = 0x00;
/// Liveness check.
pub const LIVENESS: u64 = 0x04;
/// Factorial.
pub const FACTORIAL: u64 = 0x08;
/// Status of the computation.
pub const STATUS: u64 = 0x20;
/// Interrupt status.
pub const INTERRUPTS: u64 = 0x24;
/// Raises interrupts.
pub const RAISE: u64 = 0x60;
/// Acknowledges interrupts.
pub const ACKNOWLEDGE: u64 = 0x64;
/// The source of a transfer.
pub const DMA_SOURCE: u64 = 0x80;
/// The destination of a transfer.
pub const DMA_DESTINATION: u64 = 0x88;
/// The length of a transfer, in bytes.
pub const DMA_COUNT: u64 = 0x90;
/// Starts a transfer.
pub const DMA_COMMAND: u64 = 0x98;
/// The address of the buffer in [`DMA_SOURCE`] and [`DMA_DESTINATION`]. CPUs cannot access it.
pub const BUFFER: u64 = 0x40000;

/// Interrupt status: a computation is done.
pub const FACTORIAL_DONE: u32 = 0x001;
/// Interrupt status: a transfer is done.
pub const DMA_DONE: u32 = 0x100;

/// [`DMA_COMMAND`]: run; reads 1 while it runs.
pub const DMA_RUN: u64 = 1;
/// [`DMA_COMMAND`]: from the device to memory.
pub const DMA_TO_MEMORY: u64 = 2;
/// [`DMA_COMMAND`]: raise [`DMA_DONE`] after it.
pub const DMA_INTERRUPT: u64 = 4;

const COMPUTING: u32 = 0x01;
const INTERRUPT_AFTER_FACTORIAL: u32 = 0x80;
/// Memory addresses have 28 bits, the default of QEMU's property `dma_mask`.
const DMA_MASK: u64 = (1 << 28) - 1;

/// The effect of a write to a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Compute,
    StartDma,
    Raise(u32),
}

/// The registers.
#[derive(Debug, Default)]
pub(super) struct Registers {
    pub(super) interrupts: u32,
    liveness: u32,
    factorial: u32,
    status: u32,
    source: u64,
    destination: u64,
    count: u64,
    command: u64,
}

impl Registers {
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let value = register_size(offset, data.len()).then(|| self.value(offset)).flatten();
        // An access of four bytes reads the lower half.
        let bytes = value.unwrap_or(u64::MAX).to_le_bytes();
        data.fill(0xff);
        for (to, from) in data.iter_mut().zip(bytes) {
            *to = from;
        }
    }

    fn value(&self, offset: u64) -> Option<u64> {
        Some(match offset {
            ID => ID_VALUE.into(),
            LIVENESS => self.liveness.into(),
            FACTORIAL => self.factorial.into(),
            STATUS => self.status.into(),
            INTERRUPTS => self.interrupts.into(),
            DMA_SOURCE => self.source,
            DMA_DESTINATION => self.destination,
            DMA_COUNT => self.count,
            DMA_COMMAND => self.command,
            _ => return None,
        })
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        if !register_size(offset, data.len()) {
            return None;
        }
        let value = data.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        // Accesses to registers below 0x80 have four bytes.
        let low = value as u32;
        let running = self.command & DMA_RUN != 0;
        match offset {
            LIVENESS => self.liveness = !low,
            FACTORIAL if self.status & COMPUTING == 0 => {
                self.factorial = low;
                self.status |= COMPUTING;
                return Some(Effect::Compute);
            }
            STATUS => {
                let asked = low & INTERRUPT_AFTER_FACTORIAL;
                self.status = self.status & !INTERRUPT_AFTER_FACTORIAL | asked;
            }
            RAISE => return Some(Effect::Raise(low)),
            ACKNOWLEDGE => self.interrupts &= !low,
            DMA_SOURCE if !running => self.source = value,
            DMA_DESTINATION if !running => self.destination = value,
            DMA_COUNT if !running => self.count = value,
            DMA_COMMAND if !running && value & DMA_RUN != 0 => {
                self.command = value;
                return Some(Effect::StartDma);
            }
            _ => {}
        }
        None
    }

    /// Replaces the number by its factorial. Returns whether an interrupt is enabled.
    pub(super) fn finish_factorial(&mut self) -> bool {
        self.factorial = factorial(self.factorial);
        self.status &= !COMPUTING;
        self.status & INTERRUPT_AFTER_FACTORIAL != 0
    }

    /// Ends the transfer. Returns whether an interrupt is enabled.
    pub(super) fn finish_dma(&mut self) -> bool {
        self.command &= !DMA_RUN;
        self.command & DMA_INTERRUPT != 0
    }

    /// The programmed transfer. `None` if its device side is not within the buffer: QEMU aborts
    /// then.
    pub(super) fn transfer(&self) -> Option<Transfer> {
        let (access, memory, device) = match self.command & DMA_TO_MEMORY {
            0 => (Access::Read, self.source, self.destination),
            _ => (Access::Write, self.destination, self.source),
        };
        let start = usize::try_from(device.checked_sub(BUFFER)?).ok()?;
        let end = start.checked_add(usize::try_from(self.count).ok()?)?;
        let buffer = (end <= BUFFER_SIZE).then_some(start..end)?;
        Some(Transfer { address: memory & DMA_MASK, buffer, access })
    }
}

fn register_size(offset: u64, length: usize) -> bool {
    let aligned = offset.is_multiple_of(length.max(1) as u64);
    aligned && (length == 4 || (length == 8 && offset >= DMA_SOURCE))
}

/// `number`! modulo 2^32.
fn factorial(number: u32) -> u32 {
    // From 34 on the factorial is a multiple of 2^32.
    match number {
        0..34 => (1..=number).fold(1, u32::wrapping_mul),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn factorials_as_a_loop_computes_them() {
        for number in 0..100 {
            assert_eq!(factorial(number), (1..=number).fold(1, u32::wrapping_mul), "{number}");
        }
        assert_eq!(factorial(5), 120);
        assert_eq!(factorial(u32::MAX), 0);
    }

    proptest! {
        #[test]
        fn no_transfer_leaves_the_buffer(source: u64, destination: u64, count: u64, command: u64) {
            // Half of the addresses near the buffer, where the edges are.
            let near = |at: u64| if at & 1 == 0 { BUFFER.wrapping_add(at % 8192) } else { at };
            let registers = Registers {
                source: near(source),
                destination: near(destination),
                count: if count & 1 == 0 { count % 8192 } else { count },
                command,
                ..Registers::default()
            };
            if let Some(transfer) = registers.transfer() {
                prop_assert!(transfer.buffer.end <= BUFFER_SIZE);
                prop_assert_eq!(transfer.buffer.len() as u64, registers.count);
                prop_assert!(transfer.address <= DMA_MASK);
            }
        }
    }
}
