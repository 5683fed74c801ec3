//! A window of device registers.

use core::sync::atomic::{Ordering, compiler_fence};

/// The addresses of devices. There is no RAM, so accesses cannot touch a Rust object.
const HOLE: core::ops::Range<u64> = 0xb000_0000..0x1_0000_0000;

/// Device registers in the hole below 4 GiB.
///
/// Accesses are volatile, and the compiler keeps their order with accesses to memory: the
/// descriptors are written before the doorbell. (The processor keeps this order by itself.)
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: u64,
    size: u64,
}

impl Mmio {
    /// A window of `size` bytes; `None` if it is not all in the hole.
    pub fn new(base: u64, size: u64) -> Option<Self> {
        let end = base.checked_add(size)?;
        (base >= HOLE.start && end <= HOLE.end).then_some(Self { base, size })
    }

    /// Its first address.
    pub fn base(self) -> u64 {
        self.base
    }

    /// Reads an aligned 8-bit register.
    pub fn read8(self, offset: u64) -> u8 {
        self.read(offset)
    }

    /// Reads an aligned 16-bit register.
    pub fn read16(self, offset: u64) -> u16 {
        self.read(offset)
    }

    /// Reads an aligned 32-bit register.
    pub fn read32(self, offset: u64) -> u32 {
        self.read(offset)
    }

    /// Reads an aligned 64-bit register.
    pub fn read64(self, offset: u64) -> u64 {
        self.read(offset)
    }

    /// Writes an aligned 8-bit register.
    pub fn write8(self, offset: u64, value: u8) {
        self.write(offset, value);
    }

    /// Writes an aligned 16-bit register.
    pub fn write16(self, offset: u64, value: u16) {
        self.write(offset, value);
    }

    /// Writes an aligned 32-bit register.
    pub fn write32(self, offset: u64, value: u32) {
        self.write(offset, value);
    }

    /// Writes an aligned 64-bit register.
    pub fn write64(self, offset: u64, value: u64) {
        self.write(offset, value);
    }

    fn read<T: Copy>(self, offset: u64) -> T {
        let address = self.address::<T>(offset);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: `address` is aligned, mapped, and in the hole where no Rust object is.
        let value = unsafe { core::ptr::read_volatile(address) };
        compiler_fence(Ordering::SeqCst);
        value
    }

    fn write<T: Copy>(self, offset: u64, value: T) {
        let address = self.address::<T>(offset);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: `address` is aligned, mapped, and in the hole where no Rust object is.
        unsafe { core::ptr::write_volatile(address, value) };
        compiler_fence(Ordering::SeqCst);
    }

    fn address<T>(self, offset: u64) -> *mut T {
        let size = size_of::<T>() as u64;
        assert!(offset.is_multiple_of(size) && offset + size <= self.size);
        (self.base + offset) as *mut T
    }
}
