//! What is done when nothing comes: the unit's ITE, and the policy's deadline.

use std::time::Duration;

use super::Verdict;
use super::fields::{IteMarks, OnIte, OnTimeout};
use super::submitter::{Hardware, Submitter};
use super::waiter::{Job, Stage, Waiter};
use crate::event::Event;
use crate::ids::Bdf;
use crate::spec::fault::FaultStatus;
use crate::spec::offset;
use crate::spec::queue::QueueErrorRecord;
use crate::time::Instant;

/// How long a function may take after FLR before it must answer (`PCIe 6.6.2`).
const RESET_TIME: Duration = Duration::from_millis(100);

impl Submitter {
    /// ITE, as Linux takes it: clear it, mark what the unit has fetched as aborted, then do as the
    /// policy says, and submit what was aborted again.
    pub(super) fn handle_timeout_error(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        if self.waiters.is_empty() || self.policy.on_ite == OnIte::Ignore {
            // Nobody polls, nobody sees it: it stays until the next one who does.
            return;
        }
        let head = hw.read(offset::IQH);
        let record = QueueErrorRecord::from_bits(hw.read_qword(offset::IQERCD));
        let source = Bdf::from_bits(record.timeout_source());
        if self.policy.on_ite != OnIte::Clear {
            self.mark_aborted(head, now);
        }
        let cleared = FaultStatus::new().with_timeout_error(true);
        hw.write(offset::FSTS, cleared.into_bits(), now);
        // Old units name nobody.
        let is_named = source != Bdf::default();
        match self.policy.on_ite {
            OnIte::Check if is_named => {
                // The one that sees it first is the one that has polled longest.
                let polls = |waiter: &Waiter| {
                    matches!((&waiter.job, waiter.stage), (Job::Flush(_), Stage::Polling(_)))
                };
                let first = self.waiters.iter().position(polls);
                if !self.check_presence(source, hw, now)
                    && let Some(mut waiter) = first.and_then(|first| self.waiters.remove(first))
                {
                    self.withdraw(&mut waiter);
                    self.conclude(waiter, Verdict::UnitTimedOut, now);
                }
            }
            OnIte::Quarantine if is_named => self.quarantine_on_ite(source, hw, now),
            _ => {}
        }
        let mut waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters.iter_mut().filter(|waiter| waiter.aborted) {
            self.withdraw(waiter);
        }
        self.waiters = waiters;
    }

    /// The unit has dropped the waits that it had fetched.
    fn mark_aborted(&mut self, head: u32, now: Instant) {
        let marks = self.policy.ite_marks;
        let is_marked = |slot: u32| marks == IteMarks::All || slot % 2 == 1;
        let mut count = 0;
        for waiter in &mut self.waiters {
            waiter.aborted = matches!(waiter.stage, Stage::Polling(_))
                && is_marked(waiter.wait_slot)
                && self.ring.is_fetched(waiter.ticket, waiter.attempt, head);
            waiter.aborts += u32::from(waiter.aborted);
            count += u32::from(waiter.aborted);
        }
        self.counters.aborted += u64::from(count);
        // Abandoned ones are among them.
        self.status.forget_leaked();
        self.tracer.emit(now, || Event::HostWaitsAborted { count });
    }

    /// Deadlines that have passed, oldest first. While a fence is under way they do not count: the
    /// queue itself may stand still, and who stands behind it is not to blame.
    pub(super) fn settle_deadlines(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        self.finish_resets(hw, now);
        while !self.is_fencing()
            && let Some(at) = self.take_due(now)
            && let Some(mut waiter) = self.waiters.remove(at)
        {
            match self.policy.on_timeout {
                OnTimeout::Quarantine | OnTimeout::QuarantinePosted | OnTimeout::Remove
                    if waiter.stage == Stage::Queued =>
                {
                    // The ring is full: its function has not even been asked.
                    self.set_deadline(&mut waiter, now);
                    self.waiters.insert(at, waiter);
                }
                OnTimeout::Retry(_) if waiter.retries_left > 0 => {
                    self.withdraw(&mut waiter);
                    waiter.retries_left -= 1;
                    self.set_deadline(&mut waiter, now);
                    self.waiters.insert(at, waiter);
                }
                OnTimeout::Report | OnTimeout::Retry(_) => {
                    self.withdraw(&mut waiter);
                    self.conclude(waiter, Verdict::DeadlinePassed, now);
                }
                OnTimeout::Quarantine | OnTimeout::QuarantinePosted => {
                    // Nothing tells which function of a submission is to blame.
                    let functions: Vec<Bdf> = waiter.functions().collect();
                    self.set_deadline(&mut waiter, now);
                    self.waiters.insert(at, waiter);
                    for function in functions {
                        self.quarantine(function, hw, now);
                    }
                }
                OnTimeout::Remove => {
                    let functions: Vec<Bdf> = waiter.functions().collect();
                    self.set_deadline(&mut waiter, now);
                    self.waiters.insert(at, waiter);
                    for function in functions {
                        self.remove(function, now);
                    }
                }
                OnTimeout::Reset if !self.is_fetched(&waiter, hw) => {
                    // The ring is full, or the unit stands still in front of it. No reset of the function
                    // does what the unit was to do: drop its own translations.
                    self.set_deadline(&mut waiter, now);
                    self.waiters.insert(at, waiter);
                }
                OnTimeout::Reset => {
                    self.withdraw(&mut waiter);
                    for function in waiter.functions() {
                        hw.functions.reset(function, now);
                        self.tracer.emit(now, || Event::FunctionResetByHost { function });
                    }
                    self.start_reset(&mut waiter, now + RESET_TIME);
                    self.waiters.insert(at, waiter);
                }
            }
        }
    }

    /// Whether the unit has fetched all of what `waiter` waits for.
    fn is_fetched(&self, waiter: &Waiter, hw: &mut Hardware<'_>) -> bool {
        matches!(waiter.stage, Stage::Polling(_))
            && self.ring.is_fetched(waiter.ticket, waiter.attempt, hw.read(offset::IQH))
    }

    /// Functions that have had their time after a reset: those that answer have an empty ATC.
    fn finish_resets(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        while let Some(at) = self.take_reset(now)
            && let Some(mut waiter) = self.waiters.remove(at)
        {
            let functions: Vec<Bdf> = waiter.functions().collect();
            for function in functions {
                if self.check_presence(function, hw, now) {
                    waiter.waive(Verdict::Reset, |other| other == function);
                }
            }
            // Where there is an IOTLB part the unit has done it before it asked the function.
            let is_left = waiter.functions().next().is_some();
            let verdict = if is_left { Verdict::DeadlinePassed } else { Verdict::Reset };
            self.conclude(waiter, verdict, now);
        }
    }
}
