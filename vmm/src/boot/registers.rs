//! The first CPU's registers at entry: long mode, paging on, interrupts off, RSI at the boot
//! parameters. The other CPUs stay as they are after reset and wait for INIT and SIPI.

use kvm_bindings::{kvm_dtable, kvm_fpu, kvm_regs, kvm_sregs};
use vm_memory::GuestAddress;

use super::gdt;
use crate::layout;

/// PE, MP, ET, NE, PG.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 31;
/// PAE.
const CR4: u64 = 1 << 5;
/// LME, LMA.
const EFER: u64 = 1 << 8 | 1 << 10;
/// Bit 1, which is always one. IF is clear.
const RFLAGS: u64 = 1 << 1;

/// General registers.
pub(crate) fn configure_registers(entry: GuestAddress) -> kvm_regs {
    kvm_regs {
        rip: entry.0,
        rsi: layout::BOOT_PARAMS,
        rsp: layout::BOOT_STACK,
        rbp: layout::BOOT_STACK,
        rflags: RFLAGS,
        ..Default::default()
    }
}

/// System registers, on top of what they are after reset.
pub(crate) fn configure_sregs(sregs: &mut kvm_sregs) {
    sregs.cs = gdt::code();
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *segment = gdt::data();
    }
    sregs.tr = gdt::task();
    sregs.gdt = kvm_dtable { base: layout::GDT, limit: gdt::LIMIT, ..Default::default() };
    // No interrupt table: an exception before the kernel has set one up ends in a triple fault.
    sregs.idt = kvm_dtable::default();
    sregs.cr0 = CR0;
    sregs.cr3 = layout::PAGE_TABLES;
    sregs.cr4 = CR4;
    sregs.efer = EFER;
}

/// The floating-point unit after FNINIT: all exceptions masked.
pub(crate) fn configure_fpu() -> kvm_fpu {
    kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() }
}
