//! What is noted of a run: devices that are gone, quarantines, and how it all ends.

use iommu::ids::Bdf;
use iommu::submit::Conclusion;
use iommu::time::Instant;

use super::RunResult;
use super::cpu::State;
use super::firmware;
use super::machine::{Device, Machine};

impl Machine<'_> {
    /// A caller is told how its invalidation ended.
    pub(super) fn conclude(&mut self, conclusion: &Conclusion) {
        let Conclusion { ticket, flush, verdict, .. } = conclusion;
        let Some(cpu) = self.tickets.take(*ticket) else { return };
        let held = flush.device_tlbs().iter().any(|request| {
            let device = firmware::device_at(request.destination);
            self.hierarchy.caches(usize::from(device), request)
        });
        self.result.told.count(*verdict, held);
        self.cpu(cpu).state = State::Returning;
        self.wake(cpu, self.spec.costs.poll);
    }

    /// Looks at the device to which the fault has happened.
    pub(super) fn watch_victim(&mut self) {
        let Some(victim) = self.victim else { return };
        let now = self.now;
        let is_up = self.hierarchy.is_link_up(usize::from(victim));
        let device = &mut self.devices[usize::from(victim)];
        if !is_up && !device.unbound {
            device.gone.get_or_insert(now);
        } else if let Some(gone) = device.gone.take() {
            self.result.zombie.record(now - gone);
        }
        let function: Bdf = firmware::endpoint(victim);
        let is_blocked = self.host.is_blocked(function);
        let is_new = is_blocked && !std::mem::replace(&mut device.is_quarantined, is_blocked);
        if is_new {
            let helper = self.helper(victim);
            let callers =
                self.workers(victim).chain([helper]).map(|cpu| &self.cpus[usize::from(cpu)]);
            let since = callers.filter(|cpu| cpu.is_stuck()).map(|cpu| cpu.job.since).min();
            self.result.time_to_quarantine.record(now - since.unwrap_or(now));
        }
    }

    /// The horizon: who still waits, and how the victim fares.
    pub(super) fn finish(mut self) -> RunResult {
        let end = self.now;
        for cpu in 0..self.cpus.len() as u16 {
            if self.cpu(cpu).is_stuck() {
                let waited = end - self.cpu(cpu).job.since;
                self.result.never_returned += 1;
                self.result.waiting.record(waited);
                self.note_interrupts_off(cpu);
            }
        }
        for device in &mut self.devices {
            if let Some(gone) = device.gone.take() {
                self.result.zombie.record(end - gone);
            }
        }
        let victim = self.victim.map(|victim| &self.devices[usize::from(victim)]);
        let ended_well = |device: &Device| device.unbound || device.works;
        let is_stuck = self.result.never_returned > 0;
        self.result.recovered = u64::from(victim.is_some_and(ended_well) && !is_stuck);
        self.result.host = *self.host.counters();
        let checks = u32::try_from(self.result.host.presence_checks).unwrap_or(u32::MAX);
        self.result.presence_time = self.spec.costs.presence_check.saturating_mul(checks);
        self.result.virtual_time = end - Instant::START;
        self.result
    }
}
