//! What a run's events say about its CPUs, its callers, and the first unsafe event.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use iommu::event::{Event, TimedEvent, UnitRole};
use iommu::ids::Bdf;
use iommu::submit::Verdict;
use iommu::time::Instant;

/// A stretch of time with interrupts off on one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) cpu: u16,
    pub(super) function: Bdf,
    pub(super) from: Instant,
    /// When the CPU got the lock of its domain.
    pub(super) locked: Option<Instant>,
    /// When it put its descriptors on the ring for the first time.
    pub(super) submitted: Option<Instant>,
    /// The end, or the end of the run.
    pub(super) to: Instant,
    /// Whether the caller has gone on.
    pub(super) has_ended: bool,
    /// The verdict that its caller got.
    pub(super) verdict: Option<(u64, Verdict)>,
    /// How many submissions for this function there were before, of all its callers.
    nth_submission: usize,
}

impl Stretch {
    pub(super) fn length(&self) -> Duration {
        self.to - self.from
    }

    /// The part that was spent on the lock of the domain.
    pub(super) fn in_lock(&self) -> Duration {
        self.locked.unwrap_or(self.to) - self.from
    }
}

/// An Invalidate Request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) itag: u8,
    pub(super) sent: Instant,
    pub(super) answered: Option<Instant>,
}

/// The first access or verdict that breaks safety.
#[derive(Debug, Clone)]
pub(super) struct FirstUnsafe {
    pub(super) event: TimedEvent,
    /// The invalidation that it breaks. `None` if the events do not tell.
    pub(super) of: Option<Stretch>,
}

/// The facts of a run.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The first fault: when, and in the notation of the schedule.
    pub(super) fault: Option<(Instant, String)>,
    /// All stretches with interrupts off, by their end.
    pub(super) stretches: Vec<Stretch>,
    pub(super) first_unsafe: Option<FirstUnsafe>,
    /// Stale accesses by function.
    pub(super) stale: BTreeMap<Bdf, u64>,
    open: BTreeMap<u16, Stretch>,
    /// The CPUs that hold or want the lock of a domain, in order: a domain is a function's.
    locks: BTreeMap<Bdf, VecDeque<u16>>,
    /// The CPU that waits for each ticket.
    callers: BTreeMap<u64, u16>,
    submissions: BTreeMap<Bdf, usize>,
    requests: BTreeMap<Bdf, Vec<Request>>,
    ended: BTreeMap<(Bdf, u64), usize>,
}

impl Facts {
    /// Reads the events of a run that ends at `end`.
    pub(super) fn new(events: &[TimedEvent], end: Instant) -> Self {
        let mut facts = Self::default();
        for event in events {
            facts.take(event);
        }
        for (_, stretch) in std::mem::take(&mut facts.open) {
            facts.stretches.push(Stretch { to: end, ..stretch });
        }
        facts
    }

    /// The request of an invalidation; `None` if the unit had not sent it.
    pub(super) fn request_of(&self, stretch: &Stretch) -> Option<Request> {
        // A submission has one descriptor for its function, and the unit fetches in order.
        let request = *self.requests.get(&stretch.function)?.get(stretch.nth_submission)?;
        (stretch.submitted.is_some() && request.sent <= stretch.to).then_some(request)
    }

    /// The oldest request that had no answer at `at`, with its function.
    pub(super) fn oldest_unanswered(&self, at: Instant) -> Option<(Bdf, Request)> {
        let requests = self.requests.iter().flat_map(|(function, requests)| {
            requests.iter().map(move |request| (*function, *request))
        });
        let is_open = |request: &Request| {
            request.sent <= at && request.answered.is_none_or(|answered| answered > at)
        };
        requests.filter(|(_, request)| is_open(request)).min_by_key(|(_, request)| request.sent)
    }

    fn take(&mut self, event: &TimedEvent) {
        let at = event.at;
        match &event.event {
            Event::FaultInjected { fault } => {
                self.fault.get_or_insert_with(|| (at, fault.clone()));
            }
            Event::CpuBlocked { cpu, function } => self.block(*cpu, *function, at),
            Event::CpuReleased { cpu, function, .. } => self.release(*cpu, *function, at),
            Event::Submitted { ticket, function, .. } => self.submit(ticket.0, *function, at),
            Event::Verdict { ticket, function, verdict, .. } => {
                let holder = || self.locks.get(function)?.front().copied();
                let cpu = self.callers.remove(&ticket.0).or_else(holder);
                if let Some(stretch) = cpu.and_then(|cpu| self.open.get_mut(&cpu)) {
                    stretch.verdict = Some((ticket.0, *verdict));
                }
            }
            Event::StaleAccess { function, age, mapped: false, .. } => {
                *self.stale.entry(*function).or_default() += 1;
                let since = at.as_nanos().saturating_sub(nanos(*age));
                let of = self.ended.get(&(*function, since)).map(|place| self.stretches[*place]);
                self.first_unsafe.get_or_insert_with(|| FirstUnsafe { event: event.clone(), of });
            }
            Event::FalseCompletion { ticket } => {
                let of = self.callers.get(&ticket.0).and_then(|cpu| self.open.get(cpu)).copied();
                let of = of.map(|stretch| Stretch { to: at, ..stretch });
                self.first_unsafe.get_or_insert_with(|| FirstUnsafe { event: event.clone(), of });
            }
            other => self.take_of_unit(other, at),
        }
    }

    fn take_of_unit(&mut self, event: &Event, at: Instant) {
        match event {
            Event::InvalidateRequested { unit: UnitRole::Host, function, itag } => {
                let request = Request { itag: itag.get(), sent: at, answered: None };
                self.requests.entry(*function).or_default().push(request);
            }
            Event::InvalidateCompleted { unit: UnitRole::Host, function, itag, .. } => {
                let requests = self.requests.entry(*function).or_default();
                let is_it = |request: &&mut Request| {
                    request.itag == itag.get() && request.answered.is_none()
                };
                if let Some(request) = requests.iter_mut().rev().find(is_it) {
                    request.answered = Some(at);
                }
            }
            _ => {}
        }
    }

    fn block(&mut self, cpu: u16, function: Bdf, at: Instant) {
        let waiting = self.locks.entry(function).or_default();
        waiting.push_back(cpu);
        let locked = (waiting.len() == 1).then_some(at);
        let stretch = Stretch {
            cpu,
            function,
            from: at,
            locked,
            submitted: None,
            to: at,
            has_ended: false,
            verdict: None,
            nth_submission: 0,
        };
        self.open.insert(cpu, stretch);
    }

    fn release(&mut self, cpu: u16, function: Bdf, at: Instant) {
        if let Some(waiting) = self.locks.get_mut(&function) {
            waiting.retain(|other| *other != cpu);
            let next = waiting.front().and_then(|next| self.open.get_mut(next));
            if let Some(next) = next {
                next.locked.get_or_insert(at);
            }
        }
        if let Some(stretch) = self.open.remove(&cpu) {
            self.ended.insert((function, at.as_nanos()), self.stretches.len());
            self.stretches.push(Stretch { to: at, has_ended: true, ..stretch });
        }
    }

    fn submit(&mut self, ticket: u64, function: Bdf, at: Instant) {
        let holder = || self.locks.get(&function)?.front().copied();
        let cpu = self.callers.get(&ticket).copied().or_else(holder);
        let count = self.submissions.entry(function).or_default();
        if let Some(cpu) = cpu {
            self.callers.insert(ticket, cpu);
            if let Some(stretch) = self.open.get_mut(&cpu) {
                stretch.submitted.get_or_insert(at);
                stretch.nth_submission = *count;
            }
        }
        *count += 1;
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
