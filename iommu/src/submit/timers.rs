//! The times at which waiters have to be looked at.
//!
//! All timers of one kind run equally long, but for deadlines under a policy that has two of them. A
//! queue for each kind is thus in the order of time, however many callers wait. A timer is never cancelled: its entry becomes void when its waiter
//! leaves, or starts the timer again. Void entries are dropped at the front of their queue, or when
//! the queue grows too long.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::time::Duration;

use super::{Policy, Ticket};
use crate::event::LockupDetector;
use crate::time::{Instant, Timeout};

/// How long a function may take after FLR before it must answer (`PCIe 6.6.2`).
pub(super) const RESET_TIME: Duration = Duration::from_millis(100);
/// A queue may hold two entries for each waiter, and this many more.
const SLACK: usize = 64;

/// Why a waiter has to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// The policy's deadline passes.
    Deadline,
    /// A function must answer after a reset.
    Reset,
    /// The hard lock-up detector reports the CPU that waits.
    HardLockup,
    /// The soft lock-up detector reports the CPU that waits.
    SoftLockup,
}

impl Timer {
    pub(super) const ALL: [Self; 4] =
        [Self::Deadline, Self::Reset, Self::HardLockup, Self::SoftLockup];

    /// How long it runs under `policy`.
    fn duration(self, policy: &Policy) -> Timeout {
        match self {
            Self::Deadline => policy.deadline,
            Self::Reset => Timeout::After(RESET_TIME),
            // The loop resets the detectors.
            Self::HardLockup | Self::SoftLockup if policy.watchdog => Timeout::Never,
            Self::HardLockup => Timeout::After(LockupDetector::Hard.threshold()),
            Self::SoftLockup => Timeout::After(LockupDetector::Soft.threshold()),
        }
    }
}

/// A value for each [`Timer`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Table<T>([T; Timer::ALL.len()]);

impl<T> Index<Timer> for Table<T> {
    type Output = T;

    fn index(&self, timer: Timer) -> &T {
        &self.0[timer as usize]
    }
}

impl<T> IndexMut<Timer> for Table<T> {
    fn index_mut(&mut self, timer: Timer) -> &mut T {
        &mut self.0[timer as usize]
    }
}

/// The timers of one waiter: when each ends, `None` while it does not run.
pub(super) type DueTimes = Table<Option<Instant>>;

/// The timers of all waiters.
#[derive(Debug)]
pub(super) struct Timers {
    durations: Table<Timeout>,
    queues: Table<VecDeque<(Instant, Ticket)>>,
    /// There are deadlines of two lengths, whose queue has to be kept in order.
    has_two_deadlines: bool,
}

impl Timers {
    pub(super) fn new(policy: &Policy) -> Self {
        let durations = Table(Timer::ALL.map(|timer| timer.duration(policy)));
        let has_two_deadlines = policy.other_deadline.is_some();
        Self { durations, queues: Table::default(), has_two_deadlines }
    }

    /// Starts `timer` of the waiter `ticket` at `from`. Returns when it ends, `None` for never.
    /// Callers start timers of one kind in the order of time.
    #[inline]
    pub(super) fn start(&mut self, timer: Timer, ticket: Ticket, from: Instant) -> Option<Instant> {
        let at = self.durations[timer].expires(from)?;
        if self.has_two_deadlines && timer == Timer::Deadline {
            self.insert_deadline(at, ticket);
        } else {
            self.queues[timer].push_back((at, ticket));
        }
        Some(at)
    }

    /// Starts the deadline of the waiter `ticket` at `from`, which runs for `duration`, under a policy
    /// with two deadlines. Returns when it ends, `None` for never.
    pub(super) fn start_for(
        &mut self,
        duration: Timeout,
        ticket: Ticket,
        from: Instant,
    ) -> Option<Instant> {
        let at = duration.expires(from)?;
        self.insert_deadline(at, ticket);
        Some(at)
    }

    fn insert_deadline(&mut self, at: Instant, ticket: Ticket) {
        let queue = &mut self.queues[Timer::Deadline];
        queue.insert(queue.partition_point(|(earlier, _)| *earlier <= at), (at, ticket));
    }

    /// The earliest time in all queues, or in all but that of deadlines.
    pub(super) fn next_timeout(&self, with_deadlines: bool) -> Option<Instant> {
        let first = |timer: Timer| self.queues[timer].front().map(|(at, _)| *at);
        let deadline = if with_deadlines { first(Timer::Deadline) } else { None };
        let [reset, hard, soft] = [Timer::Reset, Timer::HardLockup, Timer::SoftLockup].map(first);
        Instant::earliest([deadline, reset, hard, soft])
    }

    /// Takes the first entry of `timer` whose time has come. The entry may be void.
    pub(super) fn take_due(&mut self, timer: Timer, now: Instant) -> Option<(Instant, Ticket)> {
        self.queues[timer].pop_front_if(|(at, _)| *at <= now)
    }

    /// Drops void entries: those at the front of a queue, and all in a queue that is too long for this
    /// many waiters.
    pub(super) fn drop_void(
        &mut self,
        waiters: usize,
        is_valid: impl Fn(Timer, Instant, Ticket) -> bool,
    ) {
        for timer in Timer::ALL {
            let queue = &mut self.queues[timer];
            let is_valid = |&(at, ticket): &(Instant, Ticket)| is_valid(timer, at, ticket);
            while queue.front().is_some_and(|front| !is_valid(front)) {
                queue.pop_front();
            }
            if queue.len() > 2 * waiters + SLACK {
                queue.retain(is_valid);
            }
        }
    }

    /// Entries in all queues, void ones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        Timer::ALL.into_iter().map(|timer| self.queues[timer].len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Deadlines of 100 ms that 1000 waiters have started, one each millisecond.
    fn started() -> Timers {
        let mut timers = Timers::new(&"bounded:100ms".parse().unwrap());
        for ticket in 0..1000 {
            let from = Instant::START + MS * ticket;
            let at = timers.start(Timer::Deadline, Ticket(ticket.into()), from);
            assert_eq!(at, Some(from + 100 * MS));
        }
        timers
    }

    #[test]
    fn every_timer_has_a_queue_of_its_own() {
        let mut timers = Timers::new(&"bounded:100ms".parse().unwrap());
        for timer in Timer::ALL {
            timers.start(timer, Ticket(0), Instant::START).unwrap();
            assert_eq!(timers.queues[timer].len(), 1, "{timer:?}");
        }
    }

    #[test]
    fn a_timer_that_never_ends_is_not_kept() {
        let mut timers = Timers::new(&"linux".parse().unwrap());
        assert_eq!(timers.start(Timer::Deadline, Ticket(0), Instant::START), None);
        let mut timers = Timers::new(&"bounded+watchdog".parse().unwrap());
        assert_eq!(timers.start(Timer::HardLockup, Ticket(0), Instant::START), None);
        assert_eq!(timers.next_timeout(true), None);
    }

    #[test]
    fn entries_are_taken_in_the_order_of_time_and_only_when_due() {
        let mut timers = started();
        let due = Instant::START + 105 * MS;
        for ticket in 0..=5 {
            let at = Instant::START + MS * (100 + ticket);
            assert_eq!(timers.next_timeout(true), Some(at));
            assert_eq!(timers.take_due(Timer::Deadline, due), Some((at, Ticket(ticket.into()))));
        }
        assert_eq!(timers.take_due(Timer::Deadline, due), None);
        assert_eq!(timers.next_timeout(false), None);
    }

    #[test]
    fn deadlines_of_two_lengths_are_taken_in_the_order_of_time() {
        let mut timers = Timers::new(&"xen-4.15".parse().unwrap());
        let mut ends = Vec::new();
        for ticket in 0..1200 {
            let from = Instant::START + MS * ticket;
            let ticket = Ticket(ticket.into());
            ends.extend(match ticket.0 % 3 {
                0 => timers.start(Timer::Deadline, ticket, from),
                _ => timers.start_for(Timeout::After(MS), ticket, from),
            });
        }
        ends.sort();
        let end = Instant::START + MS * 10_000;
        let taken = std::iter::from_fn(|| timers.take_due(Timer::Deadline, end));
        assert_eq!(taken.map(|(at, _)| at).collect::<Vec<_>>(), ends);
    }

    #[test]
    fn void_entries_are_dropped() {
        let mut timers = started();
        timers.drop_void(500, |_, _, ticket| ticket.0 != 0 && ticket.0 != 2);
        assert_eq!(timers.len(), 999, "only the front, while the queue is short enough");
        timers.drop_void(1, |_, _, ticket| ticket.0 == 1);
        assert_eq!(timers.len(), 1);
    }
}
