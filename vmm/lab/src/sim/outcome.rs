//! Notes on a run: devices that are gone, quarantines, and the end of the run.

use iommu::submit::{Conclusion, Verdict};
use iommu::time::Instant;

use super::RunResult;
use super::cpu::State;
use super::gone::Learner;
use super::machine::{Device, Machine};

impl Machine<'_> {
    /// A caller is told how its invalidation ended.
    pub(super) fn conclude(&mut self, conclusion: &Conclusion) {
        let Conclusion { ticket, flush, verdict, .. } = conclusion;
        let Some(cpu) = self.tickets.take(*ticket) else { return };
        let held = flush.device_tlbs().iter().any(|request| {
            let device = self.slots.device(request.destination);
            device.is_some_and(|device| {
                self.downstream.hierarchy.caches(usize::from(device), request)
            })
        });
        self.result.told.count(*verdict, held);
        if !matches!(verdict, Verdict::Completed | Verdict::Blocked) {
            let device = self.cpu(cpu).device;
            self.learn(device, Learner::Remapping);
        }
        self.cpu(cpu).state = State::Returning;
        let job = &mut self.cpu(cpu).job;
        (job.told_success, job.held_by_atc) = (verdict.is_success(), held);
        if *verdict == Verdict::Crashed {
            let device = self.cpu(cpu).device;
            let state = &mut self.devices[usize::from(device)];
            (state.has_crashed, state.has_failed_io) = (true, true);
        }
        self.wake(cpu, self.spec.costs.poll);
    }

    /// Looks at the slots to which faults have happened, if something has changed.
    pub(super) fn watch_victims(&mut self) {
        for nth in 0..self.watched.len() {
            let Some(slot) = self.victims().nth(nth) else { return };
            let seen = (
                self.downstream.hierarchy.is_link_up(usize::from(slot)),
                self.downstream.host.block_changes(),
            );
            if std::mem::replace(&mut self.watched[nth], seen) == seen {
                continue;
            }
            for device in self.slots.devices_in(slot) {
                self.watch_device(device, seen.0);
            }
        }
    }

    fn watch_device(&mut self, device: u16, is_up: bool) {
        let (now, function) = (self.now, self.slots.function(device));
        self.note_link(device, is_up);
        let state = &mut self.devices[usize::from(device)];
        if !is_up && !state.unbound {
            state.gone.get_or_insert(now);
        } else if let Some(gone) = state.gone.take() {
            self.result.zombie.record(now - gone);
        }
        let host = &self.downstream.host;
        let is_blocked = host.is_quarantined(function) || host.is_below_fence(function);
        let is_new = is_blocked && !std::mem::replace(&mut state.is_quarantined, is_blocked);
        if is_new {
            let helper = self.helper(device);
            let callers =
                self.workers(device).chain([helper]).map(|cpu| &self.cpus[usize::from(cpu)]);
            let since = callers.filter(|cpu| cpu.is_stuck()).map(|cpu| cpu.job.since).min();
            self.result.time_to_quarantine.record(now - since.unwrap_or(now));
        }
    }

    /// The horizon: CPUs that still wait, and the state of the victim.
    pub(super) fn finish(&mut self) {
        let end = self.now;
        for cpu in 0..self.cpus.len() as u16 {
            if self.cpu(cpu).is_stuck() {
                let waited = end - self.cpu(cpu).job.since;
                self.result.never_returned += 1;
                self.result.waiting.record(waited);
                if self.cpu(cpu).state != State::Outside {
                    self.note_interrupts_off(cpu, false);
                }
            }
        }
        self.end_exposure();
        self.result.healthy = self.harm_to_healthy();
        let healthy = (0..).zip(&self.devices).filter(|(index, _)| !self.is_victim(*index));
        self.result.stale_innocent = healthy.map(|(_, device)| device.stale_accesses).sum();
        for device in &mut self.devices {
            if let Some(gone) = device.gone.take() {
                self.result.zombie.record(end - gone);
            }
        }
        let ended_well = |device: &Device| device.unbound || device.works && !device.has_crashed;
        let has_faulted = self.downstream.happened().next().is_some();
        self.result.faulted = u64::from(has_faulted);
        // Without a victim it is the unit that is gone.
        let has_victim = self.victims().next().is_some();
        let mut devices = (0..).zip(&self.devices);
        let have_ended_well = has_faulted
            && devices
                .all(|(index, device)| ended_well(device) || has_victim && !self.is_victim(index));
        let is_stuck = self.result.never_returned > 0;
        self.result.recovered = u64::from(have_ended_well && !is_stuck);
        self.result.host = *self.downstream.host.counters();
        let checks = u32::try_from(self.result.host.presence_checks).unwrap_or(u32::MAX);
        self.result.presence_time = self.spec.costs.presence_check.saturating_mul(checks);
        self.result.virtual_time = end - Instant::START;
    }

    /// Lets the waits at the horizon go on, while no I/O begins, and counts those that do not end.
    /// What is measured meanwhile is no part of the result.
    pub(super) fn count_lost(&mut self) {
        if self.result.never_returned == 0 {
            return;
        }
        let result = std::mem::take(&mut self.result);
        let limit = self.now + self.spec.patience();
        let workers = (0_u16..).zip(&self.cpus).filter(|(_, cpu)| cpu.is_stuck());
        let mut waiters: Vec<(u16, Instant)> =
            workers.map(|(index, cpu)| (index, cpu.job.since)).collect();
        let mut ended = 0;
        while let Some(next) = self.next_time().filter(|next| *next <= limit) {
            self.advance(next);
            let Self { result: RunResult { stuck, innocent, irq_moves, .. }, .. } = &self;
            let returned = stuck.count() + innocent.count() + irq_moves.count();
            if std::mem::replace(&mut ended, returned) == returned {
                continue;
            }
            waiters.retain(|(index, since)| {
                let cpu = &self.cpus[usize::from(*index)];
                cpu.is_stuck() && cpu.job.since == *since
            });
            if waiters.is_empty() {
                break;
            }
        }
        self.result = RunResult { lost: waiters.len() as u64, ..result };
    }
}
