use devices::topology::{DeviceSpec, Topology};
use iommu::event::UnitRole;
use iommu::unit::UnitConfig;

use super::*;
use crate::layout::{ECAM, Range, UNIT};

fn config(devices: &[&str], unit: UnitConfig) -> RootComplexConfig {
    let devices: Vec<DeviceSpec> = devices.iter().map(|text| text.parse().unwrap()).collect();
    let topology = Topology::new(&devices).unwrap();
    RootComplexConfig { topology, ..RootComplexConfig::direct(unit) }
}

/// Memory of 64 MiB.
const RAM: [Range; 1] = [Range { start: 0, size: 64 << 20 }];

fn simple() -> RootComplexConfig {
    config(&["root-port,id=rp0"], UnitConfig::new(UnitRole::Host))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
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
    let tables = build(8, &RAM, &simple());
    let (rsdp_address, rsdp) = &tables[0];
    assert_eq!((*rsdp_address, &rsdp[..8], rsdp[15]), (0xe_0000, &b"RSD PTR "[..], 2));
    assert_eq!((sum(&rsdp[..20]), sum(rsdp), rsdp.len()), (0, 0, 36));
    let at = |address| &tables.iter().find(|(start, _)| *start == address).unwrap().1;
    for (address, bytes) in tables[1..].iter().filter(|(_, bytes)| !bytes.starts_with(b"FACS")) {
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

/// `ACPI 5.2.10`. The FACS has no checksum.
#[test]
fn fadt_points_to_a_facs_in_memory_of_firmware() {
    let tables = build(1, &RAM, &simple());
    let fadt = table(&tables, "FACP");
    let address = u64_at(fadt, 132);
    assert_eq!((u32_at(fadt, 36), address), (0, 0xe_f000), "X_FIRMWARE_CTRL, and only that");
    assert!(address.is_multiple_of(64));
    let facs = &tables.iter().find(|(start, _)| *start == address).unwrap().1;
    let mut expected = [0; 64];
    expected[..8].copy_from_slice(b"FACS\x40\0\0\0");
    expected[32] = 2;
    assert_eq!(facs[..], expected, "hardware signature, waking vectors, lock and flags are 0");
}

#[test]
fn tables_do_not_overlap() {
    let mut tables = build(8, &RAM, &simple());
    tables.sort_by_key(|(address, _)| *address);
    for pair in tables.windows(2) {
        assert!(pair[0].0 + pair[0].1.len() as u64 <= pair[1].0);
    }
}

#[test]
fn fadt_says_how_to_reset_and_to_switch_off() {
    let tables = build(1, &RAM, &simple());
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
    let tables = build(3, &RAM, &simple());
    let madt = table(&tables, "APIC");
    assert_eq!(&madt[36..44], [0, 0, 0xe0, 0xfe, 0, 0, 0, 0]);
    let cpu = |id| [0, 8, id, id, 1, 0, 0, 0];
    let io_apic = [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];
    assert_eq!(&madt[44..], [&[cpu(0), cpu(1), cpu(2)].concat()[..], &io_apic].concat());
}

#[test]
fn mcfg_has_all_buses_of_ecam() {
    let tables = build(1, &RAM, &simple());
    let mcfg = table(&tables, "MCFG");
    assert_eq!((mcfg.len(), u64_at(mcfg, 44)), (60, ECAM.start));
    assert_eq!(&mcfg[52..56], [0, 0, 0, 255], "segment, first and last bus");
}

#[test]
fn dmar_has_the_unit_its_io_apic_and_all_ports() {
    let tables = build(1, &RAM, &simple());
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
    let tables = build(1, &RAM, &config);
    let dmar = table(&tables, "DMAR");
    assert_eq!((dmar[36], dmar[37]), (38, 1), "interrupts can be remapped");
    assert_eq!(&dmar[64..72], [3, 8, 0, 0, 0, 0x80, 0x1f, 7]);
    assert_eq!(&dmar[72..80], [2, 0, 24, 0, 0, 0, 0, 0], "an ATSR with two scopes");
    assert_eq!(&dmar[80..], [[2, 8, 0, 0, 0, 0, 1, 0], [2, 8, 0, 0, 0, 0, 5, 0]].concat());

    let none = config_without_ats();
    let tables = build(1, &RAM, &none);
    assert_eq!(table(&tables, "DMAR").len(), 72, "no ATSR");
}

#[test]
fn dmar_names_integrated_functions_as_they_are_described() {
    let plain = config(&["root-port,id=a", "edu"], UnitConfig::new(UnitRole::Host));
    assert_eq!(table(&build(1, &RAM, &plain), "DMAR").len(), 80, "no SATC");

    let devices = ["root-port,id=a", "edu,satc=on", "edu,satc=required", "iommu-testdev,satc=on"];
    let named = config(&devices, UnitConfig::new(UnitRole::Host));
    let tables = build(1, &RAM, &named);
    let dmar = table(&tables, "DMAR");
    assert_eq!(&dmar[80..88], [5, 0, 24, 0, 0, 0, 0, 0], "an SATC with two scopes");
    assert_eq!(&dmar[88..104], [[1, 8, 0, 0, 0, 0, 0x0c, 0], [1, 8, 0, 0, 0, 0, 0x0e, 0]].concat());
    assert_eq!(&dmar[104..112], [5, 0, 16, 0, 1, 0, 0, 0], "one whose ATC is required");
    assert_eq!(&dmar[112..], [1, 8, 0, 0, 0, 0, 0x0d, 0]);
}

#[test]
fn dmar_can_ask_for_no_x2apic() {
    let unit = UnitConfig { x2apic_opt_out: true, ..UnitConfig::full(UnitRole::Host) };
    assert_eq!(table(&build(1, &RAM, &config(&["root-port,id=a"], unit)), "DMAR")[37], 0b11);
}

#[test]
fn dmar_can_say_that_firmware_has_kept_devices_from_dma() {
    let unit = UnitConfig { dma_opt_in: true, ..UnitConfig::new(UnitRole::Host) };
    assert_eq!(table(&build(1, &RAM, &config(&["root-port,id=a"], unit)), "DMAR")[37], 0b100);
}

#[test]
fn dmar_has_reserved_memory_with_the_paths_of_its_functions() {
    let devices = [
        "root-port,id=rp0,addr=3",
        "switch,id=sw0,bus=rp0,ports=2",
        "nvme,id=disk,bus=sw0.1",
        "edu,id=edu0,addr=10",
        "rmrr,id=r,scope=disk+edu0,base=0x1000000,size=0x3000",
    ];
    let tables = build(1, &RAM, &config(&devices, UnitConfig::new(UnitRole::Host)));
    let dmar = table(&tables, "DMAR");
    // The root port, the switch's two ports, and the disk.
    let disk = [1, 14, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0];
    let edu = [1, 8, 0, 0, 0, 0, 0x10, 0];
    assert_eq!(&dmar[72..80], [1, 0, 46, 0, 0, 0, 0, 0], "an RMRR behind the DRHD");
    assert_eq!((u64_at(dmar, 80), u64_at(dmar, 88)), (0x100_0000, 0x100_2fff), "base, limit");
    assert_eq!(&dmar[96..118], [&disk[..], &edu].concat());
    assert_eq!(&dmar[118..], [2, 0, 8, 0, 1, 0, 0, 0], "and in front of the ATSR");
}

#[test]
fn dmar_has_the_units_for_some_functions_in_front_of_the_one_for_the_rest() {
    let devices = [
        "root-port,id=a",
        "root-port,id=b",
        "edu,id=edu0,addr=10",
        "drhd,id=u,scope=b+edu0",
        "drhd,id=v,scope=a",
    ];
    let mut config = config(&devices, UnitConfig::new(UnitRole::Host));
    let near = UnitConfig { proximity: Some(0), ..config.guest_unit };
    config.unit_settings.push(("v".to_owned(), near));
    let tables = build(1, &RAM, &config);
    let dmar = table(&tables, "DMAR");
    assert_eq!(&dmar[48..56], [0, 0, 32, 0, 0, 0, 0, 0], "a DRHD with two scopes");
    assert_eq!(u64_at(dmar, 56), 0xfed9_1000);
    assert_eq!(&dmar[64..80], [[2, 8, 0, 0, 0, 0, 2, 0], [1, 8, 0, 0, 0, 0, 0x10, 0]].concat());
    assert_eq!((&dmar[80..85], u64_at(dmar, 88)), (&[0, 0, 24, 0, 0][..], 0xfed9_2000));
    assert_eq!((&dmar[104..109], u64_at(dmar, 112)), (&[0, 0, 24, 0, 1][..], 0xfed9_0000));
    assert_eq!(&dmar[120..123], [3, 8, 0], "the I/O APIC is in the last");
    assert_eq!((dmar[128], dmar[136]), (2, 3), "ATSR, RHSA");
    assert_eq!((u64_at(dmar, 144), u32_at(dmar, 152), dmar.len()), (0xfed9_2000, 0, 156));
}

#[test]
fn dmar_has_the_units_proximity_domain_and_srat_has_the_memory() {
    let unit = UnitConfig { proximity: Some(7), ..UnitConfig::new(UnitRole::Host) };
    let tables = build(2, &RAM, &config(&["root-port,id=a"], unit));
    let dmar = table(&tables, "DMAR");
    assert_eq!(&dmar[80..88], [3, 0, 20, 0, 0, 0, 0, 0], "an RHSA behind the ATSR");
    assert_eq!((u64_at(dmar, 88), u32_at(dmar, 96), dmar.len()), (UNIT.start, 7, 100));
    let srat = table(&tables, "SRAT");
    assert_eq!((sum(srat), u32_at(srat, 36), srat.len()), (0, 1, 48 + 2 * 16 + 40));
    assert_eq!(&srat[48..56], [0, 16, 0, 0, 1, 0, 0, 0], "CPU 0, enabled, in domain 0");
    assert_eq!(&srat[64..72], [0, 16, 0, 1, 1, 0, 0, 0]);
    assert_eq!(&srat[80..88], [1, 40, 0, 0, 0, 0, 0, 0], "memory in domain 0");
    assert_eq!((u64_at(srat, 88), u64_at(srat, 96), u32_at(srat, 108)), (0, 64 << 20, 1));
    let without = build(1, &RAM, &simple());
    assert!(!without.iter().any(|(_, bytes)| bytes.starts_with(b"SRAT")));
}

#[test]
fn a_namespace_device_is_in_dmar_twice_and_in_the_dsdt() {
    let devices = ["root-port,id=a", "andd,id=I2C,addr=1e.1"];
    let tables = build(1, &RAM, &config(&devices, UnitConfig::new(UnitRole::Host)));
    let dmar = table(&tables, "DMAR");
    assert_eq!(&dmar[48..52], [0, 0, 32, 0], "a DRHD with two scopes");
    assert_eq!(&dmar[72..80], [5, 8, 0, 0, 1, 0, 0x1e, 1], "number 1, source id 00:1e.1");
    assert_eq!(&dmar[88..96], [4, 0, 18, 0, 0, 0, 0, 1], "an ANDD, number 1");
    assert_eq!(&dmar[96..], b"\\_SB.I2C_\0");
    let dsdt = table(&tables, "DSDT");
    let has = |bytes: &[u8]| dsdt.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(b"I2C_\x08_HID\x0dGHST0001\0"), "a device named I2C with _HID GHST0001");
}

#[test]
fn a_root_port_that_users_can_reach_has_the_property_in_the_dsdt() {
    let unit = UnitConfig::new(UnitRole::Host);
    let devices =
        ["root-port,id=a", "root-port,id=b,addr=1c.2,external=on", "root-port,id=c,addr=1c"];
    let tables = build(1, &RAM, &config(&devices, unit));
    let dsdt = table(&tables, "DSDT");
    let count = |bytes: &[u8]| dsdt.windows(bytes.len()).filter(|window| *window == bytes).count();
    assert_eq!((count(b"_DSD"), count(b"ExternalFacingPort\0\x01")), (1, 1));
    assert_eq!(count(b"P1C2\x08_ADR\x0c\x02\x00\x1c\x00"), 1, "_ADR is 0x001c0002");
    // EFCC06CC-73AC-4BC3-BFF0-76143807C389, as a buffer.
    let uuid = b"\xcc\x06\xcc\xef\xac\x73\xc3\x4b\xbf\xf0\x76\x14\x38\x07\xc3\x89";
    assert_eq!(count(uuid), 1);
}

/// Two units for functions with equal numbers, each in the structures of its segment.
#[test]
fn further_segments_have_units_ecam_and_root_buses_of_their_own() {
    let devices = [
        "root-port,id=a",
        "drhd,id=u,segment=1",
        "root-port,id=b,segment=1,external=on",
        "root-port,id=c,segment=0xffff,ats=off",
        "root-port,id=d,segment=0xffff",
        "drhd,id=v,scope=a",
        "drhd,id=w,segment=65535,scope=d",
        "drhd,id=x,segment=65535",
    ];
    let mut config = config(&devices, UnitConfig::new(UnitRole::Host));
    let near = UnitConfig { proximity: Some(3), ..config.guest_unit };
    config.unit_settings.push(("w".to_owned(), near));
    config.check(&RAM).unwrap();
    let tables = build(1, &RAM, &config);
    let dmar = table(&tables, "DMAR");
    let mut structures = Vec::new();
    let mut at = 48;
    while at < dmar.len() {
        let length = usize::from(dmar[at + 2]);
        structures.push(&dmar[at..at + length]);
        at += length;
    }
    let heads: Vec<_> = structures.iter().map(|s| (s[0], s[4], s[6], s[7])).collect();
    assert_eq!(
        heads[..5],
        [(0, 0, 0, 0), (0, 1, 0, 0), (0, 1, 1, 0), (0, 0, 255, 255), (0, 1, 255, 255)]
    );
    assert_eq!(heads[5..8], [(2, 1, 0, 0), (2, 1, 1, 0), (2, 0, 255, 255)], "ATSR of each segment");
    let bases: Vec<u64> = structures[..5].iter().map(|drhd| u64_at(drhd, 8)).collect();
    assert_eq!(bases, [0xfed9_1000, 0xfed9_0000, 0xfed9_2000, 0xfed9_4000, 0xfed9_3000]);
    let scope = |device| [2, 8, 0, 0, 0, 0, device, 0];
    assert_eq!(structures[0][16..], scope(1));
    assert_eq!(structures[2].len(), 16, "the I/O APIC is in segment 0 only");
    assert_eq!((&structures[3][16..], &structures[7][8..]), (&scope(2)[..], &scope(2)[..]));
    assert_eq!((structures[8][0], u64_at(structures[8], 8)), (3, 0xfed9_4000), "RHSA");
    assert!(tables.iter().any(|(_, bytes)| bytes.starts_with(b"SRAT")));

    let mcfg = table(&tables, "MCFG");
    assert_eq!((mcfg.len(), u64_at(mcfg, 60), u64_at(mcfg, 76)), (92, 0xe000_0000, 0xe800_0000));
    assert_eq!((&mcfg[68..72], &mcfg[84..88]), (&[1, 0, 0, 63][..], &[255, 255, 0, 63][..]));

    let dsdt = table(&tables, "DSDT");
    let count = |bytes: &[u8]| dsdt.windows(bytes.len()).filter(|window| *window == bytes).count();
    for name in [&b"PCI0"[..], b"PCI1", b"PCI2", b"_PRT", b"ExternalFacingPort"] {
        assert_eq!(count(name), 1, "{}", String::from_utf8_lossy(name));
    }
    assert_eq!((count(b"_OSC"), count(b"_SEG\x00"), count(b"_SEG\x01")), (3, 1, 1));
    assert_eq!(count(b"_SEG\x0b\xff\xff"), 1);
    let window =
        |first: u32, last: u32| [first, last, 0, last - first + 1].map(u32::to_le_bytes).concat();
    assert_eq!(count(&window(0xc000_0000, 0xdfff_ffff)), 1, "what is left of segment 0's window");
    assert_eq!(count(&window(0xe400_0000, 0xe7ff_ffff)), 1);
    assert_eq!(count(&window(0xec00_0000, 0xefff_ffff)), 1);
    // Memory32Fixed of both ECAMs.
    for ecam in [0xe000_0000_u32, 0xe800_0000] {
        let range = [ecam, 0x400_0000].map(u32::to_le_bytes).concat();
        assert_eq!(count(&[&[0x86, 9, 0, 1][..], &range].concat()), 1);
    }
}

fn config_without_ats() -> RootComplexConfig {
    config(&["root-port,id=a,ats=off"], UnitConfig::new(UnitRole::Host))
}

/// A look at the AML as a whole is a disassembler's business; these are the things that a change
/// could lose without a test that fails.
#[test]
fn dsdt_has_what_an_operating_system_looks_for() {
    let tables = build(1, &RAM, &simple());
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

#[test]
fn an_hpet_has_a_table_and_a_scope_for_its_messages() {
    let tables = build(1, &RAM, &config(&["hpet"], UnitConfig::new(UnitRole::Host)));
    let hpet = table(&tables, "HPET");
    assert_eq!((hpet.len(), hpet[8]), (56, 1));
    assert_eq!(hpet[36..40], 0x8086_a201_u32.to_le_bytes());
    assert_eq!((hpet[40], u64_at(hpet, 44)), (0, 0xfed0_0000));
    let scope = [4, 8, 0, 0, 0, 0xff, 1, 0];
    let has_scope = |tables: &[(u64, Vec<u8>)]| {
        table(tables, "DMAR").windows(scope.len()).any(|bytes| bytes == scope)
    };
    assert!(has_scope(&tables));
    let tables = build(1, &RAM, &simple());
    assert!(!has_scope(&tables) && !tables.iter().any(|(_, bytes)| bytes.starts_with(b"HPET")));
}
