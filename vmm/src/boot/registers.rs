//! The first CPU's registers at entry: long mode, paging on, interrupts off, RSI at the boot
//! parameters; or as a multiboot or PVH loader leaves them. The other CPUs stay as they are after reset
//! and wait for INIT and SIPI.

use kvm_bindings::{kvm_dtable, kvm_fpu, kvm_regs, kvm_sregs};

use super::{Start, gdt};
use crate::layout;

/// PE, MP, ET, NE, PG.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 31;
/// PE, ET.
const CR0_FLAT: u64 = 1 | 1 << 4;
/// PAE.
const CR4: u64 = 1 << 5;
/// LME, LMA.
const EFER: u64 = 1 << 8 | 1 << 10;
/// Bit 1, which is always one. IF is clear.
const RFLAGS: u64 = 1 << 1;

/// General registers.
pub(crate) fn configure_registers(start: Start) -> kvm_regs {
    match start {
        Start::Long { entry } => kvm_regs {
            rip: entry,
            rsi: layout::BOOT_PARAMS,
            rsp: layout::BOOT_STACK,
            rbp: layout::BOOT_STACK,
            rflags: RFLAGS,
            ..Default::default()
        },
        Start::Flat { entry, info, magic } => {
            kvm_regs { rip: entry, rax: magic, rbx: info, rflags: RFLAGS, ..Default::default() }
        }
        Start::Real { vector } => {
            kvm_regs { rip: u64::from(vector & 0xf), rflags: RFLAGS, ..Default::default() }
        }
    }
}

/// System registers, on top of what they are after reset.
pub(crate) fn configure_sregs(sregs: &mut kvm_sregs, start: Start) {
    if let Start::Real { vector } = start {
        // The rest is as after reset (ACPI 16.1.1).
        sregs.cs.base = u64::from(vector & !0xf);
        sregs.cs.selector = (vector >> 4) as u16;
        return;
    }
    let is_long = matches!(start, Start::Long { .. });
    sregs.cs = if is_long { gdt::code() } else { gdt::flat_code() };
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *segment = gdt::data();
    }
    sregs.tr = gdt::task();
    sregs.gdt = kvm_dtable { base: layout::GDT, limit: gdt::LIMIT, ..Default::default() };
    // No interrupt table: an exception before the kernel has set one up ends in a triple fault.
    sregs.idt = kvm_dtable::default();
    if is_long {
        sregs.cr0 = CR0;
        sregs.cr3 = layout::PAGE_TABLES;
        sregs.cr4 = CR4;
        sregs.efer = EFER;
    } else {
        sregs.cr0 = CR0_FLAT;
    }
}

/// The floating-point unit after FNINIT: all exceptions masked.
pub(crate) fn configure_fpu() -> kvm_fpu {
    kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() }
}
