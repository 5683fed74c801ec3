//! What one run has left behind.

use std::fmt;
use std::time::Duration;

use devices::bench::Metric;
use iommu::event::{Event, TimedEvent, UnitRole};
use iommu::ids::Bdf;
use iommu::submit::Verdict;
use vmm::{Error, Exit, Summary};

use crate::VICTIM;

/// How a machine has ended, and everything that has happened in it.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub exit: Result<Exit, Error>,
    /// What happened, oldest first.
    pub events: Vec<TimedEvent>,
    /// What the guest has printed: for messages to people, not to assert on.
    pub console: String,
}

/// How many of `events` are what `wanted` is looking for.
pub fn count(events: &[TimedEvent], wanted: impl Fn(&Event) -> bool) -> usize {
    events.iter().filter(|timed| wanted(&timed.event)).count()
}

/// What has happened after the first of `events` that `wanted` is looking for.
///
/// # Panics
///
/// If there is none.
pub fn after(events: &[TimedEvent], wanted: impl Fn(&Event) -> bool) -> &[TimedEvent] {
    match events.iter().position(|timed| wanted(&timed.event)) {
        Some(index) => &events[index + 1..],
        None => panic!("what was to come has not come"),
    }
}

impl Run {
    /// The same run, if the guest is content with it.
    ///
    /// # Panics
    ///
    /// If it is not, with what it has printed.
    #[track_caller]
    pub fn passed(self) -> Self {
        assert!(matches!(self.exit, Ok(Exit::DebugExit(0))), "{self}");
        assert_eq!(count(&self.events, |event| matches!(event, Event::GuestExit { value: 0 })), 1);
        self
    }

    /// What the demo would print.
    pub fn summary(&self) -> Summary {
        Summary::new(&self.events, VICTIM)
    }

    /// What has happened since a link went down.
    ///
    /// # Panics
    ///
    /// If none has.
    #[track_caller]
    pub fn after_drop(&self) -> &[TimedEvent] {
        after(&self.events, |event| matches!(event, Event::Link { .. }))
    }

    /// How the host's waits for `function` ended, in order, and how long they were.
    pub fn verdicts(&self, function: Bdf) -> Vec<(Verdict, Duration)> {
        let verdict = |timed: &TimedEvent| match timed.event {
            Event::Verdict { function: whose, verdict, waited, .. } if whose == function => {
                Some((verdict, waited))
            }
            _ => None,
        };
        self.events.iter().filter_map(verdict).collect()
    }

    /// How often `unit` has raised ITE for `function`.
    pub fn timeouts(&self, unit: UnitRole, function: Bdf) -> usize {
        count(&self.events, |event| {
            matches!(event, Event::InvalidationTimeout { unit: which, function: whose, .. }
                if *which == unit && *whose == function)
        })
    }

    /// What the guest has measured, if it has.
    pub fn report(&self, metric: Metric) -> Option<u64> {
        self.events.iter().rev().find_map(|timed| match timed.event {
            Event::GuestReport { metric: which, value } if which == metric as u32 => Some(value),
            _ => None,
        })
    }
}

impl fmt::Display for Run {
    /// How it ended, and the guest's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.exit {
            Ok(exit) => writeln!(f, "the machine ended with {exit:?}")?,
            Err(error) => writeln!(f, "the machine ended with an error: {error}")?,
        }
        write!(f, "{} events; the guest has printed:\n{}", self.events.len(), self.console)
    }
}
