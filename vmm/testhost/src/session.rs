//! One command on a host of its own.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant, SystemTime};

use steps::test_host::{Command, Frame};

use crate::patience::Limit;
use crate::qemu::{Qemu, Sign};
use crate::{HostError, Output, Stream, TestHost};

/// How often a host is restored until it has started the command.
const TRIES: u32 = 3;
/// From the start of QEMU to that of the command. It takes 1 s to 2 s of processor time.
const STARTING: Limit = Limit { used: Duration::from_secs(30), passed: Duration::from_secs(120) };
/// Between two signs of life of a host that runs the command. It sends one each second.
const RUNNING: Limit = Limit { used: Duration::from_secs(60), passed: Duration::from_secs(180) };

/// See [`TestHost::run`].
pub(crate) fn run(
    host: &TestHost,
    command: &Command,
    time_limit: Duration,
    output: &mut Output<'_>,
) -> Result<u8, HostError> {
    let start = Instant::now();
    let mut tries = 1;
    loop {
        let mut session = Session { started: false, start, time_limit };
        match session.run(host, command, output) {
            Err(error) if error.is_of_host() && !session.started && tries < TRIES => {
                (host.options.note)(&format!(
                    "the test host did not start the command ({error}): starting it again"
                ));
                tries += 1;
            }
            Err(error) if error.is_of_host() && !session.started => {
                // The next call saves a new one.
                host.saved.discard();
                return Err(error);
            }
            result => return result,
        }
    }
}

struct Session {
    /// Whether the command has been started.
    started: bool,
    start: Instant,
    time_limit: Duration,
}

impl Session {
    fn run(
        &mut self,
        host: &TestHost,
        command: &Command,
        output: &mut Output<'_>,
    ) -> Result<u8, HostError> {
        let mut arguments = host.saved.machine.arguments(&host.options, &command.directory);
        let mut state = OsString::from("file:");
        state.push(host.saved.state());
        arguments.extend(["-incoming".into(), state]);
        let mut qemu = Qemu::start(&host.saved.machine, &host.options, arguments)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        qemu.send(Frame::Command(Command { now, seed: seed(), ..command.clone() }));
        loop {
            if self.start.elapsed() > self.time_limit {
                return Err(HostError::TimeLimit(self.time_limit));
            }
            let limit = if self.started { RUNNING } else { STARTING };
            let frame = match qemu.next(limit) {
                Sign::Frame(frame) => frame,
                Sign::None => continue,
                Sign::Hung(silence) => return Err(HostError::Hung { silence, log: qemu.end() }),
                Sign::End => return Err(HostError::Crashed { log: qemu.end() }),
            };
            match frame {
                Frame::Started => self.started = true,
                Frame::Out(bytes) => output(Stream::Out, &bytes).map_err(HostError::Output)?,
                Frame::Err(bytes) => output(Stream::Err, &bytes).map_err(HostError::Output)?,
                Frame::Exited(status) => return Ok(status),
                Frame::Failed(reason) => return Err(HostError::NotStarted(reason)),
                Frame::Pulse | Frame::Ready | Frame::Command(_) => {}
            }
        }
    }
}

/// Random bytes. Without them each restored host would have the same ones.
fn seed() -> Vec<u8> {
    let mut seed = vec![0; 64];
    // Where there is none, the processor that QEMU emulates has RDRAND.
    let _ = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut seed));
    seed
}
