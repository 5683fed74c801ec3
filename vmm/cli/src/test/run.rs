//! Runs all scenarios with all kernels, some at once, and prints results in the order of the plan.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use scenario::{Outcome, RunResult};
use testhost::{Options, TestHost};
use vmm::doctor::{Requirement, examine};
use vmm_sys_util::tempdir::TempDir;

use super::boot::Named;
use super::place::{Ended, Place};
use super::report::{Kernel, Results};
use super::select::Selected;
use super::{EVENTS, Job, NOT_JUDGED, TestArgs, ktap, print};
use crate::CliError;
use crate::progress::Progress;

/// Runs everything. The status is that of a call that ends before its time.
pub(super) fn run_all(
    args: &TestArgs,
    kernels: &[Named],
    selected: &[Selected],
) -> Result<(Results, Option<u8>), CliError> {
    let mut report = Report::new(args, kernels, selected.len());
    let pairs = kernels.iter().flat_map(|kernel| selected.iter().map(move |one| (kernel, one)));
    let jobs: Vec<Job<'_>> =
        pairs.map(|(kernel, selected)| Job { args, kernel, selected }).collect();
    report.begin()?;
    let program = std::env::current_exe().map_err(CliError::Program)?;
    let place = match find_place() {
        Ok(place) => place,
        Err(reason) => {
            eprintln!("ghostlink: {reason}");
            report.print(&ktap::bail_out(&reason))?;
            return Ok((report.results, Some(NOT_JUDGED)));
        }
    };
    let at_once = match (args.jobs, &place) {
        (Some(jobs), _) => jobs.into(),
        (None, Place::Here) => 1,
        (None, Place::TestHost(_)) => thread::available_parallelism().map_or(1, usize::from),
    };
    let work = TempDir::new().map_err(CliError::Temporary)?;
    let crew = Crew { place: &place, program, jobs: &jobs, work: work.as_path().to_owned() };
    let ended = crew.run(at_once, &mut report)?;
    report.progress.finish();
    Ok((report.results, ended))
}

/// Where Linux runs: here, if this machine's KVM can.
fn find_place() -> Result<Place, String> {
    if examine().check(Requirement::Linux).is_ok() {
        return Ok(Place::Here);
    }
    eprintln!(
        "ghostlink: this machine's KVM cannot run Linux (see 'ghostlink doctor'): scenarios run on the \
         test host, QEMU's software SVM"
    );
    let note = |line: &str| eprintln!("ghostlink: {line}");
    TestHost::find(Options { note, ..Options::default() })
        .map(Place::TestHost)
        .map_err(|error| format!("there is no test host, so nothing can be judged: {error}"))
}

/// The jobs, and how they are run.
struct Crew<'a> {
    place: &'a Place,
    program: PathBuf,
    jobs: &'a [Job<'a>],
    work: PathBuf,
}

/// What a thread says of a job.
enum News {
    Begins(usize),
    Ends(usize, Result<Ended, String>),
}

impl Crew<'_> {
    /// Runs all jobs; `Some` status if a signal has ended one.
    fn run(&self, at_once: usize, report: &mut Report<'_>) -> Result<Option<u8>, CliError> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (sender, news) = channel();
        thread::scope(|scope| {
            for _ in 0..at_once.min(self.jobs.len()) {
                let (sender, next, stop) = (sender.clone(), &next, &stop);
                scope.spawn(move || self.work(next, stop, &sender));
            }
            drop(sender);
            let mut ended = None;
            let mut outcome = Ok(());
            for news in news {
                let step = match news {
                    News::Begins(index) => {
                        report.begins(&self.jobs[index]);
                        Ok(())
                    }
                    News::Ends(index, Ok(Ended::Result(result))) => report.ends(index, *result),
                    News::Ends(_, Ok(Ended::Interrupted(status))) => {
                        ended = Some(status);
                        Ok(())
                    }
                    News::Ends(index, Err(reason)) => {
                        let job = &self.jobs[index];
                        let (scenario, kernel) = (job.scenario(), job.kernel_name());
                        let outcome = Outcome::NotJudged(reason);
                        report.ends(index, RunResult::without_run(scenario, kernel, outcome))
                    }
                };
                if ended.is_some() || step.is_err() {
                    stop.store(true, Ordering::SeqCst);
                    outcome = outcome.and(step);
                }
            }
            outcome.map(|()| ended)
        })
    }

    fn work(&self, next: &AtomicUsize, stop: &AtomicBool, news: &Sender<News>) {
        while !stop.load(Ordering::SeqCst) {
            let index = next.fetch_add(1, Ordering::SeqCst);
            let Some(job) = self.jobs.get(index) else { return };
            let _ = news.send(News::Begins(index));
            let ended = self.run_job(index, job);
            let _ = news.send(News::Ends(index, ended));
        }
    }

    fn run_job(&self, index: usize, job: &Job<'_>) -> Result<Ended, String> {
        if let Some(reason) = job.kernel.missing(job.scenario()) {
            // A scenario that a pattern has chosen is not for each kernel.
            let outcome = match job.selected.is_named {
                true => Outcome::NotJudged(reason),
                false => Outcome::Skip(reason),
            };
            let result = RunResult::without_run(job.scenario(), job.kernel_name(), outcome);
            return Ok(Ended::Result(Box::new(result)));
        }
        let mut attempt = 0;
        loop {
            let directory = self.work.join(format!("{index}-{attempt}"));
            fs::create_dir(&directory).map_err(|error| error.to_string())?;
            let ended = self
                .place
                .run(&self.program, &directory, job)
                .map_err(|error| format!("cannot run the scenario: {error}"));
            if let Some(logs) = &job.args.logs {
                let to = logs.join(job.kernel_name());
                keep(&directory, &to, &job.scenario().name).map_err(|error| {
                    format!("--logs: cannot write to '{}': {error}", to.display())
                })?;
            }
            let _ = fs::remove_dir_all(&directory);
            let not_judged = match &ended {
                Ok(Ended::Result(result)) => matches!(result.outcome, Outcome::NotJudged(_)),
                Ok(Ended::Interrupted(_)) => false,
                Err(_) => true,
            };
            if !not_judged || attempt >= job.args.retries {
                return ended;
            }
            attempt += 1;
        }
    }
}

/// Keeps what a run has written.
fn keep(from: &std::path::Path, to: &std::path::Path, name: &str) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for file in ["console", "errors", EVENTS] {
        if from.join(file).exists() {
            fs::copy(from.join(file), to.join(format!("{name}.{file}")))?;
        }
    }
    Ok(())
}

/// Prints results as soon as all before them are there.
struct Report<'a> {
    args: &'a TestArgs,
    kernels: &'a [Named],
    scenarios: usize,
    progress: Progress,
    waiting: Vec<Option<RunResult>>,
    printed: usize,
    done: usize,
    /// Whether all scenarios of the kernel whose subtest is being printed were as expected.
    is_ok: bool,
    results: Results,
}

impl<'a> Report<'a> {
    fn new(args: &'a TestArgs, kernels: &'a [Named], scenarios: usize) -> Self {
        let all = kernels.len() * scenarios;
        let names = kernels.iter().map(|named| Kernel {
            name: named.name.clone(),
            release: named.kernel.release.to_string(),
            image: named.kernel.image.display().to_string(),
        });
        Self {
            args,
            kernels,
            scenarios,
            progress: Progress::new(all),
            waiting: vec![None; all],
            printed: 0,
            done: 0,
            is_ok: true,
            results: Results::new(names.collect()),
        }
    }

    fn begin(&self) -> Result<(), CliError> {
        self.print(&ktap::head(self.kernels.len()))
    }

    fn print(&self, text: &str) -> Result<(), CliError> {
        if self.args.table { Ok(()) } else { self.progress.suspended(|| print(text)) }
    }

    fn begins(&self, job: &Job<'_>) {
        let text = format!("{} {}", job.kernel_name(), job.scenario().name);
        self.progress.begin(self.done, text);
    }

    fn ends(&mut self, index: usize, result: RunResult) -> Result<(), CliError> {
        self.done += 1;
        self.waiting[index] = Some(match self.args.expect {
            Some(expected) => result.judged_by_behavior(expected.behavior()),
            None => result,
        });
        while let Some(result) = self.waiting.get_mut(self.printed).and_then(Option::take) {
            let (kernel, number) = (self.printed / self.scenarios, self.printed % self.scenarios);
            self.printed += 1;
            if number == 0 {
                self.is_ok = true;
                self.print(&ktap::kernel_head(&self.kernels[kernel].name, self.scenarios))?;
            }
            self.is_ok &= matches!(result.outcome, Outcome::Pass | Outcome::Skip(_));
            self.print(&ktap::scenario(number + 1, &result))?;
            if number + 1 == self.scenarios {
                let name = &self.kernels[kernel].name;
                self.print(&ktap::kernel_end(kernel + 1, name, self.is_ok))?;
            }
            self.results.results.push(result);
        }
        Ok(())
    }
}
