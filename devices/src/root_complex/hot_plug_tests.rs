//! What the host's hot-plug driver knows of a function that is gone, and when.

use std::time::Duration;

use iommu::event::Event;
use iommu::submit::Verdict;
use iommu::time::Timeout;
use iommu::unit::Ordering;

use super::downstream::Drivers;
use super::tests::{BOUND, Rig, function};
use super::*;
use crate::fault::FaultMode;
use crate::pcie::spec::express;

const REPORTS: express::SlotControl = express::SlotControl::new()
    .with_presence_detect_changed_enable(true)
    .with_hot_plug_interrupt_enable(true)
    .with_data_link_layer_changed_enable(true);

/// A rig with a policy that skips what hot-plug has marked, and this in Slot Control of the first port.
fn rig(control: express::SlotControl) -> Rig {
    let mut rig = Rig::with("late-removal:100ms", Timeout::Never, Ordering::Parallel);
    let mut port = rig.client(Bdf::new(0, 1, 0));
    let at = port.capability(express::ID).unwrap() + express::SLOT_CONTROL;
    let power = port.read::<express::SlotControl>(at).into_bits() & !REPORTS.into_bits();
    port.write(at, express::SlotControl::from_bits(power | control.into_bits()));
    rig
}

fn first_verdict(rig: &Rig) -> Option<Verdict> {
    rig.events().iter().find_map(|event| match event {
        Event::Verdict { verdict, .. } => Some(*verdict),
        _ => None,
    })
}

#[test]
fn a_function_is_skipped_once_the_ports_interrupt_is_handled() {
    for mode in [FaultMode::Surprise, FaultMode::Disable] {
        for (early, verdict) in [(1, Verdict::Removed), (0, Verdict::Skipped)] {
            let mut rig = rig(REPORTS);
            rig.complex.inject(0, mode, rig.now);
            rig.pass(RootComplexConfig::HOT_PLUG - Duration::from_nanos(early));
            rig.flush(0, 0);
            rig.pass(BOUND);
            assert_eq!(first_verdict(&rig), Some(verdict), "{mode}, {early} ns before");
        }
    }
}

#[test]
fn without_an_interrupt_the_driver_does_not_learn_that_a_function_is_gone() {
    let silent_events = REPORTS.with_data_link_layer_changed_enable(false);
    let masked = REPORTS.with_hot_plug_interrupt_enable(false);
    for control in [silent_events, masked, express::SlotControl::new()] {
        let mut rig = rig(control);
        rig.complex.inject(0, FaultMode::Disable, rig.now);
        rig.pass(BOUND);
        rig.flush(0, 0);
        rig.pass(BOUND);
        assert_eq!(first_verdict(&rig), Some(Verdict::Removed), "{control:?}");
    }
}

#[test]
fn a_function_that_is_back_is_asked_again() {
    let mut rig = rig(REPORTS);
    rig.complex.inject(0, FaultMode::Surprise, rig.now);
    rig.pass(BOUND);
    assert!(rig.complex.downstream.drivers.is_disconnected(function(0)));
    rig.complex.lift(0, FaultMode::Surprise, rig.now);
    assert!(rig.complex.downstream.drivers.is_disconnected(function(0)), "the handler has not run");
    rig.pass(BOUND);
    assert!(!rig.complex.downstream.drivers.is_disconnected(function(0)));
    assert!(!rig.complex.downstream.drivers.is_disconnected(function(1)));
}
