//! Requests that are not answered, as the endpoint's driver sees them. The link is up: the root
//! complex does not answer.

use std::time::Duration;

use iommu::ats::RequestError;
use iommu::ids::Bdf;

use super::regs::*;
use super::traffic;
use crate::pcie::UpstreamMessage;
use crate::pcie::spec::express::{DEVICE_CONTROL_2, DEVICE_STATUS, DeviceControl2, DeviceStatus};
use crate::pcie::spec::{aer, express, header};
use crate::testkit::Machine;

const READ: u32 = 1;
const WRITE: u32 = 2;
const START: u32 = 4;
const TRANSLATE: u32 = 6;
const USE_ATC: u32 = 1 << 4;
const INTERRUPT_WHEN_DONE: u32 = 1 << 5;

const OK: u32 = Status::Ok as u32;
const PENDING: u32 = Status::Pending as u32;
const TIMED_OUT: u32 = Status::CompletionTimeout as u32;
const NO_TAG: u32 = Status::NoTag as u32;
const DEFAULT: Duration = Duration::from_millis(50);
const TAGS: u32 = 32;

fn endpoint() -> Bdf {
    Machine::endpoint(0)
}

/// Endpoint 0, whose reads and Translation Requests are not answered.
fn machine() -> Machine {
    let mut machine = Machine::ready();
    machine.upstream.map(0, 12, 0x8000, true, true);
    set_answers(&mut machine, false);
    machine
}

fn set_answers(machine: &mut Machine, answers: bool) {
    let error = (!answers).then_some(RequestError::CompletionTimeout);
    machine.upstream.read_error = error;
    machine.upstream.translation_error = error;
}

fn run_for(machine: &mut Machine, time: Duration) {
    let until = machine.now + time;
    machine.run_until(until);
}

fn result(machine: &mut Machine) -> u32 {
    machine.register(0, RESULT)
}

/// STATUS, ERRORS, AER's Completion Timeout Status, and Transactions Pending of Device Status.
fn state(machine: &mut Machine) -> (u32, u32, bool, bool) {
    let [status, errors] = [STATUS, ERRORS].map(|register| machine.register(0, register));
    let mut function = machine.function(endpoint());
    let log = function.extended_capability(aer::ID).unwrap() + aer::UNCORRECTABLE_STATUS;
    let at = function.capability(express::ID).unwrap() + DEVICE_STATUS;
    let logged = function.read::<u32>(log) & 1 << 14 != 0;
    (status, errors, logged, function.read::<DeviceStatus>(at).transactions_pending())
}

fn set_control(machine: &mut Machine, control: DeviceControl2) {
    let mut function = machine.function(endpoint());
    let at = function.capability(express::ID).unwrap() + DEVICE_CONTROL_2;
    function.write(at, control);
}

fn interrupts(machine: &mut Machine) -> usize {
    let messages = machine.messages();
    messages.iter().filter(|message| matches!(message, UpstreamMessage::Msi { .. })).count()
}

#[test]
fn a_read_and_a_translation_end_when_the_completion_timeout_has_passed() {
    for command in [READ, TRANSLATE, WRITE | USE_ATC] {
        let mut machine = machine();
        machine.enable_ats(0);
        assert_eq!(machine.command(0, command | INTERRUPT_WHEN_DONE, 0, 8), PENDING, "{command}");
        assert_eq!(state(&mut machine), (2, 0, false, true));
        run_for(&mut machine, DEFAULT - Duration::from_nanos(1));
        assert_eq!(result(&mut machine), PENDING, "{command}");
        assert_eq!((state(&mut machine), interrupts(&mut machine)), ((2, 0, false, true), 0));
        run_for(&mut machine, Duration::from_nanos(1));
        assert_eq!(result(&mut machine), TIMED_OUT, "{command}");
        assert_eq!((state(&mut machine), interrupts(&mut machine)), ((0, 1, true, false), 1));
        assert_eq!(machine.hierarchy.poll_timeout(), None, "nothing is left");
    }
}

#[test]
fn a_posted_write_is_done_when_it_is_sent() {
    let mut machine = machine();
    assert_eq!(machine.command(0, WRITE, 0, 8), OK);
    assert_eq!(machine.hierarchy.poll_timeout(), None);
}

/// `PCIe 7.5.3.16`. A value that is reserved stands for the default.
#[test]
fn software_chooses_the_time() {
    for (value, millis) in [
        (0b0000, 50.0),
        (0b0001, 0.1),
        (0b0010, 10.0),
        (0b0101, 55.0),
        (0b0110, 210.0),
        (0b1001, 900.0),
        (0b1010, 3500.0),
        (0b1101, 13_000.0),
        (0b1110, 64_000.0),
        (0b0111, 50.0),
    ] {
        let mut machine = machine();
        set_control(&mut machine, DeviceControl2::new().with_completion_timeout_value(value));
        assert_eq!(machine.command(0, READ, 0, 8), PENDING);
        let due = machine.now + Duration::from_secs_f64(millis / 1000.0);
        assert_eq!(machine.hierarchy.poll_timeout(), Some(due), "{value:#06b}");
    }
}

#[test]
fn without_a_completion_timeout_a_request_waits_for_ever_or_until_it_is_enabled() {
    let mut machine = machine();
    set_control(&mut machine, DeviceControl2::new().with_completion_timeout_disable(true));
    assert_eq!(machine.command(0, READ, 0, 8), PENDING);
    assert_eq!(machine.hierarchy.poll_timeout(), None);
    run_for(&mut machine, Duration::from_secs(100));
    assert_eq!((result(&mut machine), state(&mut machine)), (PENDING, (2, 0, false, true)));
    set_control(&mut machine, DeviceControl2::new());
    assert_eq!(machine.hierarchy.poll_timeout(), Some(machine.now + DEFAULT));
}

#[test]
fn a_reset_forgets_requests() {
    let mut machine = machine();
    assert_eq!(machine.command(0, READ, 0, 8), PENDING);
    assert!(machine.function(endpoint()).initiate_flr());
    assert_eq!(machine.hierarchy.poll_timeout(), None);
    machine.function(endpoint()).set_bar0(Machine::bar(0) as u32);
    machine.function(endpoint()).set_command(header::Command::MEMORY_AND_MASTER);
    assert_eq!((result(&mut machine), state(&mut machine)), (OK, (0, 0, false, false)));
}

#[test]
fn result_is_that_of_the_last_command() {
    let mut machine = machine();
    assert_eq!(machine.command(0, READ | INTERRUPT_WHEN_DONE, 0, 8), PENDING);
    set_answers(&mut machine, true);
    assert_eq!(machine.command(0, READ, 0, 8), OK);
    run_for(&mut machine, DEFAULT);
    assert_eq!(result(&mut machine), OK);
    assert_eq!((state(&mut machine), interrupts(&mut machine)), ((0, 1, true, false), 1));
}

/// A request that was sent ends although the function may send no more.
#[test]
fn time_passes_without_bus_mastering() {
    let mut machine = machine();
    assert_eq!(machine.command(0, READ, 0, 8), PENDING);
    let command = header::Command::new().with_memory_space(true);
    machine.function(endpoint()).set_command(command);
    run_for(&mut machine, DEFAULT);
    assert_eq!(result(&mut machine), TIMED_OUT);
}

#[test]
fn each_request_keeps_a_tag() {
    let mut machine = machine();
    for _ in 0..TAGS {
        assert_eq!(machine.command(0, READ, 0, 8), PENDING);
    }
    assert_eq!(machine.command(0, READ, 0, 8), NO_TAG);
    assert_eq!(machine.command(0, WRITE, 0, 8), OK, "a posted request has none");
    let sent = machine.upstream.requests.len();
    run_for(&mut machine, DEFAULT);
    assert_eq!(state(&mut machine), (0, TAGS + 1, true, false));
    assert_eq!(machine.command(0, READ, 0, 8), PENDING);
    assert_eq!(machine.upstream.requests.len(), sent + 1);
}

#[test]
fn traffic_goes_on_while_there_are_tags_and_counts_what_fails() {
    const GENERATOR: u64 = TRAFFIC + traffic::STEP;
    let register = |machine: &mut Machine, at: u64| machine.register(0, GENERATOR + at);
    let mut machine = machine();
    machine.write_register(0, GENERATOR + 0x04, 1000); // PERIOD
    machine.write_register(0, GENERATOR + 0x20, 40); // LIMIT
    machine.write_register(0, GENERATOR, 1); // CONTROL: reads
    run_for(&mut machine, Duration::from_millis(45));
    assert_eq!(register(&mut machine, 0x28), 8, "no tag was left for 8 of 40");
    run_for(&mut machine, DEFAULT);
    assert_eq!((register(&mut machine, 0x24), register(&mut machine, 0x28)), (0, 40));
    assert_eq!(state(&mut machine), (0, 40, true, false));

    // Of a generator that starts anew, FAILED counts only the new requests.
    machine.write_register(0, GENERATOR + 0x20, 1);
    machine.write_register(0, GENERATOR, 1);
    run_for(&mut machine, Duration::from_millis(1));
    machine.write_register(0, GENERATOR, 1);
    run_for(&mut machine, DEFAULT);
    assert_eq!((register(&mut machine, 0x28), machine.register(0, ERRORS)), (1, 42));
}

#[test]
fn the_repeating_write_asks_for_its_page_again() {
    let mut machine = machine();
    machine.enable_ats(0);
    machine.write_register(0, PERIOD, 10_000);
    assert_eq!(machine.command(0, START | USE_ATC, 0, 8), OK);
    run_for(&mut machine, Duration::from_millis(15));
    assert_eq!(state(&mut machine), (3, 0, false, true));
    set_answers(&mut machine, true);
    run_for(&mut machine, DEFAULT);
    assert_eq!((machine.register(0, ERRORS), machine.register(0, COUNT)), (2, 5));
}
