//! Observes one flush of a guest on bare metal: no host side sees it, and the guest's own driver is the
//! caller. The guest reports how its flush has ended. Its unit tells the rest, the waits of the neighbour
//! included: the guest's clock would also count the time for which its CPU or the holder of its lock did
//! not run.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use devices::bench::Metric;
use iommu::event::{Event, EventSink, TimedEvent, UnitRole};
use iommu::ids::{Bdf, Gpa};
use iommu::submit::Verdict;
use iommu::time::Instant;
use vmm::Outcome;

use super::observe::{AFTERWARDS, Affected, Crowd, NEIGHBOR, Observation, Told, VICTIM};

/// Slots in the guest's queue. Each slot has a status word of 8 bytes, in one page.
const SLOTS: usize = 256;
/// Waits and stale accesses of the neighbour that are kept, at most. It makes about one flush a
/// millisecond.
const KEPT: usize = 1 << 14;
/// The type of a wait descriptor (`VT-d 6.5.2.10`).
const WAIT: u8 = 5;

/// A sink that observes the flush after the doorbell.
pub(super) struct DirectObserver {
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the guest has rung the bench's doorbell, right before the flush.
    since: Option<Instant>,
    /// When the unit has sent a request to the victim.
    submissions: Vec<Instant>,
    /// When the victim's ATC has dropped something.
    dropped: Vec<Instant>,
    stale: Option<Told>,
    outcome: Option<Outcome>,
    stall: Duration,
    crowd: Duration,
    neighbor: Waits,
}

/// The neighbour's waits, by the events of the guest's unit.
#[derive(Debug)]
struct Waits {
    /// The function of the last Invalidate Request: the next wait descriptor is for it.
    requested: Bdf,
    /// The function for which the wait descriptor in each slot is.
    owners: [Bdf; SLOTS],
    /// When the unit has sent the first request of the neighbour's flush in progress.
    began: Option<Instant>,
    /// When each wait began, and how long it was.
    ended: Vec<(Instant, Duration)>,
    /// When the flush ended before each stale access, and how.
    stale: Vec<(Instant, Told)>,
}

impl Default for Waits {
    fn default() -> Self {
        let (requested, owners) = (Bdf::default(), [Bdf::default(); SLOTS]);
        Self { requested, owners, began: None, ended: Vec::new(), stale: Vec::new() }
    }
}

impl Waits {
    /// A flush that is submitted again after ITE goes on: only its wait descriptor ends it.
    fn record(&mut self, at: Instant, event: &Event) {
        match *event {
            Event::InvalidateRequested { unit: UnitRole::Guest, function, .. } => {
                self.requested = function;
                if function == NEIGHBOR {
                    self.began.get_or_insert(at);
                }
            }
            Event::DescriptorFetched { unit: UnitRole::Guest, descriptor_type: WAIT, slot } => {
                self.owners[slot as usize % SLOTS] = self.requested;
            }
            Event::WaitCompleted { unit: UnitRole::Guest, status_address: Some(Gpa(word)) }
                if self.owners[(word / 8) as usize % SLOTS] == NEIGHBOR =>
            {
                let Some(began) = self.began.take() else { return };
                if self.ended.len() < KEPT {
                    self.ended.push((began, at - began));
                }
            }
            Event::StaleAccess { function: NEIGHBOR, told_success, mapped: false, age, .. }
                if self.stale.len() < KEPT =>
            {
                let ended = Instant::START + (at - Instant::START).saturating_sub(age);
                self.stale.push((ended, Told::new(told_success)));
            }
            _ => {}
        }
    }

    /// The longest wait that began within these times, and stale accesses after such waits. A wait
    /// without an end counts up to `until`.
    fn longest(&self, from: Instant, to: Instant, until: Instant) -> Option<Affected> {
        let counts = |began: Instant| (from..=to).contains(&began);
        let ended = || self.ended.iter().filter(|(began, _)| counts(*began));
        let last = ended().map(|&(began, wait)| began + wait).max();
        let ended = ended().map(|&(_, wait)| Affected::new(Some(Verdict::Completed), wait));
        let endless = self.began.filter(|began| counts(*began) && *began < until);
        let endless = endless.map(|began| Affected::new(None, until - began));
        let longest = ended.chain(endless).max_by_key(|affected| affected.wait)?;
        // The unit tells its driver in the moment in which it completes the wait.
        let is_due = |ended: Instant| ended >= from && last.is_some_and(|last| ended <= last);
        let mut stale = self.stale.iter().filter(|(ended, _)| is_due(*ended));
        let longest = Affected { stale: stale.next().map(|(_, told)| *told), ..longest };
        longest.is_affected().then_some(longest)
    }
}

impl DirectObserver {
    /// For `patience` the flush is observed, and the guest gives up then.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, state: Mutex::default() }
    }

    /// The observation; `None` if the guest has not reported the flush.
    pub(super) fn result(&self) -> Option<Observation> {
        let state = self.state();
        let since = state.since?;
        let stall = state.stall.min(self.patience);
        // Later ones are those of the victim's other CPUs.
        let during = |times: &[Instant]| times.iter().filter(|at| **at <= since + stall).count();
        Some(Observation {
            verdict: verdict(state.outcome?),
            submissions: during(&state.submissions) as u32,
            dropped: during(&state.dropped) > 0,
            false_completion: false,
            stale: state.stale,
            stall,
            neighbor: state.neighbor.longest(since, since + stall, since + self.patience),
            crowd: Crowd::new(state.crowd, self.patience),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The verdict that the guest's driver came to.
fn verdict(outcome: Outcome) -> Option<Verdict> {
    match outcome {
        Outcome::Completed => Some(Verdict::Completed),
        Outcome::TimedOut => Some(Verdict::UnitTimedOut),
        Outcome::Stalled => None,
    }
}

impl State {
    fn report(&mut self, metric: u32, value: u64) {
        let is = |wanted: Metric| metric == wanted as u32;
        if is(Metric::Outcome) {
            self.outcome = Outcome::from_report(value);
        } else if is(Metric::GuestStall) {
            self.stall = Duration::from_nanos(value);
        } else if is(Metric::CrowdStall) {
            self.crowd = Duration::from_nanos(value);
        }
    }
}

impl EventSink for DirectObserver {
    fn record(&self, TimedEvent { at, event, .. }: TimedEvent) {
        let mut state = self.state();
        if let Event::Doorbell { .. } = event {
            state.since.get_or_insert(at);
        }
        // Descriptors before the doorbell count, too: one of the neighbour's flushes is in progress.
        if state.since.is_none_or(|since| at - since <= self.patience) {
            state.neighbor.record(at, &event);
        }
        let Some(since) = state.since else { return };
        match event {
            Event::GuestReport { metric, value } => state.report(metric, value),
            _ if at - since > self.patience => {}
            Event::InvalidateRequested { unit: UnitRole::Guest, function: VICTIM, .. }
                if state.submissions.len() < KEPT =>
            {
                state.submissions.push(at);
            }
            Event::AtcInvalidated { function: VICTIM, dropped: 1.. }
                if state.dropped.len() < KEPT =>
            {
                state.dropped.push(at);
            }
            Event::StaleAccess { function: VICTIM, told_success, mapped: false, age, .. }
                if age >= AFTERWARDS =>
            {
                state.stale.get_or_insert(Told::new(told_success));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use iommu::ats::ITag;

    use super::*;

    fn observe(events: Vec<(u64, Event)>) -> Option<Observation> {
        let observer = DirectObserver::new(Duration::from_millis(750));
        for (millis, event) in events {
            observer.record(TimedEvent {
                at: Instant::from_nanos(millis * 1_000_000),
                segment: 0,
                event,
            });
        }
        observer.result()
    }

    fn report(metric: Metric, value: u64) -> Event {
        Event::GuestReport { metric: metric as u32, value }
    }

    fn requested(function: Bdf) -> Event {
        let (unit, itag) = (UnitRole::Guest, ITag::new(0));
        Event::InvalidateRequested { unit, function, itag }
    }

    fn fetched(slot: u32) -> Event {
        Event::DescriptorFetched { unit: UnitRole::Guest, descriptor_type: WAIT, slot }
    }

    fn completed(slot: u64) -> Event {
        let status_address = Some(Gpa(0x20_3000 + 8 * slot));
        Event::WaitCompleted { unit: UnitRole::Guest, status_address }
    }

    const BELL: Event = Event::Doorbell { value: 1 };

    #[test]
    fn the_guest_reports_the_end_and_the_unit_the_submissions() {
        let dropped = |dropped| Event::AtcInvalidated { function: VICTIM, dropped };
        let seen = observe(vec![
            (0, requested(VICTIM)),
            (0, dropped(1)),
            (1, BELL),
            (1, requested(VICTIM)),
            (301, requested(VICTIM)),
            (602, dropped(0)),
            (722, report(Metric::Outcome, 1)),
            (722, report(Metric::GuestStall, 601_000_000)),
            (752, dropped(1)),
        ]);
        let seen = seen.unwrap();
        assert_eq!((seen.verdict, seen.submissions), (Some(Verdict::UnitTimedOut), 2));
        assert_eq!((seen.dropped, seen.stall), (false, Duration::from_millis(601)));
        assert_eq!((seen.stale, seen.neighbor), (None, None));
    }

    #[test]
    fn a_guest_that_has_given_up_has_waited_to_the_end() {
        let seen = observe(vec![
            (0, BELL),
            (0, requested(VICTIM)),
            (751, report(Metric::Outcome, 2)),
            (751, report(Metric::GuestStall, 751_000_000)),
        ]);
        let seen = seen.unwrap();
        assert_eq!((seen.verdict, seen.stall), (None, Duration::from_millis(750)));
        assert_eq!(observe(Vec::new()), None);
    }

    #[test]
    fn the_neighbor_waits_from_its_first_request_to_the_completion_of_its_last_wait() {
        let neighbor = |ends: &[(u64, Event)]| {
            let mut events = vec![
                (0, requested(NEIGHBOR)),
                (0, fetched(250)),
                (50, BELL),
                (50, completed(250)),
                (51, requested(VICTIM)),
                (51, fetched(254)),
                (52, requested(NEIGHBOR)),
                (52, fetched(2)),
                (352, requested(NEIGHBOR)),
                (352, fetched(6)),
            ];
            events.extend_from_slice(ends);
            events.push((900, report(Metric::GuestStall, 301_000_000)));
            events.push((900, report(Metric::Outcome, 1)));
            observe(events).unwrap().neighbor
        };
        let wait = |verdict, millis| Some(Affected::new(verdict, Duration::from_millis(millis)));
        let after = [(360, completed(6)), (361, requested(NEIGHBOR)), (361, fetched(10))];
        assert_eq!(neighbor(&after), wait(Some(Verdict::Completed), 308), "361 is after the flush");
        assert_eq!(neighbor(&[(360, completed(254))]), wait(None, 748), "that was the victim's");
        assert_eq!(neighbor(&[(850, completed(6))]), wait(None, 748), "that is after the end");
    }

    #[test]
    fn a_stale_access_counts_with_what_the_unit_has_told() {
        let stale = |function, told_success, mapped| Event::StaleAccess {
            function,
            pasid: None,
            address: iommu::ids::Iova(0x10_0000),
            target: Gpa(0x20_0000),
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
            let end = report(Metric::Outcome, 0);
            let observation = observe(vec![(0, BELL), (31, event), (121, end)]);
            assert_eq!(observation.unwrap().stale, seen);
        }
    }
}
