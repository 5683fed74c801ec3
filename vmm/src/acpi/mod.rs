//! The ACPI tables of firmware: which CPUs and interrupt controllers there are, where configuration
//! space and remapping unit are, what the host bridge decodes, and how to switch off.
//!
//! ```text
//!   RSDP (0xe0000) --> XSDT --> FADT -+-> DSDT   host bridge, COM1, power states
//!                          |           `-> FACS   (0xef000) shared with firmware
//!                          +--> MADT            CPUs, I/O APIC
//!                          +--> MCFG            ECAM of each PCI segment
//!                          +--> DMAR            remapping unit, which ports may have ATS below
//!                          +--> SRAT            if the unit has a proximity domain
//!                          `--> HPET            its registers, if there is one
//! ```
//!
//! The machine is hardware-reduced (`ACPI 4.1`): neither 8259 nor PIT, PM timer, SCI or power button.
//! An operating system takes the local APICs' timers and KVM's clock.

mod dmar;
mod dsdt;
mod tables;

use acpi_tables::Aml;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use devices::root_complex::RootComplexConfig;
use iommu::Memory;
use vm_memory::{Bytes, GuestAddress};

use crate::Error;
use crate::layout::{ACPI, ACPI_NVS, Range};

/// The offset of the Firmware Waking Vector in FACS, four bytes (`ACPI 5.2.10`).
pub(crate) const WAKING_VECTOR: u64 = 12;
/// The OEM ID of the tables.
const OEM: [u8; 6] = *b"GHOSTL";
/// The OEM Table ID.
const OEM_TABLE: [u8; 8] = *b"GHOSTLNK";
const OEM_REVISION: u32 = 1;

/// Tables begin at multiples of this.
const ALIGNMENT: u64 = 16;

/// Writes all tables for a machine of `cpus` CPUs and memory at `ram`; the RSDP is at the beginning of [`ACPI`].
pub(crate) fn write(
    memory: &Memory,
    ram: &[Range],
    cpus: u8,
    config: &RootComplexConfig,
) -> Result<(), Error> {
    for (address, bytes) in build(cpus, ram, config) {
        memory.write_slice(&bytes, GuestAddress(address)).map_err(|error| Error::Host {
            action: "write the ACPI tables into the guest's memory",
            source: std::io::Error::other(error),
        })?;
    }
    Ok(())
}

/// All tables, each with its address, the RSDP first.
fn build(cpus: u8, ram: &[Range], config: &RootComplexConfig) -> Vec<(u64, Vec<u8>)> {
    let mut placed = Placed { next: ACPI.start + Rsdp::len() as u64, tables: Vec::new() };
    let dsdt = placed.add(dsdt::build(&config.topology));
    let mut listed = vec![
        placed.add(bytes(&tables::fadt(dsdt, ACPI_NVS.start, config.topology.pc_testdev))),
        placed.add(bytes(&tables::madt(cpus))),
        placed.add(bytes(&tables::mcfg(config.topology.segments()))),
        placed.add(dmar::build(config)),
    ];
    let mut units = config.segments().into_iter().flat_map(|segment| segment.config.units());
    if units.any(|unit| unit.proximity.is_some()) {
        listed.push(placed.add(tables::srat(cpus, ram)));
    }
    if config.topology.hpet {
        listed.push(placed.add(tables::hpet()));
    }
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    listed.into_iter().for_each(|address| xsdt.add_entry(address));
    let xsdt = placed.add(bytes(&xsdt));
    placed.tables.insert(0, (ACPI.start, bytes(&Rsdp::new(OEM, xsdt))));
    placed.tables.push((ACPI_NVS.start, bytes(&tables::facs())));
    placed.tables
}

/// Tables that follow each other in memory.
struct Placed {
    next: u64,
    tables: Vec<(u64, Vec<u8>)>,
}

impl Placed {
    fn add(&mut self, table: Vec<u8>) -> u64 {
        let address = self.next.next_multiple_of(ALIGNMENT);
        self.next = address + table.len() as u64;
        self.tables.push((address, table));
        address
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
