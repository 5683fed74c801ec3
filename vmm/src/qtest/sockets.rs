//! A session at unix sockets: one client of the qtest protocol, and beside it one of QMP.
//!
//! ```text
//!   this thread:  accepts or connects; then waits for a signal, or for the end of another thread
//!   one thread:   lines --> Session --> answers
//!   one thread:   QMP commands --> Monitor --> Session --> answers and events
//! ```
//!
//! The session ends when a client hangs up, by QMP's `quit`, and by SIGINT, SIGTERM or SIGHUP. A
//! client that dies hangs up, so that no process outlives the test that it serves.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::Session;
use super::qmp::Monitor;
use super::server::serve_lines;
use crate::sys::{SignalFd, wait_readable};

/// The signals that end a session in order, see [`serve_sockets`].
pub const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
/// The longest QMP command in bytes.
const MAX_COMMAND: u64 = 1 << 20;
/// Time for a QMP client to read an event. A client that does not is no longer told of events.
const QMP_PATIENCE: Duration = Duration::from_secs(5);

/// The sockets of a session.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// The socket of the qtest protocol.
    pub qtest: PathBuf,
    /// The socket of QMP, if there is one.
    pub qmp: Option<PathBuf>,
    /// The client has made the sockets and listens, as QEMU's tests do. Otherwise they are made
    /// here, and removed at the end.
    pub connect: bool,
}

/// A socket that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("'{}': {source}", path.display())]
pub struct SocketError {
    /// The path of the socket.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

/// A log of the qtest protocol.
pub type Log = Box<dyn Write + Send>;

/// Serves one client at each socket until a client hangs up, until QMP's `quit`, or until one of
/// `signals`, which are not read. Make them from [`SIGNALS`] before there are other threads. `log` gets the lines of the qtest protocol with their times, as QEMU's `-qtest-log` does.
///
/// # Errors
/// [`SocketError`] if a socket cannot be made or reached, or if the traffic on it fails.
pub fn serve_sockets(
    session: &mut Session,
    sockets: &Sockets,
    log: Option<Log>,
    signals: &SignalFd,
) -> Result<(), SocketError> {
    let path = &sockets.qtest;
    let error = |source| SocketError { path: path.clone(), source };
    let entrance = |path: &PathBuf| {
        let error = |source| SocketError { path: path.clone(), source };
        Entrance::open(path, sockets.connect).map_err(error)
    };
    // Both exist before a client of one is waited for: it may go to the other one first.
    let qtest = entrance(path)?;
    let qmp = sockets.qmp.as_ref().map(entrance).transpose()?;
    let Some(qtest) = qtest.admit(signals).map_err(error)? else { return Ok(()) };
    let qmp = match qmp.map(|entrance| entrance.admit(signals)).transpose().map_err(error)? {
        Some(None) => return Ok(()),
        Some(stream) => stream,
        None => None,
    };
    serve(session, &qtest, qmp.as_ref(), log, signals).map_err(error)
}

/// A way to get a client.
#[derive(Debug)]
enum Entrance {
    /// A socket that was made here. It is removed with this.
    Listener(UnixListener, PathBuf),
    /// The client has made the socket.
    Connected(UnixStream),
}

impl Entrance {
    fn open(path: &Path, connect: bool) -> io::Result<Self> {
        if connect {
            return UnixStream::connect(path).map(Self::Connected);
        }
        let bind = || UnixListener::bind(path);
        let listener = match bind() {
            // A socket at which no process listens is left from one that was killed.
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path) => {
                fs::remove_file(path)?;
                bind()
            }
            outcome => outcome,
        };
        Ok(Self::Listener(listener?, path.to_owned()))
    }

    /// Waits for the client; `None` if a signal comes first.
    fn admit(mut self, signals: &SignalFd) -> io::Result<Option<UnixStream>> {
        match &mut self {
            Self::Connected(stream) => stream.try_clone().map(Some),
            Self::Listener(listener, _) => match wait_readable(listener, signals) {
                true => listener.accept().map(|(stream, _)| Some(stream)),
                false => Ok(None),
            },
        }
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        if let Self::Listener(_, path) = self {
            // It does not matter if it is gone.
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether `path` is a socket at which no process listens.
fn is_stale(path: &Path) -> bool {
    // A datagram socket never gets through to a stream socket: this disturbs no process.
    let outcome = UnixDatagram::unbound().and_then(|probe| probe.connect(path));
    outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn serve(
    session: &mut Session,
    qtest: &UnixStream,
    qmp: Option<&UnixStream>,
    log: Option<Log>,
    signals: &SignalFd,
) -> io::Result<()> {
    let end = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
    if let Some(qmp) = qmp {
        qmp.set_write_timeout(Some(QMP_PATIENCE))?;
    }
    let shared = &Mutex::new(Shared {
        session,
        monitor: Monitor::default(),
        qmp: qmp.map(UnixStream::try_clone).transpose()?,
        log: log.map(|sink| LineLog { sink, start: Instant::now() }),
    });
    let finish = |outcome| {
        // Cannot fail: the counter is far from full.
        let _ = end.write(1);
        outcome
    };
    thread::scope(|scope| {
        let lines = scope.spawn(|| finish(serve_qtest(qtest, shared)));
        let commands = qmp.map(|qmp| scope.spawn(|| finish(serve_qmp(qmp, shared))));
        wait_readable(&end, signals);
        for stream in [Some(qtest), qmp].into_iter().flatten() {
            // Ends the threads' reads. A stream that is closed already is no error.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let ended = |outcome: thread::Result<io::Result<()>>| match outcome {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let outcomes = [Some(ended(lines.join())), commands.map(|thread| ended(thread.join()))];
        outcomes.into_iter().flatten().try_for_each(unless_gone)
    })
}

/// A client that is gone ends the session as one that hangs up does.
fn unless_gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error)
            if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            Ok(())
        }
        outcome => outcome,
    }
}

/// The state that both clients reach.
struct Shared<'a> {
    session: &'a mut Session,
    monitor: Monitor,
    /// The stream to the QMP client. `None` if there is none, or if it takes no data.
    qmp: Option<UnixStream>,
    log: Option<LineLog>,
}

impl Shared<'_> {
    fn execute(&mut self, line: &str) -> String {
        self.log('R', line);
        let answer = self.session.execute(line);
        for line in answer.lines() {
            self.log('S', line);
        }
        let events = self.monitor.take_events(self.session);
        self.send(&events);
        answer
    }

    fn log(&mut self, direction: char, line: &str) {
        if let Some(log) = &mut self.log {
            log.write(direction, format_args!("{}", line.trim_end()));
        }
    }

    /// Sends lines to the QMP client.
    fn send(&mut self, lines: &str) {
        let sent = self.qmp.as_mut().map(|stream| stream.write_all(lines.as_bytes()));
        if sent.is_some_and(|sent| sent.is_err()) {
            self.qmp = None;
        }
    }
}

/// The lines of the qtest protocol, each with its direction and the seconds since the start.
struct LineLog {
    sink: Log,
    start: Instant,
}

impl LineLog {
    fn write(&mut self, direction: char, line: fmt::Arguments<'_>) {
        let seconds = self.start.elapsed().as_secs_f64();
        // A full disk must not end the session; the log ends early, which its reader sees.
        let _ = writeln!(self.sink, "[{direction} +{seconds:.6}] {line}");
    }
}

fn lock<'a, 'b>(shared: &'a Mutex<Shared<'b>>) -> MutexGuard<'a, Shared<'b>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve_qtest(stream: &UnixStream, shared: &Mutex<Shared<'_>>) -> io::Result<()> {
    serve_lines(BufReader::new(stream), stream, |line| lock(shared).execute(line))
}

fn serve_qmp(stream: &UnixStream, shared: &Mutex<Shared<'_>>) -> io::Result<()> {
    let mut input = BufReader::new(stream);
    lock(shared).send(&Monitor::greeting());
    loop {
        let limited = input.by_ref().take(MAX_COMMAND);
        let command = serde_json::Deserializer::from_reader(limited).into_iter().next();
        match command {
            None => return Ok(()),
            Some(Ok(command)) => {
                let mut shared = lock(shared);
                let Shared { session, monitor, .. } = &mut *shared;
                let lines = monitor.execute(&command, session);
                let has_quit = monitor.has_quit();
                shared.send(&lines);
                if has_quit {
                    return Ok(());
                }
            }
            Some(Err(error)) => {
                lock(shared).send(&Monitor::refuse(&error));
                if error.is_io() || error.is_eof() {
                    return Ok(());
                }
                // The rest of the line belongs to the same mistake.
                let received = input.buffer();
                let rest = received.iter().position(|byte| *byte == b'\n');
                let length = rest.map_or(received.len(), |at| at + 1);
                input.consume(length);
            }
        }
    }
}

#[cfg(test)]
#[path = "sockets_tests.rs"]
mod tests;
