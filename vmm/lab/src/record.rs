//! One run, as its line in `results.jsonl` says it.

use crate::sim::{RunId, RunResult, RunSpec};
use serde::{Deserialize, Serialize};

/// The measurements of one run. The keys and their order are a promise: they are added to, not
/// renamed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The run, as `ghostlink explain` takes it.
    pub run: RunId,
    /// Its policy.
    pub policy: String,
    /// Its fault.
    pub fault: String,
    /// Its workload.
    pub workload: String,
    /// Its unit.
    pub unit: String,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Times are nanoseconds of virtual time.
    pub result: RunResult,
}

impl Record {
    /// The record of a run.
    pub fn new(spec: &RunSpec, result: RunResult) -> Self {
        let RunId { policy, fault, workload, unit, seed } = spec.id();
        Self { run: spec.id(), policy, fault, workload, unit, seed, result }
    }

    /// The beginning of a run's line, which does not depend on the measurement.
    pub fn line_begins(run: &RunId) -> String {
        // Serializing a text into memory does not fail.
        let run = serde_json::to_string(run).unwrap_or_default();
        format!("{{\"run\":{run},")
    }

    /// Its line, without the end.
    pub fn line(&self) -> String {
        // Text, numbers and lists into memory: that does not fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}
