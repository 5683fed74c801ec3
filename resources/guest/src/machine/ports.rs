//! Port I/O.
//!
//! Safe to call: none of the machine's port devices touches memory that Rust owns.

use core::arch::asm;

/// Writes a byte.
pub fn out8(port: u16, value: u8) {
    // SAFETY: see the module.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack)) };
}

/// Writes 16 bits.
pub fn out16(port: u16, value: u16) {
    // SAFETY: see the module.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack)) };
}

/// Writes 32 bits.
pub fn out32(port: u16, value: u32) {
    // SAFETY: see the module.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) };
}

/// Reads a byte.
pub fn in8(port: u16) -> u8 {
    let value: u8;
    // SAFETY: see the module.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack)) };
    value
}

/// Reads 16 bits.
pub fn in16(port: u16) -> u16 {
    let value: u16;
    // SAFETY: see the module.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack)) };
    value
}

/// Reads 32 bits.
pub fn in32(port: u16) -> u32 {
    let value: u32;
    // SAFETY: see the module.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)) };
    value
}
