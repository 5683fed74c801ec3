//! All results of a call, as the file of `--json` has them.

use std::path::{Path, PathBuf};

use scenario::{Outcome, RunResult};
use serde::{Deserialize, Serialize};

/// The version of the format.
const VERSION: u32 = 1;

/// A kernel of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kernel {
    /// The name that the user has given it, or what names it.
    pub(super) name: String,
    /// Its release.
    pub(super) release: String,
    /// Its image.
    pub(super) image: String,
}

/// All results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Results {
    version: u32,
    /// The kernels, in the order of the command line.
    pub(super) kernels: Vec<Kernel>,
    /// The results, in the order of the kernels and of the scenarios.
    pub(super) results: Vec<RunResult>,
}

/// A file of results cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResultsError {
    /// It cannot be read.
    #[error("cannot read '{}': {source}; give a file that 'ghostlink test --json' has written", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("'{}' has no results of 'ghostlink test --json': {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Results {
    pub(super) fn new(kernels: Vec<Kernel>) -> Self {
        Self { version: VERSION, kernels, results: Vec::new() }
    }

    /// Reads a file of `--json`.
    pub(super) fn read(path: &Path) -> Result<Self, ResultsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ResultsError::Read { path: path.to_owned(), source })?;
        let wrong = |reason: String| ResultsError::Content { path: path.to_owned(), reason };
        let results: Self =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        match results.version {
            VERSION => Ok(results),
            other => {
                Err(wrong(format!("it has version {other}, and this program reads {VERSION}")))
            }
        }
    }

    /// The results of a kernel.
    pub(super) fn of_kernel(&self, name: &str) -> impl Iterator<Item = &RunResult> {
        self.results.iter().filter(move |result| result.kernel == name)
    }

    /// The result of a scenario with a kernel.
    pub(super) fn find(&self, kernel: &str, scenario: &str) -> Option<&RunResult> {
        self.of_kernel(kernel).find(|result| result.scenario == scenario)
    }

    /// The names of the scenarios, each once.
    pub(super) fn scenarios(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for result in &self.results {
            if !names.contains(&result.scenario.as_str()) {
                names.push(&result.scenario);
            }
        }
        names
    }

    /// How many results have such an outcome.
    pub(super) fn count(&self, is_meant: impl Fn(&Outcome) -> bool) -> usize {
        self.results.iter().filter(|result| is_meant(&result.outcome)).count()
    }
}
