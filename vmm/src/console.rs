//! The console: where COM1's output goes, and where its input comes from.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;

use crate::Error;
use crate::config::Console;
use crate::event_loop::watch;
use crate::exit::{Exit, RunEnd};
use crate::machine::SharedMachine;
use crate::sys;

/// The most that is kept of a captured console. A guest decides how much it prints, so there has
/// to be a limit; what comes after it is dropped.
pub(crate) const CAPTURE_MAX: usize = 16 << 20;

/// The most that is read at once; what COM1 can hold.
const READ_MAX: usize = 64;

/// The sink of COM1's output.
#[derive(Debug)]
pub(crate) enum Output {
    /// To standard output.
    Stdout {
        /// Ends the wait for a reader that does not read.
        run_end: Arc<RunEnd>,
    },
    /// Into memory.
    Capture(Arc<Mutex<Vec<u8>>>),
    /// To a receiver.
    Channel(Sender<Vec<u8>>),
}

impl Output {
    pub(crate) fn new(console: &Console, run_end: Arc<RunEnd>) -> Self {
        match console {
            Console::Stdio => Self::Stdout { run_end },
            Console::Capture(buffer) => Self::Capture(buffer.clone()),
            Console::Channel(sender) => Self::Channel(sender.clone()),
        }
    }

    /// Writes `bytes`, or as many as the reader takes. The guest does not learn how many.
    pub(crate) fn write(&self, bytes: &[u8]) {
        match self {
            Self::Capture(buffer) => {
                let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                let room = CAPTURE_MAX.saturating_sub(buffer.len());
                buffer.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            // A receiver that is gone does not want it.
            Self::Channel(sender) => _ = sender.send(bytes.to_vec()),
            Self::Stdout { run_end } => {
                let mut stdout = io::stdout().lock();
                if sys::wait_writable(&stdout, run_end.wake()) {
                    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
                }
            }
        }
    }
}

/// The effect of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// It goes to the guest.
    Send(u8),
    /// It begins a command.
    Escape,
    /// It ends the run.
    Quit,
}

/// Finds Ctrl-A x, which ends the run, in what is typed. Ctrl-A Ctrl-A sends one Ctrl-A.
#[derive(Debug, Default)]
struct Escapes {
    escaped: bool,
}

impl Escapes {
    const CTRL_A: u8 = 1;

    fn next(&mut self, byte: u8) -> Key {
        match (std::mem::take(&mut self.escaped), byte) {
            (false, Self::CTRL_A) => {
                self.escaped = true;
                Key::Escape
            }
            (true, b'x' | b'X') => Key::Quit,
            (_, byte) => Key::Send(byte),
        }
    }
}

/// Whether there is more to read, and how to find out when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// It is watched, and tells.
    Watched,
    /// COM1 is full; it is not watched until there is room.
    Paused,
    /// It cannot be watched, as regular files cannot; it is read whenever there is room.
    Always,
    /// It has ended.
    Ended,
}

/// Brings standard input to COM1, no faster than the guest reads it.
pub(crate) struct Input {
    stdin: File,
    /// Escapes are for people: a file is passed on as it is.
    escapes: Option<Escapes>,
    source: Source,
    room: EventFd,
    machine: Arc<SharedMachine>,
    run_end: Arc<RunEnd>,
}

impl Input {
    /// `room` is what `machine` writes when the input of COM1 is empty.
    pub(crate) fn new(
        interactive: bool,
        room: EventFd,
        machine: Arc<SharedMachine>,
        run_end: Arc<RunEnd>,
    ) -> Result<Self, Error> {
        let stdin: OwnedFd =
            io::stdin().as_fd().try_clone_to_owned().map_err(Error::host("open standard input"))?;
        let escapes = interactive.then(Escapes::default);
        Ok(Self { stdin: stdin.into(), escapes, source: Source::Ended, room, machine, run_end })
    }

    fn pump(&mut self, ops: &mut EventOps) {
        let room = self.machine.with(|chipset, _| chipset.console_room()).min(READ_MAX);
        if room == 0 {
            self.pause(ops);
            return;
        }
        let mut buffer = [0; READ_MAX];
        match self.stdin.read(&mut buffer[..room]) {
            Ok(length) if length > 0 => self.send(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The end, or a terminal that is gone: the guest gets no more input.
            Ok(_) | Err(_) => self.unwatch(ops, Source::Ended),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let Some(escapes) = &mut self.escapes else { return self.input(bytes) };
        let mut keys = Vec::with_capacity(bytes.len());
        for byte in bytes {
            match escapes.next(*byte) {
                Key::Send(key) => keys.push(key),
                Key::Escape => {}
                Key::Quit => return self.run_end.end(Ok(Exit::Stopped)),
            }
        }
        self.input(&keys);
    }

    fn input(&self, bytes: &[u8]) {
        self.machine.with(|chipset, now| chipset.console_input(bytes, now));
    }

    fn pause(&mut self, ops: &mut EventOps) {
        if self.source == Source::Watched {
            self.unwatch(ops, Source::Paused);
        }
    }

    fn unwatch(&mut self, ops: &mut EventOps, source: Source) {
        if self.source == Source::Watched {
            // Fails only if it is not watched.
            let _ = ops.remove(Events::empty(&self.stdin));
        }
        self.source = source;
    }

    /// There is room: read on.
    fn resume(&mut self, ops: &mut EventOps) {
        match self.source {
            Source::Paused => self.start(ops),
            Source::Always => self.pump(ops),
            Source::Watched | Source::Ended => {}
        }
    }

    fn start(&mut self, ops: &mut EventOps) {
        self.source = match ops.add(Events::new(&self.stdin, EventSet::IN)) {
            Ok(()) => Source::Watched,
            // The kernel's answer for files that are always ready.
            Err(event_manager::Error::Epoll(error)) if error.errno() == libc::EPERM => {
                Source::Always
            }
            Err(_) => Source::Ended,
        };
    }
}

impl MutEventSubscriber for Input {
    fn init(&mut self, ops: &mut EventOps) {
        watch(ops, Events::new(&self.room, EventSet::IN), &self.run_end);
        self.start(ops);
        if self.source == Source::Always {
            self.pump(ops);
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == self.room.as_raw_fd() {
            let _ = self.room.read();
            self.resume(ops);
        } else {
            self.pump(ops);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(typed: &[u8]) -> Vec<Key> {
        let mut escapes = Escapes::default();
        typed.iter().map(|byte| escapes.next(*byte)).collect()
    }

    #[test]
    fn only_ctrl_a_and_x_in_a_row_end_the_run() {
        assert_eq!(keys(b"\x01x"), [Key::Escape, Key::Quit]);
        assert_eq!(keys(b"x"), [Key::Send(b'x')]);
        assert_eq!(keys(b"\x01bx"), [Key::Escape, Key::Send(b'b'), Key::Send(b'x')]);
    }

    #[test]
    fn ctrl_a_twice_sends_it_once() {
        assert_eq!(keys(b"\x01\x01x"), [Key::Escape, Key::Send(1), Key::Send(b'x')]);
    }

    #[test]
    fn a_capture_has_a_limit() {
        let buffer = Arc::new(Mutex::new(vec![b'.'; CAPTURE_MAX - 1]));
        Output::Capture(buffer.clone()).write(b"ab");
        let buffer = buffer.lock().unwrap();
        assert_eq!((buffer.len(), buffer.last()), (CAPTURE_MAX, Some(&b'a')));
    }
}
