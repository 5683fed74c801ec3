//! Where everything is in the guest's physical address space and among its I/O ports.
//!
//! ```text
//!  0 ............. RAM: boot data below 1 MiB, the kernel from there up
//!  0xe_0000        ACPI tables
//!  0xb000_0000     ECAM, 256 MiB         (RAM that does not fit below goes on at 4 GiB)
//!  0xc000_0000     PCI memory window, BARs live here
//!  0xfec0_0000     I/O APIC
//!  0xfed9_0000     VT-d unit
//!  0xfee0_0000     local APICs, in KVM
//!  0xfffb_c000     KVM's own pages on processors that need them
//!  4 GiB ......... the rest of RAM
//! ```
//!
//! The addresses are those of QEMU's q35 machine, so that guests written for that find things.

/// Where the global descriptor table is.
pub const GDT: u64 = 0x500;
/// Where the boot parameters ("zero page") are.
pub const BOOT_PARAMS: u64 = 0x7000;
/// The stack pointer at entry; kernels set their own.
pub const BOOT_STACK: u64 = 0x8ff0;
/// The root of the page tables; the five tables below it follow page by page.
pub const PAGE_TABLES: u64 = 0x9000;
/// Where the command line is.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest command line in bytes, without its final zero.
pub const CMDLINE_MAX: usize = 2047;
/// End of conventional memory that a guest may use.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// Where firmware's tables are: the RSDP first, at a place that is searched for it (`ACPI 5.2.5.1`).
pub const ACPI: Range = Range { start: 0xe_0000, size: 0x1_0000 };
/// What else firmware has below 1 MiB.
pub const FIRMWARE: Range = Range { start: 0xf_0000, size: 0x1_0000 };
/// Where kernels may be loaded.
pub const HIGH_RAM: u64 = 0x10_0000;
/// Where RAM below 4 GiB ends at the latest.
pub const RAM_GAP: u64 = 0xb000_0000;
/// Where RAM goes on above the gap.
pub const RAM_ABOVE_GAP: u64 = 1 << 32;

/// The PCIe configuration space of all 256 buses (`PCIe 7.2.2`).
pub const ECAM: Range = Range { start: 0xb000_0000, size: 0x1000_0000 };
/// The window in which BARs and bridge windows may lie.
pub const PCI_MEMORY: Range = Range { start: 0xc000_0000, size: 0x3e00_0000 };
/// The I/O APIC's page.
pub const IO_APIC: Range = Range { start: 0xfec0_0000, size: 0x1000 };
/// The remapping unit's register page.
pub const UNIT: Range = Range { start: 0xfed9_0000, size: 0x1000 };
/// The local APICs' page.
pub const LOCAL_APIC: u64 = 0xfee0_0000;
/// One page that KVM needs on some Intel processors.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages that KVM needs on some Intel processors.
pub const KVM_TSS: usize = 0xfffb_d000;

/// I/O ports.
pub mod port {
    /// The first of the eight ports of COM1.
    pub const COM1: u16 = 0x3f8;
    /// The debug-exit port, four bytes.
    pub const DEBUG_EXIT: u16 = 0xf4;
    /// The keyboard controller's command port.
    pub const KEYBOARD: u16 = 0x64;
    /// The first of the eight ports of PCI configuration and reset control.
    pub const PCI: u16 = 0xcf8;
    /// The reset control register, inside of [`PCI`].
    pub const RESET: u16 = 0xcf9;
    /// Sleep control of hardware-reduced ACPI, one byte.
    pub const SLEEP_CONTROL: u16 = 0x600;
    /// Sleep status, one byte.
    pub const SLEEP_STATUS: u16 = 0x601;
    /// PM1a control, two bytes.
    pub const POWER: u16 = 0x604;
    /// QEMU's firmware configuration: selector, then data.
    pub const FW_CFG: u16 = 0x510;
    /// The first of the ports of the bench.
    pub const BENCH: u16 = 0x5e0;
    /// How many ports the bench has.
    pub const BENCH_SIZE: u16 = 0x14;
}

/// The I/O APIC pin of COM1.
pub const COM1_PIN: u8 = 4;

/// The sleep type that switches off, as `_S5` says it.
pub const SLEEP_TYPE_OFF: u8 = 5;

/// A piece of the guest-physical address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

impl Range {
    /// The first address behind it.
    pub const fn end(self) -> u64 {
        self.start + self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_each_other_without_overlap() {
        let ranges = [ECAM, PCI_MEMORY, IO_APIC, UNIT];
        for pair in ranges.windows(2) {
            assert!(pair[0].end() <= pair[1].start, "{pair:x?}");
        }
        assert_eq!(RAM_GAP, ECAM.start);
    }
}
