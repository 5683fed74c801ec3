//! The controller: fetches commands, executes them after their latency, and completes them.
//!
//! ```text
//!   doorbell --> fetch (round robin, reserves a completion queue entry) ------> in flight
//!                                                                                  | latency
//!   interrupt <-- completion entry <-- admin, io: data, storage <------------------+
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use iommu::time::Instant;

use super::events::{Event, Events};
use super::features::Features;
use super::identify::Identity;
use super::logs::Logs;
use super::memory::Memory;
use super::model::{MAX_TRANSFER, MIN_LATENCY, QUEUES};
use super::queue::{CompletionQueue, SubmissionQueue};
use super::regs::{Configuration, Doorbell, Effect, Registers};
use super::spec::{COMMAND_SIZE, Command, Completion, NSID_ALL, Outcome, Status, StatusField};
use super::storage::Storage;

/// Commands that can be in flight.
const MAX_IN_FLIGHT: usize = 64;
/// Commands that one call executes at most.
const BATCH: usize = 32;

/// A command between its fetch and its completion.
#[derive(Debug)]
struct InFlight {
    queue: u16,
    command: Command,
    due: Instant,
    /// The outcome of a command whose request for memory was not answered. It ends when the
    /// Completion Timeout has passed.
    outcome: Option<Outcome>,
}

/// The controller.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) registers: Registers,
    pub(super) submission: [Option<SubmissionQueue>; QUEUES],
    pub(super) completion: [Option<CompletionQueue>; QUEUES],
    /// Commands in flight, by the time at which they are due.
    in_flight: VecDeque<InFlight>,
    /// The submission queue that is fetched from next.
    turn: usize,
    /// When to fetch again, after bus mastering was enabled.
    resume_due: Option<Instant>,
    shutdown_due: Option<Instant>,
    /// When CSTS.CFS is set: a fetch or a completion was not answered.
    fail_due: Option<Instant>,
    /// I/O commands until the controller hangs, which it does once after power-on.
    hang_after: Option<u32>,
    commands_until_hang: Option<u32>,
    /// It executes nothing, and says nothing, until a reset.
    is_hung: bool,
    pub(super) events: Events,
    pub(super) features: Features,
    pub(super) logs: Logs,
    pub(super) identity: Identity,
    /// The namespaces, from id 1 up.
    pub(super) namespaces: Vec<Box<dyn Storage>>,
    /// The data of the command that executes, [`MAX_TRANSFER`] bytes.
    pub(super) buffer: Vec<u8>,
    latency: Duration,
    /// Vectors with new completions, a bit for each.
    interrupts: u16,
}

impl Controller {
    pub(super) fn new(
        namespaces: Vec<Box<dyn Storage>>,
        identity: Identity,
        latency: Duration,
        hang_after: Option<u32>,
    ) -> Self {
        Self {
            registers: Registers {
                is_virtual: identity.role.is_secondary(),
                ..Registers::default()
            },
            submission: Default::default(),
            completion: Default::default(),
            in_flight: VecDeque::with_capacity(MAX_IN_FLIGHT),
            turn: 0,
            resume_due: None,
            shutdown_due: None,
            fail_due: None,
            hang_after,
            commands_until_hang: hang_after,
            is_hung: false,
            events: Events::default(),
            features: Features::default(),
            logs: Logs::default(),
            identity,
            namespaces,
            buffer: vec![0; MAX_TRANSFER],
            latency,
            interrupts: 0,
        }
    }

    /// Carries out a write to a register.
    pub(super) fn register_written(&mut self, effect: Effect, now: Instant) {
        match effect {
            Effect::Enable => self.enable(),
            Effect::Reset => {
                self.registers.controller_reset();
                self.clear();
            }
            // Of the function, which resets the rest and then this.
            Effect::SubsystemReset => self.registers.status.set_subsystem_reset(true),
            Effect::Shutdown if self.is_hung => {}
            Effect::Shutdown => {
                self.registers.status.set_shutdown(1);
                self.shutdown_due = Some(now + self.latency);
            }
        }
    }

    /// Resets everything but the namespaces, the logs and CSTS.NSSRO.
    pub(super) fn reset(&mut self) {
        let status = self.registers.status_after_reset();
        let is_virtual = self.registers.is_virtual;
        self.registers = Registers { status, is_virtual, ..Registers::default() };
        self.clear();
    }

    /// Counts a power cycle in the logs, and power-cycles the namespaces. The logs of a virtual
    /// function begin anew: its next user may be another one.
    pub(super) fn power_cycle(&mut self) {
        const COMPLETE: u8 = 2;
        let safe =
            self.registers.status.shutdown() == COMPLETE || !self.registers.configuration.enable();
        if self.registers.is_virtual {
            self.logs = Logs::default();
        } else {
            self.logs.unsafe_shutdowns += u64::from(!safe);
            self.logs.power_losses += 1;
        }
        self.registers.status.set_subsystem_reset(false);
        self.commands_until_hang = self.hang_after;
        self.namespaces.iter_mut().for_each(|medium| medium.power_cycle());
    }

    /// Carries out a write to a doorbell.
    pub(super) fn write_doorbell(
        &mut self,
        doorbell: Doorbell,
        value: u32,
        memory: &mut Memory<'_>,
    ) {
        if !self.is_running() {
            return;
        }
        let valid = match doorbell {
            Doorbell::Tail(queue) => {
                self.submission[usize::from(queue)].as_mut().map(|queue| queue.set_tail(value))
            }
            Doorbell::Head(queue) => {
                self.completion[usize::from(queue)].as_mut().map(|queue| queue.set_head(value))
            }
        };
        match valid {
            Some(true) => {}
            Some(false) => self.events.raise(Event::InvalidDoorbellValue),
            None => self.events.raise(Event::InvalidDoorbell),
        }
        self.advance(memory);
    }

    /// Carries out a write to the doorbell of a queue that the controller does not have.
    pub(super) fn write_invalid_doorbell(&mut self, memory: &mut Memory<'_>) {
        if self.is_running() {
            self.events.raise(Event::InvalidDoorbell);
            self.advance(memory);
        }
    }

    /// Bus mastering has been enabled.
    pub(super) fn resume(&mut self, now: Instant) {
        self.resume_due = self.is_running().then_some(now);
    }

    /// When [`Self::handle_timeout`] must be called next. Without bus mastering only a shutdown is
    /// due.
    pub(super) fn poll_timeout(&self, bus_master: bool) -> Option<Instant> {
        let command = self.in_flight.front().map(|command| command.due);
        let of_master = Instant::earliest([command, self.resume_due]).filter(|_| bus_master);
        Instant::earliest([of_master, self.shutdown_due, self.fail_due])
    }

    /// Executes the commands that are due, and completes a shutdown.
    pub(super) fn handle_timeout(&mut self, memory: &mut Memory<'_>) {
        let now = memory.bus.now;
        if self.fail_due.is_some_and(|due| due <= now) {
            self.fail();
        }
        if memory.bus.rights.bus_master {
            self.resume_due.take_if(|due| *due <= now);
            for _ in 0..BATCH {
                let due = self.in_flight.pop_front_if(|command| command.due <= now);
                let Some(InFlight { queue, command, outcome, .. }) = due else { break };
                match outcome {
                    Some(outcome) => self.complete(queue, &command, outcome, memory),
                    None => self.execute(queue, command, memory),
                }
            }
            self.advance(memory);
        }
        if self.shutdown_due.take_if(|due| *due <= now).is_some() {
            // A failure is in the log. The shutdown completes anyway.
            let _ = self.flush(NSID_ALL);
            self.registers.status.set_shutdown(2);
        }
    }

    /// The vectors with new completions since the last call, a bit for each.
    pub(super) fn take_interrupts(&mut self) -> u16 {
        std::mem::take(&mut self.interrupts)
    }

    /// Aborts the command `identifier` of `queue`, if it has not been executed. Returns whether it
    /// was aborted.
    pub(super) fn abort(&mut self, queue: u16, identifier: u16, memory: &mut Memory<'_>) -> bool {
        let is_meant = |other: &InFlight| is_same(other, queue, identifier);
        if let Some(position) = self.in_flight.iter().position(is_meant)
            && let Some(InFlight { command, .. }) = self.in_flight.remove(position)
        {
            self.complete(queue, &command, Err(Status::AbortRequested), memory);
            return true;
        }
        let room = queue == 0
            && self.events.has_request(identifier)
            && self.completion[0].as_mut().is_some_and(CompletionQueue::reserve);
        if room && self.events.abort(identifier) {
            let status = StatusField::from(Status::AbortRequested);
            self.post(0, identifier, 0, status, memory);
        }
        room
    }

    /// Drops the commands in flight from `queue`, which is deleted.
    pub(super) fn drop_commands(&mut self, queue: u16, completion_queue: u16) {
        let before = self.in_flight.len();
        self.in_flight.retain(|command| command.queue != queue);
        if let Some(completions) = &mut self.completion[usize::from(completion_queue)] {
            (self.in_flight.len()..before).for_each(|_| completions.release());
        }
    }

    fn is_running(&self) -> bool {
        let status = self.registers.status;
        let is_enabled = status.ready() && !status.fatal() && status.shutdown() == 0;
        is_enabled && self.fail_due.is_none() && !self.is_hung
    }

    fn enable(&mut self) {
        let Registers { configuration, attributes, submission_base, completion_base, .. } =
            self.registers;
        let sizes = [attributes.submission_size(), attributes.completion_size()];
        if !is_supported(configuration) || sizes.contains(&0) {
            self.fail();
            return;
        }
        self.submission[0] = Some(SubmissionQueue::new(submission_base, sizes[0] + 1, 0));
        self.completion[0] = Some(CompletionQueue::new(completion_base, sizes[1] + 1, Some(0)));
        self.registers.status = self.registers.status_after_reset().with_ready(true);
    }

    fn clear(&mut self) {
        self.submission = Default::default();
        self.completion = Default::default();
        self.in_flight.clear();
        self.turn = 0;
        (self.resume_due, self.shutdown_due, self.fail_due) = (None, None, None);
        self.is_hung = false;
        self.events = Events::default();
        self.features = Features::default();
        self.interrupts = 0;
    }

    /// Sets CSTS.CFS, and stops until a reset.
    fn fail(&mut self) {
        self.registers.status.set_fatal(true);
        self.in_flight.clear();
        self.fail_due = None;
    }

    /// Fails after a request for memory: at once, or after the Completion Timeout if it was not
    /// answered. Until then the controller waits.
    fn fail_by(&mut self, memory: &mut Memory<'_>) {
        match memory.take_unanswered() {
            None => self.fail(),
            Some(wait) => {
                self.in_flight.clear();
                self.fail_due = wait.map(|wait| memory.bus.now + wait);
                self.is_hung |= wait.is_none();
            }
        }
    }

    /// Counts an I/O command. Returns whether the controller hangs instead of executing it.
    fn hangs(&mut self) -> bool {
        match &mut self.commands_until_hang {
            None => return false,
            Some(0) => {}
            Some(left) => {
                *left -= 1;
                return false;
            }
        }
        self.commands_until_hang = None;
        self.is_hung = true;
        self.in_flight.clear();
        true
    }

    /// Fetches commands while there is room, and completes Asynchronous Event Requests.
    fn advance(&mut self, memory: &mut Memory<'_>) {
        let mut idle = 0;
        while memory.bus.rights.bus_master && self.is_running() {
            if self.in_flight.len() == MAX_IN_FLIGHT || idle == QUEUES {
                break;
            }
            let fetched = self.fetch(self.turn, memory).is_some();
            idle = if fetched { 0 } else { idle + 1 };
            self.turn = (self.turn + 1) % QUEUES;
        }
        while memory.bus.rights.bus_master
            && self.is_running()
            && self.events.is_ready()
            && self.completion[0].as_mut().is_some_and(CompletionQueue::reserve)
        {
            if let Some((identifier, event)) = self.events.take() {
                self.post(0, identifier, event.dword0(), StatusField::new(), memory);
            }
        }
    }

    /// Fetches one command from queue `index`. `None` if the queue has none, or if its completion
    /// queue has no free entry.
    fn fetch(&mut self, index: usize, memory: &mut Memory<'_>) -> Option<()> {
        let queue = self.submission[index].as_mut()?;
        let address = queue.next()?;
        let completions = self.completion[usize::from(queue.completion_queue)].as_mut()?;
        if !completions.reserve() {
            return None;
        }
        let mut bytes = [0; COMMAND_SIZE as usize];
        if memory.read(address, &mut bytes).is_err() {
            self.fail_by(memory);
            return None;
        }
        queue.advance();
        // Only I/O commands have the latency of the medium, so that an Abort can overtake them.
        let due = memory.bus.now + if index == 0 { MIN_LATENCY } else { self.latency };
        let command = Command::decode(&bytes);
        let position = self.in_flight.partition_point(|other| other.due <= due);
        let queue = index as u16;
        self.in_flight.insert(position, InFlight { queue, command, due, outcome: None });
        Some(())
    }

    fn execute(&mut self, queue: u16, command: Command, memory: &mut Memory<'_>) {
        if queue != 0 && self.hangs() {
            return;
        }
        let identifier = command.identifier();
        let conflict = self.in_flight.iter().any(|other| is_same(other, queue, identifier))
            || queue == 0 && self.events.has_request(identifier);
        let outcome = if conflict {
            Some(Err(Status::CommandIdConflict))
        } else if command.head().fuse() != 0 {
            Some(Err(Status::InvalidField))
        } else if queue == 0 {
            self.admin(&command, memory).transpose()
        } else {
            Some(self.io(&command, memory))
        };
        match (outcome, memory.take_unanswered()) {
            // With Completion Timeout Disable it waits for ever.
            (Some(outcome), Some(wait)) => {
                let Some(wait) = wait else { return };
                let (due, outcome) = (memory.bus.now + wait, Some(outcome));
                let position = self.in_flight.partition_point(|other| other.due <= due);
                self.in_flight.insert(position, InFlight { queue, command, due, outcome });
            }
            (Some(outcome), None) => self.complete(queue, &command, outcome, memory),
            // The command may be outstanding for ever, and must not keep a completion queue entry.
            (None, _) => self.completion[0].iter_mut().for_each(CompletionQueue::release),
        }
    }

    fn complete(
        &mut self,
        queue: u16,
        command: &Command,
        outcome: Outcome,
        memory: &mut Memory<'_>,
    ) {
        let status = outcome.map_or_else(StatusField::from, |_| StatusField::new());
        if outcome.is_err() {
            self.logs.record(queue, command, status);
        }
        self.post(queue, command.identifier(), outcome.unwrap_or(0), status, memory);
    }

    /// Writes a completion to the entry that is reserved for it.
    fn post(
        &mut self,
        queue: u16,
        identifier: u16,
        result: u32,
        status: StatusField,
        memory: &mut Memory<'_>,
    ) {
        let Some(submission) = &self.submission[usize::from(queue)] else { return };
        let index = usize::from(submission.completion_queue);
        let Some(completions) = &mut self.completion[index] else { return };
        let completion = Completion {
            result,
            submission_head: submission.head(),
            submission_queue: queue,
            identifier,
            status,
        };
        let (address, phase) = completions.take_slot();
        match memory.write(address, &completion.encode(phase)) {
            Ok(()) => self.interrupts |= completions.vector.map_or(0, |vector| 1 << vector),
            Err(_) => self.fail_by(memory),
        }
    }
}

fn is_same(command: &InFlight, queue: u16, identifier: u16) -> bool {
    command.queue == queue && command.command.identifier() == identifier
}

/// Whether CC asks for the NVM command set, pages of 4 KiB, and round robin arbitration.
fn is_supported(configuration: Configuration) -> bool {
    configuration.command_set() == 0
        && configuration.page_size() == 0
        && configuration.arbitration() == 0
}
