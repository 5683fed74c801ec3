//! Instructions that Rust has no function for.

use core::arch::asm;

/// The time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: reads a counter, no side effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Address of the last page fault.
pub fn page_fault_address() -> u64 {
    let address: u64;
    // SAFETY: reads a control register, no side effect.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack)) };
    address
}

/// Enables interrupts.
pub fn enable_interrupts() {
    // SAFETY: every vector has a handler that keeps all registers.
    unsafe { asm!("sti", options(nostack)) };
}

/// Disables interrupts.
pub fn disable_interrupts() {
    // SAFETY: only delays interrupts.
    unsafe { asm!("cli", options(nostack)) };
}

/// Sleeps until an interrupt has been handled; returns with interrupts off. An interrupt between
/// the caller's last check and the sleep is not lost: STI takes effect after the following
/// instruction.
pub fn sleep_until_interrupt() {
    // SAFETY: every vector has a handler that keeps all registers.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Halts this processor with interrupts off.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: touches no memory.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

fn interrupts_enabled() -> bool {
    const INTERRUPT_FLAG: u64 = 1 << 9;
    let flags: u64;
    // SAFETY: copies the flags by way of the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags) };
    flags & INTERRUPT_FLAG != 0
}

/// Interrupts stay off as long as this lives, as in a driver's `spin_lock_irqsave` section.
pub struct InterruptsOff {
    were_on: bool,
}

impl InterruptsOff {
    /// Disables interrupts; dropping restores the former state.
    pub fn enter() -> Self {
        let were_on = interrupts_enabled();
        disable_interrupts();
        Self { were_on }
    }
}

impl Drop for InterruptsOff {
    fn drop(&mut self) {
        if self.were_on {
            enable_interrupts();
        }
    }
}

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// Loads an interrupt descriptor table of `bytes` bytes.
pub fn load_idt(base: u64, bytes: u16) {
    let pointer = TablePointer { limit: bytes - 1, base };
    // SAFETY: the callers (`interrupts`, `triple_fault`) pass a table that lives for ever.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack)) };
}

/// Shuts the processor down by an exception without any handler.
pub fn triple_fault() -> ! {
    let pointer = TablePointer { limit: 0, base: 0 };
    // SAFETY: nothing runs after it.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &raw const pointer, options(noreturn)) };
}

/// Loads an SSE register from `address` in a device's window. KVM's emulator does the access, and
/// does not know this instruction, so the run ends on every host.
pub fn sse_load_from_device(address: u64) {
    // SAFETY: allows SSE (CR4.OSFXSR) and reads four bytes of a device.
    unsafe {
        asm!(
            "mov {scratch}, cr4",
            "or {scratch}, 0x200",
            "mov cr4, {scratch}",
            ".byte 0x66, 0x0f, 0x6e, 0x00", // movd xmm0, dword ptr [rax]
            scratch = out(reg) _,
            in("rax") address,
            options(nostack)
        );
    }
}
