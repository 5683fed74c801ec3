//! When ATCs drop what an Invalidate Request names: at the answer, or when the request arrives.

use iommu::ats::{ITag, InvalidateRequest};

use super::lies::{completions, entries, machine, page};
use super::*;
use crate::pcie::link::Obeys;

/// Modes that delay an answer by [`SECOND`].
const DELAYS: [FaultMode; 4] = [
    FaultMode::Late(SECOND),
    FaultMode::Slow(AnswerDelay::Fixed(SECOND)),
    FaultMode::Merge(SECOND),
    FaultMode::Choke { depth: 2, time: SECOND },
];

#[test]
fn a_translation_may_be_used_until_the_answer_or_until_the_request() {
    for (obeys, before) in [(Obeys::AtAnswer, 2), (Obeys::AtOnce, 1)] {
        for mode in DELAYS {
            let mut machine = machine(mode);
            machine.hierarchy.set_obeys(obeys);
            machine.invalidate(0, 3, page(1));
            machine.run_until(machine.now + SECOND / 2);
            assert_eq!(entries(&mut machine), before, "{obeys}, {mode}");
            assert_eq!(completions(&mut machine), []);
            machine.run_until(machine.now + SECOND / 2);
            assert_eq!(entries(&mut machine), 1, "{obeys}, {mode}");
            assert_eq!(completions(&mut machine), [(1 << 3, 1)]);
        }
    }
}

#[test]
fn what_is_never_answered_is_never_dropped_unless_at_once() {
    for (obeys, left) in [(Obeys::AtAnswer, 2), (Obeys::AtOnce, 1)] {
        let mut machine = machine(FaultMode::NoCompletion);
        machine.hierarchy.set_obeys(obeys);
        machine.invalidate(0, 3, page(1));
        machine.run_until(machine.now + SECOND);
        assert_eq!((entries(&mut machine), completions(&mut machine)), (left, vec![]), "{obeys}");
    }
}

#[test]
fn an_answer_that_is_lost_was_sent() {
    let mut machine = machine(FaultMode::Lossy(1_000_000));
    machine.invalidate(0, 3, page(1));
    assert_eq!((entries(&mut machine), completions(&mut machine)), (1, vec![]));
}

/// A fault that happens between the request and the answer is about the answer.
#[test]
fn a_fault_before_the_answer_keeps_the_entry() {
    let mut machine = machine(FaultMode::Lossy(0));
    let request = InvalidateRequest {
        destination: Machine::endpoint(0),
        itag: ITag::new(3),
        pasid: None,
        global: false,
        range: page(1),
    };
    machine.hierarchy.invalidate_request(request, machine.now);
    machine.inject(0, FaultMode::NoCompletion);
    machine.hierarchy.collect_messages(machine.now);
    assert_eq!(entries(&mut machine), 2);
}

/// The unit has given up on a request, and uses its ITag again: each answer has its own range.
#[test]
fn each_answer_drops_its_own_range_also_if_an_itag_is_used_again() {
    let mut machine = machine(FaultMode::Late(SECOND));
    machine.invalidate(0, 3, page(5));
    machine.run_until(machine.now + SECOND / 2);
    machine.invalidate(0, 3, page(1));
    machine.run_until(machine.now + SECOND / 2);
    assert_eq!(entries(&mut machine), 2, "nothing was cached of page 5");
    machine.run_until(machine.now + SECOND / 2);
    assert_eq!(entries(&mut machine), 1);
}

#[test]
fn a_reset_forgets_what_was_owed() {
    let mut machine = machine(FaultMode::Late(SECOND));
    machine.invalidate(0, 3, page(1));
    assert!(machine.function(Machine::endpoint(0)).initiate_flr());
    machine.run_until(machine.now + 2 * SECOND);
    assert_eq!(completions(&mut machine), []);
    // The reset itself drops both entries.
    let obeyed = |event: &Event| matches!(event, Event::AtcInvalidated { dropped: 1, .. });
    assert!(!machine.events().iter().any(obeyed));
}
