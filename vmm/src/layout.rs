//! Where RAM is in the guest's physical address space, and the boot data in it. The rest belongs
//! to the chipset, see [`devices::chipset::map`].
//!
//! ```text
//!  0 ............. RAM: boot data below 1 MiB, the kernel from there up
//!  0xe_0000        ACPI tables
//!  0xe_f000        FACS
//!  0xb000_0000     chipset               (RAM that does not fit below goes on at 4 GiB)
//!  0xfee0_0000     local APICs, in KVM
//!  0xfffb_c000     KVM's own pages on processors that need them
//!  4 GiB ......... the rest of RAM
//! ```

pub use devices::chipset::map::*;

/// The global descriptor table.
pub const GDT: u64 = 0x500;
/// The boot parameters ("zero page").
pub const BOOT_PARAMS: u64 = 0x7000;
/// The stack pointer at entry; kernels set their own.
pub const BOOT_STACK: u64 = 0x8ff0;
/// The root of the page tables; the five tables below it follow page by page.
pub const PAGE_TABLES: u64 = 0x9000;
/// The command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest command line in bytes, without its final zero.
pub const CMDLINE_MAX: usize = 2047;
/// End of conventional memory that a guest may use.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// Firmware's tables. The RSDP is first, in a range that kernels search for it (`ACPI 5.2.5.1`).
pub const ACPI: Range = Range { start: 0xe_0000, size: 0xf000 };
/// The FACS, which firmware and operating system share also after the tables have been read.
pub const ACPI_NVS: Range = Range { start: 0xe_f000, size: 0x1000 };
/// The rest of firmware below 1 MiB.
pub const FIRMWARE: Range = Range { start: 0xf_0000, size: 0x1_0000 };
/// The entry of processors after a reset. Software also jumps here to make a BIOS reset.
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// The lowest address at which kernels may be loaded.
pub const HIGH_RAM: u64 = 0x10_0000;
/// The highest end of RAM below 4 GiB.
pub const RAM_GAP: u64 = 0xb000_0000;
/// The address at which RAM continues above the gap.
pub const RAM_ABOVE_GAP: u64 = 1 << 32;

/// The local APICs' page.
pub const LOCAL_APIC: u64 = 0xfee0_0000;
/// One page that KVM needs on some Intel processors.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages that KVM needs on some Intel processors.
pub const KVM_TSS: usize = 0xfffb_d000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_ends_where_the_chipset_begins() {
        assert_eq!(RAM_GAP, ECAM.start);
    }
}
