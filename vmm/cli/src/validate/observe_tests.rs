//! Tests which events count for the observed flush.

use super::*;

fn observe(start: Start, events: Vec<(u64, Event)>) -> Option<Observation> {
    let observer = Observer::new(start, Duration::from_millis(750));
    for (millis, event) in events {
        observer.record(TimedEvent {
            at: Instant::from_nanos(millis * 1_000_000),
            segment: 0,
            event,
        });
    }
    observer.result()
}

fn submitted(ticket: u64, function: Bdf, attempt: u32) -> Event {
    Event::Submitted { ticket: Ticket(ticket), function, attempt }
}

fn told(ticket: u64, function: Bdf, verdict: Verdict, waited: u64) -> Event {
    let waited = Duration::from_millis(waited);
    Event::Verdict { ticket: Ticket(ticket), function, verdict, waited }
}

fn blocked(cpu: u16) -> Event {
    Event::CpuBlocked { cpu, function: VICTIM }
}

const BELL: Event = Event::Doorbell { value: 1 };

#[test]
fn the_first_flush_after_the_doorbell_counts_and_its_first_verdict() {
    let seen = observe(
        Start::Doorbell,
        vec![
            (1, submitted(0, VICTIM, 1)),
            (1, told(0, VICTIM, Verdict::Completed, 0)),
            (2, BELL),
            (3, submitted(1, VICTIM, 1)),
            (3, submitted(2, NEIGHBOR, 1)),
            (103, submitted(1, VICTIM, 2)),
            (203, told(1, VICTIM, Verdict::DeadlinePassed, 200)),
            (204, told(2, NEIGHBOR, Verdict::DeadlinePassed, 201)),
            (205, submitted(3, VICTIM, 1)),
            (205, Event::AtcInvalidated { function: VICTIM, dropped: 1 }),
            (206, Event::GuestReport { metric: Metric::FirstAttempt as u32, value: 201_000_000 }),
        ],
    );
    let seen = seen.unwrap();
    assert_eq!((seen.verdict, seen.submissions), (Some(Verdict::DeadlinePassed), 2));
    assert_eq!((seen.dropped, seen.stall), (false, Duration::from_millis(201)));
    let wait = Duration::from_millis(201);
    assert_eq!(seen.neighbor, Some(Affected { verdict: Some(Verdict::DeadlinePassed), wait }));
}

#[test]
fn who_waits_when_patience_ends_waits_for_ever() {
    let seen = observe(
        Start::Doorbell,
        vec![
            (0, BELL),
            (0, submitted(0, VICTIM, 1)),
            (10, submitted(1, NEIGHBOR, 1)),
            (900, submitted(0, VICTIM, 2)),
            (900, told(0, VICTIM, Verdict::UnitTimedOut, 900)),
        ],
    );
    let seen = seen.unwrap();
    assert_eq!((seen.verdict, seen.submissions), (None, 1));
    let wait = Duration::from_millis(740);
    assert_eq!(seen.neighbor, Some(Affected { verdict: None, wait }));
}

#[test]
fn a_neighbor_that_begins_later_or_waits_for_little_is_not_affected() {
    let seen = observe(
        Start::Doorbell,
        vec![
            (0, BELL),
            (0, submitted(0, VICTIM, 1)),
            (1, submitted(1, NEIGHBOR, 1)),
            (2, told(1, NEIGHBOR, Verdict::Completed, 1)),
            (3, told(0, VICTIM, Verdict::Skipped, 3)),
            (4, submitted(2, NEIGHBOR, 1)),
            (99, told(2, NEIGHBOR, Verdict::Completed, 95)),
        ],
    );
    assert_eq!(seen.unwrap().neighbor, None);
}

#[test]
fn in_the_simulation_a_cpu_begins_and_ends_a_flush() {
    let released = |cpu, waited| Event::CpuReleased { cpu, function: VICTIM, waited };
    let events = || {
        let wait = Duration::from_millis(3);
        vec![
            (1, blocked(0)),
            (1, submitted(0, VICTIM, 1)),
            (4, told(0, VICTIM, Verdict::Completed, 3)),
            (4, released(0, wait)),
            (5, blocked(0)),
            (5, submitted(1, VICTIM, 1)),
            (6, Event::FaultInjected { fault: String::new() }),
            (8, told(1, VICTIM, Verdict::UnitTimedOut, 3)),
            (9, released(0, wait + Duration::from_millis(1))),
            (10, blocked(0)),
        ]
    };
    for start in [Start::UnderWay, Start::From(Instant::from_nanos(2_000_000))] {
        let seen = observe(start, events()).unwrap();
        assert_eq!(seen.verdict, Some(Verdict::UnitTimedOut), "{start:?}");
        assert_eq!(seen.stall, Duration::from_millis(4), "{start:?}");
    }
}

#[test]
fn a_completion_that_is_not_its_own_is_noted_for_the_observed_flush_only() {
    let with = |ticket| {
        observe(
            Start::Doorbell,
            vec![
                (0, BELL),
                (0, submitted(7, VICTIM, 1)),
                (1, Event::FalseCompletion { ticket: Ticket(ticket) }),
                (1, told(7, VICTIM, Verdict::Completed, 1)),
            ],
        )
        .unwrap()
        .false_completion
    };
    assert!(with(7) && !with(8));
}

#[test]
fn without_a_flush_there_is_nothing_to_see() {
    assert_eq!(observe(Start::Doorbell, vec![(1, submitted(0, VICTIM, 1)), (2, BELL)]), None);
}

#[test]
fn a_stale_access_of_the_victim_counts_with_what_the_caller_was_told() {
    let stale = |function, told_success, mapped| Event::StaleAccess {
        function,
        pasid: None,
        address: iommu::ids::Iova(0x10_0000),
        target: iommu::ids::Gpa(0x20_0000),
        cache: iommu::event::TranslationCache::Atc,
        age: Duration::from_millis(30),
        told_success,
        mapped,
        foreign: None,
    };
    for (event, seen) in [
        (stale(VICTIM, true, false), Some(Told::Success)),
        (stale(VICTIM, false, false), Some(Told::Failure)),
        (stale(VICTIM, true, true), None),
        (stale(NEIGHBOR, true, false), None),
    ] {
        let verdict = told(0, VICTIM, Verdict::DeadlinePassed, 100);
        let events = vec![(0, BELL), (0, submitted(0, VICTIM, 1)), (100, verdict), (130, event)];
        assert_eq!(observe(Start::Doorbell, events).unwrap().stale, seen);
    }
    // The access is 30 ms after the end of the flush that it is about.
    for (next, seen) in [(99, None), (101, Some(Told::Success))] {
        let events = vec![
            (0, BELL),
            (0, submitted(0, VICTIM, 1)),
            (50, told(0, VICTIM, Verdict::Removed, 50)),
            (next, told(1, VICTIM, Verdict::Removed, 0)),
            (130, stale(VICTIM, true, false)),
        ];
        assert_eq!(observe(Start::Doorbell, events).unwrap().stale, seen, "{next}");
    }
}
