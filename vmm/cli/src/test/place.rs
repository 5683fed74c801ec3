//! Where scenarios run: on this machine's KVM, or on the test host.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use scenario::{Outcome, RunResult};

use super::Job;

/// Where scenarios run.
pub(super) enum Place {
    /// On this machine's KVM.
    Here,
    /// On the test host.
    TestHost,
}

/// The end of a job.
pub(super) enum Ended {
    /// With a result.
    Result(Box<RunResult>),
    /// A signal has ended it: with this exit status.
    Interrupted(u8),
}

impl Place {
    /// The command that runs `arguments` of this program there.
    fn command(&self, program: &Path, arguments: &[String]) -> Command {
        let mut command = Command::new(program);
        match self {
            Self::Here => command.args(arguments).arg("--tied"),
            // With one processor QEMU has not failed yet, and guests are no slower.
            Self::TestHost => command
                .args(["testhost", "--cpus", "1", "--time-limit", "900s", "--"])
                .arg(program)
                .args(arguments),
        };
        command
    }

    /// Runs a scenario in a process of its own, in `directory`, to which it writes.
    pub(super) fn run(&self, program: &Path, directory: &Path, job: &Job<'_>) -> io::Result<Ended> {
        let result = directory.join("result.json");
        let log = directory.join("console");
        let mut child = self
            .command(program, &job.arguments(&result))
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).create(true).open(directory.join("errors"))?)
            .spawn()?;
        let status = wait(&mut child)?;
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
        let outcome = Outcome::NotJudged(format!("the run ended with {status}: {last}"));
        let result = RunResult::without_run(job.scenario(), job.kernel_name(), outcome);
        Ok(Ended::Result(Box::new(result)))
    }
}

/// The exit status. Standard input stays open until the child has ended: `wait` would close it, and a
/// child whose input ends takes its parent for dead.
fn wait(child: &mut Child) -> io::Result<Option<i32>> {
    let input = child.stdin.take();
    let status = child.wait()?;
    drop(input);
    Ok(status.code())
}
