//! Requests and messages of a function while its link is down. A guest cannot start most of them
//! then, so these tests access the function directly.

use iommu::ats::{Access, ITag, InvalidateRequest, PageRange};
use iommu::event::Event;
use iommu::ids::Iova;

use super::*;
use crate::endpoint::regs;
use crate::pcie::spec::aer::{self, Uncorrectable};
use crate::pcie::spec::{ats, header, pri};
use crate::testkit::Machine;

const ENDPOINT: Bdf = Bdf::new(1, 0, 0);
/// After a reset, in microseconds.
const COMPLETION_TIMEOUT: u64 = 50_000;

/// A machine whose first link is down.
fn dropped() -> Machine {
    let mut machine = Machine::enumerated();
    machine.drop_link(0);
    machine
}

fn lost(machine: &Machine) -> Vec<Lost> {
    let lost = |event| match event {
        Event::Lost { what, .. } => Some(what),
        _ => None,
    };
    machine.events().into_iter().filter_map(lost).collect()
}

/// Writes the function's configuration space, without its link.
fn config_write(machine: &mut Machine, offset: u16, data: &[u8]) {
    machine.hierarchy.functions[0].function.config_write(ENDPOINT, offset, data, machine.now);
}

/// Writes the function's registers, and reads one.
fn command(machine: &mut Machine, command: u32) -> [u32; 3] {
    let Machine { hierarchy, upstream, now, .. } = machine;
    let (function, mut uplink) = hierarchy.function(0, upstream);
    let mut write = |register, value: u32| {
        let address = Machine::bar(0) + register;
        function.memory_write(address, &value.to_le_bytes(), &mut uplink, *now);
    };
    write(regs::LENGTH, 8);
    write(regs::COMMAND, command);
    counters(machine)
}

/// RESULT, COUNT and ERRORS of the function, without its link.
fn counters(machine: &mut Machine) -> [u32; 3] {
    let Machine { hierarchy, upstream, now, .. } = machine;
    let (function, mut uplink) = hierarchy.function(0, upstream);
    [regs::RESULT, regs::COUNT, regs::ERRORS].map(|register| {
        let mut data = [0; 4];
        function.memory_read(Machine::bar(0) + register, &mut data, &mut uplink, *now);
        u32::from_le_bytes(data)
    })
}

#[test]
fn requests_do_not_come_up_and_those_that_wait_time_out() {
    let mut machine = dropped();
    machine.upstream.map(0, 12, 0, true, true);
    let Machine { hierarchy, upstream, now, .. } = &mut machine;
    let (_, mut uplink) = hierarchy.function(0, upstream);
    let dma = |access| DmaRequest {
        requester: ENDPOINT,
        pasid: None,
        privileged: false,
        address: Iova(0),
        address_type: AddressType::Untranslated,
        access,
    };
    let translation = TranslationRequest {
        requester: ENDPOINT,
        pasid: None,
        privileged: false,
        address: Iova(0),
        no_write: false,
    };
    let timeout = RequestError::CompletionTimeout;
    assert_eq!(uplink.read(dma(Access::Read), &mut [0; 8], *now), Err(timeout));
    assert_eq!(uplink.translate(translation, *now), Err(timeout));
    uplink.write(dma(Access::Write), &[0; 8], *now);
    assert_eq!(lost(&machine), [Lost::Dma, Lost::TranslationRequest, Lost::Dma]);
    assert!(machine.upstream.requests.is_empty() && machine.upstream.translations.is_empty());
}

#[test]
fn the_function_counts_what_timed_out_and_not_what_was_posted() {
    let mut machine = dropped();
    let ats_control = 0x100 + 6;
    config_write(&mut machine, ats_control, &0x8000_u16.to_le_bytes());
    let [timeout, pending] =
        [regs::Status::CompletionTimeout, regs::Status::Pending].map(|status| status as u32);
    let [read, write, translate] = [1, 2, 6].map(|number| command(&mut machine, number));
    assert_eq!(read, [pending, 0, 0]);
    assert_eq!(write, [0, 1, 0]);
    assert_eq!(translate, [pending, 1, 0]);
    machine.run_for(COMPLETION_TIMEOUT);
    assert_eq!(counters(&mut machine), [timeout, 1, 2]);
}

#[test]
fn the_function_logs_completion_timeouts_and_reports_them_to_the_root_port() {
    const COMPLETION_TIMEOUT: u32 = 1 << 14;
    let mut machine = Machine::enumerated();
    let (endpoint, port) = (Machine::endpoint(0), Machine::port(0));
    let express = machine.function(endpoint).capability(0x10).unwrap();
    let log_at = machine.function(endpoint).extended_capability(aer::ID).unwrap();
    let root = machine.function(port).extended_capability(aer::ID).unwrap();
    machine.function(endpoint).set_command(header::Command::MEMORY_AND_MASTER);
    // Non-fatal errors are reported, and interrupt.
    machine.config_write(endpoint, express + 8, &[2]);
    machine.config_write(port, root + aer::ROOT_COMMAND, &[7]);
    machine.config_write(port, 0x48 + 2, &[1]);
    machine.function(port).set_command(header::Command::MEMORY_AND_MASTER);
    let log =
        |machine: &mut Machine| machine.config_u32(endpoint, log_at + aer::UNCORRECTABLE_STATUS);
    let received = |machine: &mut Machine| machine.config_u32(port, root + aer::ROOT_STATUS) & 0x7f;
    assert_eq!((log(&mut machine), received(&mut machine)), (0, 0));
    machine.hierarchy.functions[0].function.core_mut().detect(Uncorrectable::CompletionTimeout);
    let now = machine.now;
    machine.hierarchy.collect_messages(now);
    assert_eq!(log(&mut machine), COMPLETION_TIMEOUT);
    assert_eq!(received(&mut machine), 0b010_0100, "uncorrectable, non-fatal");
    let source = machine.config_u32(port, root + aer::SOURCE);
    assert_eq!(source >> 16, u32::from(endpoint.into_bits()));
    assert_eq!(machine.config_u32(endpoint, express + 8) >> 16 & 0xf, 2, "Device Status");
    // A masked error is only logged.
    machine.config_write(endpoint, log_at + aer::UNCORRECTABLE_STATUS, &u32::MAX.to_le_bytes());
    machine.config_write(port, root + aer::ROOT_STATUS, &u32::MAX.to_le_bytes());
    let mask = COMPLETION_TIMEOUT.to_le_bytes();
    machine.config_write(endpoint, log_at + aer::UNCORRECTABLE_MASK, &mask);
    machine.hierarchy.functions[0].function.core_mut().detect(Uncorrectable::CompletionTimeout);
    machine.hierarchy.collect_messages(now);
    assert_eq!((log(&mut machine), received(&mut machine)), (COMPLETION_TIMEOUT, 0));
}

#[test]
fn a_read_over_a_link_that_is_down_is_logged_and_its_message_is_lost() {
    let mut machine = dropped();
    let core = |machine: &Machine| machine.hierarchy.functions[0].function.core().config.clone();
    let at =
        (0x100..0x200).step_by(4).find(|at| core(&machine).get::<u16>(*at) == aer::ID).unwrap();
    let pci_express = (0x40..0x100).step_by(4).find(|at| core(&machine).get::<u8>(*at) == 0x10);
    config_write(&mut machine, pci_express.unwrap() + 8, &[2]);
    command(&mut machine, 1);
    machine.run_for(COMPLETION_TIMEOUT - 1);
    assert_eq!(core(&machine).get::<u32>(at + aer::UNCORRECTABLE_STATUS), 0);
    machine.run_for(1);
    assert_eq!(core(&machine).get::<u32>(at + aer::UNCORRECTABLE_STATUS), 1 << 14);
    assert_eq!(lost(&machine), [Lost::Dma, Lost::ErrorMessage]);
}

#[test]
fn messages_do_not_come_up() {
    let mut machine = dropped();
    let itag = ITag::new(0);
    let range = PageRange::ALL;
    let request =
        InvalidateRequest { destination: ENDPOINT, itag, pasid: None, global: false, range };
    assert!(machine.hierarchy.functions[0].function.invalidate_request(request));
    let msi_control = 0x48 + 2;
    config_write(&mut machine, msi_control, &[1]);
    let (ats, pri) = (0x100, 0x108);
    config_write(&mut machine, ats + ats::CONTROL, &0x8000_u16.to_le_bytes());
    config_write(&mut machine, pri + pri::ALLOCATION, &[1]);
    config_write(&mut machine, pri + pri::CONTROL, &[1]);
    let page_request = 8 | 1 << 7;
    for number in [7_u32, page_request] {
        command(&mut machine, number);
    }
    let now = machine.now;
    machine.hierarchy.collect_messages(now);
    assert!(machine.messages().is_empty());
    assert_eq!(lost(&machine), [Lost::InvalidateCompletion, Lost::Msi, Lost::PageRequest]);
}
