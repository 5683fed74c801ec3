//! Functions and ports in D3hot (`PCIe 5.3.1`).

use std::time::Duration;

use iommu::ats::PageRange;
use iommu::event::{DropReason, Event, Lost};
use iommu::ids::{Bdf, Iova};

use crate::endpoint::regs;
use crate::fault::FaultMode;
use crate::pcie::UpstreamMessage;
use crate::pcie::spec::{header, power, sriov};
use crate::testkit::Machine;
use crate::testkit::driver::{ABSENT, BARS, Driver};

const D0: u16 = 0;
const D3HOT: u16 = 3;
const PAGE: PageRange = PageRange::page(Iova(0));

/// A machine whose function 0 has a translation of page 0 in its ATC.
fn machine() -> Machine {
    let mut machine = Machine::ready();
    machine.upstream.map(0, 12, 0x5000, true, true);
    machine.write_as_function(0);
    assert_eq!(machine.register(0, regs::ATC_ENTRIES), 1);
    machine
}

fn set_power(machine: &mut Machine, id: Bdf, state: u16) {
    let power = machine.function(id).capability(power::ID).unwrap();
    machine.config_write(id, power + power::CONTROL, &state.to_le_bytes());
}

fn completions(machine: &mut Machine) -> usize {
    let is_one =
        |message: &UpstreamMessage| matches!(message, UpstreamMessage::InvalidateCompletion(_));
    machine.messages().iter().filter(|message| is_one(message)).count()
}

fn dropped(machine: &Machine, id: Bdf, kind: Lost) -> usize {
    let (function, reason) = (id, DropReason::Sleeping);
    let event = Event::Dropped { function, what: kind, reason };
    machine.events().into_iter().filter(|found| *found == event).count()
}

#[test]
fn a_function_in_d3hot_loses_invalidate_requests_and_keeps_its_atc() {
    let mut machine = machine();
    let id = Machine::endpoint(0);
    set_power(&mut machine, id, D3HOT);
    machine.invalidate(0, 1, PAGE);
    assert_eq!(machine.messages(), []);
    assert_eq!(dropped(&machine, id, Lost::InvalidateRequest), 1);
    assert_eq!(machine.config_u32(id, 0), 0x6c6b_1234, "configuration space answers");
    machine.invalidate(1, 1, PAGE);
    assert_eq!(completions(&mut machine), 1, "the other function is awake");
    set_power(&mut machine, id, D0);
    assert_eq!(machine.register(0, regs::ATC_ENTRIES), 1, "No_Soft_Reset is set");
    machine.invalidate(0, 1, PAGE);
    assert_eq!(completions(&mut machine), 1);
    assert_eq!(machine.register(0, regs::ATC_ENTRIES), 0);
}

#[test]
fn a_function_in_d3hot_does_not_send_a_completion_that_is_due() {
    let mut machine = machine();
    machine.inject(0, "late:1ms".parse::<FaultMode>().unwrap());
    machine.invalidate(0, 1, PAGE);
    set_power(&mut machine, Machine::endpoint(0), D3HOT);
    machine.run_for(2000);
    assert_eq!(machine.messages(), []);
    assert_eq!(dropped(&machine, Machine::endpoint(0), Lost::InvalidateCompletion), 1);
}

#[test]
fn a_function_in_d3hot_sends_no_dma_no_interrupt_and_no_page_request() {
    const INTERRUPT: u32 = 7;
    const PAGE_REQUEST: u32 = 8;
    let mut machine = Machine::ready();
    machine.upstream.map(0, 12, 0x5000, true, true);
    machine.write_register(0, regs::PERIOD, 1000);
    machine.write_register(0, regs::COMMAND, 4);
    machine.run_for(10);
    set_power(&mut machine, Machine::endpoint(0), D3HOT);
    let before = machine.upstream.requests.len();
    assert_ne!(before, 0, "it writes again and again");
    machine.run_for(100_000);
    for command in [INTERRUPT, PAGE_REQUEST] {
        machine.hierarchy.command(0, command, &mut machine.upstream, machine.now);
    }
    machine.hierarchy.collect_messages(machine.now);
    assert_eq!(machine.upstream.requests.len(), before);
    assert_eq!(machine.messages(), []);
}

#[test]
fn virtual_functions_sleep_alone_or_with_their_physical_function() {
    let (pf, vfs) = (Bdf::new(1, 0, 0), [Bdf::new(1, 0, 1), Bdf::new(1, 0, 2)]);
    let mut driver = Driver::new(&["root-port,id=rp0", "ats-endpoint,bus=rp0,vfs=2"]);
    let at = driver.machine.function(pf).extended_capability(sriov::ID).unwrap();
    let bars = BARS + 0x8_0000;
    driver.machine.config_write(pf, at + sriov::VF_BAR0, &(bars as u32).to_le_bytes());
    driver.machine.config_write(pf, at + sriov::NUM_VFS, &2_u16.to_le_bytes());
    driver.machine.config_write(pf, at + sriov::CONTROL, &(1_u16 | 1 << 3).to_le_bytes());
    set_power(&mut driver.machine, vfs[0], D3HOT);
    assert_eq!(driver.invalidate(vfs[0]), []);
    assert_eq!(driver.invalidate(vfs[1]), [vfs[1]]);
    assert_eq!(driver.invalidate(pf), [pf]);
    assert_ne!(driver.register(bars + 0x1000, regs::ID), ABSENT);
    set_power(&mut driver.machine, vfs[0], D0);
    set_power(&mut driver.machine, pf, D3HOT);
    for id in [pf, vfs[0], vfs[1]] {
        assert_eq!(driver.invalidate(id), [], "{id}");
    }
    assert_eq!(driver.register(bars + 0x1000, regs::ID), ABSENT);
    assert_ne!(driver.machine.config_u32(vfs[1], 8), ABSENT, "configuration space answers");
    set_power(&mut driver.machine, pf, D0);
    for id in [pf, vfs[0], vfs[1]] {
        assert_eq!(driver.invalidate(id), [id]);
    }
}

#[test]
fn an_nvme_controller_in_d3hot_loses_invalidate_requests() {
    let mut driver = Driver::new(&["root-port,id=rp0", "nvme,bus=rp0,mib=1"]);
    let id = Bdf::new(1, 0, 0);
    assert_eq!(driver.invalidate(id), [id]);
    set_power(&mut driver.machine, id, D3HOT);
    assert_eq!(driver.invalidate(id), []);
    set_power(&mut driver.machine, id, D0);
    assert_eq!(driver.invalidate(id), [id]);
}

/// The note on virtual bridges in non-D0 states: messages are not affected (`PCIe 5.3.1`).
#[test]
fn a_port_in_d3hot_takes_requests_as_unsupported_and_forwards_messages() {
    let mut machine = machine();
    let (port, id) = (Machine::port(0), Machine::endpoint(0));
    set_power(&mut machine, port, D3HOT);
    assert_eq!(machine.config_u32(id, 0), ABSENT);
    machine.config_write(id, header::COMMAND, &[0; 2]);
    assert_eq!(machine.register(0, regs::ID), ABSENT);
    assert!(!machine.hierarchy.is_present(id, machine.now));
    assert_eq!(dropped(&machine, port, Lost::ConfigWrite), 1);
    assert_ne!(machine.config_u32(port, 0), ABSENT, "its own configuration space answers");
    let before = machine.upstream.requests.len();
    machine.write_as_function(0);
    assert_eq!(machine.upstream.requests.len(), before, "no memory request goes up");
    machine.invalidate(0, 1, PAGE);
    assert_eq!(completions(&mut machine), 1);
    machine.run_until(machine.now + Duration::from_secs(1));
    set_power(&mut machine, port, D0);
    assert_eq!(machine.config_u32(id, 0), 0x6c6b_1234);
    assert_eq!(machine.register(0, regs::ATC_ENTRIES), 0);
}
