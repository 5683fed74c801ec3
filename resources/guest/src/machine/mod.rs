//! The processor and its board, as thin safe wrappers: everything above is ordinary Rust.

pub mod apic;
pub mod cpu;
pub mod exit;
pub mod interrupts;
pub mod memory;
pub mod mmio;
pub mod ports;
pub mod serial;
pub mod smp;
pub mod sync;
pub mod time;
