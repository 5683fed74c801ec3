//! `ghostlink testhost`: runs a command on a machine whose KVM is complete.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use iommu::time::parse_duration;
use testhost::{HostError, Options, Stream, TestHost};

use crate::error::CliError;

/// Options of `ghostlink testhost`.
#[derive(Debug, Args)]
pub(super) struct TestHostArgs {
    /// End the test host after this time, with status 124
    #[arg(long, value_name = "TIME", default_value = "1800s", value_parser = parse_duration)]
    time_limit: Duration,

    /// Its processors. QEMU has emulated SVM without an error most often with one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    cpus: u8,

    /// Its memory, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(512..=1 << 20))]
    memory: u32,

    /// Append the messages of QEMU and of the test host's kernel to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs the command; returns its exit status.
pub(super) fn run(args: TestHostArgs) -> Result<u8, CliError> {
    let TestHostArgs { time_limit, cpus, memory, log, command } = args;
    let note = |line: &str| eprintln!("ghostlink: {line}");
    let result = testhost::command(command).and_then(|command| {
        let host = TestHost::find(Options { cpus, memory, log, note })?;
        host.run(&command, time_limit, &mut pass_on)
    });
    if let Err(error) = &result {
        for line in error.log() {
            eprintln!("ghostlink: log of the test host: {line}");
        }
    }
    Ok(result?)
}

fn pass_on(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Out => {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        }
        Stream::Err => io::stderr().write_all(bytes),
    }
}

/// The exit status for an error. A command's own status can be any of them, too.
pub(super) fn status(error: &HostError) -> u8 {
    match error {
        HostError::Crashed { .. } | HostError::Hung { .. } => 123,
        HostError::TimeLimit(_) => 124,
        HostError::Output(_) => crate::FAILURE,
        _ => 125,
    }
}
