//! Calls that the standard library does not have: terminal modes, signals as a file descriptor,
//! waiting for one of two descriptors, and processes that end with this one.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::c_int;
use vmm_sys_util::signal::{block_signal, create_sigset, get_blocked_signals, unblock_signal};

/// A terminal in raw mode, for as long as this lives.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    fd: OwnedFd,
    before: libc::termios,
}

impl RawTerminal {
    /// Puts `fd` into raw mode, except that output still turns line feeds into new lines. `None`
    /// if it is no terminal.
    pub(crate) fn enter(fd: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        if !fd.is_terminal() {
            return Ok(None);
        }
        let fd = fd.try_clone_to_owned()?;
        let mut before = MaybeUninit::uninit();
        // SAFETY: `fd` is open, and `before` is a place for the result.
        check(unsafe { libc::tcgetattr(fd.as_raw_fd(), before.as_mut_ptr()) })?;
        // SAFETY: the call has succeeded, and so it has filled all of `before`.
        let before = unsafe { before.assume_init() };
        let mut raw = before;
        // SAFETY: `raw` is a complete termios, which the call changes in place.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        raw.c_oflag = before.c_oflag;
        set_mode(fd.as_fd(), &raw)?;
        Ok(Some(Self { fd, before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to restore.
        let _ = set_mode(self.fd.as_fd(), &self.before);
    }
}

fn set_mode(fd: BorrowedFd<'_>, mode: &libc::termios) -> io::Result<()> {
    // SAFETY: `fd` is open, and `mode` is only read.
    check(unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSANOW, mode) })
}

/// Signals that do not interrupt this thread, and threads that it starts, but can be read.
#[derive(Debug)]
pub struct SignalFd {
    file: File,
    /// Those that were not blocked before.
    blocked: Vec<c_int>,
}

impl SignalFd {
    /// Takes `signals`, until this is dropped. Drop it on the thread that made it.
    ///
    /// # Errors
    ///
    /// The process has no file descriptor left.
    pub fn new(signals: &[c_int]) -> io::Result<Self> {
        let other = |error: vmm_sys_util::signal::Error| io::Error::other(error.to_string());
        let before = get_blocked_signals().map_err(other)?;
        let set = create_sigset(signals)?;
        // SAFETY: `set` is a complete signal set, which is only read.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        check(fd)?;
        // SAFETY: the call has just made this descriptor, which has no other owner.
        let file = unsafe { File::from_raw_fd(fd) };
        let mut this = Self { file, blocked: Vec::new() };
        for signal in signals.iter().filter(|signal| !before.contains(signal)) {
            block_signal(*signal).map_err(other)?;
            this.blocked.push(*signal);
        }
        Ok(this)
    }

    /// The next signal that has come, if one has.
    pub fn read(&mut self) -> Option<c_int> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        self.file.read_exact(&mut info).ok()?;
        // The signal's number is the first field (signalfd(2)).
        Some(c_int::from_ne_bytes([info[0], info[1], info[2], info[3]]))
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        for signal in &self.blocked {
            // Fails only for signals that do not exist.
            let _ = unblock_signal(*signal);
        }
    }
}

/// Waits until `output` takes data, or has failed, or `stop` is readable. Returns whether it is
/// `output` that is ready.
pub(crate) fn wait_writable(output: &impl AsRawFd, stop: &impl AsRawFd) -> bool {
    wait(output.as_raw_fd(), libc::POLLOUT, stop.as_raw_fd())
}

/// Waits until `first` or `second` is readable. Returns whether it is `first`.
pub(crate) fn wait_readable(first: &impl AsRawFd, second: &impl AsRawFd) -> bool {
    wait(first.as_raw_fd(), libc::POLLIN, second.as_raw_fd())
}

/// Waits for `events` of `first`, or until `second` is readable. Returns whether it is `first` that
/// is ready.
fn wait(first: RawFd, events: libc::c_short, second: RawFd) -> bool {
    let poll = |fd, events| libc::pollfd { fd, events, revents: 0 };
    let mut fds = [poll(first, events), poll(second, libc::POLLIN)];
    loop {
        // SAFETY: `fds` is an array of two, both of which the call may change.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) };
        match check(ready) {
            Ok(()) => return fds[0].revents != 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Out of memory: a write that may block is better than lost output.
            Err(_) => return true,
        }
    }
}

/// Has the kernel kill the process that `command` starts when the calling thread ends, even if this
/// process is killed. Call it on the thread that starts the process and waits for it.
pub fn end_with_caller(command: &mut Command) {
    let caller = std::process::id();
    let request = move || {
        // SAFETY: the call takes no pointers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // The kernel sends no signal if the caller has ended before the request. The parent is then
        // another process.
        // SAFETY: the call takes nothing.
        let parent = unsafe { libc::getppid() };
        if u32::try_from(parent) == Ok(caller) {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls, and neither allocates nor
    // takes a lock.
    unsafe { command.pre_exec(request) };
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
    use vmm_sys_util::signal::SIGRTMIN;

    #[test]
    fn waiting_for_output_ends_when_it_is_ready_or_all_is_over() {
        let fd = || EventFd::new(EFD_NONBLOCK).unwrap();
        let (output, stop) = (fd(), fd());
        assert!(wait_writable(&output, &stop));
        output.write(u64::MAX - 1).unwrap();
        stop.write(1).unwrap();
        assert!(!wait_writable(&output, &stop), "a full counter takes no data");
    }

    #[test]
    fn a_signal_is_read_and_the_mask_is_as_before_afterwards() {
        let signal = SIGRTMIN() + 3;
        std::thread::spawn(move || {
            let mut signals = SignalFd::new(&[signal]).unwrap();
            assert_eq!(signals.read(), None);
            // SAFETY: this thread exists.
            unsafe { libc::pthread_kill(libc::pthread_self(), signal) };
            assert_eq!(signals.read(), Some(signal));
            drop(signals);
            assert!(!get_blocked_signals().unwrap().contains(&signal));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_process_ends_with_the_thread_that_has_started_it() {
        let start = || {
            let mut command = Command::new("sleep");
            command.arg("1000");
            end_with_caller(&mut command);
            command.spawn().unwrap()
        };
        let mut child = std::thread::spawn(start).join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn what_is_no_terminal_is_left_alone() {
        let file = File::open("/dev/null").unwrap();
        assert!(RawTerminal::enter(file.as_fd()).unwrap().is_none());
    }
}
