//! Descriptions that are valid, descriptions that are not, and the hierarchies that are built.

use super::*;
use crate::chipset::map::Range;
use crate::pcie::caps::express::HotPlug;

fn specs(texts: &[&str]) -> Vec<DeviceSpec> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn names(texts: &[&str]) -> Vec<String> {
    let topology = Topology::new(&specs(texts)).unwrap();
    topology.port_infos().into_iter().map(|port| port.name).collect()
}

/// Index, device and reason of the error.
fn refusal(texts: &[&str]) -> (usize, String) {
    let error = Topology::new(&specs(texts)).unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error}");
    (error.index, error.reason)
}

#[test]
fn an_option_names_every_key() {
    let text = "root-port,id=rp0,addr=2.1,slot=0x10,hotplug=button,ats=off";
    let expected = RootPort {
        addr: Some(Address::new(2, 1)),
        slot: Some(0x10),
        hotplug: HotPlug::Button,
        ats: false,
        ..RootPort::new("rp0".to_owned())
    };
    assert_eq!(text.parse(), Ok(DeviceSpec::RootPort(expected)));
    let external = "root-port,id=rp0,external=on".parse();
    assert_eq!(
        external,
        Ok(DeviceSpec::RootPort(RootPort { external: true, ..RootPort::new("rp0".to_owned()) }))
    );
    let text = "ats-endpoint,id=e,bus=rp0,addr=0.1,pri=off,pasid=off,vfs=4,serial=0x123456789abcdef0,\
         atc=256,ways=0x10,traffic=read:8/1ms@0x1000:atc";
    let expected = Endpoint {
        id: Some("e".to_owned()),
        addr: Address::new(0, 1),
        pri: Some(false),
        pasid: false,
        vfs: 4,
        atc: Some(256),
        ways: Some(16),
        traffic: Some("read:8/1ms@0x1000:atc".parse().unwrap()),
        serial: Some(0x1234_5678_9abc_def0),
        ..Endpoint::new("rp0".to_owned())
    };
    assert_eq!(text.parse(), Ok(DeviceSpec::AtsEndpoint(expected)));
}

#[test]
fn the_list_for_users_has_all_types_and_keys() {
    let error = "nothing".parse::<DeviceSpec>().unwrap_err().to_string();
    for (name, keys) in TYPES {
        assert!(error.contains(&format!("`{name}`")), "{error}");
        let error = format!("{name},nothing=1").parse::<DeviceSpec>().unwrap_err().to_string();
        let known = error.matches('`').count() / 2 - 1;
        assert_eq!(known, keys.len(), "{error}");
        for (key, _) in keys {
            let key = key.split('=').next().unwrap();
            assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
        }
    }
}

#[test]
fn entries_stand_in_any_order_and_ports_are_named() {
    let texts = [
        "ats-endpoint,bus=sw1.0",
        "switch,id=sw1,bus=sw0.1,ports=1",
        "switch,id=sw0,bus=rp0,ports=2",
        "root-port,id=rp0",
        "ats-endpoint,bus=rp1",
        "root-port,id=rp1",
    ];
    let expected = ["rp0", "rp1", "sw0", "sw0.0", "sw0.1", "sw1", "sw1.0"];
    assert_eq!(names(&texts), expected);
    let topology = Topology::new(&specs(&texts)).unwrap();
    let hierarchy = topology.build(&mut Media::new(), &Tracer::none()).unwrap();
    assert_eq!(hierarchy.port_index("sw0.1"), Some(4));
    assert_eq!(hierarchy.port_index("sw0.2"), None);
    let with_link = topology.port_infos().into_iter().map(|port| port.has_link);
    assert_eq!(with_link.filter(|has| *has).count(), 5, "all but the upper ports of the switches");
}

#[test]
fn ids_replace_those_of_the_type() {
    let texts = [
        "root-port,id=rp0,vendor=0x8086,device=0xa110,revision=0xf1",
        "root-port,id=rp1",
        "nvme,bus=rp0,vendor=0x144d,device=0xa808,revision=0",
        "ats-endpoint,bus=rp1,device=7,subvendor=0x103c,subsystem=9",
        "edu,vendor=0x1002",
    ];
    let topology = Topology::new(&specs(&texts)).unwrap();
    let mut hierarchy = topology.build(&mut Media::new(), &Tracer::none()).unwrap();
    let now = iommu::time::Instant::START;
    for (port, buses) in [(1, 0x0001_0100), (2, 0x0002_0200_u32)] {
        hierarchy.config_write(Bdf::new(0, port, 0), 0x18, &buses.to_le_bytes(), now);
    }
    let mut read = |function: Bdf, offset: u16| {
        let mut data = [0; 4];
        hierarchy.config_read(function, offset, &mut data, now);
        u32::from_le_bytes(data)
    };
    assert_eq!(read(Bdf::new(0, 1, 0), 0), 0xa110_8086);
    assert_eq!(read(Bdf::new(0, 1, 0), 8), 0x0604_00f1);
    assert_eq!(read(Bdf::new(0, 2, 0), 0), 0x3420_8086);
    let disk = Bdf::new(1, 0, 0);
    assert_eq!((read(disk, 0), read(disk, 0x2c)), (0xa808_144d, 0xa808_144d));
    assert_eq!(read(disk, 8), 0x0108_0200);
    let endpoint = Bdf::new(2, 0, 0);
    assert_eq!((read(endpoint, 0), read(endpoint, 0x2c)), (0x0007_1234, 0x0009_103c));
    let edu = topology.integrated().next().unwrap();
    assert_eq!((read(edu, 0), read(edu, 0x2c)), (0x11e8_1002, 0x11e8_1002));
    let warned = |text: &str| text.parse::<DeviceSpec>().unwrap().warning();
    assert!(warned(texts[3]).unwrap().contains("its ids are 1234:0007 now"));
    assert!(warned(texts[4]).unwrap().contains("looks for 1234:11e8"));
    for text in [texts[0], texts[2], "ats-endpoint,bus=rp0,vendor=0x1234,revision=3"] {
        assert_eq!(warned(text), None, "{text}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_entry_and_the_reason() {
    const RP0: &str = "root-port,id=rp0";
    const SW0: &str = "switch,id=sw0,bus=rp0,ports=2";
    const EP: &str = "ats-endpoint,bus=rp0";
    let cases: &[(&[&str], usize, &str)] = &[
        (&[RP0, RP0], 1, "root-port 'rp0' has that name, too"),
        (&["root-port,id=rp.0"], 0, "'rp.0' is no name"),
        (&["root-port,id="], 0, "'' is no name"),
        (&[RP0, EP, EP], 2, "00.0 below 'rp0' is taken by ats-endpoint on 'rp0'"),
        (&["edu,addr=2", "root-port,id=a,addr=2"], 1, "02.0 on bus 0 is taken by edu"),
        (&["edu,addr=0.1"], 0, "host bridge"),
        (&["edu,vendor=0xffff"], 0, "vendor=0xffff says that no function is there"),
        (&["root-port,id=a,vendor=0"], 0, "vendor=0x0 says that no function is there"),
        (&["hpet", "pc-testdev", "hpet,id=h"], 2, "there is one already (hpet); leave one out"),
        (&["pc-testdev,id=t", "pc-testdev"], 1, "there is one already (pc-testdev 't')"),
        (&["edu,addr=10.1"], 0, "there is no function 10.0"),
        (&[RP0, "ats-endpoint,bus=rp0,addr=0.1"], 1, "there is no function 00.0"),
        (&[RP0, "ats-endpoint,bus=rp0,addr=1"], 1, "there is no function 00.0"),
        (&["root-port,id=a,slot=2", "root-port,id=b,slot=2"], 1, "there is a slot 2 already"),
        (&[RP0, "ats-endpoint,bus=rp1"], 1, "there is no port 'rp1'; there are rp0"),
        (&["ats-endpoint,bus=rp1"], 0, "add a root-port with id=rp1"),
        (&["switch,id=sw0,bus=rp0,ports=2"], 0, "there is no port 'rp0'"),
        (&[RP0, SW0, "ats-endpoint,bus=sw0"], 2, "name one of its ports, such as sw0.0"),
        (&[RP0, SW0, "ats-endpoint,bus=sw0.2"], 2, "there are rp0, sw0.0, sw0.1"),
        (&[RP0, SW0, "ats-endpoint,bus=rp0,addr=0.1"], 2, "'rp0' leads to switch 'sw0'"),
        (
            &[RP0, EP, "ats-endpoint,id=x,bus=rp0,addr=0.1", "switch,id=s,bus=x,ports=1"],
            3,
            "no port",
        ),
        (&["switch,id=sw0,bus=sw0.0,ports=1"], 0, "not below any root port"),
        (&["switch,id=a,bus=b.0,ports=1", "switch,id=b,bus=a.0,ports=1"], 0, "in a circle"),
        (&[RP0, "switch,id=sw0,bus=rp0,ports=0"], 1, "ports=0 is not 1 to 32"),
        (&[RP0, "switch,id=sw0,bus=rp0,ports=33"], 1, "ports=33 is not 1 to 32"),
        (&["root-port,id=rp0,ats=off", EP], 1, "the root port has ats=off"),
        (&["root-port,id=rp0,ats=off", SW0, "ats-endpoint,bus=sw0.1"], 2, "has ats=off"),
        (&[RP0, "ats-endpoint,bus=rp0,ats=off,pri=on"], 1, "page requests need ATS"),
        (&[RP0, "ats-endpoint,bus=rp0,ways=3"], 1, "atc=64,ways=3 cannot be"),
        (&[RP0, "ats-endpoint,bus=rp0,atc=8192"], 1, "atc=8192,ways=8192 cannot be"),
        (&[RP0, "ats-endpoint,bus=rp0,atc=0"], 1, "atc=0,ways=0 cannot be"),
        (&[RP0, "ats-endpoint,bus=rp0,ats=off,atc=8"], 1, "without ATS there is no ATC"),
        (&[RP0, "ats-endpoint,bus=rp0,vfs=65"], 1, "vfs=65 is more than 64"),
        (&[RP0, EP, "ats-endpoint,bus=rp0,addr=1f.0,vfs=9"], 2, "function numbers left"),
        (&[RP0, "ats-endpoint,bus=rp0,vfs=1", "ats-endpoint,bus=rp0,addr=0.1,vfs=1"], 2, "one can"),
        (&[RP0, EP, "ats-endpoint,bus=rp0,addr=0.1,serial=1"], 2, "give it to function 0"),
        (&[RP0, EP, "nvme,bus=rp0"], 2, "'rp0' has ats-endpoint on 'rp0' already"),
        (&[RP0, "nvme,bus=rp0,mib=0"], 1, "mib=0 is not 1 to 4096"),
        (&[RP0, "nvme,bus=rp0,vfs=0"], 1, "vfs=0 is not 1 to 64; leave vfs= out"),
        (&[RP0, "nvme,bus=rp0,vfs=65"], 1, "vfs=65 is not 1 to 64"),
        (&["root-port,id=rp0,ats=off", "nvme,bus=rp0"], 1, "give it ats=off, too"),
        (&[RP0, "nvme,bus=rp0,mib=1,file=x"], 1, "mib= or file="),
        (&[RP0, "nvme,id=d,bus=rp0,file=x", "nvme-ns,bus=d,file=x"], 2, "is in 'x' already"),
        (
            &[RP0, "nvme,id=d,bus=rp0", "nvme-ns,bus=e"],
            2,
            "no NVMe controller 'e'; add one with id=e",
        ),
        (
            &[RP0, "nvme,id=d,bus=rp0", "nvme-ns,bus=rp0"],
            2,
            "root-port 'rp0' is no NVMe controller",
        ),
    ];
    for (texts, index, reason) in cases {
        let found = refusal(texts);
        assert!(found.0 == *index && found.1.contains(reason), "{texts:?}: {found:?}");
    }
}

#[test]
fn there_are_limits() {
    let ports = (0..9).map(|n| RootPort::new(format!("rp{n}")));
    let ports: Vec<DeviceSpec> = ports.map(DeviceSpec::RootPort).collect();
    assert!(Topology::new(&ports[..8]).is_ok());
    assert_eq!(Topology::new(&ports).unwrap_err().index, 8);

    let deep = |switches: usize| {
        let mut texts = vec!["root-port,id=s0".to_owned()];
        texts.extend((1..=switches).map(|n| match n {
            1 => "switch,id=s1,bus=s0,ports=1".to_owned(),
            _ => format!("switch,id=s{n},bus=s{}.0,ports=1", n - 1),
        }));
        texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<DeviceSpec>>()
    };
    assert!(Topology::new(&deep(MAX_DEPTH)).is_ok());
    let error = Topology::new(&deep(MAX_DEPTH + 1)).unwrap_err();
    assert!(error.reason.contains("4 switches"), "{error}");

    let wide = |switches: usize| {
        let mut texts = vec!["root-port,id=rp".into(), "switch,id=s0,bus=rp,ports=32".to_owned()];
        let next = |n| format!("switch,id=s{},bus=s0.{n},ports=32", n + 1);
        texts.extend((0..switches).map(next));
        texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<DeviceSpec>>()
    };
    assert!(Topology::new(&wide(6)).is_ok(), "1 + 33 + 6 * 33 buses");
    let error = Topology::new(&wide(7)).unwrap_err();
    assert!(error.index == 8 && error.reason.contains("bus numbers"), "{error}");

    let mut disks = wide(6);
    let disk = |n: u8| format!("nvme,bus=s{}.{},mib=1,vfs=8", 1 + n / 32, n % 32);
    disks.extend((0..23).map(|n| disk(n).parse::<DeviceSpec>().unwrap()));
    assert!(Topology::new(&disks).is_ok(), "232 buses of ports, and 23 of virtual functions");
    disks.push(disk(23).parse().unwrap());
    let error = Topology::new(&disks).unwrap_err();
    assert!(error.index == 31 && error.reason.contains("bus numbers left"), "{error}");

    let edus = |count: usize| Topology::new(&vec!["edu".parse().unwrap(); count]);
    assert!(edus(20).is_ok());
    assert!(edus(21).unwrap_err().reason.contains("free device number"));
}

#[test]
fn firmware_names_the_integrated_functions_that_it_is_told_to() {
    let texts = ["edu", "edu,satc=required", "iommu-testdev,satc=on"];
    let topology = Topology::new(&specs(&texts)).unwrap();
    let named = |satc| topology.satc(satc).map(|function| function.to_string()).collect::<Vec<_>>();
    assert_eq!(named(Satc::On), ["00:0e.0"]);
    assert_eq!(named(Satc::Required), ["00:0d.0"]);
    let error = "edu,satc=maybe".parse::<DeviceSpec>().unwrap_err().to_string();
    assert!(error.contains("required"), "{error}");
}

#[test]
fn addresses_that_are_asked_for_come_first() {
    let texts = ["root-port,id=a", "root-port,id=b,addr=1,slot=2", "edu", "edu,addr=c"];
    let topology = Topology::new(&specs(&texts)).unwrap();
    let integrated: Vec<String> =
        topology.integrated().map(|function| function.to_string()).collect();
    assert_eq!(integrated, ["00:0d.0", "00:0c.0"]);
    let port = |step: &Step| match step {
        Step::Port { name, devfn, port_type, .. } => Some((name.clone(), *devfn, *port_type)),
        Step::Function { .. } => None,
    };
    let ports: Vec<_> = topology.steps.iter().filter_map(port).collect();
    let slot = |number| {
        let hot_plug = HotPlug::Surprise;
        crate::pcie::caps::express::PortType::RootPort(crate::pcie::caps::express::Slot {
            number,
            hot_plug,
        })
    };
    assert_eq!(ports, [("a".to_owned(), 2 << 3, slot(3)), ("b".to_owned(), 1 << 3, slot(2))]);
}

#[test]
fn an_address_reads_as_it_is_written() {
    for (text, devfn) in [("2", 0x10), ("0.1", 1), ("1f.7", 0xff), ("0x10.0", 0x80)] {
        assert_eq!(text.parse::<Address>().unwrap().devfn(), devfn);
    }
    for text in ["", "20", "1.8", "-1", "+1", "1.0.0", "1.", ".1", "g"] {
        assert!(text.parse::<Address>().unwrap_err().to_string().contains(text));
    }
}

#[test]
fn reserved_memory_and_namespace_devices_that_cannot_be_are_refused() {
    const RP0: &str = "root-port,id=rp0";
    const EP: &str = "ats-endpoint,id=e,bus=rp0";
    let cases: &[(&[&str], usize, &str)] = &[
        (&[RP0, "drhd,id=u,scope=rp1"], 1, "scope 'rp1' names no function"),
        (&[RP0, "drhd,id=u,scope="], 1, "scope '' names no function"),
        (&[RP0, "drhd,id=u,scope=u"], 1, "scope 'u' names no function"),
        (&[RP0, EP, "drhd,id=u,scope=e"], 2, "'e' is not on bus 0; name the root port"),
        (&[RP0, "drhd,id=u,scope=rp0+rp0"], 1, "drhd 'u' has 'rp0' already"),
        (&[RP0, "drhd,id=u,scope=rp0", "drhd,id=v,scope=rp0"], 2, "drhd 'u' has 'rp0' already"),
        (&[RP0, "drhd,id=u,scope=rp0", "drhd,id=u,scope=rp0"], 2, "has that name, too"),
        (&[RP0, "rmrr,id=r,scope=e,base=0x100000,size=0x1000"], 1, "scope 'e' names no function"),
        (&[RP0, EP, "rmrr,id=r,scope=,base=0x100000,size=0x1000"], 2, "scope '' names no function"),
        (&[RP0, "rmrr,id=r,scope=r,base=0x100000,size=0x1000"], 1, "scope 'r' names no function"),
        (&[RP0, EP, "rmrr,id=r,scope=rp0,base=0x100000,size=0x1000"], 2, "'rp0' is a port"),
        (&[RP0, EP, "rmrr,id=r,scope=e,base=0x100800,size=0x1000"], 2, "base=0x100800,size=0x1000"),
        (&[RP0, EP, "rmrr,id=r,scope=e,base=0x100000,size=0x800"], 2, "are not whole pages"),
        (&[RP0, EP, "rmrr,id=r,scope=e,base=0x100000,size=0"], 2, "are not whole pages"),
        (&[RP0, EP, "rmrr,id=r,scope=e,base=0x80000,size=0x1000"], 2, "below 1 MiB"),
        (
            &[RP0, EP, "rmrr,id=r,scope=e,base=0xfffffffffffff000,size=0x1000"],
            2,
            "base=0xfffffffffffff000,size=0x1000 ends above",
        ),
        (
            &[
                RP0,
                EP,
                "rmrr,id=r,scope=e,base=0x200000,size=0x2000",
                "rmrr,id=s,scope=e,base=0x201000,size=0x1000",
            ],
            3,
            "it overlaps rmrr 'r' at 0x200000 to 0x201fff",
        ),
        (&["andd,id=I2C01,addr=1e"], 0, "'I2C01' cannot be: a name in the ACPI namespace"),
        (&["andd,id=i2c,addr=1e"], 0, "'i2c' cannot be"),
        (&["andd,id=1I2C,addr=1e"], 0, "'1I2C' cannot be"),
        (&["andd,id=PCI0,addr=1e"], 0, "the DSDT has \\_SB.PCI0 already"),
        (
            &["edu,addr=1e", "andd,id=I2C0,addr=1e"],
            1,
            "1e.0 on bus 0 is another device's source id",
        ),
        (&["andd,id=I2C0,addr=1e", "andd,id=I2C1,addr=1e"], 1, "another device's source id"),
        (&["andd,id=I2C0,addr=0.1"], 0, "another device's source id"),
    ];
    for (texts, index, reason) in cases {
        let (at, found) = refusal(texts);
        assert!(at == *index && found.contains(reason), "{texts:?}: {at}, {found}");
    }
}

#[test]
fn reserved_memory_must_be_in_memory() {
    let texts = ["root-port,id=rp0", "ats-endpoint,id=e,bus=rp0"];
    let rmrr = "rmrr,id=r,scope=e,base=0x7ff000,size=0x1000";
    let topology = Topology::new(&specs(&[texts[0], texts[1], rmrr])).unwrap();
    let region = &topology.reserved_memory()[0];
    let piece = |start, size| Range { start, size };
    assert_eq!(region.check(&[piece(0, 0x80_0000)]), Ok(()));
    for ram in [&[piece(0, 0x7f_f000)][..], &[piece(0, 0x7f_f800), piece(0x7f_f800, 0x1000)], &[]] {
        let error = region.check(ram).unwrap_err().to_string();
        assert!(error.starts_with("rmrr 'r' at 0x7ff000 to 0x7fffff is not in memory"), "{error}");
    }
}

#[test]
fn an_id_that_does_not_fit_is_refused_with_its_value() {
    for (text, reason) in [
        ("edu,vendor=0x10000", "65536"),
        ("edu,device=-1", "-1"),
        ("root-port,id=a,revision=256", "256"),
        ("root-port,id=a,subsystem=1", "unknown field `subsystem`"),
    ] {
        let error = text.parse::<DeviceSpec>().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
