use devices::topology::{DeviceSpec, Topology};
use iommu::event::UnitRole;
use iommu::submit::PRESETS;
use iommu::unit::UnitConfig;

use super::*;
use crate::layout::{ECAM, UNIT};

fn config(devices: &[&str], unit: UnitConfig) -> RootComplexConfig {
    let devices: Vec<DeviceSpec> = devices.iter().map(|text| text.parse().unwrap()).collect();
    let topology = Topology::new(&devices).unwrap();
    RootComplexConfig { topology, ..RootComplexConfig::new(PRESETS[0].policy(), unit) }
}

fn simple() -> RootComplexConfig {
    config(&["root-port,id=rp0"], UnitConfig::new(UnitRole::Host))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The table with that signature.
fn table<'a>(tables: &'a [(u64, Vec<u8>)], signature: &str) -> &'a [u8] {
    let found = tables.iter().find(|(_, bytes)| bytes.starts_with(signature.as_bytes()));
    &found.unwrap_or_else(|| panic!("there is no {signature}")).1
}

#[test]
fn every_table_is_whole_and_where_the_one_above_it_says() {
    let tables = build(8, &simple());
    let (rsdp_address, rsdp) = &tables[0];
    assert_eq!((*rsdp_address, &rsdp[..8], rsdp[15]), (0xe_0000, &b"RSD PTR "[..], 2));
    assert_eq!((sum(&rsdp[..20]), sum(rsdp), rsdp.len()), (0, 0, 36));
    let at = |address| &tables.iter().find(|(start, _)| *start == address).unwrap().1;
    for (address, bytes) in &tables[1..] {
        assert_eq!(sum(bytes), 0, "checksum at {address:#x}");
        let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
        assert_eq!(length as usize, bytes.len(), "length at {address:#x}");
        assert!(address.is_multiple_of(16) && address + u64::from(length) <= ACPI.end());
    }
    let xsdt = at(u64_at(rsdp, 24));
    assert_eq!(&xsdt[..4], b"XSDT");
    let listed: Vec<&[u8]> =
        (36..xsdt.len()).step_by(8).map(|entry| &at(u64_at(xsdt, entry))[..4]).collect();
    assert_eq!(listed, [&b"FACP"[..], b"APIC", b"MCFG", b"DMAR"]);
    let fadt = table(&tables, "FACP");
    assert_eq!(&at(u64_at(fadt, 140))[..4], b"DSDT");
}

#[test]
fn tables_do_not_overlap() {
    let mut tables = build(8, &simple());
    tables.sort_by_key(|(address, _)| *address);
    for pair in tables.windows(2) {
        assert!(pair[0].0 + pair[0].1.len() as u64 <= pair[1].0);
    }
}

#[test]
fn fadt_says_how_to_reset_and_to_switch_off() {
    let tables = build(1, &simple());
    let fadt = table(&tables, "FACP");
    assert_eq!((fadt[8], fadt.len()), (6, 276));
    let flags = u32::from_le_bytes(fadt[112..116].try_into().unwrap());
    assert_eq!(flags, 1 << 20 | 1 << 10 | 1 << 5 | 1 << 4 | 1);
    let byte_port = |port: u64| [&[1, 8, 0, 1][..], &port.to_le_bytes()].concat();
    assert_eq!((&fadt[116..128], fadt[128]), (&byte_port(0xcf9)[..], 6));
    assert_eq!(&fadt[244..256], byte_port(0x600));
    assert_eq!(&fadt[256..268], byte_port(0x601));
}

#[test]
fn madt_has_every_cpu_and_the_io_apic() {
    let tables = build(3, &simple());
    let madt = table(&tables, "APIC");
    assert_eq!(&madt[36..44], [0, 0, 0xe0, 0xfe, 0, 0, 0, 0]);
    let cpu = |id| [0, 8, id, id, 1, 0, 0, 0];
    let io_apic = [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];
    assert_eq!(&madt[44..], [&[cpu(0), cpu(1), cpu(2)].concat()[..], &io_apic].concat());
}

#[test]
fn mcfg_has_all_buses_of_ecam() {
    let tables = build(1, &simple());
    let mcfg = table(&tables, "MCFG");
    assert_eq!((mcfg.len(), u64_at(mcfg, 44)), (60, ECAM.start));
    assert_eq!(&mcfg[52..56], [0, 0, 0, 255], "segment, first and last bus");
}

#[test]
fn dmar_has_the_unit_its_io_apic_and_all_ports() {
    let tables = build(1, &simple());
    let dmar = table(&tables, "DMAR");
    assert_eq!((dmar[8], dmar[36], dmar[37]), (1, 45, 0));
    assert_eq!(&dmar[48..56], [0, 0, 24, 0, 1, 0, 0, 0], "a DRHD for everything");
    assert_eq!(u64_at(dmar, 56), UNIT.start);
    assert_eq!(&dmar[64..72], [3, 8, 0, 0, 0, 0xff, 0, 0], "I/O APIC 0 is ff:00.0");
    assert_eq!(&dmar[72..], [2, 0, 8, 0, 1, 0, 0, 0], "ATS below all ports");
}

#[test]
fn dmar_follows_the_units_and_the_ports_settings() {
    let mut unit = UnitConfig::full(UnitRole::Host);
    unit.host_address_width = 39;
    let ports = ["root-port,id=a", "root-port,id=b,ats=off", "root-port,id=c,addr=5.0"];
    let mut config = config(&ports, unit);
    config.io_apic = Some("80:1f.7".parse().unwrap());
    let tables = build(1, &config);
    let dmar = table(&tables, "DMAR");
    assert_eq!((dmar[36], dmar[37]), (38, 1), "interrupts can be remapped");
    assert_eq!(&dmar[64..72], [3, 8, 0, 0, 0, 0x80, 0x1f, 7]);
    assert_eq!(&dmar[72..80], [2, 0, 24, 0, 0, 0, 0, 0], "an ATSR with two scopes");
    assert_eq!(&dmar[80..], [[2, 8, 0, 0, 0, 0, 1, 0], [2, 8, 0, 0, 0, 0, 5, 0]].concat());

    let none = config_without_ats();
    let tables = build(1, &none);
    assert_eq!(table(&tables, "DMAR").len(), 72, "no ATSR");
}

#[test]
fn dmar_names_integrated_functions_as_they_are_described() {
    let plain = config(&["root-port,id=a", "edu"], UnitConfig::new(UnitRole::Host));
    assert_eq!(table(&build(1, &plain), "DMAR").len(), 80, "no SATC");

    let devices = ["root-port,id=a", "edu,satc=on", "edu,satc=required", "iommu-testdev,satc=on"];
    let named = config(&devices, UnitConfig::new(UnitRole::Host));
    let tables = build(1, &named);
    let dmar = table(&tables, "DMAR");
    assert_eq!(&dmar[80..88], [5, 0, 24, 0, 0, 0, 0, 0], "an SATC with two scopes");
    assert_eq!(&dmar[88..104], [[1, 8, 0, 0, 0, 0, 0x0c, 0], [1, 8, 0, 0, 0, 0, 0x0e, 0]].concat());
    assert_eq!(&dmar[104..112], [5, 0, 16, 0, 1, 0, 0, 0], "one whose ATC is required");
    assert_eq!(&dmar[112..], [1, 8, 0, 0, 0, 0, 0x0d, 0]);
}

#[test]
fn dmar_can_ask_for_no_x2apic() {
    let unit = UnitConfig { x2apic_opt_out: true, ..UnitConfig::full(UnitRole::Host) };
    assert_eq!(table(&build(1, &config(&["root-port,id=a"], unit)), "DMAR")[37], 0b11);
}

fn config_without_ats() -> RootComplexConfig {
    config(&["root-port,id=a,ats=off"], UnitConfig::new(UnitRole::Host))
}

/// A look at the AML as a whole is a disassembler's business; these are the things that a change
/// could lose without a test that fails.
#[test]
fn dsdt_has_what_an_operating_system_looks_for() {
    let tables = build(1, &simple());
    let dsdt = table(&tables, "DSDT");
    let has = |bytes: &[u8]| dsdt.windows(bytes.len()).any(|window| window == bytes);
    for name in ["PCI0", "_CRS", "_PRT", "_OSC", "MBRD", "COM1"] {
        assert!(has(name.as_bytes()), "{name}");
    }
    // Name (_S5, Package (4) { 5, 5, 0, 0 })
    assert!(has(b"\x08_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00"));
    let window = [0xc000_0000_u32, 0xfdff_ffff, 0, 0x3e00_0000].map(u32::to_le_bytes).concat();
    assert!(has(&window), "the memory window");
    // Package (4) { 0x0010FFFF, 0, 0, 20 }: where INTA of `edu` leads.
    assert!(has(b"\x12\x0b\x04\x0c\xff\xff\x10\x00\x00\x00\x0a\x14"));
}
