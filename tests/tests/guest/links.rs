//! Links that drop at a time, or when the embedder injects a fault.

use std::time::Duration;

use devices::fault::FaultMode;
use iommu::event::{Event, LinkState, Lost, UnitRole};
use iommu::submit::Verdict;
use iommu::time::Instant;
use iommu::unit::Ordering;
use tests::{Machine, NEIGHBOR, NEIGHBOR_PORT, Rig, VICTIM, VICTIM_PORT, count};
use vmm::{Exit, Outcome};

/// Starts a guest that flushes until its device is gone, and returns when it has begun. The guest
/// measures four flushes before.
fn flushing(rig: Rig) -> Machine {
    let machine = rig.start();
    machine.wait_for(5, |event| matches!(event, Event::Verdict { function: VICTIM, .. }));
    machine
}

fn request_is_lost(event: &Event) -> bool {
    matches!(event, Event::Lost { port: VICTIM_PORT, what: Lost::InvalidateRequest })
}

#[test]
fn a_link_drops_at_its_time() {
    let Some(rig) = Rig::new("test=idle") else { return };
    let machine = rig.fault("at=50ms,mode=silent").fault("at=100ms,port=rp1,mode=silent").start();
    machine.wait_for(2, |event| matches!(event, Event::Link { .. }));
    machine.stop();
    let run = machine.join();
    for (port, earliest) in [(VICTIM_PORT, 50), (NEIGHBOR_PORT, 100)] {
        let down = Event::Link { port, state: LinkState::Down };
        let drop = run.events.iter().find(|timed| timed.event == down).expect("it has dropped");
        assert!(drop.at >= Instant::START + Duration::from_millis(earliest), "{drop:?}");
    }
}

#[test]
fn an_embedder_can_take_a_link_away() {
    let Some(rig) = Rig::new("test=drop drop=wait flushes=4 blame=owner") else { return };
    let machine = flushing(rig.policy("bounded:50ms"));
    machine.inject(0, FaultMode::Silent);
    let run = machine.join().passed();
    assert_eq!(run.timeouts(UnitRole::Guest, VICTIM), 1);
    assert_eq!(run.verdicts(VICTIM).pop().map(|last| last.0), Some(Verdict::DeadlinePassed));
    assert_eq!(run.summary().outcome, Some(Outcome::TimedOut));
}

#[test]
fn lost_requests_stay_lost_when_the_link_is_up_again() {
    let Some(rig) = Rig::new("test=drop drop=wait flushes=4 giveup_ms=1000") else { return };
    let machine = flushing(rig.cpus(1));
    machine.inject(0, FaultMode::Silent);
    machine.wait_for(1, request_is_lost);
    machine.lift(0, FaultMode::Silent);
    let run = machine.join().passed();
    let up = Event::Link { port: VICTIM_PORT, state: LinkState::Up };
    assert_eq!(count(&run.events, |event| *event == up), 1);
    assert_eq!(count(run.after_drop(), |event| matches!(event, Event::Verdict { .. })), 0);
    assert_eq!(run.summary().outcome, Some(Outcome::Stalled));
}

#[test]
fn ite_never_names_a_device_whose_link_is_up() {
    let Some(rig) = Rig::new("test=drop drop=wait flushes=4 blame=owner") else { return };
    let machine = flushing(rig.ordering(Ordering::Parallel).policy("bounded:50ms"));
    machine.inject(1, FaultMode::Silent);
    machine.wait_for(1, |event| {
        let guest = UnitRole::Guest;
        matches!(event, Event::InvalidationTimeout { unit, function: NEIGHBOR, .. } if *unit == guest)
    });
    // With this the guest ends, if it has not yet.
    machine.inject(0, FaultMode::Silent);
    let run = machine.join().passed();
    let victim_down = Event::Link { port: VICTIM_PORT, state: LinkState::Down };
    let before = run.events.split(|timed| timed.event == victim_down).next().unwrap_or_default();
    assert_eq!(count(before, |event| matches!(event, Event::Lost { port: VICTIM_PORT, .. })), 0);
    let names_the_victim =
        |event: &Event| matches!(event, Event::InvalidationTimeout { function: VICTIM, .. });
    assert_eq!(count(before, names_the_victim), 0);
    assert_eq!(run.summary().neighbor_outcome, Some(Outcome::TimedOut));
}

#[test]
fn a_fault_at_a_port_that_does_not_exist_is_ignored() {
    let Some(rig) = Rig::new("test=idle") else { return };
    let machine = rig.start();
    machine.inject(7, FaultMode::Silent);
    machine.lift(usize::MAX, FaultMode::Silent);
    machine.stop();
    assert_eq!(machine.join().exit.expect("a clean end"), Exit::Stopped);
}
