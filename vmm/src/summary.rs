//! The results of one run of the built-in guest, from its events.

use std::collections::HashMap;
use std::time::Duration;

use devices::bench::Metric;
use iommu::event::{Event, TimedEvent, UnitRole};
use iommu::ids::Bdf;
use iommu::submit::Ticket;
use iommu::time::Instant;
use serde::Serialize;

/// The end of a flush, as the guest's driver sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its wait descriptor completed.
    Completed,
    /// ITE said that it will not complete.
    TimedOut,
    /// Neither came before the guest gave up, which a real one would not.
    Stalled,
}

impl Outcome {
    /// The outcome that the guest reports as `value`; `None` for an unknown one.
    pub const fn from_report(value: u64) -> Option<Self> {
        match value {
            0 => Some(Self::Completed),
            1 => Some(Self::TimedOut),
            2 => Some(Self::Stalled),
            _ => None,
        }
    }

    /// The word for it in JSON and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::TimedOut => "timed_out",
            Self::Stalled => "stalled",
        }
    }
}

/// The results of one run. `None` stands for a result that the guest did not get to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The end of the measured flush.
    pub outcome: Option<Outcome>,
    /// Whether the host took another's status write for the completion of an invalidation of the
    /// victim: an outcome of [`Outcome::Completed`] is false then.
    pub false_completion: bool,
    /// As `false_completion`, for the neighbour.
    pub neighbor_false_completion: bool,
    /// The time for which the guest's CPU was stuck in it.
    pub guest_stall: Option<Duration>,
    /// The longest that the host waited for an invalidation of the victim. A wait that had no end
    /// counts up to the end of the run.
    pub host_stall: Duration,
    /// Waits that the guest-visible unit has aborted.
    pub waits_aborted: u32,
    /// The functions that the guest-visible unit has named in ITESID, in order.
    pub timeouts: Vec<Bdf>,
    /// The end of the healthy neighbour's worst flush.
    pub neighbor_outcome: Option<Outcome>,
    /// The duration of the neighbour's longest flush.
    pub neighbor_stall: Option<Duration>,
    /// Median and longest of the flushes before anything happened.
    pub healthy: Option<(Duration, Duration)>,
    /// DMA by a translation that was gone from the tables, after its invalidation had ended for the
    /// guest's driver; 0 without an oracle.
    pub stale_accesses: u64,
}

impl Summary {
    /// Reads a run's events; `victim` is the function whose link was, or could have been, dropped.
    pub fn new(events: &[TimedEvent], victim: Bdf) -> Self {
        let reports: HashMap<u32, u64> = events
            .iter()
            .filter_map(|timed| match timed.event {
                Event::GuestReport { metric, value } => Some((metric, value)),
                _ => None,
            })
            .collect();
        let report = |metric: Metric| reports.get(&(metric as u32)).copied();
        let time = |metric| report(metric).map(Duration::from_nanos);
        let (timeouts, aborted): (Vec<_>, Vec<_>) = events
            .iter()
            .filter_map(|timed| match timed.event {
                Event::InvalidationTimeout {
                    unit: UnitRole::Guest,
                    function,
                    waits_aborted,
                    ..
                } => Some((function, waits_aborted)),
                _ => None,
            })
            .unzip();
        let (victims, others) = false_completions(events, victim);
        Self {
            false_completion: victims,
            neighbor_false_completion: others,
            outcome: report(Metric::Outcome).and_then(Outcome::from_report),
            guest_stall: time(Metric::GuestStall),
            host_stall: longest_host_wait(events, victim),
            waits_aborted: aborted.iter().sum(),
            timeouts,
            neighbor_outcome: report(Metric::NeighborOutcome).and_then(Outcome::from_report),
            neighbor_stall: time(Metric::NeighborStall),
            healthy: time(Metric::HealthyMedian).zip(time(Metric::HealthyMaximum)),
            stale_accesses: stale_accesses(events),
        }
    }
}

fn stale_accesses(events: &[TimedEvent]) -> u64 {
    let is_stale =
        |timed: &&TimedEvent| matches!(timed.event, Event::StaleAccess { mapped: false, .. });
    events.iter().filter(is_stale).count() as u64
}

/// Whether callers of the host were woken by the status write for another: those of `victim`, and
/// those of other functions.
fn false_completions(events: &[TimedEvent], victim: Bdf) -> (bool, bool) {
    let mut functions: HashMap<Ticket, Bdf> = HashMap::new();
    let mut found = (false, false);
    for TimedEvent { event, .. } in events {
        match event {
            Event::Submitted { ticket, function, .. } => {
                functions.entry(*ticket).or_insert(*function);
            }
            Event::FalseCompletion { ticket } => match functions.get(ticket) {
                Some(function) if *function == victim => found.0 = true,
                _ => found.1 = true,
            },
            _ => {}
        }
    }
    found
}

fn longest_host_wait(events: &[TimedEvent], victim: Bdf) -> Duration {
    let mut waiting: HashMap<Ticket, Instant> = HashMap::new();
    let mut longest = Duration::ZERO;
    for TimedEvent { at, event, .. } in events {
        match event {
            Event::Submitted { ticket, function, .. } if *function == victim => {
                waiting.entry(*ticket).or_insert(*at);
            }
            Event::Verdict { ticket, function, waited, .. } if *function == victim => {
                waiting.remove(ticket);
                longest = longest.max(*waited);
            }
            _ => {}
        }
    }
    let end = events.last().map_or(Instant::START, |last| last.at);
    waiting.values().map(|since| end - *since).fold(longest, Duration::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iommu::ats::ITag;
    use iommu::submit::Verdict;

    const VICTIM: Bdf = Bdf::new(1, 0, 0);

    fn at(nanos: u64, event: Event) -> TimedEvent {
        TimedEvent { at: Instant::from_nanos(nanos), segment: 0, event }
    }

    fn submitted(ticket: u64) -> Event {
        Event::Submitted { ticket: Ticket(ticket), function: VICTIM, attempt: 1 }
    }

    fn verdict(ticket: u64, waited: u64) -> Event {
        let waited = Duration::from_nanos(waited);
        let verdict = Verdict::DeadlinePassed;
        Event::Verdict { ticket: Ticket(ticket), function: VICTIM, verdict, waited }
    }

    #[test]
    fn a_wait_without_end_counts_to_the_end_of_the_run() {
        let end = at(900, Event::GuestExit { value: 0 });
        let ended = [at(100, submitted(0)), at(200, verdict(0, 100)), end.clone()];
        assert_eq!(Summary::new(&ended, VICTIM).host_stall, Duration::from_nanos(100));
        let endless = [at(100, submitted(0)), at(200, verdict(0, 100)), at(300, submitted(1)), end];
        assert_eq!(Summary::new(&endless, VICTIM).host_stall, Duration::from_nanos(600));
    }

    #[test]
    fn a_false_completion_belongs_to_the_function_whose_caller_it_wakes() {
        let neighbor = Bdf::new(2, 0, 0);
        let other = Event::Submitted { ticket: Ticket(1), function: neighbor, attempt: 1 };
        let woken = |ticket| Event::FalseCompletion { ticket: Ticket(ticket) };
        let found = |ticket| {
            let events = [at(1, submitted(0)), at(2, other.clone()), at(3, woken(ticket))];
            let summary = Summary::new(&events, VICTIM);
            (summary.false_completion, summary.neighbor_false_completion)
        };
        assert_eq!((found(0), found(1)), ((true, false), (false, true)));
    }

    #[test]
    fn reports_and_timeouts_come_together() {
        let report =
            |metric: Metric, value| at(0, Event::GuestReport { metric: metric as u32, value });
        let timeout = |unit, waits_aborted| {
            let itag = ITag::new(0);
            at(0, Event::InvalidationTimeout { unit, function: VICTIM, itag, waits_aborted })
        };
        let events = [
            timeout(UnitRole::Guest, 2),
            timeout(UnitRole::Host, 7),
            timeout(UnitRole::Guest, 1),
            report(Metric::Outcome, 1),
            report(Metric::GuestStall, 5),
        ];
        let summary = Summary::new(&events, VICTIM);
        assert_eq!(summary.outcome, Some(Outcome::TimedOut));
        assert_eq!(summary.guest_stall, Some(Duration::from_nanos(5)));
        assert_eq!((summary.waits_aborted, summary.timeouts.as_slice()), (3, &[VICTIM; 2][..]));
        assert_eq!(summary.neighbor_outcome, None);
    }
}
