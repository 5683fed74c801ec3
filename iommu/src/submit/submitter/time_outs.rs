//! The submitter without a completion: the unit's ITE, the policy's deadline, and the lock-up
//! detectors.

use super::Submitter;
use crate::event::{Event, LockupDetector};
use crate::ids::Bdf;
use crate::spec::fault::FaultStatus;
use crate::spec::offset;
use crate::spec::queue::QueueErrorRecord;
use crate::submit::fields::{IteMarks, OnIte, OnTimeout, Suspects};
use crate::submit::hardware::Hardware;
use crate::submit::port_fences::PortFence;
use crate::submit::timers::Timer;
use crate::submit::waiter::{Stage, Waiter};
use crate::submit::{Ticket, Verdict};
use crate::time::Instant;

impl Submitter {
    /// Handles ITE in the order of Linux: marks fetched waits as aborted, clears ITE, applies the
    /// policy, and submits the aborted jobs again.
    pub(super) fn handle_timeout_error(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        if self.waiters.is_empty() || self.policy.on_ite == OnIte::Ignore {
            // ITE stays set until the next waiter polls: only a polling waiter reads FSTS.
            return;
        }
        let head = hw.read(offset::IQH);
        let record = QueueErrorRecord::from_bits(hw.read_qword(offset::IQERCD));
        let source = Bdf::from_bits(record.timeout_source());
        if self.policy.on_ite != OnIte::Clear {
            self.mark_aborted(head, (source != Bdf::default()).then_some(source), now);
        }
        let cleared = FaultStatus::new().with_timeout_error(true);
        hw.write(offset::FSTS, cleared.into_bits(), now);
        if self.policy.ite_marks == IteMarks::OddWalk && self.walks_without_end(hw, now) {
            return;
        }
        // Old units leave ITESID 0.
        let is_named = source != Bdf::default();
        match self.policy.on_ite {
            OnIte::Check if is_named => self.check_ite_source(source, hw, now),
            OnIte::Quarantine if is_named => self.quarantine_on_ite(source, hw, now),
            OnIte::Report => self.report_ite(is_named.then_some(source), now),
            OnIte::DisableAts if is_named => self.break_ats(source, hw, now),
            _ => {}
        }
        let repeats_wait = matches!(self.policy.on_ite, OnIte::RepeatWait | OnIte::DisableAts);
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.is_aborted) {
            self.queue.withdraw(waiter);
            waiter.repeats_wait = repeats_wait;
        }
        if is_named {
            self.withhold_on_ite(source, now);
        }
    }

    /// If the function `source` is gone, the waiter that sees ITE gives up. That is the waiter that has
    /// polled longest, even if its own invalidation was for another function.
    fn check_ite_source(&mut self, source: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        let polls = |waiter: &Waiter| waiter.is_caller() && waiter.is_polling();
        if !self.check_presence(source, hw, now)
            && let Some(first) = self.waiters.first(polls)
        {
            let mut waiter = first.remove();
            self.queue.withdraw(&mut waiter);
            self.conclude(waiter, Verdict::UnitTimedOut, now);
        }
    }

    /// The caller that waits for `source` learns of ITE. The unit times requests out in the order in
    /// which it has sent them, so that it is the oldest of several, and the oldest of all if no
    /// function is named.
    fn report_ite(&mut self, source: Option<Bdf>, now: Instant) {
        let waits = |waiter: &Waiter| {
            waiter.is_caller()
                && waiter.is_aborted
                && source.is_none_or(|source| waiter.functions().any(|function| function == source))
        };
        if let Some(first) = self.waiters.first(waits) {
            let mut waiter = first.remove();
            self.queue.withdraw(&mut waiter);
            self.conclude(waiter, Verdict::UnitTimedOut, now);
        }
    }

    /// The unit has set ITE with `function` as ITESID: puts the function in quarantine.
    fn quarantine_on_ite(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        let on_timeout = self.policy.on_timeout;
        match on_timeout {
            OnTimeout::Port(fence) if self.ports.is_new_ite(function) => {
                self.fence_port(function, fence, hw, now);
            }
            OnTimeout::Port(_) => {}
            _ if self.quarantine.is_new_ite(function) => {
                self.begin_quarantine(function, hw, now);
            }
            _ => {}
        }
    }

    /// The loop of [`IteMarks::OddWalk`] visits odd slots and ends at the slot before IQT. Returns
    /// whether that is an even one.
    fn walks_without_end(&mut self, hw: &Hardware<'_>, now: Instant) -> bool {
        let tail = self.queue.slot_at(hw.read(offset::IQT));
        self.is_walking = tail % 2 == 1;
        if self.is_walking {
            self.tracer.emit(now, || Event::HostWalkHasNoEnd { tail });
        }
        self.is_walking
    }

    /// The unit has dropped the waits that it had fetched.
    fn mark_aborted(&mut self, head: u32, source: Option<Bdf>, now: Instant) {
        let marks = self.policy.ite_marks;
        let is_marked = |slot: u32| marks == IteMarks::All || slot % 2 == 1;
        // Where the walk begins at an odd IQH, it marks that slot too.
        let unfetched = (marks == IteMarks::OddWalk).then(|| self.queue.slot_at(head));
        let mut count = 0;
        for waiter in self.waiters.iter_mut() {
            let is_seen = self.queue.is_fetched(waiter, head)
                || waiter.is_polling() && unfetched == Some(waiter.wait_slot);
            waiter.is_aborted = is_marked(waiter.wait_slot) && is_seen;
            waiter.aborts += u32::from(waiter.is_aborted);
            count += u32::from(waiter.is_aborted);
        }
        self.counters.aborted += u64::from(count);
        self.queue.forget_abandoned(source);
        self.tracer.emit(now, || Event::HostWaitsAborted { count });
    }

    /// Handles deadlines that have passed, oldest first. Deadlines do not count while callers wait for
    /// a fence: the queue may have stopped, through no fault of the functions behind it.
    pub(super) fn handle_deadlines(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        while !self.quarantine.is_any_fencing()
            && let Some(ticket) = self.take_due(Timer::Deadline, now)
        {
            self.handle_deadline(ticket, hw, now);
        }
    }

    fn handle_deadline(&mut self, ticket: Ticket, hw: &mut Hardware<'_>, now: Instant) {
        let on_timeout = self.action_against(ticket);
        let Some(mut waiter) = self.waiters.entry(ticket) else { return };
        match on_timeout {
            OnTimeout::Retry(_) if waiter.retries_left > 0 => {
                self.queue.withdraw(&mut waiter);
                waiter.retries_left -= 1;
                waiter.repeats_wait = false;
                waiter.start(Timer::Deadline, &mut self.timers, now);
            }
            OnTimeout::Report | OnTimeout::Retry(_) => {
                self.withhold_functions(ticket, now);
                let Some(waiter) = self.waiters.entry(ticket) else { return };
                let mut waiter = waiter.remove();
                self.queue.withdraw(&mut waiter);
                self.conclude(waiter, Verdict::DeadlinePassed, now);
            }
            OnTimeout::Quarantine
            | OnTimeout::QuarantinePosted
            | OnTimeout::Remove
            | OnTimeout::Recover
            | OnTimeout::Port(_)
                if waiter.functions().next().is_none() =>
            {
                // Only the unit's own caches are left, and the unit does not confirm them in time.
                let mut waiter = waiter.remove();
                self.queue.withdraw(&mut waiter);
                self.conclude(waiter, Verdict::DeadlinePassed, now);
            }
            OnTimeout::Port(fence) => {
                waiter.start(Timer::Deadline, &mut self.timers, now);
                if waiter.stage != Stage::Queued {
                    self.fence_ports(ticket, fence, hw, now);
                }
            }
            OnTimeout::Quarantine
            | OnTimeout::QuarantinePosted
            | OnTimeout::Remove
            | OnTimeout::Recover => {
                waiter.start(Timer::Deadline, &mut self.timers, now);
                if waiter.stage != Stage::Queued {
                    self.isolate_functions(ticket, hw, now);
                }
            }
            OnTimeout::Reset => self.reset_functions(ticket, hw, now),
            OnTimeout::DisableAts | OnTimeout::Crash => {
                let waiter = waiter.remove();
                self.disable_ats(waiter, hw, now);
            }
        }
    }

    /// Turns ATS off in the functions of a submission, and ends its wait. Other callers wait for their
    /// own submissions.
    fn disable_ats(&mut self, mut waiter: Waiter, hw: &mut Hardware<'_>, now: Instant) {
        for function in waiter.submitted_functions() {
            self.break_ats(function, hw, now);
        }
        let verdict = match self.policy.on_timeout {
            OnTimeout::Crash => Verdict::Crashed,
            _ if waiter.submits_device_tlb() => Verdict::AtsDisabled,
            _ => Verdict::DeadlinePassed,
        };
        self.queue.withdraw(&mut waiter);
        self.conclude(waiter, verdict, now);
    }

    fn break_ats(&mut self, function: Bdf, hw: &mut Hardware<'_>, now: Instant) {
        if self.quarantine.break_ats(function) {
            hw.functions.disable_ats(function, now);
            self.tracer.emit(now, || Event::AtsDisabledByHost { function });
        }
    }

    /// The action when the deadline of `ticket` has passed. There is none against functions that are
    /// not to blame.
    fn action_against(&self, ticket: Ticket) -> OnTimeout {
        let stands_behind =
            |waiter: &Waiter| waiter.is_polling() && !self.queue.pressure.blames(waiter);
        let resets = matches!(self.policy.on_timeout, OnTimeout::Reset | OnTimeout::Recover);
        if resets && self.waiters.get(ticket).is_some_and(Waiter::is_before_reset) {
            // Its caller resets the function.
            return OnTimeout::Report;
        }
        match self.policy.suspects {
            Suspects::Oldest if self.waiters.get(ticket).is_some_and(stands_behind) => {
                OnTimeout::Report
            }
            _ => self.policy.on_timeout,
        }
    }

    /// Isolates all functions of a submission: the driver cannot know which of them does not answer.
    fn isolate_functions(&mut self, ticket: Ticket, hw: &mut Hardware<'_>, now: Instant) {
        let Some(waiter) = self.waiters.get(ticket) else { return };
        // The waiter may end meanwhile.
        let functions: Vec<Bdf> = waiter.functions().collect();
        for function in functions {
            match self.policy.on_timeout {
                OnTimeout::Remove => self.remove(function, now),
                OnTimeout::Recover => self.begin_recovery(function, now),
                _ => self.begin_quarantine(function, hw, now),
            }
        }
    }

    /// Fences all functions of a submission. Where no port has the fence, the wait ends with a failure.
    fn fence_ports(
        &mut self,
        ticket: Ticket,
        fence: PortFence,
        hw: &mut Hardware<'_>,
        now: Instant,
    ) {
        let Some(waiter) = self.waiters.get(ticket) else { return };
        let functions: Vec<Bdf> = waiter.functions().collect();
        let mut all = true;
        for function in functions {
            all &= self.fence_port(function, fence, hw, now);
        }
        if !all && let Some(entry) = self.waiters.entry(ticket) {
            let mut waiter = entry.remove();
            self.queue.withdraw(&mut waiter);
            self.conclude(waiter, Verdict::DeadlinePassed, now);
        }
    }

    /// Resets all functions of a submission that the unit has fetched.
    fn reset_functions(&mut self, ticket: Ticket, hw: &mut Hardware<'_>, now: Instant) {
        let head = hw.read(offset::IQH);
        let Some(mut waiter) = self.waiters.entry(ticket) else { return };
        if waiter.stage == Stage::Resetting {
            // The unit has not confirmed in time that it blocks the functions.
            return self.reset_now(ticket, hw, now);
        }
        if !self.queue.is_fetched(&waiter, head) {
            // The ring is full, or the unit has stopped in front of it. A reset of the function would
            // not drop the unit's own translations.
            waiter.start(Timer::Deadline, &mut self.timers, now);
            return;
        }
        self.queue.withdraw(&mut waiter);
        waiter.stage = Stage::Resetting;
        waiter.due[Timer::Deadline] = None;
        match self.policy.reset_prepare {
            true => self.block_then_reset(ticket, hw, now),
            false => self.reset_now(ticket, hw, now),
        }
    }

    /// Resets the functions of a waiter in [`Stage::Resetting`].
    pub(super) fn reset_now(&mut self, ticket: Ticket, hw: &mut Hardware<'_>, now: Instant) {
        let Some(mut waiter) = self.waiters.entry(ticket) else { return };
        waiter.due[Timer::Deadline] = None;
        for function in waiter.functions() {
            self.queue.pressure.pause(function);
            hw.functions.reset(function, now);
            self.tracer.emit(now, || Event::FunctionResetByHost { function });
        }
        waiter.start(Timer::Reset, &mut self.timers, now);
    }

    /// Functions must answer a while after their reset. Those that do have an empty ATC.
    pub(super) fn finish_resets(&mut self, hw: &mut Hardware<'_>, now: Instant) {
        while let Some(ticket) = self.take_due(Timer::Reset, now)
            && let Some(entry) = self.waiters.entry(ticket)
        {
            let mut waiter = entry.remove();
            for index in waiter.remaining() {
                let function = waiter.function_at(index);
                if self.check_presence(function, hw, now) {
                    self.queue.pressure.reset(function);
                    waiter.waive(Verdict::Reset, |other| other == function);
                } else {
                    self.withhold(function, now);
                }
                self.end_own_block(function, hw, now);
            }
            // The unit has invalidated the IOTLB before it sent requests to the functions.
            let is_left = waiter.functions().next().is_some();
            let verdict = if is_left { Verdict::DeadlinePassed } else { Verdict::Reset };
            self.conclude(waiter, verdict, now);
        }
    }

    /// Reports the CPUs that have spun for as long as a lock-up detector tolerates.
    // Inlined although a second caller exists: each poll calls it.
    #[inline(always)]
    pub(super) fn report_lockups(&mut self, now: Instant) {
        while let Some(ticket) = self.take_due(Timer::HardLockup, now)
            && let Some(mut waiter) = self.waiters.entry(ticket)
        {
            waiter.due[Timer::HardLockup] = None;
            let attempted = waiter.attempted;
            waiter.start(Timer::SoftLockup, &mut self.timers, attempted);
            let detector = LockupDetector::Hard;
            self.tracer.emit(now, || Event::HostLockup { ticket, detector });
        }
        while let Some(ticket) = self.take_due(Timer::SoftLockup, now)
            && let Some(mut waiter) = self.waiters.entry(ticket)
        {
            waiter.due[Timer::SoftLockup] = None;
            let detector = LockupDetector::Soft;
            self.tracer.emit(now, || Event::HostLockup { ticket, detector });
        }
    }

    /// Takes the next waiter whose `timer` has ended.
    fn take_due(&mut self, timer: Timer, now: Instant) -> Option<Ticket> {
        loop {
            let (at, ticket) = self.timers.take_due(timer, now)?;
            if self.waiters.get(ticket).is_some_and(|waiter| waiter.due[timer] == Some(at)) {
                return Some(ticket);
            }
        }
    }
}
