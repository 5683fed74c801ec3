//! The test host: a machine whose KVM is complete, on machines whose KVM is not.
//!
//! QEMU emulates an AMD processor with SVM in software, and Debian's kernel runs on it. The host is
//! booted once, and saved before it has mounted anything. Each command gets a machine that is
//! restored from that state, within some 2 s of processor time, in which it sees the files of this
//! machine at their own paths.
//!
//! | Module | What it has |
//! |---|---|
//! | `tools` | QEMU and the kernel, by the scripts of this repository, which are embedded |
//! | `qemu` | QEMU's command line and its process |
//! | `saved` | the saved state in the cache, and how it is made |
//! | `session` | one command |
//!
//! QEMU ends with the thread that uses it, even if the process is killed.
#![forbid(unsafe_code)]

mod error;
mod patience;
mod qemu;
mod qmp;
mod saved;
mod session;
mod tail;
mod tools;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::HostError;
pub use steps::test_host::Command;

use saved::Saved;

/// The test host that a user asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Processors, 1 to 255. QEMU has emulated SVM without an error most often with one.
    pub cpus: u8,
    /// Memory, in MiB, at least 512.
    pub memory: u32,
    /// Where the messages of QEMU and of the host's kernel are kept.
    pub log: Option<PathBuf>,
    /// Gets a line when something takes long, or is done again.
    pub note: fn(&str),
}

impl Default for Options {
    /// One processor, 2 GiB, no log; notes go to standard error.
    fn default() -> Self {
        Self { cpus: 1, memory: 2048, log: None, note: |line| eprintln!("{line}") }
    }
}

/// A test host that is ready to run commands, several at once if one likes.
#[derive(Debug)]
pub struct TestHost {
    options: Options,
    saved: Saved,
}

/// An output of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Its standard output.
    Out,
    /// Its standard error.
    Err,
}

/// Gets what the command writes, in pieces.
pub type Output<'a> = dyn FnMut(Stream, &[u8]) -> std::io::Result<()> + 'a;

/// A command for the current directory, with the part of the environment that the test host takes
/// over: `HOME`, `USER`, `LANG`, `TERM`, `RUST_BACKTRACE`, `GHOSTLINK_*`, and `PATH` with the
/// directory of this program in front.
///
/// # Errors
///
/// [`HostError::Directory`] if there is no current directory.
pub fn command(arguments: Vec<OsString>) -> Result<Command, HostError> {
    let directory = env::current_dir().map_err(HostError::Directory)?;
    let mut environment: Vec<(OsString, OsString)> = env::vars_os()
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            TAKEN_OVER.contains(&&*name) || name.starts_with("GHOSTLINK_")
        })
        .collect();
    let mut path = OsString::new();
    if let Some(directory) = env::current_exe().ok().as_deref().and_then(Path::parent) {
        path.push(directory);
        path.push(":");
    }
    path.push(env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
    environment.push(("PATH".into(), path));
    environment.push(("TMPDIR".into(), "/run/tmp".into()));
    Ok(Command { arguments, environment, directory, ..Command::default() })
}

/// Variables of this machine that the command gets.
const TAKEN_OVER: [&str; 5] = ["HOME", "USER", "LANG", "TERM", "RUST_BACKTRACE"];

impl TestHost {
    /// Finds the saved state of such a host. If there is none, gets QEMU and a kernel, boots the
    /// host and saves it, which takes 10 s of processor time.
    ///
    /// # Errors
    ///
    /// [`HostError::Tool`] if QEMU or the kernel cannot be had, [`HostError::Cache`] if the cache
    /// cannot be written, [`HostError::Kernel`] and [`HostError::Module`] if the kernel is damaged, and
    /// [`HostError::NotSaved`] if the host does not boot.
    pub fn find(options: Options) -> Result<Self, HostError> {
        let saved = Saved::find(&options)?;
        Ok(Self { options, saved })
    }

    /// Runs a command on a machine of its own, and returns its exit status: 128 and the signal's
    /// number if a signal has ended it. A machine that crashes or hangs before the command has been
    /// started is replaced by another one, twice at most.
    ///
    /// The time and the random bytes of the command are set here, for each machine anew. The command
    /// can write to its current directory and below, and to `/run` and `/dev/shm`.
    ///
    /// # Errors
    ///
    /// [`HostError::NotStarted`] if the host gives a reason why the command cannot be started;
    /// [`HostError::Crashed`] and [`HostError::Hung`] if the host does so, [`HostError::TimeLimit`]
    /// if the command takes longer than `time_limit`, and [`HostError::Output`] if `output` fails.
    pub fn run(
        &self,
        command: &Command,
        time_limit: Duration,
        output: &mut Output<'_>,
    ) -> Result<u8, HostError> {
        session::run(self, command, time_limit, output)
    }
}
