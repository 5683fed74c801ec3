//! Counts interrupts by vector. A test waits until the count of a vector rises. Exceptions end the
//! run.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::machine::time::{Ticks, poll};
use crate::machine::{apic, cpu, exit};
use crate::println;

const VECTORS: usize = 64;
const EXCEPTIONS: u64 = 32;
const CODE_SELECTOR: u64 = 0x08;
const STUB_BYTES: u64 = 16;

/// Wakes a processor that waits for work.
pub const WAKE: u8 = 0x20;
/// Vector of the remapping unit's fault event.
pub const FAULT: u8 = 0x21;
/// Vector of the remapping unit's invalidation completion event.
pub const WAIT_DONE: u8 = 0x22;
/// Vector of the endpoint's MSI.
pub const ENDPOINT: u8 = 0x23;
/// Vector of the remapping unit's page request event.
pub const PAGE_REQUEST: u8 = 0x25;
/// Vector of COM1, by the I/O APIC.
pub const SERIAL: u8 = 0x24;
/// Vector of the endpoint, by another entry of the interrupt remapping table.
pub const REMAPPED: u8 = 0x26;
/// Vector of a PCIe port: hot-plug, AER, DPC.
pub const PORT: u8 = 0x27;

static COUNTS: [AtomicU32; VECTORS] = [const { AtomicU32::new(0) }; VECTORS];

#[repr(C, align(16))]
struct Idt(UnsafeCell<[[u64; 2]; VECTORS]>);

// SAFETY: filled by the boot processor before any other runs; afterwards only processors read it.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new([[0; 2]; VECTORS]));

unsafe extern "C" {
    static interrupt_stubs: u8;
}

/// Fills the table and loads it. The boot processor calls this before the others start.
pub fn init() {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e00 << 32;
    // The symbol marks the address of the first stub.
    let stubs = &raw const interrupt_stubs as u64;
    // SAFETY: nothing else uses the table yet.
    let table = unsafe { &mut *IDT.0.get() };
    let mut handler = stubs;
    for gate in table.iter_mut() {
        let low = (handler & 0xffff)
            | CODE_SELECTOR << 16
            | PRESENT_INTERRUPT_GATE
            | (handler & 0xffff_0000) << 32;
        *gate = [low, handler >> 32];
        handler += STUB_BYTES;
    }
    load();
}

/// Loads the table that [`init`] filled.
pub fn load() {
    cpu::load_idt(IDT.0.get() as u64, size_of::<Idt>() as u16);
}

/// Number of interrupts with `vector` so far.
pub fn count(vector: u8) -> u32 {
    COUNTS[usize::from(vector)].load(Ordering::Relaxed)
}

/// Enables interrupts until the count of `vector` is `times` above `before`. False after `limit`.
pub fn wait_for(vector: u8, before: u32, times: u32, limit: Ticks) -> bool {
    cpu::enable_interrupts();
    let arrived = poll(limit, || count(vector).wrapping_sub(before) >= times);
    cpu::disable_interrupts();
    arrived
}

/// The stack frame of the stubs in `vectors.s`.
#[repr(C)]
pub struct Frame {
    vector: u64,
    error: u64,
    rip: u64,
}

/// The handler of all interrupts, called by the stubs.
#[unsafe(no_mangle)]
extern "C" fn handle_interrupt(frame: &Frame) {
    if frame.vector < EXCEPTIONS {
        println!(
            "# exception {} at {:#x}, error {:#x}, address {:#x}",
            frame.vector,
            frame.rip,
            frame.error,
            cpu::page_fault_address()
        );
        exit::exit(exit::EXCEPTION);
    }
    COUNTS[frame.vector as usize % VECTORS].fetch_add(1, Ordering::Relaxed);
    apic::end_of_interrupt();
}
