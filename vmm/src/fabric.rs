//! The root complex as threads see it: one lock, one clock, and the roads that lead out of it.
//!
//! ```text
//!   CPU threads ----+                      +--> KVM: interrupts
//!                   +--> lock, call, drain-+--> I/O APIC: wires have changed
//!   event loop  ----+                      +--> timer: when to call again
//! ```

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use devices::root_complex::RootComplex;
use iommu::ats::Msi;
use iommu::time::Instant;
use vmm_sys_util::timerfd::TimerFd;

use crate::Error;
use crate::clock::Clock;
use crate::interrupts::Interrupts;
use crate::kvm::Injector;

/// The root complex, shared by all threads.
pub(crate) struct Fabric {
    /// No other lock is taken while this one is held.
    state: Mutex<State>,
    timer: RawFd,
    clock: Clock,
    injector: Injector,
    /// Where the wires of functions on bus 0 lead. It holds this fabric, which therefore must not
    /// hold it.
    io_apic: OnceLock<Weak<Interrupts>>,
}

struct State {
    root_complex: RootComplex,
    timer: TimerFd,
    /// When the timer fires; at the root complex's next deadline or before.
    armed: Option<Instant>,
}

impl Fabric {
    pub(crate) fn new(
        root_complex: RootComplex,
        clock: Clock,
        injector: Injector,
    ) -> Result<Self, Error> {
        let timer = TimerFd::new().map_err(Error::host("make a timer"))?;
        let fd = timer.as_raw_fd();
        let state = Mutex::new(State { root_complex, timer, armed: None });
        Ok(Self { state, timer: fd, clock, injector, io_apic: OnceLock::new() })
    }

    /// From now on `io_apic` is told when wires change. There is one; a second is not heeded.
    pub(crate) fn connect(&self, io_apic: Weak<Interrupts>) {
        let _ = self.io_apic.set(io_apic);
    }

    /// The pins of the I/O APIC that are asserted, a bit for each.
    pub(crate) fn lines(&self) -> u32 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).root_complex.lines()
    }

    /// Calls the root complex, arms the timer for what it wants next, and then, with the lock
    /// released, delivers the interrupts that have come of it.
    ///
    /// Who calls finds it as it is at this moment: what is due happens first, even if the event
    /// loop has not been given a CPU yet. A guest that polls thus sees a time-out when it comes, and
    /// not when the host's scheduler gets round to it.
    pub(crate) fn with<R>(&self, call: impl FnOnce(&mut RootComplex, Instant) -> R) -> R {
        let (result, wires_changed) = self.call(call);
        if wires_changed && let Some(io_apic) = self.io_apic.get().and_then(Weak::upgrade) {
            io_apic.follow_wires();
        }
        result
    }

    /// As [`Self::with`], but leaves it to the caller to follow the wires, and says whether they have
    /// changed: the I/O APIC calls with its lock held.
    pub(crate) fn call<R>(&self, call: impl FnOnce(&mut RootComplex, Instant) -> R) -> (R, bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if state.root_complex.poll_timeout().is_some_and(|due| due <= now) {
            state.root_complex.handle_timeout(now);
        }
        let result = call(&mut state.root_complex, now);
        let messages: Vec<Msi> =
            std::iter::from_fn(|| state.root_complex.poll_interrupt()).collect();
        let wires_changed = std::iter::from_fn(|| state.root_complex.poll_line()).count() > 0;
        state.arm(now);
        drop(state);
        for message in messages {
            self.injector.inject(message);
        }
        (result, wires_changed)
    }

    /// The timer's descriptor: readable means that [`Self::handle_timer`] is due.
    pub(crate) fn timer(&self) -> RawFd {
        self.timer
    }

    /// The timer has fired: what is due happens on the way.
    pub(crate) fn handle_timer(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).disarm();
        self.with(|_, _| {});
    }
}

impl State {
    /// Makes the timer fire no later than the root complex wants. A deadline that has moved
    /// further away is left alone: the timer then fires once for nothing, which is cheaper than a
    /// system call for each change.
    fn arm(&mut self, now: Instant) {
        let Some(deadline) = self.root_complex.poll_timeout() else { return };
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
