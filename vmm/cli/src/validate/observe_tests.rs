//! Tests which events count for the observed flush.

use super::*;

fn observe(start: Start, events: Vec<(u64, Event)>) -> Option<Observation> {
    let observer = Observer::new(start, Duration::from_millis(750), 4);
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
    assert_eq!(seen.neighbor, Some(Affected::new(Some(Verdict::DeadlinePassed), wait)));
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
    assert_eq!(seen.neighbor, Some(Affected::new(None, wait)));
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
    let aged = |function, told_success, mapped, age| Event::StaleAccess {
        function,
        pasid: None,
        address: iommu::ids::Iova(0x10_0000),
        target: iommu::ids::Gpa(0x20_0000),
        cache: iommu::event::TranslationCache::Atc,
        age: Duration::from_millis(age),
        told_success,
        mapped,
        foreign: None,
    };
    let stale = |function, told_success, mapped| aged(function, told_success, mapped, 30);
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
    // An access of a caller that goes on at once.
    let events = vec![
        (0, BELL),
        (0, submitted(0, VICTIM, 1)),
        (100, told(0, VICTIM, Verdict::Recovering, 100)),
        (101, aged(VICTIM, true, false, 1)),
    ];
    assert_eq!(observe(Start::Doorbell, events).unwrap().stale, None);
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

#[test]
fn the_neighbors_false_completion_shows_however_short_its_wait_was() {
    let events = |ticket| {
        vec![
            (0, BELL),
            (0, submitted(0, VICTIM, 1)),
            (1, submitted(1, NEIGHBOR, 1)),
            (2, Event::FalseCompletion { ticket: Ticket(ticket) }),
            (2, told(1, NEIGHBOR, Verdict::Completed, 1)),
        ]
    };
    let neighbor = observe(Start::Doorbell, events(1)).unwrap().neighbor.unwrap();
    assert!(neighbor.false_completion && neighbor.stale.is_none());
    assert_eq!(observe(Start::Doorbell, events(7)).unwrap().neighbor, None);
}

#[test]
fn the_neighbors_stale_access_counts_if_its_flush_counts() {
    let stale = |told_success| Event::StaleAccess {
        function: NEIGHBOR,
        pasid: None,
        address: iommu::ids::Iova(0x10_0000),
        target: iommu::ids::Gpa(0x20_0000),
        cache: iommu::event::TranslationCache::Atc,
        age: Duration::from_millis(1),
        told_success,
        mapped: false,
        foreign: None,
    };
    for (at, seen) in [(104, Some(Told::Failure)), (109, None)] {
        let events = vec![
            (0, BELL),
            (0, submitted(0, VICTIM, 1)),
            (1, submitted(1, NEIGHBOR, 1)),
            (102, told(0, VICTIM, Verdict::DeadlinePassed, 102)),
            (103, told(1, NEIGHBOR, Verdict::DeadlinePassed, 102)),
            (104, submitted(2, NEIGHBOR, 1)),
            (108, told(2, NEIGHBOR, Verdict::DeadlinePassed, 4)),
            (at, stale(false)),
        ];
        let neighbor = observe(Start::Doorbell, events).unwrap().neighbor.unwrap();
        assert_eq!((neighbor.verdict, neighbor.stale), (Some(Verdict::DeadlinePassed), seen));
    }
}

#[test]
fn the_victims_other_cpus_count_if_they_wait_during_the_observed_flush() {
    let released = |cpu, waited| Event::CpuReleased {
        cpu,
        function: VICTIM,
        waited: Duration::from_millis(waited),
    };
    let seen = |more: &[(u64, Event)]| {
        let mut events = vec![
            (0, blocked(0)),
            (0, submitted(0, VICTIM, 1)),
            (1, blocked(2)),
            (100, told(0, VICTIM, Verdict::DeadlinePassed, 100)),
            (100, released(0, 100)),
            (101, blocked(0)),
        ];
        events.extend_from_slice(more);
        observe(Start::From(Instant::START), events).unwrap().crowd
    };
    let crowd = |ended, millis| Some(Crowd { ended, stall: Duration::from_millis(millis) });
    assert_eq!(
        seen(&[(200, released(2, 199)), (201, blocked(2)), (700, released(2, 499))]),
        crowd(true, 199)
    );
    assert_eq!(seen(&[(300, released(0, 199))]), crowd(false, 750), "CPU 2 does not come back");
    assert_eq!(seen(&[(751, released(2, 750))]), crowd(false, 750), "that is too late");
    let report = Event::GuestReport { metric: Metric::CrowdStall as u32, value: 205_000_000 };
    let events = vec![(0, BELL), (0, submitted(0, VICTIM, 1)), (400, report)];
    assert_eq!(observe(Start::Doorbell, events).unwrap().crowd, crowd(true, 205));
}
