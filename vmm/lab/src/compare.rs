//! Runs a plan, keeps the finished runs, and sums them up.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use iommu::event::Tracer;

use super::error::LabError;
use super::plan::Plan;
use super::record::Record;
use super::seeds::{Place, Round};
use super::shard::Shard;
use super::store::{Store, StoreError};
use super::summary::Summary;
use super::views;
use super::work::{WorkEnd, in_order};

/// Options of a comparison.
#[derive(Debug)]
pub struct Options<'a> {
    /// Threads.
    pub jobs: NonZeroUsize,
    /// Directory for the results, if they are kept.
    pub out: Option<&'a Path>,
    /// Whether to continue with the runs in `out`.
    pub resume: bool,
}

/// The end of a comparison.
#[derive(Debug)]
pub enum Outcome {
    /// All runs of the plan are done.
    Complete(Box<Summary>),
    /// A signal came. Finished runs stay in the log.
    Interrupted {
        /// The signal.
        signal: i32,
        /// Runs that are done.
        done: usize,
    },
}

/// How far a comparison has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Runs that are done.
    pub done: usize,
    /// Runs that are known to be needed. Results can add to them.
    pub planned: usize,
}

/// Runs `plan`. `progress` is told of each finished run. `interrupted` is polled between runs:
/// once it returns a signal, the comparison stops.
///
/// # Errors
///
/// See [`LabError`]. Finished runs stay in the log.
pub fn compare(
    plan: &Plan,
    options: &Options<'_>,
    mut progress: impl FnMut(Progress),
    mut interrupted: impl FnMut() -> Option<i32>,
) -> Result<Outcome, LabError> {
    let mut log = RunLog::open(plan, options)?;
    let mut signal = None;
    while let Some((round, begun)) = log.round() {
        let planned = log.done + round.runs() - begun;
        progress(Progress { done: log.done, planned });
        let ended = in_order(
            begun..round.runs(),
            options.jobs,
            |nth| run(plan, round.run(nth)),
            |_, result| {
                let (record, line) = result?;
                log.add(&record, &line)?;
                progress(Progress { done: log.done, planned });
                Ok::<(), LabError>(())
            },
            || {
                signal = signal.or_else(&mut interrupted);
                signal.is_some()
            },
        );
        // Finished runs stay in the log, also after an error.
        let flushed = log.flush();
        let ended = ended?;
        flushed?;
        if let (WorkEnd::Stopped, Some(signal)) = (ended, signal) {
            return Ok(Outcome::Interrupted { signal, done: log.done });
        }
    }
    Ok(Outcome::Complete(Box::new(log.complete(plan)?)))
}

/// One run, and its line.
fn run(plan: &Plan, place: Option<Place>) -> Result<(Record, String), LabError> {
    #[expect(clippy::expect_used, reason = "in_order keeps within the length of the round")]
    let spec = place.and_then(|place| plan.matrix.spec(place)).expect("a place in the matrix");
    let result = crate::sim::run(&spec, &Tracer::none())
        .map_err(|source| LabError::Run { run: Box::new(spec.id()), source: Box::new(source) })?;
    let record = Record::new(&spec, result);
    let line = record.line();
    Ok((record, line))
}

/// The results so far, and the place of the next run, which depends on them.
pub(super) struct Results<'a> {
    plan: &'a Plan,
    pub(super) summary: Summary,
    round: Round,
    /// Runs of the round that are done.
    begun: usize,
}

impl<'a> Results<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self { plan, summary: Summary::new(&plan.matrix), round: plan.first_round(), begun: 0 }
    }

    /// The round of the next run, and how many of its runs are done; `None` after the last.
    pub(super) fn round(&mut self) -> Option<(&Round, usize)> {
        if self.begun == self.round.runs() {
            let summary = &self.summary;
            self.round = self.round.next(|cell, points| summary.is_open(cell, points))?;
            self.begun = 0;
        }
        Some((&self.round, self.begun))
    }

    /// The place of the next run.
    pub(super) fn next(&mut self) -> Option<Place> {
        let (round, begun) = self.round()?;
        round.run(begun)
    }

    /// Adds the next run.
    pub(super) fn add(&mut self, record: &Record) {
        self.summary.add(record);
        self.begun += 1;
    }

    /// Adds the next run, which `line` should be.
    ///
    /// # Errors
    ///
    /// The reason why it is not.
    pub(super) fn add_line(&mut self, line: &str) -> Result<(), String> {
        let id = self.next().and_then(|place| self.plan.matrix.id(place));
        let id = id.ok_or_else(|| "there are more runs than planned".to_owned())?;
        let expected = Record::line_begins(&id);
        if !line.starts_with(&expected) {
            return Err(format!("it should begin with {expected}"));
        }
        self.add(&serde_json::from_str(line).map_err(|error| error.to_string())?);
        Ok(())
    }
}

/// Finished runs: their lines, if there is a directory, and their totals.
struct RunLog<'a> {
    directory: Option<(Store, PathBuf)>,
    results: Results<'a>,
    done: usize,
}

impl<'a> RunLog<'a> {
    fn open(plan: &'a Plan, options: &Options<'_>) -> Result<Self, LabError> {
        let (mut results, mut done) = (Results::new(plan), 0);
        let Some(directory) = options.out else {
            return Ok(Self { directory: None, results, done });
        };
        let store = Store::open(directory, &plan.json(), options.resume, |line| {
            results.add_line(line)?;
            done += 1;
            Ok(())
        })?;
        Ok(Self { directory: Some((store, directory.to_owned())), results, done })
    }

    /// The round of the next run, and how many of its runs are done.
    fn round(&mut self) -> Option<(Round, usize)> {
        self.results.round().map(|(round, begun)| (round.clone(), begun))
    }

    fn add(&mut self, record: &Record, line: &str) -> Result<(), StoreError> {
        if let Some((store, _)) = &mut self.directory {
            store.append(line)?;
        }
        self.results.add(record);
        self.done += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.directory.as_mut().map_or(Ok(()), |(store, _)| store.flush())
    }

    fn complete(self, plan: &Plan) -> Result<Summary, LabError> {
        let summary = self.results.summary;
        if let Some((store, directory)) = self.directory {
            store.complete()?;
            // A part says little alone.
            if plan.shard == Shard::WHOLE {
                views::write(&directory, plan, &summary)?;
            }
        }
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Matrix, Selection};
    use crate::merge;
    use crate::seeds::{Precision, Seeds};
    use crate::sim::{Catalog, FaultRow};
    use std::fs;
    use vmm_sys_util::tempdir::TempDir;

    /// A comparison whose cells need different numbers of seeds: whether an answer of the device
    /// is lost depends on the seed.
    fn plan(shard: &str) -> Plan {
        let names = |names: &str| names.split(' ').map(str::to_owned).collect();
        let selection = Selection {
            policies: names("linux-6.12-unmap"),
            faults: names("none lossy lossy:0.005 lossy:0.02"),
            workloads: names("victim"),
            ..Selection::default()
        };
        let mut catalog = Catalog::default();
        for share in ["0.005", "0.02"] {
            let fault = format!("before=completion:20,mode=lossy:{share}").parse().ok();
            let row = catalog.fault("lossy").unwrap();
            catalog.faults.push(FaultRow { name: format!("lossy:{share}"), fault, ..row });
        }
        let mut matrix = Matrix::new(&catalog, &selection).unwrap();
        matrix.seeds = Seeds::Until(Precision { points: 40, first: 3, most: 16 });
        Plan::new(matrix, String::new(), String::new(), shard.parse().unwrap())
    }

    fn run(plan: &Plan, out: &Path, resume: bool) -> Summary {
        let jobs = NonZeroUsize::new(3).unwrap();
        let options = Options { jobs, out: Some(out), resume };
        match compare(plan, &options, |_| {}, || None).unwrap() {
            Outcome::Complete(summary) => *summary,
            Outcome::Interrupted { .. } => unreachable!("there is no signal"),
        }
    }

    #[test]
    fn cells_get_seeds_until_their_intervals_are_narrow_however_they_are_run() {
        let directory = TempDir::new().unwrap();
        let place = |name: &str| directory.as_path().join(name);
        let results = |name: &str| fs::read_to_string(place(name).join("results.jsonl")).unwrap();
        let summary = run(&plan("1/1"), &place("whole"), false);
        let (least, most) = summary.seeds();
        assert!(least < most, "all cells have {least} seeds: choose others");
        for (names, totals) in summary.cells() {
            assert!(totals.runs() == 16 || !totals.is_open(40), "{names:?}: {}", totals.runs());
        }
        // In parts.
        let parts = ["1/3", "2/3", "3/3"].map(|shard| {
            let out = place(&shard.replace('/', "-"));
            run(&plan(shard), &out, false);
            out
        });
        merge(&parts, &place("merged")).unwrap();
        assert_eq!(results("whole"), results("merged"));
        // Interrupted after each number of runs that there is, in the middle of a line.
        let whole = results("whole");
        let ends: Vec<usize> = whole.match_indices('\n').map(|(at, _)| at).collect();
        for at in [ends[0], ends[5], ends[ends.len() / 2], ends[ends.len() - 2]] {
            let broken = place(&format!("broken-{at}"));
            fs::create_dir(&broken).unwrap();
            fs::copy(place("whole").join("plan.json"), broken.join("plan.json")).unwrap();
            fs::write(broken.join("results.jsonl.part"), &whole[..at + 20]).unwrap();
            run(&plan("1/1"), &broken, true);
            assert_eq!(fs::read_to_string(broken.join("results.jsonl")).unwrap(), whole);
        }
    }
}
