//! A run's events as what lasts: waits, slots that are in use, Invalidate Requests on their way, links
//! that are down. Timelines and traces are views of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use iommu::event::{Event, LinkState, LockupDetector, TimedEvent, UnitRole};
use iommu::ids::Bdf;
use iommu::spec::descriptor;
use iommu::submit::{Ticket, Verdict};
use iommu::time::Instant;

use super::narrate;

/// The subject of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The link below a port.
    Link(Bdf),
    /// A CPU that wants invalidations: with interrupts off from the lock to the answer.
    Cpu(u16),
    /// Callers whose invalidations of a function are on the queue.
    Callers(Bdf),
    /// Slots of the physical unit's queue.
    Slots,
    /// Invalidate Requests that are not answered, by ITag.
    Requests,
    /// A function: its DMA, its ATC, its fence.
    Function(Bdf),
}

/// The state of a span or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// As in a run without faults.
    Well,
    /// Ended by the software's or the unit's patience, not by an answer.
    GivenUp,
    /// Longer than a lock-up detector allows, or without an end.
    Stuck,
    /// A link that carries nothing.
    Down,
    /// A function that the unit blocks.
    Blocked,
    /// A caller or the unit has a wrong belief about it.
    False,
}

/// Something that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// The row in the track: spans that overlap have different rows.
    pub(super) row: u32,
    pub(super) state: State,
    pub(super) text: String,
}

/// Something that happens at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) state: State,
    pub(super) text: String,
}

/// All that concerns one subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Track {
    pub(super) spans: Vec<Span>,
    pub(super) moments: Vec<Moment>,
}

impl Track {
    /// The number of rows that the track needs, at least one.
    pub(super) fn rows(&self) -> u32 {
        self.spans.iter().map(|span| span.row + 1).max().unwrap_or(1)
    }

    fn add(&mut self, from: Instant, to: Instant, state: State, text: String) {
        self.spans.push(Span { from, to, row: 0, state, text });
    }

    /// Puts each span into the first row that is free when it begins.
    fn arrange(&mut self) {
        self.spans.sort_by_key(|span| span.from);
        let mut rows: Vec<Instant> = Vec::new();
        for span in &mut self.spans {
            let free = rows.iter().position(|until| *until <= span.from);
            let row = free.unwrap_or(rows.len());
            rows.resize(rows.len().max(row + 1), Instant::START);
            rows[row] = span.to;
            // No more than callers and tags, of which there are some hundreds.
            span.row = row as u32;
        }
    }

    /// Leaves out rows in which nothing is.
    fn close_up(&mut self) {
        let used: BTreeSet<u32> = self.spans.iter().map(|span| span.row).collect();
        let place: BTreeMap<u32, u32> = used.into_iter().zip(0..).collect();
        for span in &mut self.spans {
            span.row = place[&span.row];
        }
    }
}

/// All tracks of a run.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    pub(super) tracks: BTreeMap<Subject, Track>,
    /// When the first fault began.
    pub(super) fault: Option<Instant>,
    cpus: BTreeMap<u16, (Instant, Bdf)>,
    callers: BTreeMap<u64, (Instant, Bdf)>,
    /// Tickets whose callers took another's status write for their own.
    woken_falsely: BTreeSet<u64>,
    slots: VecDeque<(u32, u8, Instant)>,
    requests: BTreeMap<(Bdf, u8), Instant>,
    down: BTreeMap<Bdf, Instant>,
    blocked: BTreeMap<Bdf, Instant>,
}

impl Tracks {
    /// The tracks of a run that ends at `end`.
    pub(super) fn new(events: &[TimedEvent], end: Instant) -> Self {
        let mut tracks = Self::default();
        for event in events {
            tracks.take(event);
        }
        tracks.finish(end);
        for (subject, track) in &mut tracks.tracks {
            match subject {
                // A row for each slot of the ring that was used.
                Subject::Slots => track.close_up(),
                _ => track.arrange(),
            }
        }
        tracks
    }

    fn track(&mut self, subject: Subject) -> &mut Track {
        self.tracks.entry(subject).or_default()
    }

    fn moment(&mut self, subject: Subject, event: &TimedEvent, state: State) {
        let text = narrate::sentence(&event.event).unwrap_or_default();
        self.track(subject).moments.push(Moment { at: event.at, state, text });
    }

    fn take(&mut self, event: &TimedEvent) {
        let at = event.at;
        match &event.event {
            Event::Submitted { ticket, function, .. } => {
                self.callers.entry(ticket.0).or_insert((at, *function));
            }
            Event::Verdict { ticket, function, verdict, .. } => {
                self.verdict(*ticket, *function, *verdict, at);
            }
            Event::FalseCompletion { ticket } => {
                self.woken_falsely.insert(ticket.0);
                if let Some((_, function)) = self.callers.get(&ticket.0).copied() {
                    self.moment(Subject::Callers(function), event, State::False);
                }
            }
            Event::HostLockup { ticket, .. } => {
                if let Some((_, function)) = self.callers.get(&ticket.0).copied() {
                    self.moment(Subject::Callers(function), event, State::Stuck);
                }
            }
            Event::Link { port, state: LinkState::Down } => {
                _ = self.down.entry(*port).or_insert(at)
            }
            Event::Link { port, state: LinkState::Up } => {
                if let Some(from) = self.down.remove(port) {
                    let track = self.track(Subject::Link(*port));
                    track.add(from, at, State::Down, "down".to_owned());
                }
            }
            Event::FaultInjected { .. } => self.fault = self.fault.or(Some(at)),
            _ if self.take_of_software(event) => {}
            _ => self.take_of_unit(event),
        }
    }

    /// Handles events of CPUs and drivers; `false` for other events.
    fn take_of_software(&mut self, event: &TimedEvent) -> bool {
        let at = event.at;
        match &event.event {
            Event::CpuBlocked { cpu, function } => _ = self.cpus.insert(*cpu, (at, *function)),
            Event::CpuReleased { cpu, function, waited } => {
                let from = self.cpus.remove(cpu).map_or(at, |(from, _)| from);
                let is_long = *waited >= LockupDetector::Hard.threshold();
                let state = if is_long { State::Stuck } else { State::Well };
                let text = format!("IRQs off for {function}");
                self.track(Subject::Cpu(*cpu)).add(from, at, state, text);
            }
            Event::StaleAccess { function, .. } => {
                self.moment(Subject::Function(*function), event, State::False);
            }
            Event::IoTimedOut { function, .. }
            | Event::DriverReset { function }
            | Event::DriverUnbound { function }
            | Event::DriverBound { function } => {
                self.moment(Subject::Function(*function), event, State::Blocked);
            }
            _ => return false,
        }
        true
    }

    fn take_of_unit(&mut self, event: &TimedEvent) {
        let at = event.at;
        match &event.event {
            Event::DescriptorFetched { unit: UnitRole::Host, slot, descriptor_type } => {
                self.slots.push_back((*slot, *descriptor_type, at));
            }
            Event::WaitCompleted { unit: UnitRole::Host, .. } => self.free_slots(at),
            Event::InvalidateRequested { unit: UnitRole::Host, function, itag } => {
                _ = self.requests.insert((*function, itag.get()), at);
            }
            Event::InvalidateCompleted { unit: UnitRole::Host, function, itag, .. } => {
                self.end_request((*function, itag.get()), at, State::Well);
            }
            Event::InvalidationTimeout { unit: UnitRole::Host, function, itag, .. } => {
                self.end_request((*function, itag.get()), at, State::GivenUp);
                self.moment(Subject::Requests, event, State::GivenUp);
                self.abort_slots(at);
            }
            Event::UnexpectedCompletion { unit: UnitRole::Host, .. } => {
                self.moment(Subject::Requests, event, State::False);
            }
            Event::Quarantined { function, .. } | Event::PortFenced { function, .. } => {
                _ = self.blocked.entry(*function).or_insert(at);
            }
            Event::QuarantineEnded { function } => {
                self.end_block(*function, at, "quarantined".to_owned());
            }
            Event::PortFenceEnded { function, fence } => {
                self.end_block(*function, at, fence.to_string());
            }
            Event::RemovalSimulated { function }
            | Event::FunctionResetByHost { function }
            | Event::AtsDisabledByHost { function }
            | Event::QuarantineBegan { function } => {
                self.moment(Subject::Function(*function), event, State::Blocked);
            }
            _ => {}
        }
    }

    /// A function was reset, and nothing blocks it any more.
    fn end_block(&mut self, function: Bdf, at: Instant, by: String) {
        if let Some(from) = self.blocked.remove(&function) {
            self.track(Subject::Function(function)).add(from, at, State::Blocked, by);
        }
    }

    fn verdict(&mut self, ticket: Ticket, function: Bdf, verdict: Verdict, at: Instant) {
        // A skipped invalidation was never submitted.
        let (from, _) = self.callers.remove(&ticket.0).unwrap_or((at, function));
        let is_false = self.woken_falsely.remove(&ticket.0);
        let state = match verdict {
            _ if is_false => State::False,
            _ if at - from >= LockupDetector::Hard.threshold() => State::Stuck,
            Verdict::Completed | Verdict::Skipped => State::Well,
            _ => State::GivenUp,
        };
        let falsely = if is_false { "falsely " } else { "" };
        let text = format!("{falsely}{}", narrate::verdict(verdict));
        self.track(Subject::Callers(function)).add(from, at, state, text);
    }

    /// A wait has completed: the slots up to the oldest wait are free. That is right for a serial
    /// unit, and near enough for a parallel one.
    fn free_slots(&mut self, at: Instant) {
        while let Some((slot, kind, from)) = self.slots.pop_front() {
            self.slot(slot, from, at, State::Well);
            if kind == descriptor::kind::WAIT {
                break;
            }
        }
    }

    fn abort_slots(&mut self, at: Instant) {
        while let Some((slot, _, from)) = self.slots.pop_front() {
            self.slot(slot, from, at, State::GivenUp);
        }
    }

    fn slot(&mut self, slot: u32, from: Instant, to: Instant, state: State) {
        let text = format!("slot {slot}");
        self.track(Subject::Slots).spans.push(Span { from, to, row: slot, state, text });
    }

    fn end_request(&mut self, (function, itag): (Bdf, u8), at: Instant, state: State) {
        if let Some(from) = self.requests.remove(&(function, itag)) {
            let text = format!("ITag {itag} to {function}");
            self.track(Subject::Requests).add(from, at, state, text);
        }
    }

    /// Open spans last to the end of the run.
    fn finish(&mut self, end: Instant) {
        for (cpu, (from, function)) in std::mem::take(&mut self.cpus) {
            let text = format!("IRQs off for {function}, to the end");
            self.track(Subject::Cpu(cpu)).add(from, end, State::Stuck, text);
        }
        for (_, (from, function)) in std::mem::take(&mut self.callers) {
            let text = "never returned".to_owned();
            self.track(Subject::Callers(function)).add(from, end, State::Stuck, text);
        }
        for (slot, _, from) in std::mem::take(&mut self.slots) {
            self.slot(slot, from, end, State::Stuck);
        }
        for ((function, itag), from) in std::mem::take(&mut self.requests) {
            let text = format!("ITag {itag} to {function}, never answered");
            self.track(Subject::Requests).add(from, end, State::Stuck, text);
        }
        for (port, from) in std::mem::take(&mut self.down) {
            self.track(Subject::Link(port)).add(from, end, State::Down, "down".to_owned());
        }
        for (function, from) in std::mem::take(&mut self.blocked) {
            let text = "quarantined".to_owned();
            self.track(Subject::Function(function)).add(from, end, State::Blocked, text);
        }
    }
}
