//! Where scenarios run: on this machine's KVM, or on the test host.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use scenario::{Outcome, RunResult};
use testhost::{HostError, Stream, TestHost};

use super::Job;

/// What the test host has for a scenario besides the time limit of the scenario.
const HOST_TIME: Duration = Duration::from_secs(600);
/// How often a scenario is run again if the test host has crashed or hung: QEMU's emulation of SVM has
/// errors, which say nothing about the kernel.
const HOST_RETRIES: u32 = 4;

/// Where scenarios run.
pub(super) enum Place {
    /// On this machine's KVM.
    Here,
    /// On the test host.
    TestHost(TestHost),
}

/// The end of a job.
pub(super) enum Ended {
    /// With a result.
    Result(Box<RunResult>),
    /// A signal has ended it: with this exit status.
    Interrupted(u8),
}

impl Place {
    /// Runs a scenario in a process of its own, in `directory`, to which it writes.
    pub(super) fn run(&self, program: &Path, directory: &Path, job: &Job<'_>) -> io::Result<Ended> {
        let result = directory.join("result.json");
        let arguments = job.arguments(&result);
        let status = match self {
            Self::Here => run_here(program, directory, &arguments)?,
            Self::TestHost(host) => {
                let mut attempt = 0;
                loop {
                    match run_in_host(host, program, directory, job, &arguments) {
                        Ok(status) => break Some(i32::from(status)),
                        Err(error) if error.is_of_host() && attempt < HOST_RETRIES => {
                            attempt += 1;
                            let name = &job.scenario().name;
                            eprintln!(
                                "ghostlink: {name}: {error} (attempt {attempt} of {})",
                                HOST_RETRIES + 1
                            );
                        }
                        Err(error) => return Ok(not_judged(job, error.to_string())),
                    }
                }
            }
        };
        if let Ok(text) = fs::read(&result) {
            let found: RunResult = serde_json::from_slice(&text).map_err(io::Error::other)?;
            return Ok(Ended::Result(Box::new(found)));
        }
        if let Some(status) = status.filter(|status| [129, 130, 143].contains(status)) {
            return Ok(Ended::Interrupted(status as u8));
        }
        let errors = fs::read(directory.join("errors")).unwrap_or_default();
        let errors = String::from_utf8_lossy(&errors);
        let last =
            errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        let status = status.map_or("a signal".to_owned(), |status| format!("status {status}"));
        Ok(not_judged(job, format!("the run ended with {status}: {last}")))
    }
}

fn not_judged(job: &Job<'_>, reason: String) -> Ended {
    let outcome = Outcome::NotJudged(reason);
    Ended::Result(Box::new(RunResult::without_run(job.scenario(), job.kernel_name(), outcome)))
}

/// Runs this program on this machine.
fn run_here(program: &Path, directory: &Path, arguments: &[String]) -> io::Result<Option<i32>> {
    let mut child = Command::new(program)
        .args(arguments)
        .arg("--tied")
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(File::create(directory.join("console"))?)
        .stderr(File::create(directory.join("errors"))?)
        .spawn()?;
    wait(&mut child)
}

/// The exit status. Standard input stays open until the child has ended: `wait` would close it, and a
/// child whose input ends takes its parent for dead.
fn wait(child: &mut Child) -> io::Result<Option<i32>> {
    let input = child.stdin.take();
    let status = child.wait()?;
    drop(input);
    Ok(status.code())
}

/// Runs this program on the test host.
fn run_in_host(
    host: &TestHost,
    program: &Path,
    directory: &Path,
    job: &Job<'_>,
    arguments: &[String],
) -> Result<u8, HostError> {
    let mut words = vec![program.as_os_str().to_owned()];
    words.extend(arguments.iter().map(Into::into));
    let mut command = testhost::command(words)?;
    directory.clone_into(&mut command.directory);
    let file = |name: &str| File::create(directory.join(name)).map_err(HostError::Output);
    let (mut console, mut errors) = (file("console")?, file("errors")?);
    let limit = job.args.time_limit.unwrap_or(job.scenario().time_limit) + HOST_TIME;
    host.run(&command, limit, &mut |stream, bytes| match stream {
        Stream::Out => console.write_all(bytes),
        Stream::Err => errors.write_all(bytes),
    })
}
