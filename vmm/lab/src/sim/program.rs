//! The program of the CPUs: I/O, and giving pages back.
//!
//! ```text
//!   Idle --map--> Io --done, or given up--> unmap --enough held--> lock, look, submit, wait
//!    ^                                        |                                         |
//!    +------------------- pause --------------+-----------------------------------------+
//! ```

use std::time::Duration;

use devices::fault::Point;
use devices::stale::Concluded;
use iommu::ats::{ITag, InvalidateRequest, PageRange};
use iommu::event::{Event, LockupDetector};
use iommu::ids::Pasid;
use iommu::spec::descriptor::IotlbScope;
use iommu::submit::{Flush, FlushPath};

use super::Kind;
use super::cpu::{Purpose, State};
use super::gone::Learner;
use super::machine::{Machine, Task, covering};
use super::memory::Tables;
use super::oracle::{Mapping, MappingId};

impl Machine<'_> {
    /// A CPU goes on.
    pub(super) fn go_on(&mut self, cpu: u16) {
        if cpu == self.mover {
            return self.go_on_moving();
        }
        match self.cpu(cpu).state {
            State::Idle => self.begin_io(cpu),
            State::Io(mapping) => self.end_io(cpu, mapping),
            State::Resetting => self.end_reset(cpu),
            State::Outside => self.go_inside(cpu),
            State::Locking => self.look(cpu),
            State::Submitting { present } => self.submit(cpu, present),
            State::Waiting | State::Retired => {}
            State::Returning => self.go_on_after(cpu),
        }
    }

    /// Maps a page and gives it to the device.
    fn begin_io(&mut self, cpu: u16) {
        let device = self.cpu(cpu).device;
        let state = &self.devices[usize::from(device)];
        if state.unbinding || state.has_crashed || self.now >= self.quiet {
            self.cpu(cpu).state = State::Retired;
            return;
        }
        if self.waits_for_reset(cpu) {
            return;
        }
        self.cpu(cpu).begun += 1;
        self.note_attempt(device, |gone| &mut gone.maps);
        let pace = self.pace(cpu);
        let space = self.space(cpu);
        let (_, memory) = self.downstream.host.dma_path();
        let Some(iova) = self.tables.allocate(device, space, memory) else {
            // Everything waits for an invalidation.
            return self.wake(cpu, pace);
        };
        let mapping = self.oracle.map(device, space, iova);
        let (_, memory) = self.downstream.host.dma_path();
        self.tables.map(device, space, iova, self.oracle.stamp(mapping), memory);
        self.cpu(cpu).state = State::Io(mapping);
        self.give(mapping, cpu, pace);
        self.wake(cpu, self.spec.costs.io_timeout);
    }

    /// The I/O is done, or the driver gives it up: the page is taken back, at once or with others.
    fn end_io(&mut self, cpu: u16, mapping: MappingId) {
        let device = self.cpu(cpu).device;
        let is_done = std::mem::take(&mut self.cpu(cpu).done);
        let state = &self.devices[usize::from(device)];
        let is_aborted = state.unbinding || state.is_resetting;
        if !is_done && !is_aborted {
            let state = &mut self.devices[usize::from(device)];
            (state.works, state.has_failed_io) = (false, true);
            self.learn(device, Learner::Driver);
            self.cpu(cpu).timed_out = true;
            let function = self.slots.function(device);
            self.tracer.emit(self.now, || Event::IoTimedOut { cpu, function });
        }
        self.cpu(cpu).held.push(mapping);
        let is_enough = self.cpu(cpu).held.len() >= self.spec.workload.held() as usize;
        if !is_enough && !is_aborted && is_done {
            self.cpu(cpu).state = State::Idle;
            let pause = self.rest(cpu);
            return self.pause(cpu, pause);
        }
        if self.spec.workload.kind == Kind::Detach && !is_aborted {
            self.devices[usize::from(device)].planned_resets += 1;
            return self.begin_reset(cpu);
        }
        self.detach(cpu);
    }

    /// Takes all pages that a CPU holds out of the tables, and wants them back.
    pub(super) fn detach(&mut self, cpu: u16) {
        let device = self.cpu(cpu).device;
        let pages = std::mem::take(&mut self.cpu(cpu).held);
        self.unmap(device, &pages);
        if self.spec.workload.kind == Kind::Lazy && !self.devices[usize::from(device)].unbinding {
            return self.put_off(cpu, pages);
        }
        let is_whole = matches!(self.spec.workload.kind, Kind::Teardown | Kind::Detach);
        let range = |id: &MappingId| PageRange::page(self.oracle.get(*id).iova);
        let range = (!is_whole).then(|| covering(pages.iter().map(range)));
        self.want(cpu, Purpose::Reuse, range, pages);
    }

    /// Takes pages of a device out of the tables.
    pub(super) fn unmap(&mut self, device: u16, pages: &[MappingId]) {
        let (_, memory) = self.downstream.host.dma_path();
        for page in pages {
            let Mapping { space, iova, .. } = *self.oracle.get(*page);
            self.tables.unmap(device, space, iova, memory);
        }
    }

    /// Leaves the invalidation to the flush timer, or does it now if too much has been put off.
    fn put_off(&mut self, cpu: u16, pages: Vec<MappingId>) {
        let device = self.cpu(cpu).device;
        let state = &mut self.devices[usize::from(device)];
        if state.deferred.is_empty() {
            self.scheduler.after(self.spec.workload.flush_after, self.now, Task::Flush(device));
        }
        for page in &pages {
            self.oracle.defer(*page, self.now);
        }
        state.deferred.extend(pages);
        if state.deferred.len() >= self.spec.workload.flush_limit as usize {
            let pages = std::mem::take(&mut state.deferred);
            return self.want(cpu, Purpose::Reuse, None, pages);
        }
        self.recover_or_rest(cpu);
    }

    /// The flush timer: a helper invalidates what was put off.
    pub(super) fn flush(&mut self, device: u16) {
        let helper = self.helper(device);
        if self.cpu(helper).is_active() {
            // The timer's last handler still runs, and will see to these too.
            return;
        }
        let pages = std::mem::take(&mut self.devices[usize::from(device)].deferred);
        if !pages.is_empty() {
            self.want(helper, Purpose::Deferred, None, pages);
        }
    }

    /// A CPU wants a range invalidated, or all of its device's domain. Interrupts are off from now on,
    /// unless the policy lets it wait until fewer of the device's invalidations are in the ring.
    pub(super) fn want(
        &mut self,
        cpu: u16,
        purpose: Purpose,
        range: Option<PageRange>,
        pages: Vec<MappingId>,
    ) {
        let now = self.now;
        let state = self.cpu(cpu);
        (state.job.purpose, state.job.range, state.job.pages) = (purpose, range, pages);
        (state.job.since, state.job.locked) = (now, None);
        state.state = State::Outside;
        state.generation = state.generation.wrapping_add(1);
        let device = state.device;
        self.note_wanted(device, purpose);
        let function = self.slots.function(device);
        self.tracer.emit(now, || Event::CpuBlocked { cpu, function });
        let limit = self.spec.policy.in_flight;
        let gate = &mut self.devices[usize::from(device)].gate;
        if limit.is_none_or(|limit| gate.enter(cpu, limit.get())) {
            self.go_inside(cpu);
        }
    }

    /// Interrupts are off from now on: the CPU takes the domain's lock.
    fn go_inside(&mut self, cpu: u16) {
        let now = self.now;
        let state = self.cpu(cpu);
        (state.job.off, state.state) = (now, State::Locking);
        let device = state.device;
        let lock = self.lock_of(device);
        if lock.is_none_or(|lock| self.devices[lock].lock.acquire(cpu)) {
            self.look(cpu);
        }
    }

    /// The path in the kernel on which a CPU invalidates.
    fn flush_path(&self, cpu: u16) -> FlushPath {
        match self.cpus[usize::from(cpu)].job.purpose {
            Purpose::Unbind => FlushPath::Teardown,
            Purpose::Prepare => FlushPath::Reset,
            Purpose::Reuse | Purpose::Deferred => self.spec.workload.kind.unmap_path(),
        }
    }

    /// It holds the lock: looks whether the device is there, if the policy says so, and writes.
    fn look(&mut self, cpu: u16) {
        let (costs, now) = (self.spec.costs, self.now);
        self.cpu(cpu).job.locked = Some(now);
        let device = self.cpu(cpu).device;
        let function = self.slots.function(device);
        let mut time = costs.descriptor * 3 + costs.doorbell;
        let path = self.flush_path(cpu);
        let looks_first = self.looks_first(path);
        if looks_first {
            time += costs.presence_check;
            self.note_attempt(device, |gone| &mut gone.checks);
        }
        // Where the IOTLB has a wait of its own, the device is looked at after that.
        let looks_now = looks_first && !self.spec.policy.splits(path);
        let present = looks_now.then(|| self.downstream.hierarchy.is_present(function, now));
        self.cpu(cpu).state = State::Submitting { present };
        self.wake(cpu, time);
    }

    fn submit(&mut self, cpu: u16, present: Option<bool>) {
        self.downstream.reach(Point::Tail, self.now);
        self.cpu(cpu).state = State::Waiting;
        let pasid = self.space(cpu);
        let state = &self.cpus[usize::from(cpu)];
        let request = InvalidateRequest {
            destination: self.slots.function(state.device),
            itag: ITag::new(0),
            pasid,
            // A helper flushes for all address spaces of the device.
            global: pasid.is_none() && self.spec.workload.kind == Kind::Sva,
            range: state.job.range.unwrap_or(PageRange::ALL),
        };
        let domain = Tables::domain(state.device);
        let scope = match (state.job.range, pasid) {
            (None, _) => IotlbScope::Domain(domain),
            (Some(range), Some(pasid)) => IotlbScope::Pasid(domain, pasid, Some(range)),
            (Some(range), None) => IotlbScope::Pages(domain, range),
        };
        let iotlb = match self.spec.workload.kind {
            // The guest's unit has done this before it sends an Invalidate Request.
            Kind::Forwarded => {
                self.downstream.host.dma_path().0.drop_translations(scope);
                None
            }
            _ => Some(scope),
        };
        let path = self.flush_path(cpu);
        let flush = match state.job.purpose {
            Purpose::Prepare => Some(Flush::before_reset(request)),
            _ => Flush::new(iotlb, &[request]).map(|flush| flush.on(path)),
        };
        let Some(flush) = flush else { return };
        #[cfg(test)]
        self.check.ask(cpu, scope, &request);
        self.downstream.drivers.sample = present;
        let ticket = self.downstream.submit(flush, self.now);
        self.downstream.drivers.sample = None;
        self.tickets.insert(ticket, cpu);
        if self.cpu(cpu).job.purpose == Purpose::Prepare {
            // Linux takes the lock only to take the device's tags off the domain.
            let device = self.cpu(cpu).device;
            self.release_lock(device);
        }
    }

    /// The next CPU gets the lock under which a device's domain is invalidated.
    fn release_lock(&mut self, device: u16) {
        let lock = self.lock_of(device);
        if let Some(next) = lock.and_then(|lock| self.devices[lock].lock.release()) {
            self.wake(next, self.spec.costs.lock);
        }
    }

    /// The wait is over: the pages are given back whatever the caller was told, as Linux does it.
    fn go_on_after(&mut self, cpu: u16) {
        let now = self.now;
        let state = &mut self.cpus[usize::from(cpu)];
        let (device, waited, purpose) = (state.device, now - state.job.since, state.job.purpose);
        let pages = std::mem::take(&mut state.job.pages);
        let end = Concluded { at: now, success: state.job.told_success };
        #[cfg(test)]
        self.check.conclude(cpu, end);
        let touched = pages.first().copied();
        let is_held = std::mem::take(&mut self.cpu(cpu).job.held_by_atc);
        for page in pages {
            self.oracle.release(page, end);
            if is_held {
                self.expose(page);
            }
            let Mapping { space, iova, .. } = *self.oracle.get(page);
            self.tables.free(device, space, iova);
        }
        if self.spec.workload.kind.is_built_in_guest() {
            self.touch_after_flush(device, touched);
        }
        if purpose != Purpose::Prepare {
            self.release_lock(device);
        }
        if self.spec.policy.in_flight.is_some()
            && let Some(next) = self.devices[usize::from(device)].gate.leave()
        {
            self.wake(next, self.spec.costs.lock);
        }
        let latencies = match self.is_victim(device) {
            true => &mut self.result.stuck,
            false => &mut self.result.innocent,
        };
        latencies.record(waited);
        self.note_hang(device, waited);
        self.note_interrupts_off(cpu, true);
        let function = self.slots.function(device);
        self.tracer.emit(now, || Event::CpuReleased { cpu, function, waited });
        match purpose {
            Purpose::Reuse => self.recover_or_rest(cpu),
            Purpose::Prepare => {
                self.result.reset_waits.record(waited);
                return self.reset(cpu);
            }
            Purpose::Deferred | Purpose::Unbind => self.cpu(cpu).state = State::Retired,
        }
        if purpose == Purpose::Unbind {
            self.unbound(device);
        } else if self.devices[usize::from(device)].unbinding {
            self.unbind_if_quiet(device);
        } else if purpose == Purpose::Deferred {
            self.flush(device);
        }
    }

    /// A CPU has given its pages back: if the device does not do its work, its driver resets it.
    fn recover_or_rest(&mut self, cpu: u16) {
        self.cpu(cpu).state = State::Idle;
        let device = self.cpu(cpu).device;
        let mut pause = self.rest(cpu);
        let resets = !self.spec.workload.kind.is_built_in_guest();
        if std::mem::take(&mut self.cpu(cpu).timed_out)
            && resets
            && !self.devices[usize::from(device)].works
        {
            if self.spec.policy.reset_prepare {
                return self.begin_reset(cpu);
            }
            pause += self.reset_device(device);
        } else if self.is_reset_due(cpu) {
            self.devices[usize::from(device)].planned_resets += 1;
            return self.begin_reset(cpu);
        }
        self.pause(cpu, pause);
    }

    /// A stretch of time with interrupts off is over on a CPU, or at the horizon.
    pub(super) fn note_interrupts_off(&mut self, cpu: u16, has_ended: bool) {
        let (now, job) = (self.now, &self.cpus[usize::from(cpu)].job);
        let whole = now - job.off;
        // The submit-and-wait loop resets the watchdog; a CPU that spins on a lock does not.
        let unpetted = match job.locked.filter(|_| self.spec.policy.watchdog) {
            Some(locked) => locked - job.off,
            None => whole,
        };
        self.result.interrupts_off.record(whole);
        let state = &mut self.cpus[usize::from(cpu)];
        state.interrupts_off += whole;
        let total = &mut self.result.interrupts_off_one_cpu;
        *total = state.interrupts_off.max(*total);
        self.result.hard_lockups += u64::from(unpetted >= LockupDetector::Hard.threshold());
        // The soft detector reports from a timer interrupt: when interrupts are on again.
        let is_soft = has_ended && unpetted >= LockupDetector::Soft.threshold();
        self.result.soft_lockups += u64::from(is_soft);
    }

    /// The mean time between two I/Os of a CPU now.
    fn pace(&mut self, cpu: u16) -> Duration {
        let workload = &self.spec.workload;
        let is_burst = self.cpus[usize::from(cpu)].begun < workload.burst;
        if is_burst { workload.period } else { workload.trickle }
    }

    /// The time for which a CPU rests before its next I/O.
    pub(super) fn rest(&mut self, cpu: u16) -> Duration {
        let pace = self.pace(cpu);
        self.jitter(pace)
    }

    /// The address space in which a CPU works: with shared virtual addressing one of its own.
    fn space(&self, cpu: u16) -> Option<Pasid> {
        let is_worker = !self.cpus[usize::from(cpu)].is_helper;
        let number = u32::from(cpu / self.spec.workload.devices) + 1;
        (self.spec.workload.kind == Kind::Sva && is_worker).then(|| Pasid::new(number))
    }
}
