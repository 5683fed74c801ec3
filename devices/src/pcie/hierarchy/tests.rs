//! Enumeration, routing, and guests that program contradictory bus numbers and windows.

use iommu::ats::{Msi, PageRange};
use proptest::prelude::*;

use super::*;
use crate::endpoint::regs;
use crate::pcie::spec::{acs, aer, dpc, express, header};
use crate::testkit::Machine;

const ABSENT: u32 = u32::MAX;

fn program_buses(machine: &mut Machine, port: u8, secondary: u8, subordinate: u8) {
    machine.config_write(Machine::port(port), header::SECONDARY_BUS, &[secondary]);
    machine.config_write(Machine::port(port), header::SUBORDINATE_BUS, &[subordinate]);
}

#[test]
fn bus_0_holds_the_host_bridge_and_the_ports() {
    let mut machine = Machine::bare();
    let present: Vec<(u8, u32)> = (0..32)
        .map(|device| (device, machine.config_u32(Bdf::new(0, device, 0), 0)))
        .filter(|(_, id)| *id != ABSENT)
        .collect();
    assert_eq!(present, [(0, 0x29c0_8086), (1, 0x3420_8086), (2, 0x3420_8086)]);
    assert_eq!(machine.config_u32(Bdf::new(0, 1, 1), 0), ABSENT);
    assert_eq!(machine.config::<1>(Machine::port(0), header::HEADER_TYPE), [1], "type 1 header");
    assert_eq!(machine.config_u32(Machine::port(0), 8) >> 8, 0x06_04_00);
}

#[test]
fn nothing_is_behind_a_port_before_its_buses_are_programmed() {
    let mut machine = Machine::bare();
    assert!((1..=255).all(|bus| machine.config_u32(Bdf::new(bus, 0, 0), 0) == ABSENT));
    program_buses(&mut machine, 0, 0, 255); // owns nothing while its secondary bus is 0
    program_buses(&mut machine, 1, 7, 9);
    assert_eq!(machine.config_u32(Bdf::new(7, 0, 0), 0), 0x6c6b_1234);
    for absent in [Bdf::new(7, 1, 0), Bdf::new(7, 0, 1), Bdf::new(8, 0, 0), Bdf::new(6, 0, 0)] {
        assert_eq!(machine.config_u32(absent, 0), ABSENT, "{absent}");
    }
}

#[test]
fn capabilities_are_where_drivers_look() {
    let mut machine = Machine::enumerated();
    let mut ids = |function| {
        let plain: Vec<u8> = machine.capabilities(function).iter().map(|found| found.0).collect();
        let extended = machine.extended_capabilities(function);
        (plain, extended.iter().map(|found| found.0).collect::<Vec<_>>())
    };
    let endpoint = (vec![0x01, 0x05, 0x10], vec![0x000f, 0x0013, 0x001b, 0x0001, 0x0003, 0x0019]);
    assert_eq!(ids(Machine::endpoint(0)), endpoint);
    let port = (vec![0x01, 0x05, 0x10], vec![0x0001, 0x000d, 0x001d, 0x0019]);
    assert_eq!(ids(Machine::port(0)), port);
    assert_eq!(ids(Bdf::new(0, 0, 0)), (vec![], vec![]));
}

#[test]
fn no_write_changes_what_a_function_is() {
    let functions = [Bdf::new(0, 0, 0), Machine::port(0), Machine::endpoint(0)];
    for pattern in [0_u32, u32::MAX, 0x5555_5555] {
        for function in functions {
            let mut machine = Machine::enumerated();
            let identity = |machine: &mut Machine| {
                let ids = [0x00, 0x08].map(|at| machine.config_u32(function, at));
                let capabilities = machine.capabilities(function);
                (ids, capabilities, machine.extended_capabilities(function))
            };
            let before = identity(&mut machine);
            for at in (0..4096).step_by(4) {
                machine.config_write(function, at, &pattern.to_le_bytes());
            }
            assert_eq!(identity(&mut machine), before, "{function}, {pattern:#x}");
        }
    }
}

#[test]
fn a_port_reports_an_occupied_slot_and_an_active_link() {
    let mut machine = Machine::bare();
    let express = machine.function(Machine::port(1)).capability(express::ID).unwrap();
    let flags = machine.config_u16(Machine::port(1), express + express::CAPABILITIES);
    assert_eq!(flags & 0x1ff, 0x142, "version 2, root port, slot");
    let link = machine.config_u16(Machine::port(1), express + express::LINK_STATUS);
    assert_eq!(link >> 13 & 1, 1, "DLLLA");
    assert!(link & 0xf != 0 && link >> 4 & 0x3f != 0, "speed and width");
    assert_eq!(
        machine.config_u16(Machine::port(1), express + express::SLOT_STATUS),
        1 << 6,
        "PDS only"
    );
    assert_eq!(
        machine.config_u32(Machine::port(1), express + express::SLOT_CAPABILITIES) >> 19,
        2,
        "slot number"
    );
}

#[test]
fn ats_says_what_linux_asks_for() {
    let mut machine = Machine::enumerated();
    let control = machine.ats_control(0);
    let capability = machine.config_u16(Machine::endpoint(0), control - 2);
    assert_eq!(capability, 1 << 5 | 1 << 6, "depth 32, page aligned, global invalidate");
}

#[test]
fn a_bar_is_sized_and_moved() {
    let mut machine = Machine::enumerated();
    let id = Machine::endpoint(0);
    machine.config_write(id, header::BAR0, &u32::MAX.to_le_bytes());
    assert_eq!(machine.config_u32(id, header::BAR0), 0xffff_f000);
    assert_eq!(machine.register(0, regs::ID), ABSENT, "not in the port's window");
    let moved = Machine::bar(0) as u32 + 0x3000;
    machine.config_write(id, header::BAR0, &moved.to_le_bytes());
    assert_eq!(machine.register(0, regs::ID), ABSENT);
    assert_eq!(machine.register(0, 0x3000 + regs::ID), regs::ID_VALUE);
    for bar in [1, 4, 5] {
        machine.config_write(id, header::BAR0 + 4 * bar, &u32::MAX.to_le_bytes());
        assert_eq!(machine.config_u32(id, header::BAR0 + 4 * bar), 0);
    }
}

#[test]
fn memory_needs_window_and_both_enables() {
    for (function, clear) in [(Machine::port(0), 0b100_u16), (Machine::endpoint(0), 0b100)] {
        let mut machine = Machine::enumerated();
        assert_eq!(machine.register(0, regs::ID), regs::ID_VALUE);
        machine.config_write(function, header::COMMAND, &clear.to_le_bytes());
        assert_eq!(machine.register(0, regs::ID), ABSENT, "{function}");
    }
    let mut machine = Machine::enumerated();
    machine.config_write(Machine::port(0), header::MEMORY_BASE, &0xd000_u16.to_le_bytes());
    assert_eq!(machine.register(0, regs::ID), ABSENT, "base above limit");
}

#[test]
fn a_prefetchable_window_reaches_too() {
    let mut machine = Machine::enumerated();
    let port = Machine::port(0);
    machine.config_write(port, header::MEMORY_BASE, &0xfff0_u16.to_le_bytes());
    machine.config_write(port, 0x24, &0xc000_u16.to_le_bytes());
    machine.config_write(port, 0x26, &0xc000_u16.to_le_bytes());
    assert_eq!(machine.config_u16(port, 0x24), 0xc001, "64-bit");
    assert_eq!(machine.register(0, regs::ID), regs::ID_VALUE);
    machine.config_write(port, 0x28, &1_u32.to_le_bytes());
    assert_eq!(machine.register(0, regs::ID), ABSENT, "base above 4 GiB now");
}

#[test]
fn a_port_without_bus_mastering_forwards_no_requests_but_messages() {
    let mut machine = Machine::ready();
    machine.upstream.map(0, 12, 0, true, true);
    machine.config_write(Machine::port(0), header::COMMAND, &[0b010, 0]);
    assert_eq!(machine.command(0, 1, 0, 8), regs::Status::UnsupportedRequest as u32);
    machine.command(0, 2, 0, 8);
    machine.command(0, 7, 0, 0);
    assert!(machine.upstream.requests.is_empty());
    assert_eq!(machine.messages(), []);
    machine.invalidate(0, 0, PageRange::ALL);
    assert_eq!(machine.messages().len(), 1);
}

#[test]
fn a_blocked_translation_is_an_acs_violation_that_a_port_logs_reports_or_contains() {
    const VIOLATION: u32 = 1 << 21;
    let port = Machine::port(0);
    for (reports, contains) in [(false, false), (true, false), (true, true)] {
        let mut machine = Machine::ready();
        machine.upstream.map(0, 12, 0, true, true);
        let mut at = |id| machine.function(port).extended_capability(id).unwrap();
        let (acs, aer, dpc) = (at(acs::ID), at(aer::ID), at(dpc::ID));
        let express = machine.function(port).capability(express::ID).unwrap();
        if reports {
            machine.config_write(port, express + express::DEVICE_CONTROL, &[2]);
        }
        if contains {
            machine.config_write(port, dpc + dpc::CONTROL, &[dpc::TRIGGER_NON_FATAL]);
        }
        machine.config_write(port, acs + acs::CONTROL, &0b10_u16.to_le_bytes());
        assert_eq!(machine.command(0, 1, 0, 8), 0, "untranslated requests pass");
        machine.messages();
        machine.invalidate(0, 0, PageRange::ALL);
        assert_eq!(machine.messages().len(), 1, "so do Invalidate Completions");
        machine.command(0, 6, 0, 0);
        assert!(machine.upstream.translations.is_empty());
        assert_eq!(machine.config_u32(port, aer + aer::UNCORRECTABLE_STATUS), VIOLATION);
        let received = machine.config_u32(port, aer + aer::ROOT_STATUS) & 0x7f;
        assert_eq!(received != 0, reports && !contains, "{reports} {contains}");
        assert_eq!(machine.hierarchy.is_link_up(0), !contains, "{reports} {contains}");
    }
}

#[test]
fn access_control_checks_source_and_translation() {
    let mut machine = Machine::ready();
    machine.upstream.map(0, 12, 0, true, true);
    let port = Machine::port(0);
    let acs = machine.extended_capabilities(port)[1].1;
    machine.config_write(port, acs + acs::CONTROL, &0b11_u16.to_le_bytes());
    assert_eq!(machine.command(0, 1, 0, 8), 0);
    let aborted = regs::Status::CompleterAbort as u32;
    assert_eq!(machine.command(0, 6, 0, 0), aborted, "translation blocking");
    program_buses(&mut machine, 0, 5, 5);
    assert_eq!(machine.command(0, 1, 0, 8), aborted, "the id is still that of the old bus");
    machine.function(Bdf::new(5, 0, 0)).set_command(header::Command::MEMORY_AND_MASTER);
    assert_eq!(machine.command(0, 1, 0, 8), 0, "captured anew");
    assert_eq!(machine.upstream.requests.last().unwrap().0.requester, Bdf::new(5, 0, 0));
}

#[test]
fn messages_go_to_the_function_that_is_meant() {
    let mut machine = Machine::ready();
    machine.invalidate(1, 9, PageRange::ALL);
    let [UpstreamMessage::InvalidateCompletion(completion)] = machine.messages()[..] else {
        panic!("one completion expected");
    };
    assert_eq!((completion.requester, completion.itag_vector), (Machine::endpoint(1), 1 << 9));
    assert_eq!(machine.register(0, regs::INVALIDATIONS), 0);
    let request = InvalidateRequest {
        destination: Bdf::new(2, 0, 1),
        itag: iommu::ats::ITag::new(0),
        pasid: None,
        global: false,
        range: PageRange::ALL,
    };
    machine.hierarchy.invalidate_request(request, machine.now);
    assert_eq!(machine.messages(), [], "function 1 does not exist");
    machine.command(1, 7, 0, 0);
    let msi = Msi { address: 0xfee0_1000, data: 0x41 };
    let requester = Machine::endpoint(1);
    assert_eq!(machine.messages(), [UpstreamMessage::Msi { requester, msi }]);
}

#[test]
fn with_overlapping_buses_the_first_port_wins() {
    let mut machine = Machine::ready();
    program_buses(&mut machine, 1, 1, 255);
    machine.invalidate(0, 0, PageRange::ALL);
    assert_eq!(machine.messages().len(), 1);
    assert_eq!(machine.register(0, regs::INVALIDATIONS), 1);
    assert_eq!(machine.register(1, regs::INVALIDATIONS), 0);
}

/// An access of a guest, mostly at addresses that a function has.
#[derive(Debug, Clone)]
enum Step {
    ConfigRead(u16, u16, usize),
    ConfigWrite(u16, u16, Vec<u8>),
    MemoryRead(u64, usize),
    MemoryWrite(u64, Vec<u8>),
    Invalidate(u16),
    Time,
}

fn step() -> impl Strategy<Value = Step> {
    let function = || prop_oneof![0_u16..0x20, 0x100_u16..0x108, any::<u16>()];
    let offset = || prop_oneof![0_u16..0x100, 0x100_u16..0x110, any::<u16>()];
    let address = || prop_oneof![0xc000_0000_u64..0xc000_1000, any::<u64>()];
    let data = || prop::collection::vec(any::<u8>(), 0..9);
    prop_oneof![
        (function(), offset(), 0_usize..9).prop_map(|(f, o, n)| Step::ConfigRead(f, o, n)),
        (function(), offset(), data()).prop_map(|(f, o, data)| Step::ConfigWrite(f, o, data)),
        (address(), 0_usize..9).prop_map(|(address, n)| Step::MemoryRead(address, n)),
        (address(), data()).prop_map(|(address, data)| Step::MemoryWrite(address, data)),
        function().prop_map(Step::Invalidate),
        Just(Step::Time),
    ]
}

proptest! {
    #[test]
    fn no_guest_can_break_it(steps in prop::collection::vec(step(), 0..200), down: bool) {
        let mut machine = Machine::ready();
        if down {
            machine.drop_link(0);
        }
        for step in steps {
            let (hierarchy, now) = (&mut machine.hierarchy, machine.now);
            match step {
                Step::ConfigRead(function, offset, length) => {
                    let mut data = vec![0; length];
                    hierarchy.config_read(Bdf::from_bits(function), offset, &mut data, now);
                }
                Step::ConfigWrite(function, offset, data) => {
                    hierarchy.config_write(Bdf::from_bits(function), offset, &data, now);
                }
                Step::MemoryRead(address, length) => {
                    hierarchy.memory_read(address, &mut vec![0; length], &mut machine.upstream, now);
                }
                Step::MemoryWrite(address, data) => {
                    hierarchy.memory_write(address, &data, &mut machine.upstream, now);
                }
                Step::Invalidate(function) => {
                    let request = InvalidateRequest {
                        destination: Bdf::from_bits(function),
                        itag: iommu::ats::ITag::new(0),
                        pasid: None,
                        global: false,
                        range: PageRange::ALL,
                    };
                    hierarchy.invalidate_request(request, now);
                }
                Step::Time => machine.run_for(50),
            }
            prop_assert!(machine.messages().len() <= 8);
        }
    }
}
