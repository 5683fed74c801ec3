//! The state of an exploration: the host with its unit, two functions with their ATCs and links,
//! the messages between them, and the owners of pages.

mod acts;
mod device;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use devices::fault::FaultMode;
use devices::pcie::link::{InvalidateBehavior, LinkDownReasons};
use iommu::Memory;
use iommu::event::{LockupDetector, Recorder, TimedEvent, Tracer, UnitRole};
use iommu::ids::{Bdf, Gpa, Iova, PAGE_SIZE};
use iommu::spec::offset;
use iommu::submit::{FlushPath, HostError, HostSide, Ticket, Verdict};
use iommu::time::Instant;
use iommu::unit::UnitConfig;

use super::ExploredFault;
use super::action::{Action, Page, Who};
use super::{ExploreConfig, Invariant, tables};
use device::{Device, Functions};

/// The address of the first frame. Frames lie above all memory, so that an address identifies its
/// frame.
const FRAMES: u64 = 1 << 32;
/// Ring slots, and those of one unmap: IOTLB, Device-TLB, wait.
const RING: u32 = 256;
const UNMAP: u32 = 3;
/// Steps after which a waiter that still waits will wait for ever: as many time-outs as can matter.
const PATIENCE: usize = 6;
/// The same, where a bound that starts again and again has to add up to a late caller.
const LONG_PATIENCE: usize = 600;

/// The state of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Mapped,
    /// Unmapped; a caller waits since then. The slot of the wait, if it was on the ring at once.
    Flushing(Ticket, Instant, Option<u32>),
}

/// A page of a function, and the frame behind it.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    page: Page,
    frame: u64,
    state: State,
}

/// The owner of a frame, as seen by a function whose ATC holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum FrameOwner {
    /// The function.
    Function,
    /// The call that takes it away has not returned.
    Pending,
    /// Another user. The caller was told of success, or of failure.
    Other(bool),
}

/// The state of an exploration after some actions.
pub(super) struct World {
    host: HostSide,
    memory: Memory,
    recorder: Arc<Recorder>,
    tracer: Tracer,
    now: Instant,
    devices: [Device; 2],
    mappings: Vec<Mapping>,
    /// Whether the caller was told of success, for each frame that was given away.
    taken: Vec<(u64, bool)>,
    next_frame: u64,
    fault: ExploredFault,
    /// The path on which calls are submitted.
    path: FlushPath,
    /// Completions may come after the unit has given up on their requests.
    may_be_too_late: bool,
    /// The loss, the duplicate or the link-down of the fault has happened: each happens once.
    has_happened: bool,
    /// The slot of the wait that was abandoned last.
    abandoned: Option<u32>,
    false_completions: u64,
    /// The caller that was told a verdict last.
    reported: Option<Ticket>,
    /// The neighbor may answer late.
    slow_neighbor: bool,
    /// The neighbor is isolated.
    holds_neighbor: bool,
    /// Whether to note late callers and harm to the neighbor.
    properties: bool,
    /// The invariant that was broken. The trace ends there.
    pub(super) broken: Option<Invariant>,
    /// Other invariants that were broken on the way.
    pub(super) noted: BTreeSet<Invariant>,
}

impl World {
    /// The initial state: each function has its pages mapped, and its ATC holds them.
    pub(super) fn new(config: &ExploreConfig, listen: bool) -> Result<Self, HostError> {
        let ids = [Bdf::new(1, 0, 0), Bdf::new(2, 0, 0)];
        let recorder = Arc::new(Recorder::default());
        let tracer = if listen { Tracer::to(recorder.clone()) } else { Tracer::none() };
        let memory = tables::new(ids)?;
        let unit = UnitConfig {
            ict: config.ict,
            ordering: config.ordering,
            ..UnitConfig::new(UnitRole::Host)
        };
        let policy = config.policy.clone();
        let host = HostSide::with_memory(unit, policy, memory.clone(), tracer.clone());
        let mut world = Self {
            host,
            memory,
            recorder,
            tracer: tracer.clone(),
            devices: ids.map(|id| Device::new(id, config.obeys, tracer.clone())),
            now: Instant::START,
            mappings: Vec::new(),
            taken: Vec::new(),
            next_frame: 0,
            fault: config.fault,
            path: super::explored_path(&config.policy),
            may_be_too_late: config.fault.exceeds(config.ict),
            has_happened: false,
            abandoned: None,
            false_completions: 0,
            reported: None,
            slow_neighbor: config.slow_neighbor,
            holds_neighbor: false,
            properties: config.properties,
            broken: None,
            noted: BTreeSet::new(),
        };
        let effect = config.fault.effect();
        let victim = &mut world.devices[Who::Victim as usize];
        (victim.behavior, victim.completion_fault) = (effect.invalidate, effect.completion);
        for page in Page::ALL {
            let frame = world.map(page);
            world.mappings.push(Mapping { page, frame, state: State::Mapped });
            world.touch(page);
        }
        Ok(world)
    }

    /// All events so far, if the world was made to `listen`.
    pub(super) fn events(&self) -> Vec<TimedEvent> {
        self.recorder.events()
    }

    /// The actions that are possible now.
    pub(super) fn enabled(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for mapping in &self.mappings {
            // A function's pages are alike: the second is for while a caller waits for the first.
            let first = mapping.page.first();
            let has_turn = mapping.page == first || !self.is_mapped(first);
            if mapping.state == State::Mapped && has_turn {
                actions.push(Action::Unmap(mapping.page));
            }
        }
        for who in Who::ALL {
            let device = &self.devices[who as usize];
            if !device.requests.is_empty() && device.behavior != InvalidateBehavior::Ignore {
                actions.push(Action::Deliver(who));
            }
            if !device.completions.is_empty() {
                actions.push(Action::Answer(who));
            }
        }
        for page in Page::ALL {
            // Whatever else it uses changes nothing.
            let matters = match self.owner(page) {
                Some(owner) => matches!(owner, FrameOwner::Other(_)),
                None => self.is_mapped(page),
            };
            if matters && self.is_up(page.0) && !self.devices[page.0 as usize].sleeps {
                actions.push(Action::Use(page));
            }
        }
        self.enable_fault(&mut actions);
        if self.host.poll_timeout().is_some() && self.may_wait() {
            actions.push(Action::Wait);
        }
        if self.abandoned.is_some() && self.is_mapped(Page(Who::Neighbor, 0)) {
            actions.push(Action::GoRound);
        }
        if self.host.is_isolated(self.devices[0].id) && self.is_up(Who::Victim) {
            actions.push(Action::Reset);
        }
        actions
    }

    fn enable_fault(&self, actions: &mut Vec<Action>) {
        let victim = &self.devices[Who::Victim as usize];
        let answers = !victim.completions.is_empty() && !self.has_happened;
        match self.fault.mode() {
            Some(FaultMode::Lossy(_)) if answers => actions.push(Action::Lose(Who::Victim)),
            Some(FaultMode::Duplicate) if answers => actions.push(Action::Twice(Who::Victim)),
            Some(FaultMode::Silent | FaultMode::Flap { .. }) if !self.has_happened => {
                actions.push(Action::LinkDown);
            }
            Some(FaultMode::Flap { .. }) if !self.is_up(Who::Victim) => {
                actions.push(Action::LinkUp);
            }
            Some(FaultMode::Sleep) if !self.has_happened => actions.push(Action::Sleep),
            Some(FaultMode::Sleep) if victim.sleeps => actions.push(Action::Wake),
            _ => {}
        }
    }

    /// No time passes while something is under way, but to and from a victim that is late.
    fn may_wait(&self) -> bool {
        let is_idle = |who: Who| {
            let device = &self.devices[who as usize];
            let waits = !device.behavior.answers() || device.requests.is_empty();
            waits && device.completions.is_empty()
        };
        // The next thing is that the unit gives up.
        let gives_up = self.host.unit().poll_timeout() == self.host.poll_timeout();
        let is_late = matches!(self.fault.mode(), Some(FaultMode::Late(_)));
        let may_be_late = is_late && (self.may_be_too_late || !gives_up);
        let neighbor_waits = self.slow_neighbor && !gives_up;
        (neighbor_waits || is_idle(Who::Neighbor)) && (may_be_late || is_idle(Who::Victim))
    }

    fn is_mapped(&self, page: Page) -> bool {
        let mapped = |mapping: &Mapping| mapping.page == page && mapping.state == State::Mapped;
        self.mappings.iter().any(mapped)
    }

    fn is_up(&self, who: Who) -> bool {
        self.devices[who as usize].link.down().is_up()
    }

    /// Lets `action` happen, if it can.
    pub(super) fn act(&mut self, action: Action) -> bool {
        if !self.enabled().contains(&action) {
            return false;
        }
        match action {
            Action::Unmap(page) => self.unmap(page),
            Action::Deliver(who) => self.deliver(who),
            Action::Answer(who) => {
                if let Some(completion) = self.devices[who as usize].send() {
                    self.answer(who, completion);
                }
            }
            Action::Lose(who) => {
                self.has_happened = true;
                // It is lost after it was sent.
                let _ = self.devices[who as usize].send();
            }
            Action::Twice(who) => {
                self.has_happened = true;
                if let Some(completion) = self.devices[who as usize].send() {
                    self.answer(who, completion);
                    self.answer(who, completion);
                }
            }
            Action::Use(page) => self.touch(page),
            Action::Wait => self.wait(),
            Action::GoRound => self.go_round(),
            Action::LinkDown => {
                self.has_happened = true;
                self.set_link(self.fault.effect().link);
            }
            Action::LinkUp => self.set_link(LinkDownReasons::new()),
            Action::Sleep => {
                self.has_happened = true;
                self.set_asleep(true);
            }
            Action::Wake => self.set_asleep(false),
            Action::Reset => self.reset(),
        }
        true
    }

    /// Nothing more goes wrong, and all that can still come comes. A caller that waits then waits
    /// for ever, unless a time-out goes on and on.
    pub(super) fn settle(&mut self) {
        let patience = if self.properties { LONG_PATIENCE } else { PATIENCE };
        for _ in 0..patience {
            while let Some(action) = self.oldest_message() {
                self.act(action);
            }
            let waits = self.mappings.iter().any(|mapping| mapping.state != State::Mapped);
            let is_over = !waits || self.noted.contains(&Invariant::Late);
            if is_over || self.broken.is_some() {
                return;
            }
            if self.host.poll_timeout().is_none() {
                self.broken = Some(Invariant::LostWait);
                return;
            }
            self.wait();
        }
    }

    /// The message that arrives next, if nothing goes wrong: answers were on their way before
    /// requests.
    fn oldest_message(&self) -> Option<Action> {
        let actions = self.enabled();
        let answer = actions.iter().find(|action| matches!(action, Action::Answer(_)));
        let request = || actions.iter().find(|action| matches!(action, Action::Deliver(_)));
        answer.or_else(request).copied()
    }

    /// States that are alike have the same number.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let unit = self.host.unit();
        self.registers().hash(&mut hasher);
        let timeout = |at: Option<Instant>| at.map(|at| at - self.now);
        (timeout(self.host.poll_timeout()), timeout(unit.poll_timeout())).hash(&mut hasher);
        for mapping in &self.mappings {
            let since = match mapping.state {
                State::Mapped => None,
                State::Flushing(_, since, _) => Some(self.now - since),
            };
            (since, self.owner(mapping.page)).hash(&mut hasher);
        }
        for device in &self.devices {
            let is_held = self.host.is_isolated(device.id);
            (device.behavior, device.link.down().into_bits(), is_held).hash(&mut hasher);
            (device.sleeps, device.pending.of(device.id)).hash(&mut hasher);
            self.host.is_blocked(device.id).hash(&mut hasher);
            for request in &device.requests {
                (request.itag, request.range.start()).hash(&mut hasher);
            }
            for (itag, dropped) in &device.owed {
                (itag, dropped.range.start()).hash(&mut hasher);
            }
            for completion in &device.completions {
                completion.itag_vector.hash(&mut hasher);
                completion.completion_count.hash(&mut hasher);
            }
        }
        for sent in &self.devices[Who::Neighbor as usize].unanswered {
            (self.now - *sent).hash(&mut hasher);
        }
        (self.has_happened, self.abandoned).hash(&mut hasher);
        hasher.finish()
    }

    /// The owner of the frame that a function's ATC holds for a page, if the ATC holds one.
    fn owner(&self, page: Page) -> Option<FrameOwner> {
        let hit = self.devices[page.0 as usize].atc.lookup(None, iova(page))?;
        Some(self.owner_of(frame_of(hit.output)))
    }

    fn owner_of(&self, frame: u64) -> FrameOwner {
        if let Some((_, success)) = self.taken.iter().find(|(taken, _)| *taken == frame) {
            return FrameOwner::Other(*success);
        }
        let owned = self.mappings.iter().find(|mapping| mapping.frame == frame);
        match owned.map(|mapping| mapping.state) {
            Some(State::Flushing(..)) => FrameOwner::Pending,
            _ => FrameOwner::Function,
        }
    }

    /// A new frame is behind `page`.
    fn map(&mut self, page: Page) -> u64 {
        let frame = self.next_frame;
        self.next_frame += 1;
        let output = Gpa(FRAMES + frame * PAGE_SIZE);
        tables::set(&self.memory, self.devices[page.0 as usize].id, iova(page), Some(output));
        frame
    }

    /// Takes requests and verdicts from the host. Returns whether a caller was told a verdict.
    fn collect(&mut self) -> bool {
        while let Some(request) = self.host.poll_request() {
            let mut devices = self.devices.iter_mut();
            if let Some(device) = devices.find(|device| device.id == request.destination) {
                device.unanswered.push_back(self.now);
                device.requests.push_back(request);
            }
        }
        let mut reported = false;
        self.note_properties();
        while let Some(ended) = self.host.poll_verdict() {
            reported = true;
            self.reported = Some(ended.ticket);
            self.returned(ended.ticket, ended.verdict);
        }
        self.note_properties();
        if self.host.counters().false_completions > self.false_completions {
            self.false_completions = self.host.counters().false_completions;
            self.broken = Some(Invariant::FalseCompletion);
        }
        reported
    }

    /// Notes callers that wait for too long, and harm to the neighbor.
    fn note_properties(&mut self) {
        if !self.properties {
            return;
        }
        let is_late = |mapping: &Mapping| match mapping.state {
            State::Flushing(_, since, _) => self.now - since >= LockupDetector::Hard.threshold(),
            State::Mapped => false,
        };
        if self.mappings.iter().any(is_late) {
            self.noted.insert(Invariant::Late);
        }
        let neighbor = &self.devices[Who::Neighbor as usize];
        let is_isolated = self.host.is_isolated(neighbor.id);
        let isolates = is_isolated && !std::mem::replace(&mut self.holds_neighbor, is_isolated);
        if neighbor.was_reset || (isolates && !neighbor.looks_mute(self.now)) {
            self.noted.insert(Invariant::Unfair);
        }
    }

    /// A call returns: its frame is given away, and another takes its place.
    fn returned(&mut self, ticket: Ticket, verdict: Verdict) {
        let is_its = |mapping: &Mapping| matches!(mapping.state, State::Flushing(waits, ..) if waits == ticket);
        let Some(index) = self.mappings.iter().position(is_its) else { return };
        let Mapping { page, frame, state } = self.mappings[index];
        let holds = self.devices[page.0 as usize].atc.lookup(None, iova(page));
        let holds_it = holds.is_some_and(|hit| frame_of(hit.output) == frame);
        // If the function lies, the completion is the caller's own.
        let lies = self.devices[page.0 as usize].behavior.lies();
        if verdict == Verdict::Completed && holds_it && !lies {
            self.broken = Some(Invariant::FalseCompletion);
        }
        if let State::Flushing(_, _, Some(slot)) = state
            && verdict == Verdict::DeadlinePassed
        {
            self.abandoned = Some(slot);
        }
        self.taken.push((frame, verdict.is_success()));
        let next = self.map(page);
        self.mappings[index] = Mapping { page, frame: next, state: State::Mapped };
    }

    /// The slot that the driver writes next.
    fn tail(&self) -> u32 {
        self.register(offset::IQT) / 16
    }

    /// The registers of the queue that software can read.
    fn registers(&self) -> [u32; 5] {
        let error = offset::IQERCD;
        [offset::FSTS, offset::IQH, offset::IQT, error, error + 4].map(|at| self.register(at))
    }

    fn register(&self, at: u16) -> u32 {
        let mut value = [0; 4];
        self.host.unit().read(at.into(), &mut value);
        u32::from_le_bytes(value)
    }
}

fn iova(page: Page) -> Iova {
    Iova(0x1000 + u64::from(page.1) * PAGE_SIZE)
}

fn frame_of(output: Gpa) -> u64 {
    output.0.wrapping_sub(FRAMES) / PAGE_SIZE
}
