//! Requests and messages of a function while its link is down. A guest cannot start most of them
//! then, so these tests access the function directly.

use iommu::ats::{Access, ITag, InvalidateRequest, PageRange};
use iommu::event::Event;
use iommu::ids::Iova;

use super::*;
use crate::endpoint::regs;
use crate::pcie::spec::{ats, pri};
use crate::testkit::Machine;

const ENDPOINT: Bdf = Bdf::new(1, 0, 0);

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
    let timeout = regs::Status::CompletionTimeout as u32;
    let [read, write, translate] = [1, 2, 6].map(|number| command(&mut machine, number));
    assert_eq!(read, [timeout, 0, 1]);
    assert_eq!(write, [0, 1, 1]);
    assert_eq!(translate, [timeout, 1, 1]);
}

#[test]
fn messages_do_not_come_up() {
    let mut machine = dropped();
    let itag = ITag::new(0);
    let range = PageRange::ALL;
    let request =
        InvalidateRequest { destination: ENDPOINT, itag, pasid: None, global: false, range };
    machine.hierarchy.functions[0].function.invalidate_request(request, Some(request), machine.now);
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
