//! The tables of fixed form: FADT, MADT, MCFG.

use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::mcfg::MCFG;

use super::{OEM, OEM_REVISION, OEM_TABLE};
use crate::layout::{ECAM, IO_APIC, LOCAL_APIC, port};

/// A write of this to [`port::RESET`] resets the machine.
const RESET_VALUE: u8 = 6;
/// The number of the I/O APIC, in its own register, in MADT and in DMAR.
pub(super) const IO_APIC_NUMBER: u8 = 0;

/// IA-PC boot architecture flags (`ACPI 5.2.9.3`): no VGA, no CMOS clock; and, by absence, no legacy
/// devices and no 8042.
const NO_VGA_NO_RTC: u16 = 1 << 2 | 1 << 5;

/// A register of one byte among the I/O ports.
fn port_register(port: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, port.into())
}

/// The FADT: the registers for reset and sleep. Its other fields are about hardware that does not
/// exist here.
pub(super) fn fadt(dsdt: u64) -> FADT {
    let mut table = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .flag(Flags::HwReducedAcpi);
    table.iapc_boot_arch = NO_VGA_NO_RTC.into();
    table.reset_reg = port_register(port::RESET);
    table.reset_value = RESET_VALUE;
    table.sleep_control_reg = port_register(port::SLEEP_CONTROL);
    table.sleep_status_reg = port_register(port::SLEEP_STATUS);
    table.hypervisor_vendor_identity = u64::from_le_bytes(*b"GHOSTLNK").into();
    table.finalize()
}

/// Local APICs, whose ids are the CPUs' numbers, and the I/O APIC.
pub(super) fn madt(cpus: u8) -> MADT {
    let address = LocalInterruptController::Address(LOCAL_APIC as u32);
    let mut table = MADT::new(OEM, OEM_TABLE, OEM_REVISION, address);
    for cpu in 0..cpus {
        table.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    table.add_structure(IoApic::new(IO_APIC_NUMBER, IO_APIC.start as u32, 0));
    table
}

/// The MCFG: the address of ECAM.
pub(super) fn mcfg() -> MCFG {
    let mut table = MCFG::new(OEM, OEM_TABLE, OEM_REVISION);
    let last_bus = (ECAM.size >> 20) - 1;
    table.add_ecam(ECAM.start, 0, 0, last_bus as u8);
    table
}
