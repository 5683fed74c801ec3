//! The guest's own test of the unit, and the events that the test must cause.

use iommu::ats::AddressType;
use iommu::event::{Event, LinkState, Lost, UnitRole};
use iommu::spec::fault::FaultReason;
use tests::{Rig, VICTIM, VICTIM_PORT, count};

/// Runs the self-test on `cpus` CPUs, with units in legacy or scalable mode.
fn selftest(cpus: u8, scalable: bool) {
    let Some(rig) = Rig::new("test=selftest") else { return };
    let run = rig.cpus(cpus).scalable(scalable).fault("on=doorbell,mode=silent").run().passed();
    let happened = |wanted: &dyn Fn(&Event) -> bool| {
        assert!(count(&run.events, wanted) >= 1, "something was not tested: {run}");
    };
    let guest = UnitRole::Guest;
    happened(&|event| matches!(event, Event::QueueError { unit, .. } if *unit == guest));
    happened(
        &|event| matches!(event, Event::DmaFault { unit, recorded: true, .. } if *unit == guest),
    );
    happened(&|event| matches!(event, Event::InvalidateCompleted { function: VICTIM, .. }));
    happened(&|event| matches!(event, Event::Interrupt { requester: VICTIM, .. }));
    happened(&|event| matches!(event, Event::Dma { address_type: AddressType::Translated, .. }));
    happened(&|event| *event == Event::Lost { port: VICTIM_PORT, what: Lost::Dma });
    if scalable {
        happened(&|event| matches!(event, Event::PageRequested { function: VICTIM, .. }));
        happened(&|event| matches!(event, Event::PageGroupResponded { automatic: false, .. }));
        happened(&|event| blocked(event) == Some(FaultReason::IR_COMPATIBILITY_BLOCKED));
        happened(&|event| blocked(event) == Some(FaultReason::IR_SOURCE_MISMATCH));
    }
    let down = Event::Link { port: VICTIM_PORT, state: LinkState::Down };
    assert_eq!(count(&run.events, |event| *event == down), 1);
}

/// The reason for which the unit blocked an interrupt, if `event` is about one.
fn blocked(event: &Event) -> Option<FaultReason> {
    match event {
        Event::InterruptFault { requester: Some(VICTIM), reason, recorded: true, .. } => {
            Some(*reason)
        }
        _ => None,
    }
}

#[test]
fn one_cpu_legacy_unit() {
    selftest(1, false);
}

#[test]
fn two_cpus_legacy_unit() {
    selftest(2, false);
}

#[test]
fn eight_cpus_legacy_unit() {
    selftest(8, false);
}

#[test]
fn one_cpu_scalable_unit() {
    selftest(1, true);
}

#[test]
fn two_cpus_scalable_unit() {
    selftest(2, true);
}

#[test]
fn eight_cpus_scalable_unit() {
    selftest(8, true);
}
