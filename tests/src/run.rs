//! The result of a run.

use std::fmt;
use std::time::Duration;

use devices::bench::Metric;
use iommu::event::{Event, TimedEvent, UnitRole};
use iommu::ids::Bdf;
use iommu::submit::Verdict;
use vmm::{Error, Exit, Summary};

use crate::VICTIM;

/// The end of a machine, and its events.
#[derive(Debug)]
pub struct Run {
    /// The end of the run.
    pub exit: Result<Exit, Error>,
    /// All events, oldest first.
    pub events: Vec<TimedEvent>,
    /// The output of the guest, for messages. Tests do not assert on it.
    pub console: String,
}

/// Number of events for which `wanted` holds.
pub fn count(events: &[TimedEvent], wanted: impl Fn(&Event) -> bool) -> usize {
    events.iter().filter(|timed| wanted(&timed.event)).count()
}

/// The events after the first one for which `wanted` holds.
///
/// # Panics
///
/// If there is none.
pub fn after(events: &[TimedEvent], wanted: impl Fn(&Event) -> bool) -> &[TimedEvent] {
    match events.iter().position(|timed| wanted(&timed.event)) {
        Some(index) => &events[index + 1..],
        None => panic!("the expected event did not come"),
    }
}

impl Run {
    /// Asserts that the guest's test passed.
    ///
    /// # Panics
    ///
    /// If it did not, with the guest's output.
    #[track_caller]
    pub fn passed(self) -> Self {
        assert!(matches!(self.exit, Ok(Exit::DebugExit(0))), "{self}");
        assert_eq!(count(&self.events, |event| matches!(event, Event::GuestExit { value: 0 })), 1);
        self
    }

    /// The summary that `ghostlink demo` prints.
    pub fn summary(&self) -> Summary {
        Summary::new(&self.events, VICTIM)
    }

    /// The events since a link went down.
    ///
    /// # Panics
    ///
    /// If no link has.
    #[track_caller]
    pub fn after_drop(&self) -> &[TimedEvent] {
        after(&self.events, |event| matches!(event, Event::Link { .. }))
    }

    /// Verdicts and times of the host's waits for `function`, in order.
    pub fn verdicts(&self, function: Bdf) -> Vec<(Verdict, Duration)> {
        let verdict = |timed: &TimedEvent| match timed.event {
            Event::Verdict { function: whose, verdict, waited, .. } if whose == function => {
                Some((verdict, waited))
            }
            _ => None,
        };
        self.events.iter().filter_map(verdict).collect()
    }

    /// Number of ITEs that `unit` has raised for `function`.
    pub fn timeouts(&self, unit: UnitRole, function: Bdf) -> usize {
        count(&self.events, |event| {
            matches!(event, Event::InvalidationTimeout { unit: which, function: whose, .. }
                if *which == unit && *whose == function)
        })
    }

    /// The guest's last report of a metric.
    pub fn report(&self, metric: Metric) -> Option<u64> {
        self.events.iter().rev().find_map(|timed| match timed.event {
            Event::GuestReport { metric: which, value } if which == metric as u32 => Some(value),
            _ => None,
        })
    }
}

impl fmt::Display for Run {
    /// The end of the run, and the output of the guest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.exit {
            Ok(exit) => writeln!(f, "the machine ended with {exit:?}")?,
            Err(error) => writeln!(f, "the machine ended with an error: {error}")?,
        }
        write!(f, "{} events; the output of the guest:\n{}", self.events.len(), self.console)
    }
}
