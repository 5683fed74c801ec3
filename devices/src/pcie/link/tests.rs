//! A link that goes down silently: what each side of it sees, and what it does not.

use iommu::ats::PageRange;
use iommu::event::Event;
use iommu::ids::Iova;

use super::*;
use crate::endpoint::regs;
use crate::fault::FaultMode;
use crate::pcie::spec::{express, header, msi};
use crate::testkit::{FLAP_KEEP, Machine};

const FILL: u32 = 3;
const START: u32 = 4;
const TRANSLATE: u32 = 6;
const USE_ATC: u32 = 1 << 4;

fn lost(machine: &Machine) -> Vec<Lost> {
    machine
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Lost { port, what } => {
                assert_eq!(port, Machine::port(0), "only this link is down");
                Some(what)
            }
            _ => None,
        })
        .collect()
}

/// A mapped page at 0, cached by endpoint 0, whose link then goes down.
fn dropped() -> Machine {
    let mut machine = Machine::ready();
    machine.upstream.map(0, 12, 0x8000, true, true);
    assert_eq!(machine.command(0, TRANSLATE, 0, 0), 0);
    machine.inject(0, FLAP_KEEP);
    machine
}

fn port_registers(machine: &mut Machine) -> Vec<u32> {
    (0..4096).step_by(4).map(|at| machine.config_u32(Machine::port(0), at)).collect()
}

/// All that a driver can do to hear of it: MSI on, and every enable of Slot Control.
fn enable_hot_plug_interrupt(machine: &mut Machine) {
    let port = Machine::port(0);
    let msi = machine.function(port).capability(msi::ID).unwrap();
    machine.config_write(port, msi + msi::ADDRESS, &0xfee0_0000_u32.to_le_bytes());
    machine.config_write(port, msi + msi::CONTROL, &[1]);
    let slot_control = machine.function(port).capability(express::ID).unwrap() + 0x18;
    machine.config_write(port, slot_control, &[0xff; 2]);
    let enabled = machine.config_u16(port, slot_control);
    assert_eq!(enabled, 1 << 3 | 1 << 5 | 1 << 12, "PDCE, HPIE, DLLSCE");
}

#[test]
fn every_kind_of_request_from_above_is_lost() {
    let mut machine = dropped();
    let endpoint = Machine::endpoint(0);
    assert_eq!(machine.config::<4>(endpoint, 0), [0xff; 4]);
    machine.config_write(endpoint, header::COMMAND, &[0, 0]);
    assert_eq!(machine.register(0, regs::ID), u32::MAX);
    machine.write_register(0, regs::PATTERN, 1);
    machine.invalidate(0, 0, PageRange::ALL);
    assert_eq!(machine.messages(), []);
    assert_eq!(
        lost(&machine),
        [
            Lost::ConfigRead,
            Lost::ConfigWrite,
            Lost::MemoryRead,
            Lost::MemoryWrite,
            Lost::InvalidateRequest
        ]
    );
}

#[test]
fn a_repeating_write_goes_on_into_nothing() {
    let mut machine = Machine::ready();
    machine.upstream.map(0, 12, 0x8000, true, true);
    machine.write_register(0, regs::PATTERN, 0x77);
    machine.command(0, START | USE_ATC, 0, 8);
    machine.run_for(0);
    assert_eq!(machine.upstream.requests.len(), 1);
    machine.drop_link(0);
    machine.run_for(5000);
    assert_eq!(machine.upstream.requests.len(), 1);
    assert_eq!(lost(&machine), [Lost::Dma; 5]);
}

#[test]
fn a_repeating_write_that_needs_a_translation_does_not_get_one() {
    let mut machine = Machine::ready();
    machine.upstream.map(0, 12, 0x8000, true, true);
    machine.command(0, START | USE_ATC, 0, 8);
    machine.inject(0, FLAP_KEEP);
    machine.run_for(1000);
    assert!(machine.upstream.translations.is_empty());
    assert_eq!(lost(&machine), [Lost::TranslationRequest; 2]);
    machine.lift(0, FLAP_KEEP);
    assert_eq!(machine.register(0, regs::ERRORS), 0, "they wait for their completions");
    machine.run_for(50_000);
    assert_eq!(machine.register(0, regs::ERRORS), 2);
}

#[test]
fn nothing_else_changes() {
    let mut machine = Machine::ready();
    enable_hot_plug_interrupt(&mut machine);
    let before = port_registers(&mut machine);
    machine.inject(0, FaultMode::Ghost);
    machine.run_for(60_000_000);
    assert_eq!(port_registers(&mut machine), before);
    assert_eq!(machine.messages(), [], "no interrupt");
    assert_eq!(lost(&machine), []);
    assert_eq!(machine.register(1, regs::ID), regs::ID_VALUE, "the neighbour lives");
    machine.invalidate(1, 0, PageRange::ALL);
    assert_eq!(machine.messages().len(), 1);
}

#[test]
fn a_link_that_comes_back_finds_the_atc_as_it_was() {
    let mut machine = dropped();
    machine.invalidate(0, 0, PageRange::page(Iova(0)));
    machine.upstream.mappings.clear();
    machine.lift(0, FLAP_KEEP);
    assert_eq!(machine.register(0, regs::ATC_ENTRIES), 1);
    assert_eq!(machine.register(0, regs::INVALIDATIONS), 0);
    assert_eq!(machine.command(0, FILL | USE_ATC, 0, 8), 0, "a stale write succeeds");
    assert_eq!(machine.upstream.requests.last().unwrap().0.address, Iova(0x8000));
}

#[test]
fn a_link_reports_changes_once() {
    let mut machine = Machine::bare();
    machine.drop_link(1);
    machine.drop_link(1);
    machine.drop_link(7);
    let port = Machine::port(1);
    assert_eq!(machine.events(), [Event::Link { port, state: LinkState::Down }]);
}

/// The share of drawn delays that are longer than `than`, and their mean.
fn drawn(text: &str, than: Duration) -> (f64, Duration) {
    const DRAWS: u32 = 100_000;
    let mut link = Link::new(Machine::port(0), 1, Tracer::none());
    let delay: AnswerDelay = text.parse().unwrap();
    let delays: Vec<Duration> = (0..DRAWS).map(|_| link.draw(delay)).collect();
    let longer = delays.iter().filter(|delay| **delay > than).count();
    (longer as f64 / f64::from(DRAWS), delays.iter().sum::<Duration>() / DRAWS)
}

#[test]
fn delays_have_the_distributions_that_their_names_say() {
    let millis = Duration::from_millis;
    let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.1;
    for (text, than, share, mean) in [
        ("exp:50ms", millis(100), (-2.0_f64).exp(), Some(50)),
        // The least is 50 ms * 2 / 3, and (2 / 3 / 10)^3 of the answers are later than 500 ms.
        ("pareto:50ms:3", millis(500), (2.0_f64 / 30.0).powi(3), Some(50)),
        // A mean that exists and is reached slowly: only the tail is checked.
        ("pareto:50ms:1.5", millis(500), (1.0_f64 / 30.0).powf(1.5), None),
        ("bimodal:1ms:10s:0.01", millis(1), 0.01, Some(101)),
        ("1ms..99ms", millis(50), 0.5, Some(50)),
    ] {
        let (found, drawn_mean) = drawn(text, than);
        assert!(near(found, share), "{text}: {found}, not {share}");
        if let Some(mean) = mean {
            assert!(
                near(drawn_mean.as_secs_f64() * 1000.0, f64::from(mean)),
                "{text}: {drawn_mean:?}"
            );
        }
    }
}
