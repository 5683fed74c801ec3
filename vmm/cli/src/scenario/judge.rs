//! Compares console and events of a run with the expectations of its scenario.

use std::collections::HashMap;

use iommu::event::TimedEvent;
use serde_json::Value;
use toml::Table;

use super::file::{Bounds, Expectation, Look, Scenario};
use super::fix::Release;

/// Prefix of the runner's messages, behind the kernel's time stamp.
const RUNNER: &str = "ghostlink: ";

/// The result of one expectation: a line of KTAP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether it was met.
    pub(super) ok: bool,
    /// The expectation.
    pub(super) that: String,
    /// The lines or events that decided it.
    pub(super) evidence: Vec<String>,
}

/// Console and events of a run.
pub(super) struct Observed<'a> {
    /// Its console, by lines.
    lines: Vec<&'a str>,
    events: &'a [TimedEvent],
    /// Figures of the guest; of several with one name the last.
    values: HashMap<&'a str, &'a str>,
}

impl<'a> Observed<'a> {
    pub(super) fn new(console: &'a str, events: &'a [TimedEvent]) -> Self {
        let lines: Vec<&str> = console.lines().map(str::trim_end).collect();
        let values = lines.iter().filter_map(|line| runner_says(line)?.split_once('=')).collect();
        Self { lines, events, values }
    }

    /// The release of the kernel that has run, if it got so far.
    pub(super) fn kernel(&self) -> Option<&'a str> {
        self.introduction()?.split([' ', ',']).next()
    }

    /// Release and version of the kernel, as the runner says them or the kernel itself.
    fn introduction(&self) -> Option<&'a str> {
        let banner = self.lines.iter().find_map(|line| line.split_once("Linux version "));
        let runner = self.lines.iter().find_map(|line| runner_says(line)?.strip_prefix("kernel "));
        runner.or(banner.map(|(_, rest)| rest))
    }

    /// The release that decides whether the kernel has the fix. Debian prints it in the version, and
    /// for 6.1 only there.
    fn place(&self) -> Option<Release> {
        let debian = self.introduction()?.split_once(" Debian ").map(|(_, version)| version);
        debian.or(self.kernel())?.parse().ok()
    }

    /// Every verdict, in the order of the file: steps first.
    pub(super) fn judge(&self, scenario: &Scenario) -> Vec<Verdict> {
        let kernel = self.kernel().unwrap_or_default();
        let steps = scenario.steps.iter().enumerate().filter_map(|(index, step)| {
            step.succeeds.map(|succeeds| self.step(index + 1, &step.words, succeeds))
        });
        let fixed = self.has_fix(scenario);
        let applies = |expectation: &&Expectation| {
            let kernels = &expectation.kernels;
            (kernels.is_empty() || kernels.iter().any(|release| is_of(kernel, release)))
                && expectation.fixed.is_none_or(|needed| fixed == Some(needed))
        };
        let rest = scenario.expect.iter().filter(applies).map(|expectation| self.look(expectation));
        steps.chain(rest).collect()
    }

    /// Whether the kernel has the scenario's fix.
    pub(super) fn has_fix(&self, scenario: &Scenario) -> Option<bool> {
        Some(scenario.fix.as_ref()?.is_in(self.place()?))
    }

    fn step(&self, number: usize, words: &str, succeeds: bool) -> Verdict {
        let (good, bad) = (format!("ok {number} {words}"), format!("not ok {number} {words}"));
        let result = self.lines.iter().find_map(|line| {
            let said = runner_says(line)?;
            (said == good).then_some((true, *line)).or((said == bad).then_some((false, *line)))
        });
        let that = if succeeds { words.to_owned() } else { format!("{words} fails") };
        let (ok, evidence) = match result {
            Some((result, line)) => (result == succeeds, line.to_owned()),
            None => (false, "the guest has not finished this step".to_owned()),
        };
        Verdict { ok, that, evidence: vec![evidence] }
    }

    fn look(&self, expectation: &Expectation) -> Verdict {
        let (ok, evidence) = match &expectation.look {
            Look::Console(pattern) => match self.find(&pattern.0) {
                Some(line) => (true, line.to_owned()),
                None => (false, format!("no line matches /{}/", pattern.0)),
            },
            Look::Absent(pattern) => match self.find(&pattern.0) {
                Some(line) => (false, line.to_owned()),
                None => (true, format!("no line matches /{}/", pattern.0)),
            },
            Look::Event { kind, with, count } => self.count(kind, with, *count),
            Look::Value { name, bounds } => self.value(name, *bounds),
        };
        Verdict { ok, that: expectation.that.clone(), evidence: vec![evidence] }
    }

    /// The first matching line of the kernel. The runner's own lines do not count.
    fn find(&self, pattern: &regex_lite::Regex) -> Option<&'a str> {
        let kernel = |line: &&str| runner_says(line).is_none();
        self.lines.iter().copied().filter(kernel).find(|line| pattern.is_match(line))
    }

    fn count(&self, kind: &str, with: &Table, bounds: Bounds) -> (bool, String) {
        let mut first = None;
        let mut count = 0;
        for timed in self.events {
            let Ok(event) = serde_json::to_value(timed) else { continue };
            if event["event"] == kind && with.iter().all(|(key, value)| same(&event[key], value)) {
                count += 1;
                first.get_or_insert(event);
            }
        }
        let seen = first.map_or_else(String::new, |event| format!(", the first {event}"));
        (bounds.contain(count), format!("{count} events {kind}, expected {bounds}{seen}"))
    }

    fn value(&self, name: &str, bounds: Bounds) -> (bool, String) {
        let Some(text) = self.values.get(name) else {
            return (false, format!("the guest has not said what {name} is"));
        };
        // A pause without end is above every bound.
        let value = if *text == "never" { Some(u64::MAX) } else { text.parse().ok() };
        (
            value.is_some_and(|value| bounds.contain(value)),
            format!("{name}={text}, expected {bounds}"),
        )
    }
}

/// The runner's message on a line of the console.
fn runner_says(line: &str) -> Option<&str> {
    let (stamp, said) = line.split_once(RUNNER)?;
    (stamp.is_empty() || stamp.trim_end().ends_with(']')).then_some(said)
}

/// Whether a release is of a series: 6.1.192 is of 6.1, and 6.12 is not.
fn is_of(release: &str, series: &str) -> bool {
    release
        .strip_prefix(series)
        .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

fn same(seen: &Value, wanted: &toml::Value) -> bool {
    serde_json::to_value(wanted).is_ok_and(|wanted| *seen == wanted)
}
