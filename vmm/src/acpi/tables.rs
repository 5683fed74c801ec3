//! The tables of fixed form: FADT, FACS, MADT, MCFG, SRAT, HPET.

use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::mcfg::MCFG;
use acpi_tables::sdt::Sdt;
use devices::hpet;
use devices::topology::Segment;

use super::{OEM, OEM_REVISION, OEM_TABLE};
use crate::layout::{ECAM, HPET, IO_APIC, LOCAL_APIC, Range, port, segment_ecam};

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

/// The FADT: the registers for reset and sleep, and the addresses of DSDT and FACS. Its other fields
/// are about hardware that does not exist here.
pub(super) fn fadt(dsdt: u64, facs: u64, can_sleep: bool) -> FADT {
    let mut table = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .dsdt_64(dsdt)
        .firmware_ctrl_64(facs)
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
    if can_sleep {
        add_sleep_registers(&mut table, facs);
    }
    table.hypervisor_vendor_identity = u64::from_le_bytes(*b"GHOSTLNK").into();
    table.finalize()
}

/// The registers of a machine with `pc-testdev`, by which it sleeps: PM1a, and FACS by the field that
/// kvm-unit-tests read.
fn add_sleep_registers(table: &mut FADTBuilder, facs: u64) {
    let flags = u32::from(table.flags) & !(Flags::HwReducedAcpi as u32);
    table.flags = flags.into();
    table.firmware_ctrl = (facs as u32).into();
    table.x_firmware_ctrl = 0.into();
    table.pm1a_evt_blk = u32::from(port::POWER_EVENTS).into();
    table.pm1a_cnt_blk = u32::from(port::POWER).into();
    table.pm1_evt_len = 4;
    table.pm1_cnt_len = 2;
}

/// The FACS (`ACPI 5.2.10`). No firmware takes the global lock; an operating system that sleeps writes
/// the waking vector.
pub(super) fn facs() -> FACS {
    let mut table = FACS::new();
    table.version = 2;
    table
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

/// The MCFG: the address of each segment's ECAM.
pub(super) fn mcfg(segments: &[Segment]) -> MCFG {
    let mut table = MCFG::new(OEM, OEM_TABLE, OEM_REVISION);
    let last_bus = |ecam: Range| ((ecam.size >> 20) - 1) as u8;
    table.add_ecam(ECAM.start, 0, 0, last_bus(ECAM));
    for (index, segment) in segments.iter().enumerate() {
        let ecam = segment_ecam(index);
        table.add_ecam(ecam.start, segment.number, 0, last_bus(ecam));
    }
    table
}

/// The SRAT (`ACPI 5.2.16`): all CPUs and all memory are in proximity domain 0. Without it software
/// makes nothing of the unit's domain.
pub(super) fn srat(cpus: u8, ram: &[Range]) -> Vec<u8> {
    const LOCAL_APIC_AFFINITY: u8 = 0;
    const MEMORY_AFFINITY: u8 = 1;
    const ENABLED: [u8; 4] = 1_u32.to_le_bytes();
    let mut table = Sdt::new(*b"SRAT", 48, 3, OEM, OEM_TABLE, OEM_REVISION);
    // The table's reserved word is 1 for backward compatibility.
    table.write_u32(36, 1);
    for cpu in 0..cpus {
        let head = [LOCAL_APIC_AFFINITY, 16, 0, cpu];
        table.append_slice(&[&head[..], &ENABLED, &[0; 8]].concat());
    }
    for range in ram {
        let (start, size) = (range.start.to_le_bytes(), range.size.to_le_bytes());
        let head = [MEMORY_AFFINITY, 40, 0, 0, 0, 0, 0, 0];
        table.append_slice(&[&head[..], &start, &size, &[0; 4], &ENABLED, &[0; 8]].concat());
    }
    table.as_slice().to_vec()
}

/// The HPET table (IA-PC HPET Specification 1.0a, 3.2.4): where its registers are.
pub(super) fn hpet() -> Vec<u8> {
    const SYSTEM_MEMORY: u8 = 0;
    let mut table = Sdt::new(*b"HPET", 56, 1, OEM, OEM_TABLE, OEM_REVISION);
    // The event timer block's id is the lower half of its capabilities.
    table.write_u32(36, hpet::CAPABILITIES_VALUE.into_bits() as u32);
    table.write_u8(40, SYSTEM_MEMORY);
    table.write_u8(41, 64);
    table.write_u64(44, HPET.start);
    // HPET number 0; no shortest period is asked of software; the page has other registers.
    table.as_slice().to_vec()
}
