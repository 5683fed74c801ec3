//! How a run ends: the first reason wins, whichever thread has it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use devices::chipset::GuestExit;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::Error;

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// The guest has written this to the debug-exit port.
    DebugExit(u32),
    /// The guest has switched itself off.
    PowerOff,
    /// The guest has reset itself.
    Reset,
    /// The guest has suspended itself to RAM: see [`VmHandle::suspended`](crate::VmHandle::suspended).
    Sleep,
    /// This signal came.
    Signal(i32),
    /// The time limit has passed.
    TimeLimit,
    /// [`VmHandle::stop`](crate::VmHandle::stop) was called, or the user typed Ctrl-A x.
    Stopped,
}

impl Exit {
    /// The exit status that says the same: what isa-debug-exit makes of the value, 128 + n for
    /// signal n, 124 for the time limit (as `timeout` does), else 0.
    pub fn status(self) -> u8 {
        match self {
            Self::DebugExit(value) => (value << 1 | 1) as u8,
            Self::PowerOff | Self::Reset | Self::Sleep | Self::Stopped => 0,
            Self::Signal(number) => 128_u8.saturating_add(u8::try_from(number).unwrap_or(u8::MAX)),
            Self::TimeLimit => 124,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DebugExit(value) => write!(f, "debug exit {value:#x}"),
            Self::PowerOff => f.write_str("power-off"),
            Self::Reset => f.write_str("reset"),
            Self::Sleep => f.write_str("suspend to RAM"),
            Self::Signal(number) => write!(f, "signal {number}"),
            Self::TimeLimit => f.write_str("its time limit"),
            Self::Stopped => f.write_str("its user"),
        }
    }
}

impl From<GuestExit> for Exit {
    fn from(exit: GuestExit) -> Self {
        match exit {
            GuestExit::Debug(value) => Self::DebugExit(value),
            GuestExit::PowerOff => Self::PowerOff,
            GuestExit::Reset => Self::Reset,
            GuestExit::Sleep => Self::Sleep,
        }
    }
}

/// The place where any thread says that the run is over.
#[derive(Debug)]
pub(crate) struct RunEnd {
    /// No lock is taken while this one is held.
    outcome: Mutex<Option<Result<Exit, Error>>>,
    over: AtomicBool,
    wake: EventFd,
}

impl RunEnd {
    pub(crate) fn new() -> Result<Self, Error> {
        let wake =
            EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(Error::host("make an eventfd"))?;
        Ok(Self { outcome: Mutex::new(None), over: AtomicBool::new(false), wake })
    }

    /// The run is over, for this reason unless there is an earlier one.
    pub(crate) fn end(&self, outcome: Result<Exit, Error>) {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(outcome);
        self.over.store(true, Ordering::SeqCst);
        // Fails only if the counter is full, and then all waiters wake up already.
        let _ = self.wake.write(1);
    }

    /// Whether the run is over.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Readable from the moment that the run is over. It is never read, so that it stays so.
    pub(crate) fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// The reason, once.
    pub(crate) fn take(&self) -> Option<Result<Exit, Error>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_follow_isa_debug_exit_and_the_shell() {
        for (exit, status) in [
            (Exit::DebugExit(0), 1),
            (Exit::DebugExit(0x10), 0x21),
            (Exit::DebugExit(0xffff_ffff), 0xff),
            (Exit::PowerOff, 0),
            (Exit::Reset, 0),
            (Exit::Stopped, 0),
            (Exit::Signal(15), 143),
            (Exit::TimeLimit, 124),
        ] {
            assert_eq!(exit.status(), status, "{exit:?}");
        }
    }

    #[test]
    fn the_first_reason_wins() {
        let run_end = RunEnd::new().unwrap();
        assert!(!run_end.is_over());
        run_end.end(Ok(Exit::PowerOff));
        run_end.end(Ok(Exit::TimeLimit));
        assert!(run_end.is_over());
        assert_eq!(run_end.take().unwrap().unwrap(), Exit::PowerOff);
    }
}
