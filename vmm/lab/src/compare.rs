//! Runs a plan, keeps the finished runs, and sums them up.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use iommu::event::Tracer;

use super::error::LabError;
use super::plan::Plan;
use super::record::Record;
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

/// Runs `plan`. `progress` gets the number of finished runs. `interrupted` is polled between runs:
/// once it returns a signal, the comparison stops.
///
/// # Errors
///
/// See [`LabError`]. Finished runs stay in the log.
pub fn compare(
    plan: &Plan,
    options: &Options<'_>,
    mut progress: impl FnMut(usize),
    mut interrupted: impl FnMut() -> Option<i32>,
) -> Result<Outcome, LabError> {
    let mut log = RunLog::open(plan, options)?;
    let done = log.done;
    progress(done);
    let mut signal = None;
    let ended = in_order(
        done..plan.len(),
        options.jobs,
        |nth| run(plan, nth),
        |nth, result| {
            let (record, line) = result?;
            log.add(&record, &line)?;
            progress(nth + 1);
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
    match (ended, signal) {
        (WorkEnd::Stopped, Some(signal)) => Ok(Outcome::Interrupted { signal, done: log.done }),
        _ => Ok(Outcome::Complete(Box::new(log.complete(plan)?))),
    }
}

/// One run, and its line.
fn run(plan: &Plan, nth: usize) -> Result<(Record, String), LabError> {
    #[expect(clippy::expect_used, reason = "in_order keeps within the plan's length")]
    let spec = plan.matrix.spec(plan.shard.place(nth)).expect("a place in the matrix");
    let result = crate::sim::run(&spec, &Tracer::none())
        .map_err(|source| LabError::Run { run: Box::new(spec.id()), source: Box::new(source) })?;
    let record = Record::new(&spec, result);
    let line = record.line();
    Ok((record, line))
}

/// Finished runs: their lines, if there is a directory, and their totals.
struct RunLog {
    directory: Option<(Store, PathBuf)>,
    summary: Summary,
    done: usize,
}

impl RunLog {
    fn open(plan: &Plan, options: &Options<'_>) -> Result<Self, LabError> {
        let mut summary = Summary::new(plan.matrix.names());
        let Some(directory) = options.out else {
            return Ok(Self { directory: None, summary, done: 0 });
        };
        let (store, done) = Store::open(directory, &plan.json(), options.resume, |nth| {
            line_begins(plan, plan.shard.place(nth)).filter(|_| nth < plan.len())
        })?;
        if done > 0 {
            for record in store.records()? {
                summary.add(&record?);
            }
        }
        Ok(Self { directory: Some((store, directory.to_owned())), summary, done })
    }

    fn add(&mut self, record: &Record, line: &str) -> Result<(), StoreError> {
        if let Some((store, _)) = &mut self.directory {
            store.append(line)?;
        }
        self.summary.add(record);
        self.done += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.directory.as_mut().map_or(Ok(()), |(store, _)| store.flush())
    }

    fn complete(self, plan: &Plan) -> Result<Summary, LabError> {
        if let Some((store, directory)) = self.directory {
            store.complete()?;
            // A part says little alone.
            if plan.shard == Shard::WHOLE {
                views::write(&directory, plan, &self.summary)?;
            }
        }
        Ok(self.summary)
    }
}

/// The beginning of the line of the run at `place`.
pub(super) fn line_begins(plan: &Plan, place: usize) -> Option<String> {
    plan.matrix.id(place).map(|id| Record::line_begins(&id))
}
