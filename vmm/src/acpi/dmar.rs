//! The DMAR table (`VT-d 8.1`): remapping units, reserved memory, the root ports below which functions
//! may use ATS, the integrated functions that may, the units' proximity domains, and devices of the
//! ACPI namespace.

use acpi_tables::sdt::Sdt;
use devices::root_complex::{HPET_ID, IO_APIC_ID, RootComplexConfig, SegmentConfig};
use devices::topology::{DeviceScope, RootPortInfo, Satc};
use iommu::ids::Bdf;

use super::tables::IO_APIC_NUMBER;
use super::{OEM, OEM_REVISION, OEM_TABLE};

/// Table flag: interrupts can be remapped.
const INTR_REMAP: u8 = 1;
/// Table flag: software is asked to leave x2APIC alone.
const X2APIC_OPT_OUT: u8 = 1 << 1;
/// Table flag: firmware has kept devices from DMA, and asks software to go on with that.
const DMA_CTRL_PLATFORM_OPT_IN: u8 = 1 << 2;
/// DRHD flag: the unit is responsible for all functions that no other unit names.
const INCLUDE_PCI_ALL: u8 = 1;
/// ATSR flag: functions below all root ports may use ATS.
const ALL_PORTS: u8 = 1;
/// SATC flag: the functions need their ATC to work.
const ATC_REQUIRED: u8 = 1;

const DRHD: u16 = 0;
const RMRR: u16 = 1;
const ATSR: u16 = 2;
const RHSA: u16 = 3;
const ANDD: u16 = 4;
const SATC: u16 = 5;

/// Device scope types.
const ENDPOINT: u8 = 1;
const BRIDGE: u8 = 2;
const IO_APIC: u8 = 3;
const HPET: u8 = 4;
/// The number of the HPET, in its own table and here.
const HPET_NUMBER: u8 = 0;
const NAMESPACE_DEVICE: u8 = 5;

/// The DMAR of a root complex with this configuration. Structures stand in the order of their types,
/// as `VT-d 8.2` demands.
pub(super) fn build(config: &RootComplexConfig) -> Vec<u8> {
    let unit = &config.guest_unit;
    let mut table = Sdt::new(*b"DMAR", 48, 1, OEM, OEM_TABLE, OEM_REVISION);
    table.write_u8(36, unit.host_address_width - 1);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(unit.interrupt_remapping, INTR_REMAP)
        | flag(unit.x2apic_opt_out, X2APIC_OPT_OUT)
        | flag(unit.dma_opt_in, DMA_CTRL_PLATFORM_OPT_IN);
    table.write_u8(37, flags);
    // Without a requester id of its own the I/O APIC is named all the same, as by QEMU: nothing is
    // remapped by software that does not find it.
    let io_apic = scope(IO_APIC, IO_APIC_NUMBER, config.io_apic.unwrap_or(IO_APIC_ID));
    let namespace = || (1_u8..).zip(config.topology.namespace_devices());
    let mut platform = io_apic.to_vec();
    platform.extend(namespace().flat_map(|(n, device)| scope(NAMESPACE_DEVICE, n, device.source)));
    if config.topology.hpet {
        platform.extend(scope(HPET, HPET_NUMBER, HPET_ID));
    }
    let segments = config.segments();
    for segment in &segments {
        let platform = if segment.number == 0 { &platform[..] } else { &[] };
        units(segment, platform).iter().for_each(|unit| table.append_slice(unit));
    }
    for region in config.topology.reserved_memory() {
        let [start, last] = [region.range.start, region.range.end() - 1].map(u64::to_le_bytes);
        let scopes: Vec<u8> = region.scopes.iter().flat_map(path_scope).collect();
        table.append_slice(&structure(RMRR, 0, 0, &[&start[..], &last, &scopes].concat()));
    }
    segments.iter().filter_map(ats_ports).for_each(|ports| table.append_slice(&ports));
    for segment in &segments {
        for (index, unit) in segment.config.units().iter().enumerate() {
            if let Some(domain) = unit.proximity {
                let (base, domain) = (base(segment, index), domain.to_le_bytes());
                table.append_slice(&structure(RHSA, 0, 0, &[&base[..], &domain].concat()));
            }
        }
    }
    for (number, device) in namespace() {
        let name = format!("\\_SB.{:_<4}\0", device.name);
        table.append_slice(&numbered(ANDD, [0, 0, 0, number], name.as_bytes()));
    }
    for (satc, flags) in [(Satc::On, 0), (Satc::Required, ATC_REQUIRED)] {
        let named = config.topology.satc(satc);
        let scopes: Vec<u8> = named.flat_map(|function| scope(ENDPOINT, 0, function)).collect();
        if !scopes.is_empty() {
            table.append_slice(&structure(SATC, flags, 0, &scopes));
        }
    }
    table.as_slice().to_vec()
}

/// The units of a segment. `platform` are scopes of the one for the rest.
fn units(segment: &SegmentConfig, platform: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (index, unit) in (1..).zip(segment.config.topology.units()) {
        let scopes: Vec<u8> = unit.scopes.iter().flat_map(path_scope).collect();
        let unit = [&base(segment, index)[..], &scopes].concat();
        all.push(structure(DRHD, 0, segment.number, &unit));
    }
    // The last, since software takes the first that has a function.
    let rest = [&base(segment, 0)[..], platform].concat();
    all.push(structure(DRHD, INCLUDE_PCI_ALL, segment.number, &rest));
    all
}

fn base(segment: &SegmentConfig, index: usize) -> [u8; 8] {
    segment.unit(index).start.to_le_bytes()
}

/// The root ports of a segment below which functions may use ATS, if there are any.
fn ats_ports(segment: &SegmentConfig) -> Option<Vec<u8>> {
    let ports: Vec<RootPortInfo> = segment.config.topology.root_ports().collect();
    if ports.iter().all(|port| port.ats) {
        return Some(structure(ATSR, ALL_PORTS, segment.number, &[]));
    }
    let allowed = ports.iter().filter(|port| port.ats);
    let scopes: Vec<u8> = allowed.flat_map(|port| scope(BRIDGE, 0, port.function)).collect();
    (!scopes.is_empty()).then(|| structure(ATSR, 0, segment.number, &scopes))
}

/// A remapping structure of the segment with that number; of structures without one it is 0.
fn structure(kind: u16, flags: u8, segment: u16, rest: &[u8]) -> Vec<u8> {
    let [low, high] = segment.to_le_bytes();
    numbered(kind, [flags, 0, low, high], rest)
}

/// A remapping structure with these four bytes behind its length.
fn numbered(kind: u16, four: [u8; 4], rest: &[u8]) -> Vec<u8> {
    // A few hundred scopes of some bytes: no length comes near what the field holds.
    let length = (8 + rest.len()) as u16;
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), &four, rest].concat()
}

/// A device scope that begins on bus 0.
fn path_scope(scope: &DeviceScope) -> Vec<u8> {
    let kind = if scope.is_bridge { BRIDGE } else { ENDPOINT };
    let path = scope.path.iter().flat_map(|address| [address.devfn() >> 3, address.devfn() & 7]);
    // At most a root port, a few switches with two ports each, and a function.
    let length = (6 + 2 * scope.path.len()) as u8;
    [kind, length, 0, 0, 0, 0].into_iter().chain(path).collect()
}

/// A device scope that ends at `function`, on the bus where it begins.
fn scope(kind: u8, enumeration: u8, function: Bdf) -> [u8; 8] {
    [kind, 8, 0, 0, enumeration, function.bus(), function.device(), function.function()]
}
