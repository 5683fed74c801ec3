//! Experiments: a few rows of the tables, with some settings varied, to answer one question.
//!
//! ```text
//!   rows (policies, faults, workloads, units) x axes (any setting of a run) x seeds --> RunSpecs
//!   RunSpecs --sim::run--> a Cell for each combination --> Markdown, CSV, a figure
//! ```
//!
//! The output depends on the experiment alone: neither the number of threads nor their order shows.

mod axis;
mod file;
mod measure;
mod output;

use std::num::NonZeroUsize;

use iommu::event::Tracer;

use crate::error::LabError;
use crate::properties::Properties;
use crate::sim::{self, RunResult, RunSpec};
use crate::work::{WorkEnd, in_order};
pub use measure::{MEASURES, Measure, Value};

/// What is varied: rows of one table, or the values of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// `policy`, `fault`, `workload`, `unit`, or the name of the axis.
    pub name: String,
    /// The values as text, in the order of the file.
    pub values: Vec<String>,
}

/// An experiment that can be run.
#[derive(Debug)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// Its question, in a line.
    pub about: String,
    /// What it shows, in a paragraph or two.
    finding: String,
    /// The dimensions; the last varies fastest.
    pub dimensions: Vec<Dimension>,
    /// Seeds for each combination, from 0.
    pub seeds: u64,
    /// The measures in the table.
    show: Vec<&'static Measure>,
    /// The dimension whose values are columns of the table.
    across: Option<usize>,
    figure: Option<Figure>,
    /// Place and first run of each combination; none where policy and unit exist together in no
    /// machine.
    specs: Vec<(usize, RunSpec)>,
}

/// The figure: a panel for each measure, and in it a curve for each combination of the dimensions
/// other than `x`.
#[derive(Debug)]
struct Figure {
    x: usize,
    measures: Vec<&'static Measure>,
}

/// The runs of one combination.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// All together.
    pub sum: RunResult,
    /// Runs that are live.
    pub live: u64,
    /// Runs that are safe.
    pub safe: u64,
    /// Runs that are fair.
    pub fair: u64,
    /// Runs with all three properties.
    pub all: u64,
    /// Runs that triggered the hard lock-up detector.
    pub hard: u64,
}

impl Cell {
    fn add(&mut self, result: &RunResult) {
        let properties = Properties::of(result, Properties::WITHIN);
        self.live += u64::from(properties.live);
        self.safe += u64::from(properties.safe);
        self.fair += u64::from(properties.fair);
        self.all += u64::from(properties.all());
        self.hard += u64::from(result.hard_lockups > 0);
        self.sum.merge(result);
    }

    /// The properties that all runs have.
    pub const fn properties(&self) -> Properties {
        let runs = self.sum.runs;
        Properties { live: self.live == runs, safe: self.safe == runs, fair: self.fair == runs }
    }
}

/// The outcome of an experiment: a cell for each combination, in order.
#[derive(Debug)]
pub struct Results<'a> {
    /// What was run.
    pub experiment: &'a Experiment,
    /// No cell where there was nothing to run.
    pub cells: Vec<Option<Cell>>,
}

impl Experiment {
    /// The number of runs.
    pub fn runs(&self) -> usize {
        self.specs.len().saturating_mul(self.seeds())
    }

    fn seeds(&self) -> usize {
        usize::try_from(self.seeds).unwrap_or(usize::MAX)
    }

    /// Runs everything on `jobs` threads. `progress` gets the number of finished runs. `interrupted`
    /// is polled between runs; once it returns `true` there is no result.
    ///
    /// # Errors
    ///
    /// A run that cannot be simulated.
    pub fn run(
        &self,
        jobs: NonZeroUsize,
        mut progress: impl FnMut(usize),
        interrupted: impl FnMut() -> bool,
    ) -> Result<Option<Results<'_>>, LabError> {
        let combinations = self.dimensions.iter().map(|dimension| dimension.values.len()).product();
        let mut cells: Vec<Option<Cell>> = vec![None; combinations];
        let seeds = self.seeds();
        let ended = in_order(
            0..self.runs(),
            jobs,
            |nth| {
                let spec =
                    RunSpec { seed: (nth % seeds) as u64, ..self.specs[nth / seeds].1.clone() };
                run(&spec)
            },
            |nth, result| {
                let place = self.specs[nth / seeds].0;
                cells[place].get_or_insert_default().add(&result?);
                progress(nth + 1);
                Ok::<(), LabError>(())
            },
            interrupted,
        )?;
        Ok((ended == WorkEnd::Complete).then_some(Results { experiment: self, cells }))
    }

    /// The index of each dimension's value at `place`.
    fn at(&self, place: usize) -> Vec<usize> {
        let mut rest = place;
        let mut at: Vec<usize> = Vec::with_capacity(self.dimensions.len());
        for dimension in self.dimensions.iter().rev() {
            at.push(rest % dimension.values.len());
            rest /= dimension.values.len();
        }
        at.reverse();
        at
    }

    /// The place of these values.
    fn place(&self, at: &[usize]) -> usize {
        let steps = self.dimensions.iter().zip(at);
        steps.fold(0, |place, (dimension, at)| place * dimension.values.len() + at)
    }
}

fn run(spec: &RunSpec) -> Result<RunResult, LabError> {
    sim::run(spec, &Tracer::none())
        .map_err(|source| LabError::Run { run: Box::new(spec.id()), source: Box::new(source) })
}

#[cfg(test)]
mod tests;
