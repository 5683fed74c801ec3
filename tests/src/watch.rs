//! A sink for events on which a test can wait.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iommu::event::{Event, EventSink, TimedEvent};

use crate::run::count;

/// The events of a run, and whether the run has ended.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    log: Mutex<Log>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Log {
    events: Vec<TimedEvent>,
    over: bool,
}

impl Watch {
    /// Waits for `times` events for which `wanted` holds. `false` if the run ends with fewer, or
    /// after `limit`.
    pub(crate) fn wait_for(
        &self,
        times: usize,
        wanted: impl Fn(&Event) -> bool,
        limit: Duration,
    ) -> bool {
        let (mut seen, mut found) = (0, 0);
        let pending = |log: &mut Log| {
            found += count(&log.events[seen..], &wanted);
            seen = log.events.len();
            found < times && !log.over
        };
        drop(self.changed.wait_timeout_while(self.log(), limit, pending));
        found >= times
    }

    /// Marks the run as ended.
    pub(crate) fn close(&self) {
        self.log().over = true;
        self.changed.notify_all();
    }

    /// Takes all events so far, oldest first.
    pub(crate) fn take(&self) -> Vec<TimedEvent> {
        std::mem::take(&mut self.log().events)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for Watch {
    fn record(&self, event: TimedEvent) {
        self.log().events.push(event);
        self.changed.notify_all();
    }
}
