//! Work in processes of its own. Work that may lock its CPU up is done there, so that the runner
//! can leave it.
//!
//! The runner and its children share no memory. If they did, the runner's changes of its mappings
//! would wait for the CPU that is stuck.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::exit;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::WaitOptions;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::sys::{Forked, fork};

/// Moves this process to `cpu`.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(sched_setaffinity(None, &cpus)?)
}

/// Moves another process to `cpu`.
pub(crate) fn pin_other(process: rustix::process::Pid, cpu: usize) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(sched_setaffinity(Some(process), &cpus)?)
}

/// Starts `work` in a process on `cpu`.
pub(crate) fn start(cpu: usize, work: impl FnOnce()) -> io::Result<()> {
    match fork()? {
        Forked::Parent => Ok(()),
        Forked::Child => {
            if let Err(error) = pin(cpu) {
                // The work would be done on another CPU than the scenario says.
                drop(error);
                exit(1);
            }
            work();
            exit(0);
        }
    }
}

/// Starts a process on `cpu` that starts and ends further ones for ever, as a server does.
///
/// Each end of a process makes RCU begin a grace period. On an idle machine no grace period is under
/// way while a CPU is stuck, and the stall detector has nothing to report.
pub(crate) fn keep_busy(cpu: usize) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(100);
    start(cpu, move || {
        loop {
            // Without memory for a process the next attempt may succeed.
            let _ = start(cpu, || {});
            std::thread::sleep(PAUSE);
            reap();
        }
    })
}

/// Takes the states of processes that have ended.
pub(crate) fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// What work can say besides its result.
pub(crate) struct Evidence(File);

impl Evidence {
    /// A line for the reader.
    pub(crate) fn show(&mut self, text: impl AsRef<str>) {
        self.line("#", text.as_ref());
    }

    fn line(&mut self, kind: &str, text: &str) {
        let text = text.replace('\n', " ");
        // Fails if the runner has stopped waiting.
        let _ = self.0.write_all(format!("{kind}{text}\n").as_bytes());
    }
}

/// The result of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    /// Its duration.
    pub(crate) took: Duration,
    /// The reason of its failure, if it has failed.
    pub(crate) result: Result<(), String>,
}

/// Work that is under way.
pub(crate) struct Work {
    pipe: File,
    received: Vec<u8>,
}

/// News of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// A line for the reader.
    Evidence(String),
    /// The work is done.
    Done(Done),
    /// Nothing yet.
    Nothing,
}

/// Starts `work` on `cpu`.
pub(crate) fn work(
    cpu: usize,
    work: impl FnOnce(&mut Evidence) -> Result<(), String>,
) -> io::Result<Work> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    nonblocking(&reader)?;
    let reader = File::from(reader);
    let writer = File::from(writer);
    match fork()? {
        Forked::Parent => Ok(Work { pipe: reader, received: Vec::new() }),
        Forked::Child => {
            drop(reader);
            let mut evidence = Evidence(writer);
            let result = pin(cpu).map_err(|error| format!("no CPU {cpu}: {error}"));
            let start = Instant::now();
            let result = result.and_then(|()| work(&mut evidence));
            let micros = start.elapsed().as_micros();
            match result {
                Ok(()) => evidence.line("=", &micros.to_string()),
                Err(reason) => evidence.line("!", &format!("{micros} {reason}")),
            }
            exit(0);
        }
    }
}

/// Makes reads return if there is nothing to read.
pub(crate) fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

impl Work {
    /// What is new. Does not wait.
    pub(crate) fn news(&mut self) -> News {
        let mut buffer = [0; 4096];
        if !self.received.contains(&b'\n') {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    let result = Err("the process has ended without a result".to_owned());
                    return News::Done(Done { took: Duration::ZERO, result });
                }
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(_) => return News::Nothing,
            }
        }
        let Some(end) = self.received.iter().position(|byte| *byte == b'\n') else {
            return News::Nothing;
        };
        let line: Vec<u8> = self.received.drain(..=end).collect();
        parse(String::from_utf8_lossy(&line).trim_end())
    }
}

fn parse(line: &str) -> News {
    let micros = |text: &str| Duration::from_micros(text.parse().unwrap_or_default());
    match line.split_at_checked(1) {
        Some(("#", text)) => News::Evidence(text.to_owned()),
        Some(("=", took)) => News::Done(Done { took: micros(took), result: Ok(()) }),
        Some(("!", rest)) => {
            let (took, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            News::Done(Done { took: micros(took), result: Err(reason.to_owned()) })
        }
        _ => News::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(mut work: Work) -> (Vec<String>, Done) {
        let mut lines = Vec::new();
        loop {
            match work.news() {
                News::Evidence(text) => lines.push(text),
                News::Done(done) => return (lines, done),
                News::Nothing => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    #[test]
    fn lines_are_results_evidence_or_nothing() {
        assert_eq!(parse("#a b"), News::Evidence("a b".to_owned()));
        let took = Duration::from_micros(7);
        assert_eq!(parse("=7"), News::Done(Done { took, result: Ok(()) }));
        assert_eq!(parse("!7 no way"), News::Done(Done { took, result: Err("no way".to_owned()) }));
        assert_eq!(parse(""), News::Nothing);
    }

    #[test]
    fn work_reports_evidence_and_its_result_from_its_cpu() {
        let done = |result| (vec!["one".to_owned(), "a b".to_owned()], result);
        for wanted in [Ok(()), Err("for a reason".to_owned())] {
            let result = wanted.clone();
            let started = work(0, |evidence| {
                evidence.show("one");
                evidence.show("a\nb");
                result
            });
            let (lines, Done { result, .. }) = finish(started.unwrap());
            assert_eq!((lines, result), done(wanted));
        }
        let killed = work(0, |_| std::process::abort()).unwrap();
        assert!(finish(killed).1.result.unwrap_err().contains("without a result"));
        let nowhere = work(1023, |_| Ok(())).unwrap();
        assert!(finish(nowhere).1.result.unwrap_err().contains("no CPU 1023"));
    }
}
