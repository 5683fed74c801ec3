//! The DMA of devices: one I/O with each page that a device is given, and later touches of its last
//! pages, which no driver has asked for. Such touches stand for prefetches, retries and
//! malfunctions. They make a translation that should be gone dangerous.

use std::time::Duration;

use devices::endpoint::regs;
use devices::pcie::{Function, Upstream};
use devices::root_complex::downstream::Downstream;
use iommu::event::{Event, TranslationCache};

use super::cpu::State;
use super::dma_path::DmaPath;
use super::machine::{Machine, Task};
use super::oracle::{MappingId, Stale};
use super::slot_map::SlotMap;

/// The number of its last pages that a device touches again.
const RECENT: usize = 16;
/// Bytes of one access.
const ACCESS: u32 = 256;
/// The endpoint's command: write the buffer to memory.
const WRITE: regs::Command = regs::Command::new().with_opcode(2);

impl Machine<'_> {
    /// A device is given a page: it does one I/O with it, and will touch its latest pages again.
    pub(super) fn give(&mut self, mapping: MappingId, cpu: u16, pace: Duration) {
        let device = usize::from(self.oracle.get(mapping).device);
        let io = self.jitter(self.spec.costs.io);
        self.scheduler.at(self.now + io, Task::Touch { mapping, cpu: Some(cpu) });
        let recent = &mut self.devices[device].recent;
        if recent.len() == RECENT {
            recent[self.random.usize(0..RECENT)] = mapping;
        } else {
            recent.push(mapping);
        }
        for _ in 0..self.spec.workload.touches {
            let recent = &self.devices[device].recent;
            let mapping = recent[self.random.usize(0..recent.len())];
            let delay = self.jitter(pace);
            self.scheduler.at(self.now + delay, Task::Touch { mapping, cpu: None });
        }
    }

    /// The victim writes to the page of a flush some more times, at the times at which the built-in
    /// guest has it do so (`unmap=on`). Another device does so once, soon after the flush.
    pub(super) fn touch_after_flush(&mut self, device: u16, mapping: Option<MappingId>) {
        const PERIOD: Duration = Duration::from_millis(30);
        const SOON: Duration = Duration::from_micros(100);
        let Some(mapping) = mapping else { return };
        let (period, times) = if self.is_victim(device) { (PERIOD, 4) } else { (SOON, 1) };
        for time in 1..=times {
            self.scheduler.at(self.now + period * time, Task::Touch { mapping, cpu: None });
        }
    }

    /// A device writes to a page, by its ATC unless ATS is off in it for good.
    pub(super) fn touch(&mut self, mapping: MappingId, cpu: Option<u16>) {
        let (target, now) = (*self.oracle.get(mapping), self.now);
        let uses_atc = self.downstream.drivers.uses_atc[usize::from(target.device)];
        let (arrived, translated) = self.on_function(target.device, |function, upstream| {
            let bar = SlotMap::bar(target.device);
            let mut write = |register: u64, data: &[u8]| {
                function.memory_write(bar + register, data, upstream, now);
            };
            write(regs::IOVA, &target.iova.0.to_le_bytes());
            write(regs::LENGTH, &ACCESS.to_le_bytes());
            let mut command = WRITE.with_use_atc(uses_atc);
            if let Some(pasid) = target.space {
                write(regs::PASID, &pasid.get().to_le_bytes());
                command = command.with_pasid(true);
            }
            write(regs::COMMAND, &command.into_bits().to_le_bytes());
        });
        self.downstream.check_dma(self.now);
        if translated {
            self.note_atc_change(target.device);
        }
        let Some((by, stale)) = arrived else { return };
        let deferred = self.oracle.get(by).deferred.filter(|_| stale.is_none());
        if let Some(since) = deferred {
            self.result.deferred_accesses += 1;
            self.result.deferred_age = self.result.deferred_age.max(self.now - since);
        }
        if let Some(stale) = stale {
            self.result.stale_accesses += 1;
            self.result.stale_bytes += u64::from(ACCESS);
            self.result.stale_age = self.result.stale_age.max(stale.age);
            self.result.stale_foreign += u64::from(stale.foreign);
            self.devices[usize::from(target.device)].stale_accesses += 1;
            self.expose(by);
            let (function, mapping) = (self.slots.function(target.device), self.oracle.get(by));
            self.tracer.emit(self.now, || Event::StaleAccess {
                function,
                pasid: mapping.space,
                address: mapping.iova,
                target: stale.target,
                cache: TranslationCache::Atc,
                age: stale.age,
                told_success: stale.told_success,
                mapped: false,
                foreign: Some(stale.foreign),
            });
        }
        if let Some(cpu) = cpu
            && self.cpu(cpu).state == State::Io(mapping)
            && !self.devices[usize::from(target.device)].is_resetting
        {
            self.result.completed_io += 1;
            self.cpu(cpu).done = true;
            self.devices[usize::from(target.device)].works = true;
            self.wake(cpu, Duration::ZERO);
        }
    }

    /// Ends the requests of a device whose Completion Timeout has passed.
    pub(super) fn end_requests(&mut self, device: u16) {
        let now = self.now;
        let state = &mut self.devices[usize::from(device)];
        if state.timer.take_if(|due| *due <= now).is_some() {
            self.on_function(device, |function, upstream| function.handle_timeout(upstream, now));
            self.downstream.hierarchy.collect_messages_of(usize::from(device), now);
        }
    }

    /// Lets the function of a device act. Returns the mapping by which a request of it has reached
    /// memory, and whether the unit has answered a Translation Request.
    fn on_function(
        &mut self,
        device: u16,
        act: impl FnOnce(&mut dyn Function, &mut dyn Upstream),
    ) -> (Option<(MappingId, Option<Stale>)>, bool) {
        #[cfg(test)]
        let mut check = std::mem::take(&mut self.check);
        let Self { downstream, oracle, tracer, .. } = self;
        let Downstream { host, hierarchy, .. } = downstream;
        let (unit, memory) = host.dma_path();
        let mut path = DmaPath {
            unit,
            memory,
            oracle,
            tracer,
            arrived: None,
            translated: false,
            #[cfg(test)]
            check: &mut check,
        };
        let due =
            hierarchy.drive(usize::from(device), &mut path, self.now, |function, upstream| {
                act(function, upstream);
                function.poll_timeout()
            });
        let seen = (path.arrived, path.translated);
        #[cfg(test)]
        {
            self.check = check;
        }
        let timer = &mut self.devices[usize::from(device)].timer;
        if let Some(due) = due.flatten()
            && timer.is_none_or(|timer| due < timer)
        {
            *timer = Some(due);
            self.scheduler.at(due, Task::CompletionTimeout(device));
        }
        seen
    }
}
