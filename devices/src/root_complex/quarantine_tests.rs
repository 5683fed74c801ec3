//! Quarantine, removal and reset, from the guest's queue to the function's DMA.

use std::time::Duration;

use iommu::ats::AddressType;
use iommu::event::{Event, UnitRole};
use iommu::submit::{PortFence, Verdict};
use iommu::time::Timeout;
use iommu::unit::Ordering;
use vm_memory::{Bytes, GuestAddress};

use super::tests::{BOUND, ENTRY, Rig, TARGET, function};
use super::*;
use crate::fault::FaultMode;
use crate::pcie::spec::header::{self, Command};
use crate::pcie::spec::{acs, dpc, express};

const ICT: Duration = Duration::from_secs(60);

/// The ATC of the first function holds a translation of a page that is unmapped, and the Invalidate
/// Request for it is lost: the link is gone for a moment, which the function does not notice.
fn stale(policy: &str, ict: Timeout, ordering: Ordering) -> Rig {
    let mut rig = Rig::with(policy, ict, ordering);
    rig.fill(0, 1);
    assert_eq!(rig.peek(TARGET), 1);
    rig.complex.memory.write_obj(0_u64, GuestAddress(ENTRY)).unwrap();
    let down = BOUND / 2;
    rig.complex.inject(0, FaultMode::Flap { down, keep: true }, rig.now);
    rig.flush(0, 0);
    rig
}

/// As [`stale`], and then the function sends no Invalidate Completions.
fn mute(policy: &str, ict: Timeout, ordering: Ordering) -> Rig {
    let mut rig = stale(policy, ict, ordering);
    rig.complex.inject(0, FaultMode::NoCompletion, rig.now);
    rig
}

/// Lets the function use what it holds.
fn use_stale(rig: &mut Rig) -> u32 {
    rig.fill(0, 2);
    rig.peek(TARGET)
}

fn host(rig: &Rig) -> &HostSide {
    rig.complex.downstream.host.as_ref().unwrap()
}

fn config_write(rig: &mut Rig, of: Bdf, offset: u16, data: &[u8]) {
    rig.complex.config_write(of, offset, data, rig.now);
}

/// The guest initiates an FLR of the first function.
fn reset_by_guest(rig: &mut Rig) {
    assert!(rig.client(function(0)).initiate_flr());
}

fn verdicts(rig: &Rig) -> Vec<Verdict> {
    let verdict = |event: &Event| match event {
        Event::Verdict { verdict, .. } => Some(*verdict),
        _ => None,
    };
    rig.events().iter().filter_map(verdict).collect()
}

#[test]
fn a_quarantined_function_reaches_nothing_and_its_flushes_succeed_at_once() {
    let mut rig = mute("quarantine:100ms", Timeout::Never, Ordering::Parallel);
    rig.pass(BOUND - Duration::from_nanos(1));
    assert!(!rig.done(0));
    rig.pass(Duration::from_nanos(1));
    assert!(rig.done(0), "the guest is told that all is well");
    assert_eq!(rig.ite(), None);
    assert_eq!(use_stale(&mut rig), 1, "the stale write has not reached memory");
    let blocked = |event: &Event| matches!(event, Event::DmaFault { unit: UnitRole::Host, .. });
    assert!(rig.has(blocked));
    let before = rig.events().len();
    rig.flush(0, 1);
    assert!(rig.done(1));
    let asked = |event: &Event| matches!(event, Event::InvalidateRequested { unit, .. } if *unit == UnitRole::Host);
    assert!(!rig.events()[before..].iter().any(asked), "no more requests are sent to it");
    assert_eq!(verdicts(&rig), [Verdict::Quarantined; 2]);
}

#[test]
fn where_waits_complete_in_order_the_fence_stands_behind_what_it_is_to_end() {
    let mut rig = mute("quarantine:100ms", Timeout::After(ICT), Ordering::Serial);
    rig.pass(ICT - Duration::from_nanos(1));
    assert!(!rig.done(0));
    rig.pass(Duration::from_nanos(1));
    assert!(rig.done(0));
    assert_eq!(use_stale(&mut rig), 1);
    rig.flush(1, 1);
    assert!(rig.done(1), "the neighbor is let be");
}

#[test]
fn a_fence_that_nobody_waits_for_ends_the_wait_everywhere() {
    for ordering in [Ordering::Serial, Ordering::Parallel] {
        let mut rig = mute("quarantine-posted:100ms", Timeout::Never, ordering);
        rig.pass(BOUND);
        assert!(rig.done(0), "{ordering}");
        assert_eq!(use_stale(&mut rig), 1, "{ordering}");
    }
}

#[test]
fn without_a_fence_the_function_goes_on_with_what_it_holds() {
    for policy in ["bounded:100ms", "late-removal:100ms"] {
        let mut rig = mute(policy, Timeout::Never, Ordering::Parallel);
        rig.pass(BOUND);
        assert_eq!(use_stale(&mut rig), 2, "{policy}");
        let stale = |event: &Event| {
            matches!(event, Event::Dma { address_type: AddressType::Translated, .. })
        };
        assert!(rig.has(stale));
    }
}

#[test]
fn a_quarantine_ends_with_a_reset_that_the_host_sees() {
    let flr: fn(&mut Rig) = reset_by_guest;
    let bus_reset: fn(&mut Rig) = |rig| {
        rig.client(Bdf::new(0, 1, 0)).reset_secondary_bus();
    };
    let power: fn(&mut Rig) = |rig| {
        rig.complex.inject(0, FaultMode::Surprise, rig.now);
        rig.complex.lift(0, FaultMode::Surprise, rig.now);
    };
    for (reset, name) in [(flr, "FLR"), (bus_reset, "bus reset"), (power, "a new card")] {
        let mut rig = mute("quarantine:100ms", Timeout::Never, Ordering::Parallel);
        rig.pass(BOUND);
        assert!(host(&rig).is_blocked(function(0)), "{name}");
        reset(&mut rig);
        assert!(!host(&rig).is_isolated(function(0)), "{name}");
        let ended = Event::QuarantineEnded { function: function(0) };
        assert!(rig.has(|event| *event == ended), "{name}");
    }
}

#[test]
fn a_link_that_came_back_unnoticed_ends_no_quarantine() {
    let mut rig = mute("quarantine:100ms", Timeout::Never, Ordering::Parallel);
    rig.pass(BOUND);
    let down = Duration::from_secs(1);
    rig.complex.inject(0, FaultMode::Flap { down, keep: false }, rig.now);
    rig.pass(down * 2);
    assert!(host(&rig).is_blocked(function(0)));
    // Nor does a reset that is lost on the way.
    rig.complex.inject(0, FaultMode::Silent, rig.now);
    config_write(&mut rig, function(0), 0, &[0; 4]);
    assert!(host(&rig).is_blocked(function(0)));
}

#[test]
fn flr_empties_the_atc_of_a_function_that_is_there() {
    let mut rig = stale("flr:100ms", Timeout::Never, Ordering::Parallel);
    rig.pass(BOUND);
    assert!(!rig.done(0), "a function has 100 ms after it");
    rig.pass(Duration::from_millis(100));
    assert!(rig.done(0));
    assert_eq!(verdicts(&rig), [Verdict::Reset]);
    assert!(rig.has(|event| matches!(event, Event::AtcInvalidated { dropped: 1, .. })));
}

#[test]
fn flr_does_not_reach_what_is_gone_and_the_guest_is_told() {
    let mut rig = Rig::with("flr:100ms", Timeout::Never, Ordering::Parallel);
    rig.complex.inject(0, FaultMode::Silent, rig.now);
    rig.flush(0, 0);
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.ite(), Some(function(0)));
    assert_eq!(verdicts(&rig), [Verdict::DeadlinePassed]);
}

#[test]
fn a_fence_at_the_port_needs_no_queue_and_ends_with_the_reset_of_the_function() {
    for fence in PortFence::ALL {
        for ordering in [Ordering::Serial, Ordering::Parallel] {
            let mut rig = stale(fence.word(), Timeout::Never, ordering);
            rig.complex.inject(0, FaultMode::IgnoreInvalidate, rig.now);
            rig.pass(BOUND);
            assert!(rig.done(0), "{fence}: the guest is told that all is well");
            assert_eq!(use_stale(&mut rig), 1, "{fence}: the stale write has not reached memory");
            assert_eq!(verdicts(&rig), [Verdict::Fenced], "{fence}");
            rig.complex.lift(0, FaultMode::IgnoreInvalidate, rig.now);
            let ended = Event::PortFenceEnded { function: function(0), fence };
            assert!(!rig.has(|event| *event == ended), "{fence}");
            let has_link = matches!(fence, PortFence::BlockTranslation | PortFence::BusMasterOff);
            assert_eq!(rig.complex.downstream.hierarchy.is_link_up(0), has_link, "{fence}");
            match has_link {
                true => reset_by_guest(&mut rig),
                false => end_by_port(&mut rig, fence),
            }
            assert!(rig.has(|event| *event == ended), "{fence}");
            assert_eq!(host(&rig).awaiting_reset().count(), 0, "{fence}");
        }
    }
}

/// Software lets the link train again, which resets what is below.
fn end_by_port(rig: &mut Rig, fence: PortFence) {
    let mut port = rig.client(Bdf::new(0, 1, 0));
    if fence == PortFence::Dpc {
        let at = port.extended_capability(dpc::ID).unwrap();
        return port.write(at + dpc::STATUS, dpc::Status::new().with_triggered(true));
    }
    let at = port.capability(express::ID).unwrap() + express::LINK_CONTROL;
    let control = port.read::<express::LinkControl>(at).with_link_disable(false);
    port.write(at, control);
}

#[test]
fn messages_and_untranslated_requests_pass_what_blocks_translations() {
    let mut rig = stale("block-translation", Timeout::Never, Ordering::Serial);
    rig.complex.inject(0, FaultMode::IgnoreInvalidate, rig.now);
    rig.pass(BOUND);
    let acs = rig.client(Bdf::new(0, 1, 0)).extended_capability(acs::ID).unwrap();
    let control: acs::AcsBits = rig.client(Bdf::new(0, 1, 0)).read(acs + acs::CONTROL);
    assert!(control.translation_blocking() && !control.source_validation());
    let command: Command = rig.client(Bdf::new(0, 1, 0)).read(header::COMMAND);
    assert!(command.bus_master());
}
