//! The chipset as threads see it: one lock, one clock, one timer.
//!
//! ```text
//!   CPU threads ------+                        +--> under it: routes to KVM, end of the run, timer
//!   event loop -------+--> lock, call, drain --+
//!   VmHandle ---------+                        +--> after it: interrupts, console output
//! ```

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use devices::chipset::{self, Chipset};
use devices::fault::GuestConsole;
use iommu::ats::Msi;
use iommu::time::Instant;
use vm_device::bus::{MmioAddress, PioAddress};
use vm_device::{DeviceMmio, DevicePio};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use crate::Error;
use crate::clock::Clock;
use crate::console::Output;
use crate::console_watch::ConsoleWatch;
use crate::debug_console::{DebugLine, DebugOutput};
use crate::exit::{Exit, RunEnd};
use crate::kvm::{InterruptSink, Routes};

/// The chipset, shared by all threads.
pub(crate) struct SharedMachine {
    /// The machine's only lock. Under it no thread waits for the guest, for a reader of the console,
    /// or for another lock than that of `run_end`, under which nothing else is locked.
    state: Mutex<State>,
    timer: RawFd,
    clock: Clock,
    interrupts: Box<dyn InterruptSink>,
    console: Output,
    debugcon: DebugOutput,
    /// Written when COM1 has room for input again.
    room: EventFd,
    run_end: Arc<RunEnd>,
}

struct State {
    chipset: Chipset,
    /// The chipset's next deadline, as of the end of the last call.
    due: Option<Instant>,
    timer: TimerFd,
    /// When the timer fires; at the chipset's next deadline or before.
    armed: Option<Instant>,
    routes: Routes,
    watch: ConsoleWatch,
    debug: DebugLine,
    /// Whether the guest has sent anything to COM1 or to the debug console.
    has_spoken: bool,
}

/// The sinks of the chipset's outputs.
pub(crate) struct Outside {
    /// To the local APICs.
    pub(crate) interrupts: Box<dyn InterruptSink>,
    /// COM1's output.
    pub(crate) console: Output,
    /// The debug console's output.
    pub(crate) debugcon: DebugOutput,
    /// Written when COM1 has room for input again.
    pub(crate) room: EventFd,
    /// Told when the guest ends its run.
    pub(crate) run_end: Arc<RunEnd>,
}

impl SharedMachine {
    /// A machine whose clock starts now.
    pub(crate) fn new(chipset: Chipset, outside: Outside) -> Result<Self, Error> {
        let timer = TimerFd::new().map_err(Error::host("make a timer"))?;
        let fd = timer.as_raw_fd();
        let watch = ConsoleWatch::new(&chipset, GuestConsole::Serial)?;
        let debug = DebugLine::new(&chipset)?;
        let routes = Routes::new()?;
        let due = chipset.poll_timeout();
        let (armed, has_spoken) = (None, false);
        let state = State { chipset, due, timer, armed, routes, watch, debug, has_spoken };
        let Outside { interrupts, console, debugcon, room, run_end } = outside;
        let (state, clock) = (Mutex::new(state), Clock::start());
        let this = Self { state, timer: fd, clock, interrupts, console, debugcon, room, run_end };
        // Sets the timer for what is to happen at a time.
        this.with(|_, _| {});
        Ok(this)
    }

    /// Calls the chipset, and then does what it asks for.
    ///
    /// Timers that are due fire before the call, even if the event loop has not been given a CPU yet. A
    /// guest that polls thus sees a time-out when it comes, and not when the host's scheduler runs
    /// the event loop.
    pub(crate) fn with<R>(&self, call: impl FnOnce(&mut Chipset, Instant) -> R) -> R {
        let mut state = self.lock();
        let now = self.clock.now();
        if state.due.is_some_and(|due| due <= now) {
            state.chipset.handle_timeout(now);
        }
        let result = call(&mut state.chipset, now);
        self.drain(state, now);
        result
    }

    /// A CPU has ended the level-triggered interrupt `vector`.
    pub(crate) fn end_of_interrupt(&self, vector: u8) {
        self.with(|chipset, now| chipset.end_of_interrupt(vector, now));
    }

    /// The timer's descriptor: readable means that [`Self::handle_timer`] is due.
    pub(crate) fn timer(&self) -> RawFd {
        self.timer
    }

    /// The timer has fired: [`Self::with`] does the work.
    pub(crate) fn handle_timer(&self) {
        self.lock().disarm();
        self.with(|_, _| {});
    }

    /// Passes on the line of the debug console that has no end yet. To be called when the CPUs have
    /// ended.
    pub(crate) fn end_debug_line(&self) {
        let line = self.lock().debug.take();
        if !line.is_empty() {
            self.debugcon.write(line);
        }
    }

    /// Whether the guest has sent anything to COM1 or to the debug console.
    pub(crate) fn has_spoken(&self) -> bool {
        self.lock().has_spoken
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the chipset's outputs ask for, with the lock held as long as its order matters.
    fn drain<'a>(&'a self, mut state: MutexGuard<'a, State>, now: Instant) {
        loop {
            let mut batch = self.collect(&mut state, now);
            state.arm(now);
            drop(state);
            batch.interrupts().iter().for_each(|msi| self.interrupts.inject(*msi));
            if !batch.console().is_empty() {
                self.console.write(batch.console());
            }
            let is_full = batch.is_full();
            if let Some(line) = batch.debug_line.take() {
                self.debugcon.write(line);
            }
            if !is_full {
                return;
            }
            state = self.lock();
        }
    }

    /// Takes outputs until there are none, or the batch is full. KVM hears of routes here: of two
    /// changes of a route the later one comes last, and none comes after an interrupt that it is
    /// about.
    fn collect(&self, state: &mut State, now: Instant) -> Batch {
        let mut batch = Batch::EMPTY;
        let mut routes_changed = false;
        while !batch.is_full() {
            let Some(output) = state.chipset.poll_output() else { break };
            match output {
                chipset::Output::Interrupt(msi) => batch.push_interrupt(msi),
                chipset::Output::Route { pin, msi } => {
                    state.routes.set(pin, msi);
                    routes_changed = true;
                }
                chipset::Output::Console(byte) => {
                    batch.push_console(byte);
                    state.note_sent(byte, now);
                }
                chipset::Output::DebugConsole(byte) => {
                    batch.debug_line = state.note_debug(byte, now, self.debugcon.discards());
                }
                chipset::Output::ConsoleEmpty => {
                    // Fails only if the counter is full: the event loop wakes up already.
                    let _ = self.room.write(1);
                }
                chipset::Output::Exit(exit) => self.run_end.end(Ok(Exit::from(exit))),
                chipset::Output::Line(_) => {}
            }
        }
        if routes_changed && let Err(error) = self.interrupts.set_routes(&state.routes) {
            self.run_end.end(Err(error));
        }
        batch
    }
}

impl State {
    /// The guest has sent `byte`. Faults that wait for it happen at once.
    fn note_sent(&mut self, byte: u8, now: Instant) {
        self.has_spoken = true;
        for fault in self.watch.sent(&[byte]) {
            self.chipset.console_matched(fault, now);
        }
    }

    /// The guest has sent `byte` to the debug console. Faults that wait for the line happen when it
    /// ends. Returns the line then, unless it goes nowhere.
    fn note_debug(&mut self, byte: u8, now: Instant, discards: bool) -> Option<Vec<u8>> {
        self.has_spoken = true;
        if !self.debug.push(byte) {
            return None;
        }
        for fault in self.debug.matched() {
            self.chipset.console_matched(fault, now);
        }
        if discards {
            self.debug.discard();
            return None;
        }
        Some(self.debug.take())
    }

    /// Notes the chipset's next deadline, and makes the timer fire no later. A deadline that has
    /// moved further away is left alone: the timer then fires once for nothing, which is cheaper than
    /// a system call for each change.
    fn arm(&mut self, now: Instant) {
        self.due = self.chipset.poll_timeout();
        let Some(deadline) = self.due else { return };
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return;
        }
        // Zero would disarm it.
        let wait = (deadline - now).max(Duration::from_nanos(1));
        if self.timer.reset(wait, None).is_ok() {
            self.armed = Some(deadline);
        }
    }

    /// Also takes back that the timer is readable. It is not read: if another thread had armed it
    /// again in between, that would block.
    fn disarm(&mut self) {
        // Fails for no argument that is given here; the timer would fire again, for nothing.
        let _ = self.timer.clear();
        self.armed = None;
    }
}

/// Work for after the lock is released. It lives on the stack: an access allocates nothing, but for
/// the end of a line of the debug console.
struct Batch {
    interrupts: [Msi; Self::SIZE],
    interrupt_count: usize,
    console: [u8; Self::SIZE],
    console_count: usize,
    debug_line: Option<Vec<u8>>,
}

impl Batch {
    const SIZE: usize = 8;
    const EMPTY: Self = Self {
        interrupts: [Msi { address: 0, data: 0 }; Self::SIZE],
        interrupt_count: 0,
        console: [0; Self::SIZE],
        console_count: 0,
        debug_line: None,
    };

    fn push_interrupt(&mut self, msi: Msi) {
        self.interrupts[self.interrupt_count] = msi;
        self.interrupt_count += 1;
    }

    fn push_console(&mut self, byte: u8) {
        self.console[self.console_count] = byte;
        self.console_count += 1;
    }

    fn interrupts(&self) -> &[Msi] {
        &self.interrupts[..self.interrupt_count]
    }

    fn console(&self) -> &[u8] {
        &self.console[..self.console_count]
    }

    fn is_full(&self) -> bool {
        self.interrupt_count == Self::SIZE
            || self.console_count == Self::SIZE
            || self.debug_line.is_some()
    }
}

impl DevicePio for SharedMachine {
    fn pio_read(&self, base: PioAddress, offset: u16, data: &mut [u8]) {
        self.with(|chipset, now| chipset.port_read(base.0 + offset, data, now));
    }

    fn pio_write(&self, base: PioAddress, offset: u16, data: &[u8]) {
        self.with(|chipset, now| chipset.port_write(base.0 + offset, data, now));
    }
}

impl DeviceMmio for SharedMachine {
    fn mmio_read(&self, base: MmioAddress, offset: u64, data: &mut [u8]) {
        self.with(|chipset, now| chipset.memory_read(base.0 + offset, data, now));
    }

    fn mmio_write(&self, base: MmioAddress, offset: u64, data: &[u8]) {
        self.with(|chipset, now| chipset.memory_write(base.0 + offset, data, now));
    }
}

#[cfg(test)]
mod tests;
