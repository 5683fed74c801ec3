//! The path of events to a sink.

use std::fmt;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::Event;
use crate::time::Instant;

/// An event, and when it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimedEvent {
    /// The time of the event.
    pub at: Instant,
    /// The PCI segment of the functions and of the unit in it. As JSON, it is left out for segment 0.
    #[serde(skip_serializing_if = "is_first")]
    pub segment: u16,
    /// The event itself.
    #[serde(flatten)]
    pub event: Event,
}

fn is_first(segment: &u16) -> bool {
    *segment == 0
}

/// A receiver of events. It is called with locks held: it must be quick, and must not call back
/// into the machine.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn record(&self, event: TimedEvent);
}

/// A handle to a sink, or to none. It is cheap to clone.
#[derive(Clone, Default)]
pub struct Tracer {
    sink: Option<Arc<dyn EventSink>>,
    segment: u16,
}

impl Tracer {
    /// A tracer without a sink.
    pub fn none() -> Self {
        Self::default()
    }

    /// A tracer that sends events to `sink`.
    pub fn to(sink: Arc<dyn EventSink>) -> Self {
        Self { sink: Some(sink), segment: 0 }
    }

    /// A tracer to the same sink that drops the events after `end`.
    #[must_use]
    pub fn until(&self, end: Instant) -> Self {
        let sink =
            self.sink.clone().map(|sink| Arc::new(Until { sink, end }) as Arc<dyn EventSink>);
        Self { sink, segment: self.segment }
    }

    /// A tracer to the same sink, for the events of the PCI segment with that number. Without this it
    /// is 0.
    #[must_use]
    pub fn in_segment(&self, segment: u16) -> Self {
        Self { sink: self.sink.clone(), segment }
    }

    /// Whether there is a sink.
    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Records the event that `event` builds. Without a sink the event is not built.
    #[inline]
    pub fn emit(&self, at: Instant, event: impl FnOnce() -> Event) {
        if let Some(sink) = &self.sink {
            sink.record(TimedEvent { at, segment: self.segment, event: event() });
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tracer").field(&self.sink.is_some()).finish()
    }
}

/// A sink for the events up to a moment.
struct Until {
    sink: Arc<dyn EventSink>,
    end: Instant,
}

impl EventSink for Until {
    fn record(&self, event: TimedEvent) {
        if event.at <= self.end {
            self.sink.record(event);
        }
    }
}

/// A sink that keeps all events in memory.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<TimedEvent>>);

impl Recorder {
    /// All events so far, oldest first.
    pub fn events(&self) -> Vec<TimedEvent> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl EventSink for Recorder {
    fn record(&self, event: TimedEvent) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event);
    }
}
