//! Compares what a run has shown with the expectations of its scenario.

use std::collections::BTreeMap;

use devices::stale::StaleCounts;
use regex_lite::Regex;
use steps::{Message, Outcome, Stamped};
use vmm::Exit;

use crate::file::{Bounds, End, Expectation, Look, Scenario, Step};
use crate::fix::{Assume, Release};
use crate::observation::Observation;
use crate::result::{
    Behavior, Detected, FixFound, Outcome as Judged, Reading, RunResult, Status, Verdict,
};

/// The stall of a CPU from which on it counts as a lock-up, reported or not, in ms: the threshold of the
/// soft lock-up detector.
const STUCK: u64 = 20_000;
/// The number of the kernel's last lines that a result has.
const LAST_LINES: usize = 10;
/// The number of the last lines of evidence that the verdict on a step has.
const EVIDENCE: usize = 20;

/// What lock-up detectors print, and their names.
const DETECTORS: [(&str, &str); 4] = [
    ("hard", "[Hh]ard LOCKUP"),
    ("soft", "soft lockup"),
    ("rcu", "detected (expedited )?stalls|self-detected stall"),
    ("hung task", "blocked for more than"),
];

impl Observation {
    /// The result, for the kernel that the user has named `kernel`.
    pub fn judge(&self, scenario: &Scenario, kernel: &str, assume: Assume) -> RunResult {
        Judge { observed: self, lines: self.kernel_lines() }.judge(scenario, kernel, assume)
    }
}

/// An observation, with the lines of its kernel.
struct Judge<'a> {
    observed: &'a Observation,
    lines: Vec<String>,
}

impl Judge<'_> {
    fn judge(&self, scenario: &Scenario, kernel: &str, assume: Assume) -> RunResult {
        let fix = self.find_fix(scenario, assume);
        let fixed = fix.as_ref().map(|fix| fix.judged_as_fixed);
        let verdicts = self.verdicts(scenario, fixed);
        let failed = verdicts.iter().any(|verdict| verdict.status == Status::Failed);
        let observed = self.observed;
        let outcome = match (observed.release().is_some(), failed) {
            (false, _) => {
                let last = self.lines.last().map_or("nothing", String::as_str);
                Judged::NotJudged(format!(
                    "the kernel has not come to the scenario's steps: the run ended by {}, and its \
                     last line is: {last}",
                    observed.exit
                ))
            }
            (true, true) => Judged::Fail,
            (true, false) => Judged::Pass,
        };
        let last_lines = self.lines[self.lines.len().saturating_sub(LAST_LINES)..].to_vec();
        let detected = self.detected();
        RunResult {
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            host: scenario.host.to_string(),
            kernel: kernel.to_owned(),
            release: observed.release().map(str::to_owned),
            outcome,
            behavior: Some(self.behavior(detected.as_ref())),
            exit: observed.exit.to_string(),
            seconds: observed.seconds,
            verdicts,
            values: self.values(),
            events: observed.counts.kinds.clone(),
            ite: observed.counts.ite,
            detected,
            stale: observed.stale.to_string(),
            fix,
            last_lines,
        }
    }

    /// Every verdict: the end, faults, steps, and expectations in the order of the file.
    fn verdicts(&self, scenario: &Scenario, fixed: Option<bool>) -> Vec<Verdict> {
        let mut verdicts = vec![self.reached_the_end(scenario)];
        verdicts.extend(self.faults(scenario));
        let steps = scenario.steps.iter().enumerate();
        verdicts.extend(steps.filter_map(|(index, step)| self.step(index + 1, step)));
        let applies = |expectation: &&Expectation| {
            self.is_for_kernel(expectation)
                && expectation.fixed.is_none_or(|needed| fixed == Some(needed))
        };
        let expectations = scenario.expect.iter().enumerate();
        let expectations = expectations.filter(|(_, expectation)| applies(expectation));
        verdicts.extend(expectations.map(|(index, expectation)| self.look(index, expectation)));
        verdicts
            .extend(scenario.stale_accesses.map(|most| judge_stale(most, &self.observed.stale)));
        verdicts
    }

    fn is_for_kernel(&self, expectation: &Expectation) -> bool {
        let kernel = self.observed.release().unwrap_or_default();
        let kernels = &expectation.kernels;
        kernels.is_empty() || kernels.iter().any(|release| is_of(kernel, release))
    }

    /// Whether the kernel has the scenario's fix: its release says so, and its behaviour shows it.
    fn find_fix(&self, scenario: &Scenario, assume: Assume) -> Option<FixFound> {
        let fix = scenario.fix.as_ref()?;
        let by_release = self.version().map(|release| fix.is_in(release));
        let by_behavior = match [true, false].map(|fixed| self.fits(scenario, fixed)) {
            [Some(with), Some(without)] if with != without => Some(with),
            _ => None,
        };
        // A kernel with a backport behaves as a fixed one before its release says so. The other
        // way round it is a regression, which has to fail.
        let judged_as_fixed = match assume {
            Assume::Fixed => true,
            Assume::NotFixed => false,
            Assume::Auto => match (by_release, by_behavior) {
                (Some(true), _) => true,
                (_, Some(behavior)) => behavior,
                (release, None) => release.unwrap_or(true),
            },
        };
        let (commit, subject) = (fix.commit.clone(), fix.subject.clone());
        Some(FixFound { commit, subject, by_release, by_behavior, judged_as_fixed })
    }

    /// Whether all expectations of kernels with the fix, or without, are met; `None` if there are none.
    fn fits(&self, scenario: &Scenario, fixed: bool) -> Option<bool> {
        let expectations = scenario.expect.iter().enumerate();
        let about = expectations.filter(|(_, expectation)| {
            expectation.fixed == Some(fixed) && self.is_for_kernel(expectation)
        });
        let met = |(index, expectation)| self.look(index, expectation).status == Status::Ok;
        about.map(met).reduce(|all, met| all && met)
    }

    /// The release that decides whether the kernel has the fix. Debian prints it in the version, and
    /// for 6.1 only there.
    fn version(&self) -> Option<Release> {
        let banner = self.lines.iter().find_map(|line| Some(line.split_once("Linux version ")?.1));
        let debian = banner.and_then(|banner| Some(banner.split_once(" Debian ")?.1));
        debian.or(self.observed.release())?.parse().ok()
    }

    /// Values of the guest; of several with one name the last.
    fn values(&self) -> BTreeMap<String, Reading> {
        let value = |stamped: &Stamped| match &stamped.message {
            Message::Value { name, quantity } => {
                Some((name.as_str().to_owned(), Reading::from(*quantity)))
            }
            _ => None,
        };
        self.observed.messages.iter().filter_map(value).collect()
    }

    fn detected(&self) -> Option<Detected> {
        let detectors = DETECTORS.map(|(name, text)| (name, Regex::new(text)));
        let find = |line: &str| {
            let name = detectors.iter().find_map(|(name, pattern)| {
                pattern.as_ref().is_ok_and(|pattern| pattern.is_match(line)).then_some(*name)
            })?;
            Some(Detected { detector: name.to_owned(), line: line.to_owned() })
        };
        let mut all = self.lines.iter().filter_map(|line| find(line));
        let first = all.next()?;
        // A task that waits is not a CPU that is stuck: the first such report counts.
        match first.detector == "hung task" {
            true => all.find(|other| other.detector != "hung task").or(Some(first)),
            false => Some(first),
        }
    }

    fn behavior(&self, detected: Option<&Detected>) -> Behavior {
        let is_reported = detected.is_some_and(|detected| detected.detector != "hung task");
        let stalls = self.values().into_iter().filter(|(name, _)| name.starts_with("stall_cpu"));
        let is_stuck = is_reported || stalls.into_iter().any(|(_, stall)| stall.value() >= STUCK);
        if self.lines.iter().any(|line| line.contains("Kernel panic")) {
            Behavior::Panics
        } else if is_stuck {
            Behavior::LocksUp
        } else {
            match self.observed.exit {
                Exit::DebugExit(0) => Behavior::Lives,
                Exit::PowerOff | Exit::Reset => Behavior::Ends,
                _ => Behavior::NoEnd,
            }
        }
    }

    /// The runner writes 0 to the debug-exit port at its end.
    fn reached_the_end(&self, scenario: &Scenario) -> Verdict {
        let exit = self.observed.exit;
        let at_end = exit == Exit::DebugExit(0);
        let (that, ok) = match (scenario.ends, scenario.survives) {
            (Some(End::Reset), _) => ("the guest resets the machine", exit == Exit::Reset),
            (Some(End::PowerOff), _) => {
                ("the guest switches the machine off", exit == Exit::PowerOff)
            }
            (None, true) => ("the runner gets to its end", at_end),
            (None, false) => ("the guest dies before", !at_end),
        };
        Verdict::new(ok, that, format!("the run ended by {exit}"))
    }

    /// A scenario whose fault has never begun says nothing about it.
    fn faults(&self, scenario: &Scenario) -> Vec<Verdict> {
        let faults = scenario.root_complex.faults.iter().map(|fault| {
            let text = fault.to_string();
            let count = self.observed.counts.faults.get(&text).copied().unwrap_or(0);
            let evidence = match count {
                0 => "it has never begun".to_owned(),
                _ => format!("fault_injected, {count} times"),
            };
            Verdict::new(count > 0, format!("the fault {text} begins"), evidence)
        });
        faults.collect()
    }

    fn step(&self, number: usize, step: &Step) -> Option<Verdict> {
        let (word, succeeds) = (step.step.to_string(), step.succeeds?);
        let that = if succeeds { word.clone() } else { format!("{word} fails") };
        let mut evidence = Vec::new();
        for stamped in &self.observed.messages {
            match &stamped.message {
                Message::Step { .. } => evidence.clear(),
                Message::Evidence(text) => evidence.push(text.as_str().to_owned()),
                Message::Result { number: other, word: said, outcome }
                    if usize::try_from(*other) == Ok(number) && said.as_str() == word =>
                {
                    let status = match outcome {
                        Outcome::Skip(_) => Status::Skipped,
                        Outcome::Ok if succeeds => Status::Ok,
                        Outcome::NotOk if !succeeds => Status::Ok,
                        _ => Status::Failed,
                    };
                    evidence.drain(..evidence.len().saturating_sub(EVIDENCE));
                    evidence.insert(0, stamped.to_string());
                    return Some(Verdict { status, that, evidence });
                }
                // The shell's runner does not say that a step begins.
                Message::Result { .. } => evidence.clear(),
                _ => {}
            }
        }
        Some(Verdict::new(false, that, "the guest has not finished this step"))
    }

    fn look(&self, index: usize, expectation: &Expectation) -> Verdict {
        let (ok, evidence) = match &expectation.look {
            Look::Console(pattern) => match self.find(&pattern.0) {
                Some(line) => (true, line.clone()),
                None => (false, format!("no line matches /{}/", pattern.0)),
            },
            Look::Absent(pattern) => match self.find(&pattern.0) {
                Some(line) => (false, line.clone()),
                None => (true, format!("no line matches /{}/", pattern.0)),
            },
            Look::Event { kind, count, .. } => self.count(index, kind, *count),
            Look::Value { name, bounds } => self.value(name, *bounds),
        };
        Verdict::new(ok, expectation.that.clone(), evidence)
    }

    /// The first matching line of the kernel.
    fn find(&self, pattern: &Regex) -> Option<&String> {
        self.lines.iter().find(|line| pattern.is_match(line))
    }

    fn count(&self, index: usize, kind: &str, bounds: Bounds) -> (bool, String) {
        let matched = self.observed.counts.matched.get(index).cloned().unwrap_or_default();
        let seen = matched.first.map_or_else(String::new, |event| format!(", the first {event}"));
        let count = matched.count;
        (bounds.contain(count), format!("{count} events {kind}, expected {bounds}{seen}"))
    }

    fn value(&self, name: &str, bounds: Bounds) -> (bool, String) {
        match self.values().get(name) {
            Some(value) => {
                (bounds.contain(value.value()), format!("{name}={value}, expected {bounds}"))
            }
            None => (false, format!("the guest has not said what {name} is")),
        }
    }
}

/// DMA that was not judged may have been stale.
pub(crate) fn judge_stale(most: u64, found: &StaleCounts) -> Verdict {
    let StaleCounts { stale_accesses, not_judged, not_followed, .. } = *found;
    let ok = stale_accesses <= most && (not_judged, not_followed) == (0, 0);
    let that = match most {
        0 => "no DMA by a translation whose invalidation has ended".to_owned(),
        most => format!("DMA by translations whose invalidation has ended: {most} at the most"),
    };
    Verdict::new(ok, that, found.to_string())
}

/// Whether a release is of a series: 6.1.192 is of 6.1, and 6.12 is not.
fn is_of(release: &str, series: &str) -> bool {
    release
        .strip_prefix(series)
        .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}
