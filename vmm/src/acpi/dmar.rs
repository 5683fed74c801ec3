//! The DMAR table (`VT-d 8.1`): one remapping unit for everything, the root ports below which functions
//! may use ATS, and the integrated functions that may.

use acpi_tables::sdt::Sdt;
use devices::root_complex::{IO_APIC_ID, RootComplexConfig};
use devices::topology::Satc;
use iommu::ids::Bdf;

use super::tables::IO_APIC_NUMBER;
use super::{OEM, OEM_REVISION, OEM_TABLE};
use crate::layout::UNIT;

/// Table flag: interrupts can be remapped.
const INTR_REMAP: u8 = 1;
/// Table flag: software is asked to leave x2APIC alone.
const X2APIC_OPT_OUT: u8 = 1 << 1;
/// DRHD flag: the unit is responsible for all functions that no other unit names.
const INCLUDE_PCI_ALL: u8 = 1;
/// ATSR flag: functions below all root ports may use ATS.
const ALL_PORTS: u8 = 1;
/// SATC flag: the functions need their ATC to work.
const ATC_REQUIRED: u8 = 1;

const DRHD: u16 = 0;
const ATSR: u16 = 2;
const SATC: u16 = 5;

/// Device scope types.
const ENDPOINT: u8 = 1;
const BRIDGE: u8 = 2;
const IO_APIC: u8 = 3;

/// The DMAR of a root complex with this configuration. `DMA_CTRL_PLATFORM_OPT_IN` stays clear: all
/// ports are internal.
pub(super) fn build(config: &RootComplexConfig) -> Vec<u8> {
    let unit = &config.guest_unit;
    let mut table = Sdt::new(*b"DMAR", 48, 1, OEM, OEM_TABLE, OEM_REVISION);
    table.write_u8(36, unit.host_address_width - 1);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags =
        flag(unit.interrupt_remapping, INTR_REMAP) | flag(unit.x2apic_opt_out, X2APIC_OPT_OUT);
    table.write_u8(37, flags);
    // Without a requester id of its own the I/O APIC is named all the same, as by QEMU: nothing is
    // remapped by software that does not find it.
    let io_apic = scope(IO_APIC, IO_APIC_NUMBER, config.io_apic.unwrap_or(IO_APIC_ID));
    let base = UNIT.start.to_le_bytes();
    table.append_slice(&structure(DRHD, INCLUDE_PCI_ALL, &[&base[..], &io_apic].concat()));
    let ports: Vec<_> = config.topology.root_ports().collect();
    let allowed = || ports.iter().filter(|port| port.ats);
    if ports.iter().all(|port| port.ats) {
        table.append_slice(&structure(ATSR, ALL_PORTS, &[]));
    } else if allowed().count() > 0 {
        let scopes: Vec<u8> = allowed().flat_map(|port| scope(BRIDGE, 0, port.function)).collect();
        table.append_slice(&structure(ATSR, 0, &scopes));
    }
    for (satc, flags) in [(Satc::On, 0), (Satc::Required, ATC_REQUIRED)] {
        let named = config.topology.satc(satc);
        let scopes: Vec<u8> = named.flat_map(|function| scope(ENDPOINT, 0, function)).collect();
        if !scopes.is_empty() {
            table.append_slice(&structure(SATC, flags, &scopes));
        }
    }
    table.as_slice().to_vec()
}

/// A remapping structure of segment 0.
fn structure(kind: u16, flags: u8, rest: &[u8]) -> Vec<u8> {
    // A few scopes of eight bytes: no length comes near what the field holds.
    let length = (8 + rest.len()) as u16;
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), &[flags, 0, 0, 0], rest].concat()
}

/// A device scope that ends at `function`, on the bus where it begins.
fn scope(kind: u8, enumeration: u8, function: Bdf) -> [u8; 8] {
    [kind, 8, 0, 0, enumeration, function.bus(), function.device(), function.function()]
}
