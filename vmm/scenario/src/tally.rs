//! Counts events as they come. A guest decides how many there are, so they are not kept.

use std::collections::{BTreeMap, HashMap};
use std::mem::{Discriminant, discriminant};
use std::sync::{Arc, Mutex, PoisonError};

use iommu::event::{Event, EventSink, TimedEvent, UnitRole};
use serde_json::Value;
use toml::Table;

use crate::file::{Expectation, Look};

/// Events that an expectation counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matched {
    /// Their number.
    pub count: u64,
    /// The first, as JSON.
    pub first: Option<String>,
}

/// The events of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// The number of events of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// Invalidation time-outs of the guest-visible unit.
    pub ite: u64,
    /// For each expectation of the scenario, the events that it counts.
    pub matched: Vec<Matched>,
    /// The faults of the schedule that have begun, in its notation; each with how often.
    pub faults: BTreeMap<String, u64>,
}

/// An expectation about events of a kind: its number, and the values of fields.
#[derive(Debug, Clone)]
struct Wanted {
    expectation: usize,
    kind: String,
    with: Table,
}

/// What is known of a kind of events after its first one.
#[derive(Debug)]
struct Kind {
    name: String,
    count: u64,
    /// Which of `Inner::wanted` are about it.
    wanted: Vec<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    kinds: HashMap<Discriminant<Event>, Kind>,
    wanted: Vec<Wanted>,
    counts: Counts,
}

/// A sink that counts, and passes events on to another one.
pub struct Tally {
    inner: Mutex<Inner>,
    next: Option<Arc<dyn EventSink>>,
}

impl Tally {
    /// Counts for these expectations.
    pub fn new(expectations: &[Expectation], next: Option<Arc<dyn EventSink>>) -> Self {
        let wanted = expectations.iter().enumerate();
        let wanted = wanted.filter_map(|(expectation, expect)| match &expect.look {
            Look::Event { kind, with, .. } => {
                Some(Wanted { expectation, kind: kind.clone(), with: with.clone() })
            }
            _ => None,
        });
        let matched = vec![Matched::default(); expectations.len()];
        let counts = Counts { matched, ..Counts::default() };
        let inner = Inner { wanted: wanted.collect(), counts, ..Inner::default() };
        Self { inner: Mutex::new(inner), next }
    }

    /// Counts an event that a test has made up as JSON.
    #[cfg(test)]
    pub(crate) fn add_json(&self, json: &Value) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { wanted, counts, .. } = &mut *inner;
        for wanted in wanted.iter().filter(|wanted| json["event"] == wanted.kind.as_str()) {
            wanted.count(json, counts);
        }
    }

    /// The counts up to now.
    pub fn counts(&self) -> Counts {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = inner.counts.clone();
        counts.kinds.extend(inner.kinds.values().map(|kind| (kind.name.clone(), kind.count)));
        counts
    }
}

impl EventSink for Tally {
    fn record(&self, event: TimedEvent) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).add(&event);
        if let Some(next) = &self.next {
            next.record(event);
        }
    }
}

impl Inner {
    fn add(&mut self, timed: &TimedEvent) {
        let Self { kinds, wanted, counts } = self;
        // An event is turned into JSON only if an expectation looks at its kind: DMA is frequent.
        let kind = kinds.entry(discriminant(&timed.event)).or_insert_with(|| {
            let name = name(&timed.event);
            let about = |index: &usize| wanted[*index].kind == name;
            let wanted = (0..wanted.len()).filter(about).collect();
            Kind { name, count: 0, wanted }
        });
        kind.count += 1;
        match &timed.event {
            Event::FaultInjected { fault } => {
                *counts.faults.entry(fault.clone()).or_default() += 1;
            }
            Event::InvalidationTimeout { unit: UnitRole::Guest, .. } => counts.ite += 1,
            _ => {}
        }
        if kind.wanted.is_empty() {
            return;
        }
        let Ok(json) = serde_json::to_value(timed) else { return };
        for index in &kind.wanted {
            wanted[*index].count(&json, counts);
        }
    }
}

impl Wanted {
    /// Counts the event, if its fields are as wanted.
    fn count(&self, json: &Value, counts: &mut Counts) {
        if self.with.iter().all(|(key, value)| same(&json[key], value)) {
            let matched = &mut counts.matched[self.expectation];
            matched.count += 1;
            matched.first.get_or_insert_with(|| json.to_string());
        }
    }
}

/// The name of an event, as `--events` prints it.
fn name(event: &Event) -> String {
    let json = serde_json::to_value(event).unwrap_or_default();
    json["event"].as_str().unwrap_or_default().to_owned()
}

fn same(seen: &Value, wanted: &toml::Value) -> bool {
    serde_json::to_value(wanted).is_ok_and(|wanted| *seen == wanted)
}
