//! The way of events to whoever listens.

use std::fmt;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::Event;
use crate::time::Instant;

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimedEvent {
    /// When.
    pub at: Instant,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Where events go. Called with locks held: be quick, and do not call back into the machine.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn record(&self, event: TimedEvent);
}

/// The way to the sink, if there is one. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<dyn EventSink>>);

impl Tracer {
    /// Events go nowhere.
    pub fn none() -> Self {
        Self(None)
    }

    /// Events go to `sink`.
    pub fn to(sink: Arc<dyn EventSink>) -> Self {
        Self(Some(sink))
    }

    /// Records what `event` makes, if anybody listens.
    #[inline]
    pub fn emit(&self, at: Instant, event: impl FnOnce() -> Event) {
        if let Some(sink) = &self.0 {
            sink.record(TimedEvent { at, event: event() });
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tracer").field(&self.0.is_some()).finish()
    }
}

/// A sink that keeps everything in memory.
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
