//! The machine: messages between its parts, and when each arrives.

use std::collections::VecDeque;
use std::time::Duration;

use devices::fault::{Fault, FaultMode, Trigger};
use devices::pcie::UpstreamMessage;
use devices::pcie::caps::express::HotPlug;
use devices::root_complex::downstream::Downstream;
use iommu::Memory;
use iommu::ats::{InvalidateCompletion, InvalidateRequest, PageRange};
use iommu::event::{Tracer, UnitRole};
use iommu::submit::{FlushPath, HostSide, LockScope, Precheck};
use iommu::time::{Instant, Timeout};
use iommu::unit::UnitConfig;

use super::cpu::{Cpu, Gate, Lock, Tickets};
use super::drivers::Drivers;
use super::exposure::Exposed;
use super::firmware::{self, Driver};
use super::gone::Loss;
use super::memory::{Stage, Tables};
use super::oracle::{MappingId, Oracle};
use super::scheduler::Scheduler;
use super::slot_map::SlotMap;
use super::{Kind, RunResult, RunSpec, SimulationError, Workload};

/// Something that is to happen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task {
    /// A CPU goes on, if this is still what it waits for.
    Cpu { cpu: u16, generation: u32 },
    /// A device touches a page that it was given. If it was for an I/O, that is done then.
    Touch { mapping: MappingId, cpu: Option<u16> },
    /// The oldest Invalidate Request that is on its way arrives at its function.
    Request,
    /// The oldest Invalidate Completion that is on its way arrives at the unit.
    Completion,
    /// The handler of the interrupt of the port above a slot runs.
    Interrupt(u16),
    /// The flush timer of a device's domain goes off.
    Flush(u16),
    /// The Completion Timeout of a device's request passes.
    CompletionTimeout(u16),
}

/// A device and its driver.
#[derive(Debug, Default)]
pub(super) struct Device {
    pub(super) gate: Gate,
    pub(super) lock: Lock,
    /// Its driver has let it go, or is about to.
    pub(super) unbinding: bool,
    pub(super) unbound: bool,
    /// Since when its link has been down.
    pub(super) gone: Option<Instant>,
    /// Its slot is to be powered down when it has been let go.
    pub(super) powers_down: bool,
    pub(super) is_quarantined: bool,
    /// The host has ended its domain: no I/O begins any more.
    pub(super) has_crashed: bool,
    /// Its last I/O was done.
    pub(super) works: bool,
    /// The last pages that it was given, in no order.
    pub(super) recent: Vec<MappingId>,
    /// Pages that are unmapped, and not yet invalidated.
    pub(super) deferred: Vec<MappingId>,
    /// Pages that it could still reach when they were given back.
    pub(super) exposed: Exposed,
    /// Its link is down, and which software knows.
    pub(super) loss: Loss,
    /// Resets that the workload wants.
    pub(super) planned_resets: u32,
    /// It was in quarantine.
    pub(super) was_fenced: bool,
    /// It was taken for removed, or its driver has let it go.
    pub(super) was_removed: bool,
    /// It is reset, or is about to be: no I/O begins.
    pub(super) is_resetting: bool,
    /// The CPUs that wait for the end of its reset.
    pub(super) waiting_for_reset: Vec<u16>,
    /// Its driver has given an I/O up.
    pub(super) has_failed_io: bool,
    /// Its accesses to pages that had been given back.
    pub(super) stale_accesses: u64,
    /// When the first of its requests without a completion is given up.
    pub(super) timer: Option<Instant>,
}

/// The machine in the middle of a run.
pub(super) struct Machine<'a> {
    pub(super) spec: &'a RunSpec,
    pub(super) tracer: &'a Tracer,
    pub(super) now: Instant,
    pub(super) scheduler: Scheduler<Task>,
    requests: VecDeque<InvalidateRequest>,
    completions: VecDeque<InvalidateCompletion>,
    pub(super) random: fastrand::Rng,
    pub(super) downstream: Downstream<HostSide, Drivers>,
    pub(super) slots: SlotMap,
    pub(super) tables: Tables,
    pub(super) oracle: Oracle,
    #[cfg(test)]
    pub(super) check: super::check::Check,
    pub(super) cpus: Vec<Cpu>,
    pub(super) devices: Vec<Device>,
    /// The CPU that waits for each ticket.
    pub(super) tickets: Tickets,
    /// Whether the victim's link was up, and how often quarantines had changed, when that was
    /// looked at last.
    pub(super) watched: [(bool, u64); 2],
    /// How often quarantines had changed when healthy devices were looked at last.
    pub(super) isolations: u64,
    /// Devices with pages in [`Device::exposed`].
    pub(super) exposed: Vec<u16>,
    /// The ATC of a device in [`Self::exposed`] may have changed in this step.
    pub(super) has_atc_changed: bool,
    /// The CPU that moves interrupts; no CPU has this number if none does.
    pub(super) mover: u16,
    /// When no more I/O begins.
    pub(super) quiet: Instant,
    pub(super) result: RunResult,
}

impl<'a> Machine<'a> {
    pub(super) fn new(spec: &'a RunSpec, tracer: &'a Tracer) -> Result<Self, SimulationError> {
        spec.check()?;
        let workload = &spec.workload;
        let mut random = fastrand::Rng::with_seed(spec.seed);
        let mut faults: Vec<Fault> = spec.fault.faults().cloned().collect();
        for fault in &mut faults {
            if let Trigger::Count(_, count) = &mut fault.trigger {
                *count += u64::from(random.u32(0..=spec.fault.spread));
            }
        }
        let is_safe = faults.iter().any(|fault| fault.mode == FaultMode::Safe);
        let hot_plug = if is_safe { HotPlug::Button } else { HotPlug::Surprise };
        let slots = SlotMap::new(workload);
        let mut hierarchy = firmware::hierarchy(slots, hot_plug, tracer)?;
        hierarchy.seed(random.u64(..));
        hierarchy.set_obeys(spec.obeys);
        let now = Instant::START;
        let contains = faults.iter().all(|fault| fault.mode != FaultMode::Aer);
        let layout = Driver { hierarchy: &mut hierarchy, slots, now }.bring_up(contains);
        let (memory, mut tables) = tables(workload)?;
        for device in 0..workload.devices {
            tables.attach(slots.function(device), spec.unit.scalable_mode, &memory);
        }
        let unit = UnitConfig { role: UnitRole::Host, ..spec.unit };
        let mut host = HostSide::with_memory(unit, spec.policy.clone(), memory, tracer.clone());
        host.set_fenced_waits(workload.fence);
        host.set_queue_depth(workload.queue_depth);
        let drivers = Drivers::new(slots, layout, spec.policy.reset_prepare);
        let (driven, sink) = (UnitRole::Host, tracer.clone());
        let downstream = Downstream::new(host, hierarchy, drivers, &faults, driven, sink)?;
        let workers = (0..workload.cpus).map(|cpu| Cpu::new(cpu % workload.devices, false));
        let helpers = (0..workload.devices).map(|device| Cpu::new(device, true));
        let moves = workload.irq_moves != Timeout::Never;
        let mover = moves.then(|| Cpu { is_helper: true, ..Cpu::new(0, false) });
        Ok(Self {
            spec,
            tracer,
            now,
            scheduler: Scheduler::new(),
            requests: VecDeque::new(),
            completions: VecDeque::new(),
            random,
            downstream,
            slots,
            tables,
            oracle: Oracle::new(),
            #[cfg(test)]
            check: super::check::Check::default(),
            cpus: workers.chain(helpers).chain(mover).collect(),
            devices: (0..workload.devices).map(|_| Device::default()).collect(),
            tickets: Tickets::default(),
            watched: [(true, 0); 2],
            isolations: 0,
            exposed: Vec::new(),
            has_atc_changed: false,
            mover: workload.cpus + workload.devices,
            quiet: Instant::START + spec.quiet(),
            result: RunResult { runs: 1, ..RunResult::default() },
        })
    }

    /// From the start to the horizon, or to when nothing is left to happen.
    pub(super) fn run(mut self) -> RunResult {
        let end = Instant::START + self.spec.horizon;
        for cpu in 0..self.spec.workload.cpus {
            let delay = self.jitter(self.spec.workload.period);
            let is_first = cpu < self.spec.workload.devices;
            let from = if is_first { Duration::ZERO } else { self.spec.workload.crowd_from };
            self.pause(cpu, from + delay);
        }
        self.begin_moving();
        while let Some(next) = self.next_time().filter(|next| *next <= end) {
            self.result.steps += 1;
            self.advance(next);
        }
        self.now = end;
        self.finish();
        self.count_lost();
        self.tables.give_back(self.downstream.host.dma_path().1);
        self.result
    }

    /// Does what is due next, at `next`.
    pub(super) fn advance(&mut self, next: Instant) {
        self.now = next;
        if self.step() {
            self.settle();
            self.watch_victims();
            self.watch_isolation();
            self.watch_exposed();
        }
    }

    pub(super) fn next_time(&self) -> Option<Instant> {
        Instant::earliest([self.scheduler.next_time(), self.downstream.poll_timeout()])
    }

    /// Does one thing that is due: a task, or what a timer wants. `false` if it was void.
    fn step(&mut self) -> bool {
        let now = self.now;
        if self.scheduler.next_time() == Some(now) {
            return self.scheduler.pop().is_some_and(|task| self.perform(task));
        }
        self.downstream.run_schedule(now);
        self.downstream.handle_host_timeout(now);
        let Downstream { hierarchy, drivers, .. } = &mut self.downstream;
        hierarchy.handle_link_timeout(now);
        drivers.set_up_ready(hierarchy, now);
        // ATCs obey delayed answers when those are sent.
        self.has_atc_changed |= !self.exposed.is_empty();
        true
    }

    /// `false` if the task is void: its CPU has gone on before.
    fn perform(&mut self, task: Task) -> bool {
        match task {
            Task::Cpu { cpu, generation } => {
                if self.cpus[usize::from(cpu)].generation != generation {
                    return false;
                }
                self.go_on(cpu);
            }
            Task::Touch { mapping, cpu } => self.touch(mapping, cpu),
            Task::Request => {
                let Some(request) = self.requests.pop_front() else { return false };
                self.downstream.deliver_request(request, self.now);
                if let Some(device) = self.slots.device(request.destination) {
                    let hierarchy = &mut self.downstream.hierarchy;
                    hierarchy.collect_messages_of(usize::from(device), self.now);
                    self.note_atc_change(device);
                }
            }
            Task::Completion => {
                let Some(completion) = self.completions.pop_front() else { return false };
                self.downstream.deliver_completion(completion, self.now);
            }
            Task::Interrupt(slot) => self.interrupt(slot),
            Task::Flush(device) => self.flush(device),
            Task::CompletionTimeout(device) => self.end_requests(device),
        }
        true
    }

    /// Carries what the parts have to say to where it arrives later.
    fn settle(&mut self) {
        let costs = self.spec.costs;
        while self.downstream.pass_host_pause(self.now) {}
        while let Some(request) = self.downstream.poll_request(self.now) {
            self.requests.push_back(request);
            self.scheduler.after(costs.request, self.now, Task::Request);
        }
        while let Some(message) = self.downstream.hierarchy.poll_message() {
            match message {
                UpstreamMessage::InvalidateCompletion(completion) => {
                    let delay = costs.atc_invalidate + costs.completion;
                    self.completions.push_back(completion);
                    self.scheduler.after(delay, self.now, Task::Completion);
                }
                UpstreamMessage::Msi { requester, .. } => {
                    let slot = SlotMap::slot_below(requester);
                    self.scheduler.after(costs.hot_plug, self.now, Task::Interrupt(slot));
                }
                UpstreamMessage::PageRequest(_) | UpstreamMessage::Error { .. } => {}
            }
        }
        self.downstream.forward_resets(self.now);
        while let Some(conclusion) = self.downstream.poll_verdict(self.now) {
            self.conclude(&conclusion);
        }
    }

    pub(super) fn cpu(&mut self, cpu: u16) -> &mut Cpu {
        &mut self.cpus[usize::from(cpu)]
    }

    /// Lets a CPU go on after `delay`, one of the costs, and forget what else it waited for.
    pub(super) fn wake(&mut self, cpu: u16, delay: Duration) {
        let task = self.next_task(cpu);
        self.scheduler.after(delay, self.now, task);
    }

    /// As [`Self::wake`], after a pause that is not one of the costs.
    pub(super) fn pause(&mut self, cpu: u16, pause: Duration) {
        let task = self.next_task(cpu);
        self.scheduler.at(self.now + pause, task);
    }

    fn next_task(&mut self, cpu: u16) -> Task {
        let state = &mut self.cpus[usize::from(cpu)];
        state.generation = state.generation.wrapping_add(1);
        Task::Cpu { cpu, generation: state.generation }
    }

    /// Between half of `mean` and one and a half of it.
    pub(super) fn jitter(&mut self, mean: Duration) -> Duration {
        let nanos = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX / 2);
        Duration::from_nanos(nanos / 2 + self.random.u64(0..=nanos))
    }

    /// To which slots faults have happened: ports and slots are in the same order.
    pub(super) fn victims(&self) -> impl Iterator<Item = u16> {
        let happened = self.downstream.happened();
        let ports = happened.filter(|(_, mode)| *mode != FaultMode::AllOnesUnit);
        ports.map(|(port, _)| port as u16)
    }

    pub(super) fn is_victim(&self, device: u16) -> bool {
        let slot = self.slots.slot(device);
        self.victims().any(|victim| victim == slot)
    }

    /// Whether a presence check comes before an invalidation on `path`.
    pub(super) fn looks_first(&self, path: FlushPath) -> bool {
        self.spec.policy.precheck_on(path) == Precheck::Present
    }

    /// The lock under which a CPU invalidates for `device`, by its index.
    pub(super) fn lock_of(&self, device: u16) -> Option<usize> {
        match self.spec.policy.lock {
            LockScope::Domain => Some(usize::from(device)),
            LockScope::Unit => Some(0),
            LockScope::None => None,
        }
    }
}

/// Memory for the tables that a workload needs.
fn tables(workload: &Workload) -> Result<(Memory, Tables), SimulationError> {
    let cpus = u64::from(workload.cpus.div_ceil(workload.devices));
    let held = u64::from(workload.batch) + 1;
    let (stage, users, pages) = match workload.kind {
        Kind::Sva => (Stage::First, cpus, held),
        _ => (Stage::Second, 1, cpus * held + u64::from(workload.flush_limit)),
    };
    Ok(Tables::new(workload.devices, stage, users, pages)?)
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
