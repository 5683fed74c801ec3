//! Switches and multi-function devices, as a driver enumerates and uses them.

use proptest::prelude::*;

use super::*;
use crate::endpoint::regs;
use crate::fault::FaultMode;
use crate::pcie::spec::{acs, ari, ats, dsn, express, header, pasid, pri};
use crate::testkit::driver::{ABSENT, BARS, Driver, ENDPOINT};

/// Below rp0 a switch with three ports, with another switch below the second.
fn switches() -> Driver {
    Driver::new(&[
        "root-port,id=rp0",
        "switch,id=sw0,bus=rp0,ports=3",
        "ats-endpoint,bus=sw0.0",
        "switch,id=sw1,bus=sw0.1,ports=2",
        "ats-endpoint,bus=sw1.1",
        "root-port,id=rp1",
        "ats-endpoint,bus=rp1",
    ])
}

#[test]
fn a_driver_finds_what_is_behind_switches() {
    let driver = switches();
    let found: Vec<String> =
        driver.found.iter().map(|(id, ids)| format!("{id} {ids:08x}")).collect();
    let expected = [
        "00:01.0 34208086", // rp0
        "01:00.0 8232104c", // sw0
        "02:00.0 8233104c", // sw0.0
        "03:00.0 6c6b1234",
        "02:01.0 8233104c", // sw0.1
        "04:00.0 8232104c", // sw1
        "05:00.0 8233104c", // sw1.0
        "05:01.0 8233104c", // sw1.1
        "07:00.0 6c6b1234",
        "02:02.0 8233104c", // sw0.2
        "00:02.0 34208086", // rp1
        "09:00.0 6c6b1234",
    ];
    assert_eq!(found, expected);
}

#[test]
fn everything_goes_through_two_switches_and_back() {
    let mut driver = switches();
    driver.machine.upstream.map(0, 12, 0x5000, true, true);
    for function in driver.endpoints() {
        let bar = driver.bar(function);
        assert_eq!(driver.register(bar, regs::ID), regs::ID_VALUE, "{function}");
        driver.enable_ats(function);
        for use_atc in [false, true] {
            assert_eq!(driver.fill(bar, use_atc), 0, "{function}");
            let last = driver.machine.upstream.requests.last().unwrap().0;
            assert_eq!(last.requester, function);
        }
        assert_eq!(driver.register(bar, regs::ATC_ENTRIES), 1);
        assert_eq!(driver.invalidate(function), [function]);
        assert_eq!(driver.register(bar, regs::ATC_ENTRIES), 0);
    }
}

#[test]
fn memory_needs_every_window_on_the_way() {
    let mut driver = switches();
    let function = driver.endpoints()[1];
    let bar = driver.bar(function);
    for port in [Bdf::new(0, 1, 0), Bdf::new(1, 0, 0), Bdf::new(2, 1, 0), Bdf::new(5, 1, 0)] {
        let base = driver.machine.config_u16(port, header::MEMORY_BASE);
        driver.machine.config_write(port, header::MEMORY_BASE, &0xfff0_u16.to_le_bytes());
        assert_eq!(driver.register(bar, regs::ID), ABSENT, "{port}");
        driver.machine.config_write(port, header::MEMORY_BASE, &base.to_le_bytes());
        assert_eq!(driver.register(bar, regs::ID), regs::ID_VALUE, "{port}");
    }
}

#[test]
fn a_link_takes_along_what_is_below_it_and_nothing_else() {
    let mut driver = switches();
    let [first, second, other] = driver.endpoints()[..] else { panic!("three endpoints") };
    let port = |name: &str| switches().machine.hierarchy.port_index(name).unwrap();
    for (name, lost) in [
        ("rp0", vec![first, second]),
        ("sw0.0", vec![first]),
        ("sw0.1", vec![second]),
        ("sw1.1", vec![second]),
        ("sw0.2", vec![]),
        ("rp1", vec![other]),
    ] {
        driver.machine.inject(port(name), FaultMode::Silent);
        let gone = |driver: &mut Driver, id: &Bdf| driver.machine.config_u32(*id, 0) == ABSENT;
        let all = [first, second, other];
        let found: Vec<Bdf> = all.into_iter().filter(|id| gone(&mut driver, id)).collect();
        assert_eq!(found, lost, "{name}");
        driver = switches();
    }
    driver.machine.inject(port("sw0"), FaultMode::Silent);
    assert_ne!(driver.machine.config_u32(first, 0), ABSENT, "an upper port has no link below");
}

#[test]
fn ports_have_what_linux_wants_for_pasids() {
    let mut driver = switches();
    for (id, kind, has_slot, has_acs) in [
        (Bdf::new(0, 1, 0), 4, true, true),
        (Bdf::new(1, 0, 0), 5, false, false),
        (Bdf::new(2, 1, 0), 6, true, true),
    ] {
        let express = driver.machine.function(id).capability(express::ID).unwrap();
        let flags = driver.machine.config_u16(id, express + express::CAPABILITIES);
        assert_eq!((flags >> 4 & 0xf, flags >> 8 & 1 != 0), (kind, has_slot), "{id}");
        let capabilities_2 =
            driver.machine.config_u32(id, express + express::DEVICE_CAPABILITIES_2);
        assert_eq!(capabilities_2 >> 21 & 1, 1, "End-End TLP Prefix, {id}");
        assert_eq!(capabilities_2 >> 5 & 1 != 0, has_slot, "ARI forwarding, {id}");
        let acs = driver.machine.function(id).extended_capability(acs::ID);
        assert_eq!(acs.is_some(), has_acs, "{id}");
        if let Some(acs) = acs {
            let bits = driver.machine.config_u16(id, acs + acs::CAPABILITY);
            assert_eq!(bits & 0b11100, 0b11100, "RR, CR, UF");
        }
    }
}

#[test]
fn slots_have_numbers_of_their_own() {
    let mut driver = switches();
    let ports: Vec<Bdf> =
        driver.found.iter().filter(|found| found.1 != ENDPOINT).map(|found| found.0).collect();
    let mut slots = Vec::new();
    for id in ports {
        let express = driver.machine.function(id).capability(express::ID).unwrap();
        if driver.machine.config_u16(id, express + express::CAPABILITIES) >> 8 & 1 != 0 {
            slots.push(driver.machine.config_u32(id, express + express::SLOT_CAPABILITIES) >> 19);
        }
    }
    slots.sort_unstable();
    assert_eq!(slots, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_device_has_several_functions() {
    let mut driver = Driver::new(&[
        "root-port,id=rp0",
        "ats-endpoint,id=a,bus=rp0",
        "ats-endpoint,id=b,bus=rp0,addr=0.3,ats=off,pasid=off",
        "root-port,id=rp1",
        "ats-endpoint,id=c,bus=rp1,serial=0x0123456789abcdef",
    ]);
    let [first, second, single] = driver.endpoints()[..] else { panic!("three functions") };
    assert_eq!((first, second), (Bdf::new(1, 0, 0), Bdf::new(1, 0, 3)));
    assert_eq!(driver.machine.config::<1>(first, header::HEADER_TYPE), [0x80]);
    assert_eq!(driver.machine.config_u32(second, 0x0c), 0x0080_0000);
    assert_eq!(driver.machine.config::<1>(single, header::HEADER_TYPE), [0]);
    driver.machine.upstream.map(0, 12, 0x5000, true, true);
    driver.enable_ats(first);
    let bars = [first, second].map(|function| driver.bar(function));
    assert_eq!(bars.map(|bar| driver.fill(bar, true)), [0, regs::Status::AtsOff as u32]);
    assert_eq!(bars.map(|bar| driver.register(bar, regs::ATC_ENTRIES)), [1, 0]);
    assert_eq!(driver.invalidate(first), [first]);
    assert_eq!(driver.invalidate(second), [], "without ATS it does not know what that is");
    for absent in [ats::ID, pri::ID, pasid::ID] {
        assert_eq!(driver.machine.function(second).extended_capability(absent), None);
    }
    let mut serial = |function| {
        let at = driver.machine.function(function).extended_capability(dsn::ID).unwrap();
        [4, 8].map(|offset| driver.machine.config_u32(function, at + offset))
    };
    assert_eq!(serial(single), [0x89ab_cdef, 0x0123_4567]);
    assert_eq!(serial(first), serial(second));
    assert_ne!(serial(first), serial(single));
}

fn forward_ari(driver: &mut Driver, port: Bdf) {
    let express = driver.machine.function(port).capability(express::ID).unwrap();
    driver.machine.config_write(
        port,
        express + express::DEVICE_CONTROL_2,
        &(1_u16 << 5).to_le_bytes(),
    );
}

#[test]
fn functions_from_8_up_need_ari() {
    let texts = ["root-port,id=rp0", "ats-endpoint,bus=rp0", "ats-endpoint,bus=rp0,addr=1f.7"];
    let mut driver = Driver::new(&texts);
    let (first, last) = (Bdf::new(1, 0, 0), Bdf::new(1, 0x1f, 7));
    assert_eq!(driver.endpoints(), [first]);
    assert_eq!(driver.machine.config_u32(last, 0), ABSENT);
    let ari = driver.machine.function(first).extended_capability(ari::ID).unwrap();
    assert_eq!(
        driver.machine.config_u16(first, ari + ari::CAPABILITY),
        0xff00,
        "the next function"
    );
    forward_ari(&mut driver, Bdf::new(0, 1, 0));
    assert_eq!(driver.machine.config_u32(last, 0), ENDPOINT);
    assert_eq!(driver.machine.config_u32(Bdf::new(1, 1, 0), 0), ABSENT);
    let ari = driver.machine.function(last).extended_capability(ari::ID).unwrap();
    assert_eq!(driver.machine.config_u16(last, ari + ari::CAPABILITY), 0, "the last one");
}

/// Configuration writes of a guest, most of them to bridges.
fn hostile_write() -> impl Strategy<Value = (u16, u16, Vec<u8>)> {
    let function = prop_oneof![0x8_u16..0x18, 0x100_u16..0x110, 0x200_u16..0x220, any::<u16>()];
    let place = prop_oneof![Just(0x04_u16), 0x18_u16..0x1c, 0x20_u16..0x30, 0x3e_u16..0x200];
    (function, place, prop::collection::vec(any::<u8>(), 1..5))
}

proptest! {
    #[test]
    fn no_numbering_makes_routing_go_round(
        writes in prop::collection::vec(hostile_write(), 0..60), function: u16, address: u64,
    ) {
        let texts = [
            "root-port,id=rp0", "switch,id=sw0,bus=rp0,ports=2", "ats-endpoint,bus=sw0.0,vfs=9",
            "switch,id=sw1,bus=sw0.1,ports=2", "ats-endpoint,bus=sw1.1", "iommu-testdev",
            "ats-endpoint,bus=sw1.0", "ats-endpoint,bus=sw1.0,addr=1.1", "edu",
        ];
        let mut driver = Driver::new(&texts);
        for (function, at, data) in writes {
            driver.machine.config_write(Bdf::from_bits(function), at, &data);
            driver.machine.config_u32(Bdf::from_bits(function), 0x0c);
            driver.register(BARS | address & 0x3f_fffc, 0);
        }
        driver.invalidate(Bdf::from_bits(function));
        driver.machine.run_for(50);
        for bus in 0..=255 {
            driver.machine.config_u32(Bdf::new(bus, 0, 0), 0);
            driver.machine.hierarchy.port_above(Bdf::new(bus, 0, 0));
        }
        let [id] = driver.machine.config::<1>(Bdf::new(0, 1, 0), 0);
        prop_assert_eq!(id, 0x86, "bus 0 stays what it is");
    }
}
