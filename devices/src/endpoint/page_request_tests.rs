//! Page requests and PASIDs as a driver sees them, through a port whose link is up.

use iommu::ats::{AddressType, PageGroupResponse, PageRange, PageRequest, ResponseCode};
use iommu::event::{Event, Lost};
use iommu::ids::{Iova, Pasid};
use proptest::prelude::*;

use super::regs::*;
use crate::pcie::UpstreamMessage;
use crate::pcie::spec::{express, pasid, pri};
use crate::testkit::{FLAP_KEEP, Machine};

const WRITE: u32 = 2;
const START: u32 = 4;
const TRANSLATE: u32 = 6;
const PAGE_REQUEST: u32 = 8;
const STOP_MARKER: u32 = 9;
const USE_ATC: u32 = 1 << 4;
const WITH_PASID: u32 = 1 << 6;
const READABLE: u32 = 1 << 7;
const WRITABLE: u32 = 1 << 8;
const LAST: u32 = 1 << 9;
const PRIVILEGED: u32 = 1 << 10;
const EXECUTABLE: u32 = 1 << 11;
const REQUEST: u32 = PAGE_REQUEST | READABLE | LAST;

const OK: u32 = Status::Ok as u32;
const PAGE: u64 = 0x10_0000;
const OUTPUT: u64 = 0x8_0000;

const RESPONSE_FAILURE: u16 = 1 << 0;
const UNEXPECTED: u16 = 1 << 1;
const STOPPED: u16 = 1 << 8;
const PASID_REQUIRED: u16 = 1 << 15;

impl Machine {
    fn extended(&mut self, id: u16) -> u16 {
        self.function(Self::endpoint(0)).extended_capability(id).unwrap()
    }

    fn pri_write(&mut self, register: u16, value: u32, bytes: usize) {
        let at = self.extended(pri::ID) + register;
        self.config_write(Self::endpoint(0), at, &value.to_le_bytes()[..bytes]);
    }

    /// RF, UPRGI and Stopped.
    fn pri_status(&mut self) -> u16 {
        let at = self.extended(pri::ID) + pri::STATUS;
        let status = self.config_u16(Self::endpoint(0), at);
        assert_ne!(status & PASID_REQUIRED, 0);
        status & !PASID_REQUIRED
    }

    fn pasid_control(&mut self, value: u16) {
        let at = self.extended(pasid::ID) + pasid::CONTROL;
        self.config_write(Self::endpoint(0), at, &value.to_le_bytes());
    }

    fn request_page(&mut self, command: u32, group: u32) -> u32 {
        self.write_register(0, GROUP, group);
        self.command(0, command, PAGE + 0x123, 0)
    }

    fn page_requests(&mut self) -> Vec<PageRequest> {
        let request = |message| match message {
            UpstreamMessage::PageRequest(request) => request,
            other => panic!("a page request expected, not {other:?}"),
        };
        self.messages().into_iter().map(request).collect()
    }

    fn respond(&mut self, group: u16, code: ResponseCode) {
        self.respond_with(None, group, code);
    }

    fn respond_with(&mut self, pasid: Option<Pasid>, group: u16, code: ResponseCode) {
        let destination = Self::endpoint(0);
        let response = PageGroupResponse { destination, pasid, group, code };
        self.hierarchy.page_group_response(response, self.now);
    }
}

/// Endpoint 0 with ATS and page requests enabled, and an allocation of `allocation`.
fn machine(allocation: u32) -> Machine {
    let mut machine = Machine::ready();
    machine.upstream.map(PAGE, 12, OUTPUT, true, true);
    machine.pri_write(pri::ALLOCATION, allocation, 4);
    machine.pri_write(pri::CONTROL, 1, 2);
    machine
}

#[test]
fn the_capabilities_say_what_linux_asks_for() {
    let mut machine = Machine::enumerated();
    assert_eq!(machine.pri_status(), STOPPED);
    let pri = machine.extended(pri::ID);
    assert_eq!(machine.config_u32(Machine::endpoint(0), pri + pri::CAPACITY), 512);
    let pasid = machine.extended(pasid::ID);
    assert_eq!(
        machine.config_u16(Machine::endpoint(0), pasid + pasid::CAPABILITY),
        20 << 8 | 0b110
    );
    for function in [Machine::endpoint(0), Machine::port(0)] {
        let express = machine.function(function).capability(express::ID).unwrap();
        let capabilities = machine.config_u32(function, express + express::DEVICE_CAPABILITIES_2);
        assert_eq!(capabilities >> 21 & 0b111, 0b011, "one End-End TLP prefix");
    }
}

#[test]
fn a_command_sends_a_page_request_and_its_answer_is_shown() {
    let mut machine = machine(8);
    assert_eq!(machine.pri_status(), 0);
    assert_eq!(machine.request_page(PAGE_REQUEST | WRITABLE, 0x3ff), OK);
    assert_eq!(machine.request_page(REQUEST, 0x1ff), OK);
    let first = PageRequest {
        requester: Machine::endpoint(0),
        pasid: None,
        execute: false,
        privileged: false,
        address: Iova(PAGE),
        read: false,
        write: true,
        last: false,
        group: 0x1ff,
    };
    let last = PageRequest { read: true, write: false, last: true, ..first };
    assert_eq!(machine.page_requests(), [first, last]);
    assert_eq!((machine.register(0, OUTSTANDING), machine.register(0, RESPONSE)), (2, 0));
    machine.respond(0x1ff, ResponseCode::InvalidRequest);
    assert_eq!((machine.register(0, OUTSTANDING), machine.register(0, RESPONSES)), (0, 1));
    assert_eq!(machine.register(0, RESPONSE), 1 << 31 | 0x1ff << 4 | 1);
}

#[test]
fn a_pasid_goes_where_it_may() {
    let mut machine = machine(8);
    machine.write_register(0, PASID, 0xfff0_0005);
    assert_eq!(machine.register(0, PASID), 5);
    for command in [REQUEST, WRITE, START, TRANSLATE, STOP_MARKER] {
        machine.write_register(0, LENGTH, 8);
        let refused = machine.command(0, command | WITH_PASID, PAGE, 8);
        assert_eq!(refused, Status::PasidOff as u32, "command {command:#x}");
    }
    machine.pasid_control(1);
    assert_eq!(machine.request_page(REQUEST | WITH_PASID | PRIVILEGED | EXECUTABLE, 0), OK);
    machine.pasid_control(0b111);
    assert_eq!(machine.request_page(REQUEST | WITH_PASID | PRIVILEGED | EXECUTABLE, 1), OK);
    let seen: Vec<_> = machine
        .page_requests()
        .iter()
        .map(|request| (request.pasid, request.privileged, request.execute))
        .collect();
    let pasid = Some(Pasid::new(5));
    assert_eq!(seen, [(pasid, false, false), (pasid, true, true)]);
    assert_eq!(machine.command(0, WRITE | WITH_PASID, PAGE, 8), OK);
    assert_eq!(machine.command(0, WRITE | WITH_PASID | USE_ATC, PAGE, 8), OK);
    let sent: Vec<_> = machine
        .upstream
        .requests
        .iter()
        .map(|(request, _)| (request.address_type, request.pasid))
        .collect();
    assert_eq!(sent, [(AddressType::Untranslated, pasid), (AddressType::Translated, None)]);
    assert_eq!(machine.upstream.translations[0].pasid, pasid);
}

#[test]
fn each_address_space_has_its_own_translations() {
    let mut machine = machine(8);
    machine.pasid_control(1);
    let fill = |machine: &mut Machine| {
        for pasid in [5, 6] {
            machine.write_register(0, PASID, pasid);
            assert_eq!(machine.command(0, TRANSLATE | WITH_PASID, PAGE, 0), OK);
        }
        assert_eq!(machine.command(0, TRANSLATE, PAGE, 0), OK);
        assert_eq!(machine.register(0, ATC_ENTRIES), 3);
    };
    for (pasid, global, left) in
        [(None, false, 2), (Some(Pasid::new(6)), false, 2), (None, true, 1)]
    {
        fill(&mut machine);
        let request = iommu::ats::InvalidateRequest {
            destination: Machine::endpoint(0),
            itag: iommu::ats::ITag::new(0),
            pasid,
            global,
            range: PageRange::ALL,
        };
        machine.hierarchy.invalidate_request(request, machine.now);
        machine.hierarchy.collect_messages(machine.now);
        assert_eq!(machine.register(0, ATC_ENTRIES), left, "{pasid:?}, global {global}");
    }
}

#[test]
fn what_the_function_may_not_ask_is_refused() {
    let mut machine = machine(2);
    let bad = Status::BadCommand as u32;
    assert_eq!(machine.request_page(PAGE_REQUEST | LAST, 0), bad, "for nothing");
    assert_eq!(machine.request_page(STOP_MARKER, 0), bad, "without PASID");
    assert_eq!(machine.request_page(REQUEST, 0), OK);
    assert_eq!(machine.request_page(REQUEST, 0), bad, "the group is closed");
    assert_eq!(machine.request_page(REQUEST & !LAST, 1), OK);
    machine.pasid_control(1);
    machine.write_register(0, PASID, 5);
    assert_eq!(machine.request_page(REQUEST, 1), Status::NoAllocation as u32);
    machine.pri_write(pri::ALLOCATION, u32::MAX, 4);
    assert_eq!(machine.request_page(REQUEST | WITH_PASID, 1), bad, "another PASID's group");
    assert_eq!(machine.page_requests().len(), 2);
    for group in 2..512 {
        assert_eq!(machine.request_page(REQUEST, group), OK);
    }
    assert_eq!(machine.request_page(REQUEST, 1), Status::NoAllocation as u32, "capacity");
    machine.pri_write(pri::CONTROL, 0, 2);
    assert_eq!(machine.request_page(REQUEST, 1), Status::PageRequestsOff as u32);
    let ats = machine.ats_control(0);
    machine.config_write(Machine::endpoint(0), ats, &[0, 0]);
    assert_eq!(machine.request_page(REQUEST, 1), Status::AtsOff as u32);
    machine.config_write(Machine::endpoint(0), 4, &[0b010, 0]);
    assert_eq!(machine.request_page(REQUEST, 1), Status::BusMasterOff as u32);
}

#[test]
fn a_stop_marker_waits_for_no_answer() {
    let mut machine = machine(0);
    machine.pasid_control(1);
    assert_eq!(machine.request_page(STOP_MARKER | WITH_PASID, 3), OK);
    assert!(machine.page_requests()[0].is_stop_marker());
    assert_eq!(machine.register(0, OUTSTANDING), 0);
}

#[test]
fn it_has_stopped_when_it_is_off_and_all_is_answered() {
    let mut machine = machine(8);
    machine.request_page(REQUEST, 0);
    machine.pri_write(pri::CONTROL, 0, 2);
    assert_eq!(machine.pri_status(), 0);
    machine.respond(0, ResponseCode::Success);
    assert_eq!(machine.pri_status(), STOPPED);
    machine.pri_write(pri::CONTROL, 1, 2);
    assert_eq!(machine.pri_status(), 0);
}

#[test]
fn a_reset_forgets_what_is_outstanding_but_only_while_it_is_off() {
    let mut machine = machine(8);
    machine.request_page(REQUEST, 0);
    machine.pri_write(pri::CONTROL, 0b11, 2);
    assert_eq!(machine.register(0, OUTSTANDING), 1);
    machine.pri_write(pri::CONTROL, 0b10, 2);
    assert_eq!((machine.register(0, OUTSTANDING), machine.pri_status()), (0, STOPPED));
    let control = machine.extended(pri::ID) + pri::CONTROL;
    assert_eq!(machine.config_u16(Machine::endpoint(0), control), 0, "Reset reads 0");
}

#[test]
fn a_response_to_nothing_is_noted() {
    let mut machine = machine(8);
    machine.respond(4, ResponseCode::Success);
    assert_eq!(machine.pri_status(), UNEXPECTED);
    machine.pri_write(pri::STATUS, u32::from(UNEXPECTED), 2);
    assert_eq!(machine.pri_status(), 0);
    machine.request_page(REQUEST, 4);
    machine.respond_with(Some(Pasid::new(1)), 4, ResponseCode::Success);
    assert_eq!((machine.pri_status(), machine.register(0, OUTSTANDING)), (UNEXPECTED, 1));
    machine.pri_write(pri::CONTROL, 0, 2);
    machine.pri_write(pri::CONTROL, 1, 2);
    assert_eq!(machine.pri_status(), 0, "turning it on clears the status");
}

#[test]
fn a_response_failure_turns_page_requests_off() {
    let mut machine = machine(8);
    machine.request_page(REQUEST, 0);
    machine.request_page(REQUEST, 1);
    machine.respond(0, ResponseCode::Failure);
    assert_eq!(machine.pri_status(), RESPONSE_FAILURE | STOPPED);
    machine.respond(1, ResponseCode::Success);
    assert_eq!(machine.register(0, RESPONSE), 1 << 31 | 0xf, "later ones are ignored");
    assert_eq!(machine.request_page(REQUEST, 2), Status::PageRequestsOff as u32);
    machine.pri_write(pri::CONTROL, 1, 2);
    assert_eq!(machine.pri_status(), 0);
    assert_eq!(machine.request_page(REQUEST, 0), OK);
}

#[test]
fn a_function_level_reset_forgets_page_requests() {
    let mut machine = machine(8);
    machine.request_page(REQUEST, 0);
    assert!(machine.function(Machine::endpoint(0)).initiate_flr());
    assert_eq!(machine.pri_status(), STOPPED);
    let control = machine.extended(pri::ID) + pri::CONTROL;
    assert_eq!(machine.config_u16(Machine::endpoint(0), control), 0);
}

#[test]
fn a_link_that_is_down_loses_the_answer() {
    let mut machine = machine(8);
    machine.request_page(REQUEST, 0);
    machine.inject(0, FLAP_KEEP);
    machine.respond(0, ResponseCode::Success);
    let lost = |event: &Event| matches!(event, Event::Lost { what: Lost::PageGroupResponse, .. });
    assert!(machine.events().iter().any(lost));
    machine.lift(0, FLAP_KEEP);
    assert_eq!(machine.register(0, OUTSTANDING), 1);
}

proptest! {
    #[test]
    fn no_order_of_commands_and_answers_breaks_it(
        allocation in 0_u32..600,
        steps in prop::collection::vec((0_u8..6, any::<u32>(), 0_u16..4), 0..100),
    ) {
        let mut machine = machine(allocation);
        machine.pasid_control(7);
        for (kind, value, group) in steps {
            let pasid = (value & 1 != 0).then_some(Pasid::new(0));
            match kind {
                0..=2 => _ = machine.request_page(PAGE_REQUEST | value & 0xfc0, group.into()),
                3 => machine.respond_with(pasid, group, ResponseCode::from_bits(value as u8)),
                4 => machine.pri_write(pri::CONTROL, value >> 8, 2),
                _ => machine.pri_write(pri::STATUS, value, 4),
            }
            let outstanding = machine.register(0, OUTSTANDING);
            prop_assert!(outstanding <= 512);
            let control = machine.extended(pri::ID) + pri::CONTROL;
            let on = machine.config_u16(Machine::endpoint(0), control) & 1 != 0;
            let stopped = machine.pri_status() & STOPPED != 0;
            prop_assert_eq!(stopped, !on && outstanding == 0);
        }
    }
}
