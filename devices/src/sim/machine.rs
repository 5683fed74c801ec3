//! The machine: what its parts tell each other, and when.

use std::collections::HashMap;
use std::time::Duration;

use iommu::ats::{InvalidateCompletion, InvalidateRequest, PageRange};
use iommu::event::{Tracer, UnitRole};
use iommu::submit::{Conclusion, HostSide, Precheck, Ticket};
use iommu::time::Instant;
use iommu::unit::UnitConfig;

use super::cpu::{Cpu, Lock, State};
use super::firmware::{self, Driver, Layout};
use super::memory::Tables;
use super::oracle::{MappingId, Oracle};
use super::road::{Functions, Road};
use super::scheduler::Scheduler;
use super::{RunResult, RunSpec};
use crate::Error;
use crate::endpoint::regs;
use crate::fault::schedule::Action;
use crate::fault::{FaultMode, Point, Schedule, Trigger};
use crate::pcie::caps::express::HotPlug;
use crate::pcie::{Hierarchy, UpstreamMessage};

/// Something that is to happen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task {
    /// A CPU goes on, if this is still what it waits for.
    Cpu { cpu: u16, generation: u32 },
    /// A device touches a page that it was given. If it was for an I/O, that is done then.
    Touch { mapping: MappingId, cpu: Option<u16> },
    /// An Invalidate Request arrives at a function.
    Request(InvalidateRequest),
    /// An Invalidate Completion arrives at the unit.
    Completion(InvalidateCompletion),
    /// The handler of a port's interrupt runs.
    Interrupt(u16),
}

/// How many of its last pages a device touches again.
const RECENT: usize = 16;
/// Bytes of one access.
const ACCESS: usize = 256;

/// A device and its driver.
#[derive(Debug, Default)]
pub(super) struct Device {
    pub(super) lock: Lock,
    /// Hot-plug has marked it as gone.
    pub(super) disconnected: bool,
    /// Its driver has let it go, or is about to.
    pub(super) unbinding: bool,
    pub(super) unbound: bool,
    /// Since when its link has been down.
    pub(super) gone: Option<Instant>,
    /// Its last I/O was done.
    pub(super) works: bool,
    /// The last pages that it was given, in no order.
    recent: Vec<MappingId>,
}

/// The machine in the middle of a run.
pub(super) struct Machine<'a> {
    pub(super) spec: &'a RunSpec,
    pub(super) tracer: &'a Tracer,
    pub(super) now: Instant,
    pub(super) scheduler: Scheduler<Task>,
    pub(super) random: fastrand::Rng,
    pub(super) host: HostSide,
    pub(super) hierarchy: Hierarchy,
    pub(super) layout: Layout,
    pub(super) tables: Tables,
    pub(super) oracle: Oracle,
    pub(super) cpus: Vec<Cpu>,
    pub(super) devices: Vec<Device>,
    /// Which CPU waits under which ticket.
    pub(super) tickets: HashMap<Ticket, u16>,
    schedule: Schedule,
    /// To which device the fault happens.
    victim: Option<u16>,
    pub(super) result: RunResult,
}

impl<'a> Machine<'a> {
    pub(super) fn new(spec: &'a RunSpec, tracer: &'a Tracer) -> Result<Self, Error> {
        check(spec)?;
        let workload = &spec.workload;
        let mut random = fastrand::Rng::with_seed(spec.seed);
        let fault = spec.fault.fault.clone().map(|mut fault| {
            if let Trigger::Count(_, count) = &mut fault.trigger {
                *count += u64::from(random.u32(0..=spec.fault.spread));
            }
            fault
        });
        let is_safe = fault.as_ref().is_some_and(|fault| fault.mode == FaultMode::Safe);
        let hot_plug = if is_safe { HotPlug::Button } else { HotPlug::Surprise };
        let mut hierarchy = firmware::hierarchy(workload.devices, hot_plug, tracer)?;
        hierarchy.seed(random.u64(..));
        let now = Instant::START;
        let layout = Driver { hierarchy: &mut hierarchy, now }.bring_up(workload.devices);
        let faults: Vec<_> = fault.into_iter().collect();
        let schedule = Schedule::new(&faults, &hierarchy.port_infos())?;
        let (memory, mut tables) = Tables::new(workload.devices)?;
        for device in 0..workload.devices {
            tables.attach(firmware::endpoint(device), &memory);
        }
        let unit = UnitConfig { role: UnitRole::Host, ..spec.unit };
        let host = HostSide::with_memory(unit, spec.policy.clone(), memory, tracer.clone());
        let cpus = (0..workload.cpus).map(|cpu| Cpu::new(cpu % workload.devices));
        Ok(Self {
            spec,
            tracer,
            now,
            scheduler: Scheduler::new(),
            random,
            host,
            hierarchy,
            layout,
            tables,
            oracle: Oracle::new(),
            cpus: cpus.collect(),
            devices: (0..workload.devices).map(|_| Device::default()).collect(),
            tickets: HashMap::new(),
            schedule,
            victim: None,
            result: RunResult { runs: 1, ..RunResult::default() },
        })
    }

    /// From the start to the horizon, or to when nothing is left to happen.
    pub(super) fn run(mut self) -> RunResult {
        let end = Instant::START + self.spec.horizon;
        for cpu in 0..self.spec.workload.cpus {
            let delay = self.jitter(self.spec.workload.period);
            self.wake(cpu, delay);
        }
        while let Some(next) = self.next_time().filter(|next| *next <= end) {
            self.now = next;
            self.result.steps += 1;
            self.step();
            self.settle();
        }
        self.now = end;
        self.finish()
    }

    fn next_time(&self) -> Option<Instant> {
        let timers = [
            self.scheduler.next_time(),
            self.host.poll_timeout(),
            self.hierarchy.poll_timeout(),
            self.schedule.poll_timeout(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Does one thing that is due: a task, or what a timer wants.
    fn step(&mut self) {
        let now = self.now;
        if self.scheduler.next_time() == Some(now) {
            if let Some(task) = self.scheduler.pop() {
                self.perform(task);
            }
            return;
        }
        while let Some(action) = self.schedule.handle_timeout(now) {
            self.act(action);
        }
        let (host, mut functions) = self.host();
        host.handle_timeout(&mut functions, now);
        let Self { host, hierarchy, oracle, tracer, .. } = self;
        let (unit, memory) = host.dma_road();
        let mut road = Road { unit, memory, oracle, tracer, arrived: None };
        hierarchy.handle_timeout(&mut road, now);
    }

    fn perform(&mut self, task: Task) {
        match task {
            Task::Cpu { cpu, generation } => {
                if self.cpus[usize::from(cpu)].generation == generation {
                    self.go_on(cpu);
                }
            }
            Task::Touch { mapping, cpu } => self.touch(mapping, cpu),
            Task::Request(request) => {
                self.hierarchy.invalidate_request(request, self.now);
                self.reach(Point::Completion);
                self.hierarchy.collect_messages(self.now);
            }
            Task::Completion(completion) => {
                let now = self.now;
                let (host, mut functions) = self.host();
                host.handle_completion(completion, &mut functions, now);
                self.reach(Point::Invalidation);
            }
            Task::Interrupt(device) => self.interrupt(device),
        }
    }

    /// Carries what the parts have to say to where it arrives later.
    fn settle(&mut self) {
        let costs = self.spec.costs;
        while let Some(request) = self.host.poll_request() {
            self.reach(Point::Request);
            self.scheduler.at(self.now + costs.request, Task::Request(request));
        }
        while let Some(message) = self.hierarchy.poll_message() {
            match message {
                UpstreamMessage::InvalidateCompletion(completion) => {
                    let at = self.now + costs.atc_invalidate + costs.completion;
                    self.scheduler.at(at, Task::Completion(completion));
                }
                UpstreamMessage::Msi { requester, .. } => {
                    let device = firmware::device_below(requester);
                    self.scheduler.at(self.now + costs.hot_plug, Task::Interrupt(device));
                }
                UpstreamMessage::PageRequest(_) => {}
            }
        }
        while let Some(conclusion) = self.host.poll_verdict() {
            self.conclude(&conclusion);
        }
    }

    fn conclude(&mut self, conclusion: &Conclusion) {
        let Conclusion { ticket, flush, verdict, .. } = conclusion;
        let (Some(cpu), verdict) = (self.tickets.remove(ticket), *verdict) else { return };
        let held = flush.device_tlbs().iter().any(|request| {
            let device = usize::from(firmware::device_at(request.destination));
            self.hierarchy.caches(device, request.pasid, request.range)
        });
        self.result.told.count(verdict, held);
        self.cpus[usize::from(cpu)].state = State::Returning(verdict);
        self.wake(cpu, self.spec.costs.poll);
    }

    /// A point of the protocol is reached.
    pub(super) fn reach(&mut self, point: Point) {
        self.schedule.count(point);
        while let Some(action) = self.schedule.reached(point, self.now) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        let Action { port, mode, ends, .. } = action;
        // Ports and devices are in the same order, one behind each.
        self.victim = Some(port as u16);
        self.result.faulted = 1;
        match ends {
            true => self.hierarchy.lift(port, mode, self.now),
            false => self.hierarchy.inject(port, mode, self.now),
        }
    }

    /// Lets a CPU go on after `delay`, and forget what else it waited for.
    pub(super) fn wake(&mut self, cpu: u16, delay: Duration) {
        let state = &mut self.cpus[usize::from(cpu)];
        state.generation = state.generation.wrapping_add(1);
        let generation = state.generation;
        self.scheduler.at(self.now + delay, Task::Cpu { cpu, generation });
    }

    /// Between half of `mean` and one and a half of it.
    pub(super) fn jitter(&mut self, mean: Duration) -> Duration {
        let nanos = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX / 2);
        Duration::from_nanos(nanos / 2 + self.random.u64(0..=nanos))
    }

    /// The host side, and how it asks for functions.
    pub(super) fn host(&mut self) -> (&mut HostSide, Functions<'_>) {
        let Self { host, hierarchy, devices, layout, now, .. } = self;
        (host, Functions { hierarchy, devices, layout, sample: None, now: *now })
    }

    /// A device touches a page, by its ATC.
    fn touch(&mut self, mapping: MappingId, cpu: Option<u16>) {
        let (device, iova) = {
            let mapping = self.oracle.get(mapping);
            (mapping.device, mapping.iova)
        };
        let Self { host, hierarchy, oracle, tracer, now, .. } = self;
        let (unit, memory) = host.dma_road();
        let mut road = Road { unit, memory, oracle, tracer, arrived: None };
        hierarchy.drive(usize::from(device), &mut road, |function, upstream| {
            let bar = firmware::bar(device);
            let mut write = |register: u64, data: &[u8]| {
                function.memory_write(bar + register, data, upstream, *now);
            };
            write(regs::IOVA, &iova.0.to_le_bytes());
            write(regs::LENGTH, &(ACCESS as u32).to_le_bytes());
            write(regs::COMMAND, &WRITE_BY_ATC.to_le_bytes());
        });
        let arrived = road.arrived;
        if let Some((_, Some(stale))) = arrived {
            self.result.stale_accesses += 1;
            self.result.stale_bytes += ACCESS as u64;
            self.result.stale_age = self.result.stale_age.max(stale.age);
            self.result.stale_foreign += u64::from(stale.foreign);
        }
        if let Some(cpu) = cpu.filter(|cpu| {
            arrived.is_some() && self.cpus[usize::from(*cpu)].state == State::Io(mapping)
        }) {
            self.result.completed_io += 1;
            self.devices[usize::from(device)].works = true;
            self.wake(cpu, Duration::ZERO);
        }
    }

    /// A device is given a page: it does one I/O with it, and will touch its latest pages again.
    pub(super) fn give(&mut self, mapping: MappingId, cpu: u16, pace: Duration) {
        let device = usize::from(self.oracle.get(mapping).device);
        let io = self.jitter(self.spec.costs.io);
        self.scheduler.at(self.now + io, Task::Touch { mapping, cpu: Some(cpu) });
        let recent = &mut self.devices[device].recent;
        if recent.len() == RECENT {
            let victim = self.random.usize(0..RECENT);
            recent[victim] = mapping;
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

    pub(super) fn is_victim(&self, device: u16) -> bool {
        self.victim == Some(device)
    }

    /// Whether a presence check comes before an invalidation.
    pub(super) fn looks_first(&self) -> bool {
        self.spec.policy.precheck == Precheck::Present
    }

    fn finish(mut self) -> RunResult {
        let end = self.now;
        for index in 0..self.cpus.len() {
            if self.cpus[index].is_stuck() {
                let waited = end - self.cpus[index].job.since;
                self.result.never_returned += 1;
                self.result.waiting.record(waited);
                self.note_interrupts_off(index as u16, waited);
            }
        }
        let is_stuck = self.result.never_returned > 0;
        for device in &mut self.devices {
            if let Some(gone) = device.gone.take() {
                self.result.zombie.record(end - gone);
            }
        }
        let victim = self.victim.map(|victim| &self.devices[usize::from(victim)]);
        let ended_well = |device: &Device| device.unbound || device.works;
        self.result.recovered = u64::from(victim.is_some_and(ended_well) && !is_stuck);
        self.result.host = *self.host.counters();
        let checks = u32::try_from(self.result.host.presence_checks).unwrap_or(u32::MAX);
        self.result.presence_time = self.spec.costs.presence_check.saturating_mul(checks);
        self.result.virtual_time = end - Instant::START;
        self.result
    }
}

/// The endpoint's command: write the buffer to memory, by the ATC.
const WRITE_BY_ATC: u32 = regs::Command::new().with_opcode(2).with_use_atc(true).into_bits();

/// Refuses what cannot be simulated.
fn check(spec: &RunSpec) -> Result<(), Error> {
    let workload = &spec.workload;
    let rules = [
        (
            (1..=firmware::MAX_DEVICES).contains(&workload.devices),
            format!(
                "it has {} devices; there can be 1 to {}",
                workload.devices,
                firmware::MAX_DEVICES
            ),
        ),
        (
            workload.cpus >= 1 && workload.cpus <= 4096,
            format!("it has {} CPUs; there can be 1 to 4096", workload.cpus),
        ),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, reason)) => {
            Err(Error::Simulation { what: format!("workload '{}'", workload.name), reason })
        }
        None => Ok(()),
    }
}

/// The pages of a job, as one range: as little as covers all of them.
pub(super) fn covering(pages: impl Iterator<Item = PageRange>) -> PageRange {
    pages.reduce(cover).unwrap_or(PageRange::ALL)
}

fn cover(a: PageRange, b: PageRange) -> PageRange {
    let mut order = a.order().max(b.order());
    while !PageRange::containing(a.start(), order).contains(b.start()) {
        order += 1;
    }
    PageRange::containing(a.start(), order)
}
