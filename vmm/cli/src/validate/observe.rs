//! Observes one flush by its events: the same code for KVM and the simulation, in bounded memory.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use devices::bench::Metric;
use iommu::event::{Event, EventSink, TimedEvent};
use iommu::ids::Bdf;
use iommu::submit::{Ticket, Verdict};
use iommu::time::Instant;
use serde::{Serialize, Serializer};

/// The victim, and its neighbour: what is behind the first port and behind the second, in both.
pub(super) const VICTIM: Bdf = Bdf::new(1, 0, 0);
pub(super) const NEIGHBOR: Bdf = Bdf::new(2, 0, 0);

/// Shortest wait of the neighbour that counts as an effect of the fault.
pub(super) const AFFECTED: Duration = Duration::from_millis(10);

/// Shortest age of a stale access of the victim that counts. Under KVM the guest has it write 30 ms
/// after the flush and later. The simulation's caller goes on with I/O at once.
pub(super) const AFTERWARDS: Duration = Duration::from_millis(20);

/// Selects the flush that is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// The first one after the guest has rung the bench's doorbell.
    Doorbell,
    /// The first one that a CPU of the simulation wants from this moment on.
    From(Instant),
    /// The one that is under way when the fault happens, in the simulation.
    UnderWay,
}

/// The neighbour's longest wait, and the safety of its flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Affected {
    /// The verdict; `None` if there was none to the end.
    pub(crate) verdict: Option<Verdict>,
    /// The time for which the neighbour waited.
    #[serde(rename = "wait_ns", serialize_with = "nanos")]
    pub(crate) wait: Duration,
    /// Whether the status write of another wait ended one of its flushes.
    pub(crate) false_completion: bool,
    /// Whether the neighbour reached memory by a stale translation after one of its flushes, and if
    /// it did, whether the caller had been told of success.
    pub(crate) stale: Option<Told>,
}

impl Affected {
    /// A wait without any harm but its length.
    pub(super) const fn new(verdict: Option<Verdict>, wait: Duration) -> Self {
        Self { verdict, wait, false_completion: false, stale: None }
    }

    /// Whether the fault has an effect on it.
    pub(super) fn is_affected(&self) -> bool {
        self.wait >= AFFECTED || self.false_completion || self.stale.is_some()
    }
}

/// The longest stall of the victim's other CPUs, with their wait for the lock of the domain, if it is
/// 10 ms or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Crowd {
    /// All of them came back.
    pub(crate) ended: bool,
    /// The longest stall.
    #[serde(rename = "stall_ns", serialize_with = "nanos")]
    pub(crate) stall: Duration,
}

impl Crowd {
    /// Of a stall that is watched for `patience`.
    pub(super) fn new(stall: Duration, patience: Duration) -> Option<Self> {
        let ended = stall < patience;
        (stall >= AFFECTED).then_some(Self { ended, stall: stall.min(patience) })
    }
}

/// The answer to the caller before a stale access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// The invalidation is complete.
    Success,
    /// It has failed.
    Failure,
}

impl Told {
    /// The answer that an event reports.
    pub(super) const fn new(success: bool) -> Self {
        if success { Self::Success } else { Self::Failure }
    }
}

/// The result of a flush for the victim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Observation {
    /// The verdict; `None` if the caller still waited at the end.
    pub(crate) verdict: Option<Verdict>,
    /// The number of its submissions to the physical unit by then.
    pub(crate) submissions: u32,
    /// Whether the victim's ATC had dropped its translations by then.
    pub(crate) dropped: bool,
    /// Whether the status write of another wait ended this one.
    pub(crate) false_completion: bool,
    /// Whether the victim reached memory by a stale translation after the verdict, and if it did,
    /// whether the caller had been told of success.
    pub(crate) stale: Option<Told>,
    /// The time for which the CPU was stuck in the flush.
    #[serde(rename = "stall_ns", serialize_with = "nanos")]
    pub(crate) stall: Duration,
    /// The neighbour, if a flush of it that began before this one was over took 10 ms or more, or
    /// was not safe.
    pub(crate) neighbor: Option<Affected>,
    /// The victim's other CPUs, of which each wanted a flush during this one.
    pub(crate) crowd: Option<Crowd>,
}

pub(super) fn nanos<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// A sink that observes one flush.
pub(super) struct Observer {
    start: Start,
    patience: Duration,
    /// CPUs of the simulation that are no helpers.
    cpus: u16,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The flush that comes next counts.
    is_armed: bool,
    /// When it reached the host side.
    since: Option<Instant>,
    /// No later start counts.
    is_fixed: bool,
    /// The CPU of the simulation that wants it.
    cpu: Option<u16>,
    ticket: Option<Ticket>,
    verdict: Option<(Instant, Verdict)>,
    submissions: u32,
    dropped: bool,
    false_completion: bool,
    stale: Option<Told>,
    /// When the victim's next flush ended.
    next_verdict: Option<Instant>,
    stall: Option<Duration>,
    /// The neighbour's waits that are not over.
    waiting: HashMap<Ticket, Instant>,
    neighbor: Option<Affected>,
    /// The wait of the neighbour that another's status write has ended.
    falsely_ended: Option<Ticket>,
    /// When the last of the neighbour's flushes that count has ended.
    neighbor_ended: Option<Instant>,
    /// One of them was ended by another's status write, or led to a stale access.
    neighbor_false: bool,
    neighbor_stale: Option<Told>,
    /// The victim's other CPUs that wait, since when.
    crowd_waiting: HashMap<u16, Instant>,
    /// The longest of their stalls that are over.
    crowd: Duration,
}

impl Observer {
    /// For `patience` from when it reaches the host side a flush is observed. Of the simulation's CPUs
    /// `cpus` do I/O.
    pub(super) fn new(start: Start, patience: Duration, cpus: u16) -> Self {
        Self { start, patience, cpus, state: Mutex::default() }
    }

    /// The observation; `None` if there was no such flush.
    pub(super) fn result(&self) -> Option<Observation> {
        let state = self.state();
        let until = state.since? + self.patience;
        let mut neighbor = state.neighbor;
        for since in state.waiting.values().filter(|since| state.counts(**since)) {
            let wait = until - *since;
            if neighbor.is_none_or(|other| other.wait < wait) {
                neighbor = Some(Affected::new(None, wait));
            }
        }
        let mut neighbor =
            neighbor.unwrap_or(Affected::new(Some(Verdict::Completed), Duration::ZERO));
        (neighbor.false_completion, neighbor.stale) = (state.neighbor_false, state.neighbor_stale);
        let waiting = state.crowd_waiting.values().filter(|since| state.counts(**since));
        let crowd = waiting.map(|_| self.patience).max().unwrap_or_default().max(state.crowd);
        Some(Observation {
            verdict: state.verdict.map(|(_, verdict)| verdict),
            submissions: state.submissions,
            dropped: state.dropped,
            false_completion: state.false_completion,
            stale: state.stale,
            stall: state.stall.unwrap_or(self.patience).min(self.patience),
            neighbor: neighbor.is_affected().then_some(neighbor),
            crowd: Crowd::new(crowd, self.patience),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an event begins the flush that is observed.
    fn begin(&self, state: &mut State, at: Instant, event: &Event) {
        match (self.start, event) {
            (Start::Doorbell, Event::Doorbell { .. }) if !state.is_fixed => {
                *state = State { is_armed: true, is_fixed: true, ..State::default() };
            }
            (Start::From(from), Event::CpuBlocked { cpu, function: VICTIM })
                if !state.is_fixed && at >= from =>
            {
                let cpu = Some(*cpu);
                *state = State { is_armed: true, is_fixed: true, cpu, ..State::default() };
            }
            (Start::UnderWay, Event::CpuBlocked { cpu, function: VICTIM }) if !state.is_fixed => {
                *state = State { is_armed: true, cpu: Some(*cpu), ..State::default() };
            }
            (Start::UnderWay, Event::FaultInjected { .. }) => state.is_fixed = true,
            _ => {}
        }
    }
}

impl State {
    /// Whether a wait of the neighbour that began `since` is of interest.
    fn counts(&self, since: Instant) -> bool {
        self.since.is_some_and(|start| since >= start)
            && self.verdict.is_none_or(|(ended, _)| since <= ended)
    }

    fn victim(&mut self, at: Instant, event: &Event) {
        match event {
            Event::Submitted { ticket, function: VICTIM, attempt }
                if *self.ticket.get_or_insert(*ticket) == *ticket =>
            {
                self.submissions = *attempt;
            }
            Event::Verdict { ticket, function: VICTIM, verdict, .. }
                if *self.ticket.get_or_insert(*ticket) == *ticket =>
            {
                self.verdict = Some((at, *verdict));
            }
            Event::FalseCompletion { ticket } if self.ticket == Some(*ticket) => {
                self.false_completion = true;
            }
            Event::Verdict { function: VICTIM, .. } if self.verdict.is_some() => {
                self.next_verdict.get_or_insert(at);
            }
            // A later flush, which the simulation's caller makes, is not the one that is observed.
            Event::StaleAccess { function: VICTIM, told_success, mapped: false, age, .. }
                if *age >= AFTERWARDS && self.next_verdict.is_none_or(|next| at < next + *age) =>
            {
                self.stale.get_or_insert(Told::new(*told_success));
            }
            Event::AtcInvalidated { function: VICTIM, dropped } if self.verdict.is_none() => {
                self.dropped |= *dropped > 0;
            }
            Event::CpuReleased { cpu, waited, .. } if self.cpu == Some(*cpu) => {
                self.stall.get_or_insert(*waited);
            }
            _ => {}
        }
    }

    fn neighbor(&mut self, at: Instant, event: &Event) {
        /// From the end of a flush until the oracle knows of it.
        const BRIEFLY: Duration = Duration::from_micros(100);
        match event {
            Event::FalseCompletion { ticket } if self.waiting.contains_key(ticket) => {
                self.falsely_ended = Some(*ticket);
            }
            Event::StaleAccess { function: NEIGHBOR, told_success, mapped: false, age, .. }
                if self.neighbor_ended.is_some_and(|ended| at <= ended + BRIEFLY + *age) =>
            {
                self.neighbor_stale.get_or_insert(Told::new(*told_success));
            }
            Event::Submitted { ticket, function: NEIGHBOR, attempt: 1 } => {
                self.waiting.insert(*ticket, at);
            }
            Event::Verdict { ticket, function: NEIGHBOR, verdict, waited } => {
                self.waiting.remove(ticket);
                let began = Instant::START + (at - Instant::START).saturating_sub(*waited);
                let is_false = self.falsely_ended.take_if(|falsely| falsely == ticket).is_some();
                if !self.counts(began) {
                    return;
                }
                self.neighbor_ended = Some(at);
                self.neighbor_false |= is_false;
                if self.neighbor.is_none_or(|other| other.wait < *waited) {
                    self.neighbor = Some(Affected::new(Some(*verdict), *waited));
                }
            }
            _ => {}
        }
    }
}

impl State {
    /// What the victim's other CPUs say: in the simulation by their events, under KVM by a report.
    fn crowd(&mut self, at: Instant, event: &Event, cpus: u16) {
        match event {
            Event::CpuBlocked { cpu, function: VICTIM }
                if *cpu < cpus && self.cpu != Some(*cpu) =>
            {
                self.crowd_waiting.insert(*cpu, at);
            }
            Event::CpuReleased { cpu, function: VICTIM, waited } => {
                let since = self.crowd_waiting.remove(cpu);
                if since.is_some_and(|since| self.counts(since)) {
                    self.crowd = self.crowd.max(*waited);
                }
            }
            _ => {}
        }
    }
}

impl EventSink for Observer {
    fn record(&self, TimedEvent { at, event, .. }: TimedEvent) {
        let mut state = self.state();
        self.begin(&mut state, at, &event);
        if let Event::Submitted { function: VICTIM, .. } | Event::Verdict { function: VICTIM, .. } =
            event
            && state.is_armed
        {
            state.since.get_or_insert(at);
        }
        let Some(since) = state.since else { return };
        // The guest's report is the last event.
        if let Event::GuestReport { metric, value } = event
            && metric == Metric::FirstAttempt as u32
        {
            state.stall = Some(Duration::from_nanos(value));
        }
        if let Event::GuestReport { metric, value } = event
            && metric == Metric::CrowdStall as u32
        {
            state.crowd = Duration::from_nanos(value);
        }
        if at - since <= self.patience {
            state.victim(at, &event);
            state.neighbor(at, &event);
            state.crowd(at, &event, self.cpus);
        }
    }
}

/// A caller whose deadline has passed after `millis`, and nothing else, for tests.
#[cfg(test)]
pub(super) fn passed_deadline(millis: u64) -> Observation {
    Observation {
        verdict: Some(Verdict::DeadlinePassed),
        submissions: 1,
        dropped: false,
        false_completion: false,
        stale: None,
        stall: Duration::from_millis(millis),
        neighbor: None,
        crowd: None,
    }
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
