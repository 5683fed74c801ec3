//! The result of a run: what JSON, KTAP, JUnit and comparisons are made of.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use steps::Quantity;

use crate::file::Scenario;

/// Whether an expectation was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It was met.
    Ok,
    /// It was not met.
    Failed,
    /// It was not looked at: the guest has skipped the step.
    Skipped,
}

/// The result of one expectation: a line of KTAP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it was met.
    pub status: Status,
    /// The expectation.
    pub that: String,
    /// The lines, events or figures that decided it.
    pub evidence: Vec<String>,
}

impl Verdict {
    /// A verdict that is not about a step which may be skipped.
    pub(crate) fn new(ok: bool, that: impl Into<String>, evidence: impl Into<String>) -> Self {
        let status = if ok { Status::Ok } else { Status::Failed };
        Self { status, that: that.into(), evidence: vec![evidence.into()] }
    }
}

/// The result of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything was as expected.
    Pass,
    /// At least one expectation was not met.
    Fail,
    /// The scenario is not for this kernel, for this reason.
    Skip(String),
    /// There is no verdict on the kernel, for this reason.
    NotJudged(String),
}

impl Outcome {
    /// The word for tables.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Skip(_) => "skip",
            Self::NotJudged(_) => "not judged",
        }
    }
}

/// What the kernel did, whatever was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behavior {
    /// The runner came to its end, and no CPU has locked up.
    Lives,
    /// A lock-up detector has reported a stall, or a CPU was stuck for 20 s or longer.
    LocksUp,
    /// The kernel has panicked.
    Panics,
    /// The guest has reset the machine, or switched it off.
    Ends,
    /// The run had no such end.
    NoEnd,
}

impl fmt::Display for Behavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lives => "lives",
            Self::LocksUp => "lock-up",
            Self::Panics => "panic",
            Self::Ends => "ends",
            Self::NoEnd => "no end",
        })
    }
}

/// A figure of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RawReading", into = "RawReading")]
pub enum Reading {
    /// A number.
    Number(u64),
    /// What was to be measured has not ended: above every number.
    Never,
}

/// As JSON: a number, or `"never"`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RawReading {
    Number(u64),
    Never(String),
}

impl From<RawReading> for Reading {
    fn from(raw: RawReading) -> Self {
        match raw {
            RawReading::Number(number) => Self::Number(number),
            RawReading::Never(_) => Self::Never,
        }
    }
}

impl From<Reading> for RawReading {
    fn from(reading: Reading) -> Self {
        match reading {
            Reading::Number(number) => Self::Number(number),
            Reading::Never => Self::Never("never".to_owned()),
        }
    }
}

impl Reading {
    /// As a number: `never` is above every bound.
    pub const fn value(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Never => u64::MAX,
        }
    }
}

impl From<Quantity> for Reading {
    fn from(quantity: Quantity) -> Self {
        match quantity {
            Quantity::Number(number) => Self::Number(number),
            Quantity::Never => Self::Never,
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Never => f.write_str("never"),
        }
    }
}

/// Whether the kernel has the scenario's fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixFound {
    /// The commit in the mainline.
    pub commit: String,
    /// Its subject.
    pub subject: String,
    /// Whether it is in this release; `None` if the release is not known.
    pub by_release: Option<bool>,
    /// Whether the kernel behaves as one with the fix; `None` if both or neither would.
    pub by_behavior: Option<bool>,
    /// What the verdicts are about: a kernel with the fix, or without.
    pub judged_as_fixed: bool,
}

impl fmt::Display for FixFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commit, subject, by_release, by_behavior, judged_as_fixed } = self;
        let has = |fixed: bool| if fixed { "with" } else { "without" };
        write!(f, "judged as a kernel {} {commit} (\"{subject}\")", has(*judged_as_fixed))?;
        match (by_release, by_behavior) {
            (Some(false), Some(true)) => {
                f.write_str("; it behaves so although its release is older: a backport")
            }
            (Some(true), Some(false)) => f.write_str(
                "; it behaves as one without, although its release has the fix: a regression, or the \
                 fix was reverted (--fixed no)",
            ),
            _ => Ok(()),
        }
    }
}

/// The report of a lock-up detector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    /// `hard`, `soft`, `rcu`, or `hung task`.
    pub detector: String,
    /// Its first line.
    pub line: String,
}

/// What a run has shown, and the verdicts on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The name of the scenario.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// The host below the guest, with its policy.
    pub host: String,
    /// The kernel as the user has named it.
    pub kernel: String,
    /// Its release, as it says itself.
    pub release: Option<String>,
    /// The result.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What the kernel did, if it has run.
    pub behavior: Option<Behavior>,
    /// How the run has ended.
    pub exit: String,
    /// The duration of the run in seconds.
    pub seconds: f64,
    /// The expectations, steps first.
    pub verdicts: Vec<Verdict>,
    /// Figures of the guest; of several with one name the last.
    pub values: BTreeMap<String, Reading>,
    /// The number of events of each kind.
    pub events: BTreeMap<String, u64>,
    /// Invalidation time-outs (ITE) that the guest has seen.
    pub ite: u64,
    /// The first report of a lock-up detector.
    pub detected: Option<Detected>,
    /// Stale DMA, in words.
    pub stale: String,
    /// Whether the kernel has the fix that the scenario asks for.
    pub fix: Option<FixFound>,
    /// The kernel's last lines.
    pub last_lines: Vec<String>,
}

impl RunResult {
    /// The result of a scenario that has not run with a kernel.
    pub fn without_run(scenario: &Scenario, kernel: &str, outcome: Outcome) -> Self {
        Self {
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            host: scenario.host.to_string(),
            kernel: kernel.to_owned(),
            release: None,
            outcome,
            behavior: None,
            exit: String::new(),
            seconds: 0.0,
            verdicts: Vec::new(),
            values: BTreeMap::new(),
            events: BTreeMap::new(),
            ite: 0,
            detected: None,
            stale: String::new(),
            fix: None,
            last_lines: Vec::new(),
        }
    }

    /// Judges by what the kernel did alone, as `git bisect run` may want it: it lives, or locks up.
    /// Anything else is no verdict.
    #[must_use]
    pub fn judged_by_behavior(mut self, expected: Behavior) -> Self {
        let Some(behavior) = self.behavior else { return self };
        let that = format!("the kernel: {expected}");
        let lines = self.detected.iter().map(|detected| detected.line.clone());
        let evidence = std::iter::once(format!("it: {behavior}")).chain(lines).collect();
        let status = if behavior == expected { Status::Ok } else { Status::Failed };
        self.outcome = match (behavior, &self.outcome) {
            (_, Outcome::NotJudged(_) | Outcome::Skip(_)) => self.outcome,
            (Behavior::Lives | Behavior::LocksUp, _) if status == Status::Ok => Outcome::Pass,
            (Behavior::Lives | Behavior::LocksUp, _) => Outcome::Fail,
            _ => Outcome::NotJudged(format!("the kernel neither lives nor locks up: {behavior}")),
        };
        self.verdicts = vec![Verdict { status, that, evidence }];
        self
    }

    /// The number of verdicts with that status.
    pub fn count(&self, status: Status) -> usize {
        self.verdicts.iter().filter(|verdict| verdict.status == status).count()
    }

    /// The longest stall of each CPU, in ms: CPU 0 first.
    pub fn stalls(&self) -> Vec<Option<Reading>> {
        let stall = |cpu: usize| self.values.get(&format!("stall_cpu{cpu}_ms")).copied();
        let cpus = (0..vmm::config::MAX_CPUS.into()).rev();
        let last = cpus.into_iter().find(|cpu| stall(*cpu).is_some());
        last.map_or_else(Vec::new, |last| (0..=last).map(stall).collect())
    }
}
