//! When faults are due, and which schedules cannot be.

use std::time::Duration;

use super::*;

fn ports() -> Vec<PortInfo> {
    let port = |name: &str, has_button| {
        let name = name.to_owned();
        PortInfo { name, has_link: true, has_button }
    };
    vec![port("rp0", false), port("rp1", true)]
}

fn schedule(texts: &[&str]) -> Result<Schedule, ScheduleError> {
    let faults: Vec<Fault> = texts.iter().map(|text| text.parse().unwrap()).collect();
    Schedule::new(&faults, &ports())
}

fn at(millis: u64) -> Instant {
    Instant::START + Duration::from_millis(millis)
}

#[test]
fn a_fault_begins_once_and_ends_once() {
    let mut schedule = schedule(&["at=1s,port=rp1,mode=silent,for=500ms"]).unwrap();
    assert_eq!(schedule.poll_timeout(), Some(at(1000)));
    assert_eq!(schedule.handle_timeout(at(999)), None);
    let action = |ends| Action { fault: 0, port: 1, mode: FaultMode::Silent, ends };
    assert_eq!(schedule.handle_timeout(at(1001)), Some(action(false)));
    assert_eq!(schedule.handle_timeout(at(1001)), None);
    assert_eq!(schedule.poll_timeout(), Some(at(1501)));
    assert_eq!(schedule.handle_timeout(at(1501)), Some(action(true)));
    assert_eq!((schedule.handle_timeout(at(9999)), schedule.poll_timeout()), (None, None));
}

#[test]
fn several_are_due_in_the_order_of_their_times() {
    let mut schedule = schedule(&[
        "at=3s,mode=no-completion",
        "at=1s,mode=silent,for=1s",
        "at=2s,port=rp1,mode=ghost",
    ])
    .unwrap();
    let mut order = Vec::new();
    while let Some(action) = schedule.handle_timeout(at(5000)) {
        order.push((action.fault, action.ends));
    }
    // The end of a fault is counted from its begin, which was late.
    assert_eq!(order, [(1, false), (2, false), (0, false)]);
    assert_eq!(schedule.handle_timeout(at(6000)).map(|action| action.ends), Some(true));
}

#[test]
fn points_are_counted_each_for_itself() {
    let mut schedule = schedule(&[
        "after=requests:2,mode=silent",
        "before=completion:1,port=rp1,mode=no-completion",
    ])
    .unwrap();
    assert_eq!(schedule.next_count(Point::Request), Some(2));
    assert_eq!(schedule.next_count(Point::Status), None);
    schedule.count(Point::Request);
    assert_eq!(schedule.reached(Point::Request, at(0)), None);
    assert_eq!(schedule.next_count(Point::Request), Some(1));
    schedule.count(Point::Completion);
    assert_eq!(schedule.reached(Point::Completion, at(0)).map(|action| action.fault), Some(1));
    schedule.count(Point::Request);
    assert_eq!(schedule.reached(Point::Request, at(0)).map(|action| action.fault), Some(0));
    assert_eq!(schedule.reached(Point::Request, at(0)), None);
    assert_eq!(schedule.next_count(Point::Request), None);
}

#[test]
fn dma_is_counted_below_a_port() {
    let mut schedule =
        schedule(&["after=dma:10,mode=no-completion", "after=dma:5,port=rp1,mode=silent"]).unwrap();
    let waiting = |schedule: &Schedule, port| schedule.waiting_for_dma(port).collect::<Vec<_>>();
    assert_eq!(waiting(&schedule, 0), [(10, FaultMode::NoCompletion.effect())]);
    assert_eq!(waiting(&schedule, 1), [(5, FaultMode::Silent.effect())]);
    assert_eq!(schedule.dma(0, 9, at(0)), None);
    assert_eq!(schedule.dma(1, 5, at(0)).map(|action| action.fault), Some(1));
    assert_eq!(waiting(&schedule, 1), []);
}

#[test]
fn the_doorbell_rings_for_all_who_wait_for_it_and_once() {
    let mut schedule =
        schedule(&["on=doorbell,mode=silent", "on=doorbell,port=rp1,mode=ghost"]).unwrap();
    assert_eq!(schedule.doorbell(at(0)).map(|action| action.port), Some(0));
    assert_eq!(schedule.doorbell(at(0)).map(|action| action.port), Some(1));
    assert_eq!(schedule.doorbell(at(1)), None);
}

#[test]
fn the_console_is_for_those_who_wait_for_it() {
    let mut schedule =
        schedule(&["on=doorbell,mode=silent", "on=serial:/up/,mode=no-completion"]).unwrap();
    assert_eq!(schedule.expressions(GuestConsole::Serial).collect::<Vec<_>>(), [(1, "up")]);
    assert_eq!(schedule.expressions(GuestConsole::Debug).count(), 0);
    assert_eq!(schedule.matched(0, at(0)), None);
    assert_eq!(schedule.matched(7, at(0)), None);
    assert!(schedule.matched(1, at(0)).is_some());
    assert_eq!(schedule.matched(1, at(0)), None);
}

#[test]
fn schedules_that_cannot_be_are_refused() {
    for (texts, number, expected) in [
        (vec!["at=1s,mode=silent,port=rp2"], 1, "no port 'rp2'; there are rp0, rp1"),
        (vec!["at=1s,mode=no-completion", "at=2s,mode=safe"], 2, "'rp0' has no attention button"),
        (vec!["at=1s,mode=silent", "at=1s,mode=ghost"], 2, "contradicts 'at=1s,mode=silent'"),
    ] {
        let error = schedule(&texts).unwrap_err();
        assert_eq!(error.number, number);
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(schedule(&["at=1s,mode=silent", "at=1s,mode=no-completion"]).is_ok());
    assert!(schedule(&["at=1s,mode=safe,port=rp1"]).is_ok());
}
