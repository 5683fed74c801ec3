//! What CPUs do: I/O and unmapping in workers, removal in hot-plug handlers.

use std::time::Duration;

use iommu::ats::{ITag, InvalidateRequest, PageRange};
use iommu::event::LockupDetector;
use iommu::spec::descriptor::IotlbScope;
use iommu::submit::{Flush, Verdict};

use super::cpu::State;
use super::firmware;
use super::machine::{Machine, covering};
use super::memory::Tables;
use super::road::Functions;
use crate::fault::Point;

impl Machine<'_> {
    /// A CPU goes on.
    pub(super) fn go_on(&mut self, cpu: u16) {
        match self.cpus[usize::from(cpu)].state {
            State::Idle => self.begin_io(cpu),
            State::Io(_) => self.unmap(cpu),
            State::Locking => self.write_descriptors(cpu),
            State::Submitting { present } => self.submit(cpu, present),
            State::Waiting | State::Retired => {}
            State::Returning(verdict) => self.go_on_after(cpu, verdict),
        }
    }

    /// Maps a page and gives it to the device.
    fn begin_io(&mut self, cpu: u16) {
        let state = &mut self.cpus[usize::from(cpu)];
        let device = state.device;
        if self.devices[usize::from(device)].unbinding {
            state.state = State::Retired;
            return;
        }
        state.begun += 1;
        let pace = self.pace(cpu);
        let (_, memory) = self.host.dma_road();
        let Some(iova) = self.tables.allocate(device, memory) else {
            self.wake(cpu, pace);
            return;
        };
        let mapping = self.oracle.map(device, iova);
        self.tables.map(device, iova, self.oracle.stamp(mapping), memory);
        self.cpus[usize::from(cpu)].state = State::Io(mapping);
        self.devices[usize::from(device)].works = false;
        self.give(mapping, cpu, pace);
        self.wake(cpu, self.spec.costs.io_timeout);
    }

    /// The I/O is done, or the driver has given it up: the page is taken back.
    fn unmap(&mut self, cpu: u16) {
        let State::Io(mapping) = self.cpus[usize::from(cpu)].state else { return };
        let iova = self.oracle.get(mapping).iova;
        let device = self.cpus[usize::from(cpu)].device;
        let (_, memory) = self.host.dma_road();
        self.tables.unmap(device, iova, memory);
        let job = &mut self.cpus[usize::from(cpu)].job;
        job.pages.clear();
        job.pages.push(mapping);
        job.range = covering(std::iter::once(PageRange::page(iova)));
        self.want(cpu);
    }

    /// A CPU wants its job's range invalidated: interrupts are off from now on.
    fn want(&mut self, cpu: u16) {
        let state = &mut self.cpus[usize::from(cpu)];
        state.job.since = self.now;
        state.state = State::Locking;
        state.generation = state.generation.wrapping_add(1);
        if self.devices[usize::from(state.device)].lock.acquire(cpu) {
            self.write_descriptors(cpu);
        }
    }

    /// It holds the lock: looks whether the device is there, if the policy says so, and writes.
    fn write_descriptors(&mut self, cpu: u16) {
        let costs = self.spec.costs;
        let function = firmware::endpoint(self.cpus[usize::from(cpu)].device);
        let mut time = costs.descriptor * 3 + costs.doorbell;
        let present = self.looks_first().then(|| {
            time += costs.presence_check;
            self.hierarchy.is_present(function, self.now)
        });
        self.cpus[usize::from(cpu)].state = State::Submitting { present };
        self.wake(cpu, time);
    }

    fn submit(&mut self, cpu: u16, present: Option<bool>) {
        self.reach(Point::Tail);
        let state = &mut self.cpus[usize::from(cpu)];
        state.state = State::Waiting;
        let request = InvalidateRequest {
            destination: firmware::endpoint(state.device),
            itag: ITag::new(0),
            pasid: None,
            global: false,
            range: state.job.range,
        };
        let domain = Tables::domain(state.device);
        let iotlb = IotlbScope::Pages(domain, request.range);
        let Some(flush) = Flush::new(Some(iotlb), &[request]) else { return };
        let Self { host, hierarchy, devices, layout, now, .. } = self;
        let mut functions = Functions { hierarchy, devices, layout, sample: present, now: *now };
        let ticket = host.submit(flush, &mut functions, *now);
        self.tickets.insert(ticket, cpu);
    }

    /// The wait is over: the pages are given back whatever the caller was told, as Linux does it.
    fn go_on_after(&mut self, cpu: u16, _verdict: Verdict) {
        let now = self.now;
        let state = &mut self.cpus[usize::from(cpu)];
        let (device, waited) = (state.device, now - state.job.since);
        let pages = std::mem::take(&mut state.job.pages);
        state.state = State::Idle;
        for page in &pages {
            self.oracle.release(*page, now);
            self.tables.free(device, self.oracle.get(*page).iova);
        }
        self.cpus[usize::from(cpu)].job.pages = pages;
        if let Some(next) = self.devices[usize::from(device)].lock.release() {
            self.wake(next, self.spec.costs.lock);
        }
        let latencies = match self.is_victim(device) {
            true => &mut self.result.stuck,
            false => &mut self.result.innocent,
        };
        latencies.record(waited);
        self.note_interrupts_off(cpu, waited);
        let pace = self.pace(cpu);
        let pause = self.jitter(pace);
        self.wake(cpu, pause);
    }

    /// Interrupts were off on a CPU for this long.
    pub(super) fn note_interrupts_off(&mut self, cpu: u16, time: Duration) {
        self.result.interrupts_off.record(time);
        // Only who polls in the submit-and-wait loop can pet the watchdog, not who spins on a lock.
        let is_petted =
            self.spec.policy.watchdog && self.cpus[usize::from(cpu)].state == State::Waiting;
        if !is_petted {
            self.result.hard_lockups += u64::from(time >= LockupDetector::Hard.threshold());
            self.result.soft_lockups += u64::from(time >= LockupDetector::Soft.threshold());
        }
    }

    /// The mean time between two I/Os of a CPU now.
    fn pace(&self, cpu: u16) -> Duration {
        let workload = &self.spec.workload;
        let is_burst = self.cpus[usize::from(cpu)].begun < workload.burst;
        if is_burst { workload.period } else { workload.trickle }
    }

    pub(super) fn interrupt(&mut self, _device: u16) {}
}
