//! Links that vanish at a time, or because the embedder says so.

use iommu::event::{Event, LinkState, Lost, UnitRole};
use iommu::submit::Verdict;
use iommu::unit::Ordering;
use tests::{Machine, NEIGHBOR, Rig, VICTIM, VICTIM_PORT, count};
use vmm::{Exit, Outcome};

/// A guest that flushes until its device is gone, once it has begun with that: four flushes are
/// measured before.
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
    let Some(rig) = Rig::new("test=drop drop=wait flushes=4 blame=owner") else { return };
    let run = rig.policy("bounded:50ms").drop_link("at=300ms").run().passed();
    let down = Event::Link { port: VICTIM_PORT, state: LinkState::SilentlyDown };
    let (at, after) = match run.events.iter().position(|timed| timed.event == down) {
        Some(index) => (run.events[index].at, &run.events[index + 1..]),
        None => panic!("the link has not dropped: {run}"),
    };
    assert!(at.as_nanos() >= 300_000_000, "{at:?}");
    assert_eq!(count(&run.events, |event| matches!(event, Event::Doorbell { .. })), 0);
    assert!(count(after, request_is_lost) >= 1);
    assert_eq!(run.summary().outcome, Some(Outcome::TimedOut));
}

#[test]
fn an_embedder_can_take_a_link_away() {
    let Some(rig) = Rig::new("test=drop drop=wait flushes=4 blame=owner") else { return };
    let machine = flushing(rig.policy("bounded:50ms"));
    machine.set_link(0, LinkState::SilentlyDown);
    let run = machine.join().passed();
    assert_eq!(run.timeouts(UnitRole::Guest, VICTIM), 1);
    assert_eq!(run.verdicts(VICTIM).pop().map(|last| last.0), Some(Verdict::DeadlinePassed));
    assert_eq!(run.summary().outcome, Some(Outcome::TimedOut));
}

#[test]
fn what_a_link_has_swallowed_does_not_come_back_with_it() {
    let Some(rig) = Rig::new("test=drop drop=wait flushes=4 giveup_ms=1000") else { return };
    let machine = flushing(rig.cpus(1));
    machine.set_link(0, LinkState::SilentlyDown);
    machine.wait_for(1, request_is_lost);
    machine.set_link(0, LinkState::Up);
    let run = machine.join().passed();
    let up = Event::Link { port: VICTIM_PORT, state: LinkState::Up };
    assert_eq!(count(&run.events, |event| *event == up), 1);
    assert_eq!(count(run.after_drop(), |event| matches!(event, Event::Verdict { .. })), 0);
    assert_eq!(run.summary().outcome, Some(Outcome::Stalled));
}

#[test]
fn the_loss_of_one_device_is_never_blamed_on_another() {
    let Some(rig) = Rig::new("test=drop drop=wait flushes=4 blame=owner") else { return };
    let machine = flushing(rig.ordering(Ordering::Parallel).policy("bounded:50ms"));
    machine.set_link(1, LinkState::SilentlyDown);
    machine.wait_for(1, |event| {
        let guest = UnitRole::Guest;
        matches!(event, Event::InvalidationTimeout { unit, function: NEIGHBOR, .. } if *unit == guest)
    });
    // So that the guest comes to its end, if it has not yet.
    machine.set_link(0, LinkState::SilentlyDown);
    let run = machine.join().passed();
    let victim_down = Event::Link { port: VICTIM_PORT, state: LinkState::SilentlyDown };
    let before = run.events.split(|timed| timed.event == victim_down).next().unwrap_or_default();
    assert_eq!(count(before, |event| matches!(event, Event::Lost { port: VICTIM_PORT, .. })), 0);
    let blamed =
        |event: &Event| matches!(event, Event::InvalidationTimeout { function: VICTIM, .. });
    assert_eq!(count(before, blamed), 0);
    assert_eq!(run.summary().neighbor_outcome, Some(Outcome::TimedOut));
}

#[test]
fn a_port_that_there_is_not_does_not_matter() {
    let Some(rig) = Rig::new("test=idle") else { return };
    let machine = rig.start();
    machine.set_link(7, LinkState::SilentlyDown);
    machine.set_link(usize::MAX, LinkState::Up);
    machine.stop();
    assert_eq!(machine.join().exit.expect("a clean end"), Exit::Stopped);
}
