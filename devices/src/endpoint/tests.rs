//! The endpoint as its driver sees it, through a port whose link is up.

use iommu::ats::{AddressType, ITag, InvalidateCompletion, Msi, PageRange, RequestError};
use iommu::event::Event;
use iommu::ids::Iova;
use proptest::prelude::*;

use super::regs::*;
use crate::pcie::UpstreamMessage;
use crate::pcie::spec::{express, header, msi, power};
use crate::testkit::Machine;

const READ: u32 = 1;
const WRITE: u32 = 2;
const FILL: u32 = 3;
const START: u32 = 4;
const STOP: u32 = 5;
const TRANSLATE: u32 = 6;
const INTERRUPT: u32 = 7;
const USE_ATC: u32 = 1 << 4;
const INTERRUPT_WHEN_DONE: u32 = 1 << 5;

const OK: u32 = Status::Ok as u32;
const IOVA_PAGE: u64 = 0x10_0000;
const OUTPUT: u64 = 0x8_0000;

/// Endpoint 0 with two pages mapped, which are not adjacent in memory.
fn machine() -> Machine {
    let mut machine = Machine::ready();
    machine.upstream.map(IOVA_PAGE, 12, OUTPUT, true, true);
    machine.upstream.map(IOVA_PAGE + 0x1000, 12, OUTPUT + 0x5000, true, true);
    machine
}

fn reset(machine: &mut Machine) {
    let id = Machine::endpoint(0);
    assert!(machine.function(id).initiate_flr());
}

fn msi() -> UpstreamMessage {
    let msi = Msi { address: 0xfee0_1000, data: 0x41 };
    UpstreamMessage::Msi { requester: Machine::endpoint(0), msi }
}

#[test]
fn identifies_itself() {
    let mut machine = machine();
    assert_eq!(machine.config_u32(Machine::endpoint(0), 0), 0x6c6b_1234);
    assert_eq!(machine.config_u32(Machine::endpoint(0), 8) >> 8, 0x00ff_0000);
    assert_eq!(machine.register(0, ID), ID_VALUE);
}

#[test]
fn untranslated_writes_and_reads_reach_the_mapped_memory() {
    let mut machine = machine();
    machine.write(0, BUFFER, b"ghost");
    machine.write(0, BUFFER, b"ghostlnk");
    assert_eq!(machine.command(0, WRITE, IOVA_PAGE + 8, 8), OK);
    assert_eq!(machine.upstream.load(OUTPUT + 8, 8), b"ghostlnk");
    machine.upstream.store(OUTPUT + 8, b"vanished");
    assert_eq!(machine.command(0, READ, IOVA_PAGE + 8, 8), OK);
    assert_eq!(machine.buffer(0, 8), b"vanished");
    assert_eq!(machine.register(0, COUNT), 2);
    assert_eq!(machine.register(0, ATC_ENTRIES), 0);
    assert!(machine.upstream.translations.is_empty());
}

#[test]
fn the_buffer_is_prefetchable_memory_above_4_gib_too() {
    let mut machine = machine();
    let (id, port) = (Machine::endpoint(0), Machine::port(0));
    machine.config_write(id, header::BAR0 + 8, &[0xff; 4]);
    machine.config_write(id, header::BAR0 + 12, &[0xff; 4]);
    assert_eq!(machine.config_u32(id, header::BAR0 + 8), 0xffff_f00c, "64 bits, prefetchable");
    assert_eq!(machine.config_u32(id, header::BAR0 + 12), u32::MAX);
    machine.config_write(id, header::BAR0 + 8, &0x4000_0000_u32.to_le_bytes());
    machine.config_write(id, header::BAR0 + 12, &2_u32.to_le_bytes());
    for (register, value) in [(0x24, 0x4000_4000), (0x28, 2), (0x2c, 2)] {
        machine.config_write(port, register, &u32::to_le_bytes(value));
    }
    machine.write(0, BUFFER + 8, b"ghostlnk");
    let mut data = [0; 8];
    machine.read(0x2_4000_0008, &mut data);
    assert_eq!(&data, b"ghostlnk");
    machine.read(0x2_4000_0800, &mut data[..4]);
    assert_eq!(data[..4], [0; 4], "behind its end");
    assert_eq!(machine.register(0, ID), ID_VALUE, "BAR 0 is where it was");
}

#[test]
fn fills_repeat_the_pattern() {
    let mut machine = machine();
    machine.write_register(0, PATTERN, 0x4433_2211);
    assert_eq!(machine.command(0, FILL, IOVA_PAGE, 6), OK);
    assert_eq!(machine.upstream.load(OUTPUT, 7), [0x11, 0x22, 0x33, 0x44, 0x11, 0x22, 0]);
}

#[test]
fn requests_are_cut_at_page_boundaries() {
    let mut machine = machine();
    let data: Vec<u8> = (0..64).collect();
    for (register, data) in (BUFFER..).step_by(8).zip(data.chunks(8)) {
        machine.write(0, register, data);
    }
    assert_eq!(machine.command(0, WRITE, IOVA_PAGE + 0xff0, 64), OK);
    assert_eq!(machine.upstream.load(OUTPUT + 0xff0, 16), data[..16]);
    assert_eq!(machine.upstream.load(OUTPUT + 0x5000, 48), data[16..]);
    let lengths: Vec<usize> = machine.upstream.requests.iter().map(|request| request.1).collect();
    assert_eq!(lengths, [16, 48]);
}

#[test]
fn the_atc_is_asked_before_the_unit() {
    let mut machine = machine();
    assert_eq!(machine.command(0, WRITE | USE_ATC, IOVA_PAGE + 0x18, 8), OK);
    assert_eq!(machine.command(0, WRITE | USE_ATC, IOVA_PAGE + 0x20, 8), OK);
    let asked: Vec<Iova> =
        machine.upstream.translations.iter().map(|asked| asked.address).collect();
    assert_eq!(asked, [Iova(IOVA_PAGE)], "once, and for the page");
    let (request, _) = machine.upstream.requests[1];
    assert_eq!(request.address_type, AddressType::Translated);
    assert_eq!(request.address, Iova(OUTPUT + 0x20));
    assert_eq!(request.requester, Machine::endpoint(0));
    assert_eq!(machine.register(0, ATC_ENTRIES), 1);
    assert_eq!(machine.register(0, TRANSLATED), OUTPUT as u32 + 0x20);
    let function = Machine::endpoint(0);
    let events = machine.events();
    assert!(events.contains(&Event::AtcFilled { function, address: Iova(IOVA_PAGE), order: 12 }));
}

#[test]
fn a_refused_translation_request_turns_the_atc_off_until_ats_is_enabled_anew() {
    let mut machine = machine();
    assert_eq!(machine.command(0, TRANSLATE, IOVA_PAGE, 0), OK);
    machine.upstream.translation_error = Some(RequestError::CompleterAbort);
    let aborted = Status::CompleterAbort as u32;
    assert_eq!(machine.command(0, TRANSLATE, IOVA_PAGE + 0x1000, 0), aborted);
    assert_eq!(machine.register(0, ATC_ENTRIES), 1, "an abort is no refusal");
    machine.upstream.translation_error = Some(RequestError::UnsupportedRequest);
    let refused = Status::UnsupportedRequest as u32;
    assert_eq!(machine.command(0, TRANSLATE, IOVA_PAGE + 0x1000, 0), refused);
    assert_eq!(machine.register(0, ATC_ENTRIES), 0);
    machine.upstream.translation_error = None;
    let asked = machine.upstream.translations.len();
    let off = Status::AtsOff as u32;
    assert_eq!(machine.command(0, READ | USE_ATC, IOVA_PAGE, 8), off);
    assert_eq!(machine.upstream.translations.len(), asked);
    assert_eq!(machine.command(0, READ, IOVA_PAGE, 8), OK);
    machine.enable_ats(0);
    assert_eq!(machine.command(0, READ | USE_ATC, IOVA_PAGE, 8), off, "it was on all the time");
    let control = machine.ats_control(0);
    machine.config_write(Machine::endpoint(0), control, &[0, 0]);
    machine.enable_ats(0);
    assert_eq!(machine.command(0, READ | USE_ATC, IOVA_PAGE, 8), OK);
}

#[test]
fn a_cached_translation_outlives_its_mapping() {
    let mut machine = machine();
    assert_eq!(machine.command(0, TRANSLATE, IOVA_PAGE, 0), OK);
    machine.upstream.mappings.clear();
    assert_eq!(machine.command(0, READ | USE_ATC, IOVA_PAGE, 8), OK);
    assert_eq!(machine.command(0, READ, IOVA_PAGE, 8), Status::UnsupportedRequest as u32);
    machine.invalidate(0, 3, PageRange::page(Iova(IOVA_PAGE)));
    let failed = Status::NoTranslation as u32;
    assert_eq!(machine.command(0, READ | USE_ATC, IOVA_PAGE, 8), failed);
}

#[test]
fn an_invalidate_request_is_answered_with_its_tag() {
    let mut machine = machine();
    machine.command(0, TRANSLATE, IOVA_PAGE, 0);
    machine.command(0, TRANSLATE, IOVA_PAGE + 0x1000, 0);
    machine.invalidate(0, 5, PageRange::page(Iova(IOVA_PAGE)));
    assert_eq!(machine.register(0, ATC_ENTRIES), 1);
    assert_eq!(machine.register(0, INVALIDATIONS), 1);
    let answer = InvalidateCompletion {
        requester: Machine::endpoint(0),
        itag_vector: ITag::new(5).bit(),
        completion_count: 1,
    };
    assert_eq!(machine.messages(), [UpstreamMessage::InvalidateCompletion(answer)]);
    let function = Machine::endpoint(0);
    assert!(machine.events().contains(&Event::AtcInvalidated { function, dropped: 1 }));
}

#[test]
fn an_invalidate_request_is_answered_with_ats_off_too() {
    let mut machine = Machine::enumerated();
    machine.invalidate(0, 0, PageRange::ALL);
    assert_eq!(machine.messages().len(), 1);
}

#[test]
fn a_missing_permission_is_asked_for_again_before_it_fails() {
    let mut machine = machine();
    machine.upstream.map(IOVA_PAGE, 12, OUTPUT, true, false);
    assert_eq!(machine.command(0, READ | USE_ATC, IOVA_PAGE, 4), OK);
    let refused = Status::NoTranslation as u32;
    assert_eq!(machine.command(0, WRITE | USE_ATC, IOVA_PAGE, 4), refused);
    assert_eq!(machine.register(0, ERRORS), 1);
    machine.upstream.map(IOVA_PAGE, 12, OUTPUT, true, true);
    assert_eq!(machine.command(0, WRITE | USE_ATC, IOVA_PAGE, 4), OK);
    assert_eq!(machine.register(0, ATC_ENTRIES), 1);
}

#[test]
fn a_range_marked_u_is_used_untranslated() {
    let mut machine = machine();
    machine.upstream.mappings[0].untranslated_only = true;
    assert_eq!(machine.command(0, WRITE | USE_ATC, IOVA_PAGE, 4), OK);
    assert_eq!(machine.upstream.requests[0].0.address_type, AddressType::Untranslated);
    assert_eq!(machine.upstream.load(OUTPUT, 4), [0; 4]);
}

#[test]
fn commands_are_refused_for_what_is_wrong() {
    let mut machine = machine();
    for command in [0, 10, 15] {
        assert_eq!(machine.command(0, command, IOVA_PAGE, 8), Status::BadCommand as u32);
    }
    for length in [0, 2049, u32::MAX] {
        assert_eq!(machine.command(0, WRITE, IOVA_PAGE, length), Status::BadCommand as u32);
    }
    assert_eq!(machine.command(0, WRITE, u64::MAX - 6, 8), Status::BadCommand as u32);
    assert_eq!(machine.command(0, START, u64::MAX - 6, 8), Status::BadCommand as u32);
    let control = machine.ats_control(0);
    machine.config_write(Machine::endpoint(0), control, &[0, 0]);
    for command in [READ | USE_ATC, TRANSLATE] {
        assert_eq!(machine.command(0, command, IOVA_PAGE, 8), Status::AtsOff as u32);
    }
    machine.config_write(Machine::endpoint(0), header::COMMAND, &[0b010, 0]);
    for command in [READ, WRITE, FILL, START, TRANSLATE, INTERRUPT] {
        assert_eq!(machine.command(0, command, IOVA_PAGE, 8), Status::BusMasterOff as u32);
    }
    assert!(machine.upstream.requests.is_empty() && machine.messages().is_empty());
}

#[test]
fn turning_ats_off_empties_the_atc() {
    let mut machine = machine();
    machine.command(0, TRANSLATE, IOVA_PAGE, 0);
    let control = machine.ats_control(0);
    machine.config_write(Machine::endpoint(0), control, &[0, 0]);
    machine.enable_ats(0);
    assert_eq!(machine.register(0, ATC_ENTRIES), 0);
    assert!(machine.messages().is_empty(), "no completion was requested");
}

#[test]
fn a_function_level_reset_forgets_everything() {
    let mut machine = machine();
    machine.command(0, TRANSLATE, IOVA_PAGE, 0);
    machine.write_register(0, PATTERN, 7);
    machine.command(0, START, IOVA_PAGE, 8);
    reset(&mut machine);
    let id = Machine::endpoint(0);
    let express = machine.function(id).capability(express::ID).unwrap();
    let control = machine.ats_control(0);
    assert_eq!(machine.config_u16(id, header::COMMAND), 0);
    assert_eq!(machine.config_u32(id, header::BAR0), 0);
    assert_eq!(
        machine.config_u16(id, express + express::DEVICE_CONTROL) >> 15,
        0,
        "Initiate FLR reads 0"
    );
    assert_eq!(machine.config_u16(id, control), 0);
    assert_eq!(machine.hierarchy.poll_timeout(), None);
    machine.config_write(id, header::BAR0, &(Machine::bar(0) as u32).to_le_bytes());
    machine.config_write(id, header::COMMAND, &[0b110, 0]);
    for (register, value) in [(ATC_ENTRIES, 0), (PATTERN, 0), (STATUS, 0), (PERIOD, 1000)] {
        assert_eq!(machine.register(0, register), value, "register {register:#x}");
    }
}

#[test]
fn a_repeating_write_goes_on_until_it_is_stopped() {
    let mut machine = machine();
    machine.write_register(0, PATTERN, 0xabcd);
    machine.write_register(0, PERIOD, 100);
    assert_eq!(machine.command(0, START | USE_ATC, IOVA_PAGE, 8), OK);
    assert_eq!(machine.register(0, STATUS), 1);
    machine.run_for(1000);
    assert_eq!(machine.register(0, COUNT), 11);
    assert_eq!(machine.upstream.load(OUTPUT, 8), [0xcd, 0xab, 0, 0, 10, 0, 0, 0]);
    assert_eq!(machine.upstream.translations.len(), 1);
    machine.write_register(0, COMMAND, STOP);
    assert_eq!(machine.hierarchy.poll_timeout(), None);
    assert_eq!(machine.register(0, STATUS), 0);
}

#[test]
fn a_late_timer_causes_no_burst() {
    let mut machine = machine();
    machine.write_register(0, PERIOD, 0);
    assert_eq!(machine.register(0, PERIOD), MIN_PERIOD);
    machine.command(0, START, IOVA_PAGE, 8);
    machine.now = iommu::time::Instant::from_nanos(1_000_000_000);
    machine.hierarchy.handle_timeout(&mut machine.upstream, machine.now);
    assert_eq!(machine.register(0, COUNT), 1);
    let next = machine.hierarchy.poll_timeout();
    assert_eq!(next, Some(machine.now + std::time::Duration::from_micros(10)));
}

#[test]
fn interrupts_go_out_as_the_guest_has_programmed_them() {
    let mut machine = machine();
    assert_eq!(machine.command(0, INTERRUPT, 0, 0), OK);
    assert_eq!(machine.messages(), [msi()]);
    machine.command(0, WRITE | INTERRUPT_WHEN_DONE, IOVA_PAGE, 8);
    assert_eq!(machine.messages(), [msi()]);
}

#[test]
fn a_masked_interrupt_waits() {
    let mut machine = machine();
    let id = Machine::endpoint(0);
    let capability = machine.function(id).capability(msi::ID).unwrap();
    machine.config_write(id, capability + 0x10, &[1]);
    machine.command(0, INTERRUPT, 0, 0);
    assert_eq!(machine.messages(), []);
    assert_eq!(machine.config_u32(id, capability + 0x14), 1);
    machine.config_write(id, capability + 0x10, &[0]);
    assert_eq!(machine.messages(), [msi()]);
    assert_eq!(machine.config_u32(id, capability + 0x14), 0);
}

#[test]
fn a_function_in_d3hot_answers_configuration_only() {
    let mut machine = machine();
    let id = Machine::endpoint(0);
    let power = machine.function(id).capability(power::ID).unwrap();
    machine.config_write(id, power + power::CONTROL, &3_u16.to_le_bytes());
    assert_eq!(machine.register(0, ID), u32::MAX);
    assert_eq!(machine.config_u32(id, 0), 0x6c6b_1234);
    machine.config_write(id, power + power::CONTROL, &0_u16.to_le_bytes());
    assert_eq!(machine.register(0, ID), ID_VALUE);
}

#[test]
fn odd_register_accesses_read_all_ones_and_write_nothing() {
    let mut machine = machine();
    machine.write_register(0, PATTERN, 0x1111_1111);
    machine.write(0, PATTERN, &[0xff]);
    machine.write(0, PATTERN, &[0xff; 2]);
    machine.write(0, LENGTH, &[0xff; 8]);
    machine.write(0, PATTERN + 2, &[0xff; 4]);
    assert_eq!(machine.register(0, PATTERN), 0x1111_1111);
    let mut data = [0; 8];
    machine.read(Machine::bar(0) + LENGTH, &mut data);
    assert_eq!(data, [0xff; 8]);
    machine.write(0, IOVA, &[1, 2, 3, 4, 5, 6, 7, 8]);
    machine.read(Machine::bar(0) + IOVA, &mut data);
    assert_eq!(data, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(machine.register(0, IOVA + 4), 0x0807_0605);
}

proptest! {
    #[test]
    fn no_access_to_the_registers_panics(
        steps in prop::collection::vec(
            (
                prop_oneof![0_u64..0x40, 0_u64..0x1010],
                prop::collection::vec(any::<u8>(), 0..9),
                any::<bool>(),
            ),
            0..100,
        ),
    ) {
        let mut machine = machine();
        for (register, mut data, is_write) in steps {
            if is_write {
                machine.write(0, register, &data);
            } else {
                let address = Machine::bar(0) + register;
                machine.read(address, &mut data);
            }
            machine.hierarchy.handle_timeout(&mut machine.upstream, machine.now);
            machine.now = machine.now + std::time::Duration::from_micros(7);
            prop_assert!(machine.messages().len() <= 2);
        }
    }

    #[test]
    fn what_is_written_is_read_back_through_the_atc(
        start in 0_u64..0x1800, length in 1_u32..=2048, seed: u32,
    ) {
        let mut machine = machine();
        prop_assume!(start + u64::from(length) <= 0x2000);
        machine.write_register(0, PATTERN, seed);
        let at = IOVA_PAGE + start;
        prop_assert_eq!(machine.command(0, FILL | USE_ATC, at, length), OK);
        prop_assert_eq!(machine.command(0, READ, at, length), OK);
        let expected = seed.to_le_bytes().into_iter().cycle().take(length as usize);
        prop_assert_eq!(machine.buffer(0, length as usize), expected.collect::<Vec<_>>());
    }
}
