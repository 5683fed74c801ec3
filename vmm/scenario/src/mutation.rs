//! Every expectation of every scenario can fail, and fails for what it is about.
//!
//! For each scenario, a run is made up that meets all expectations. Then one thing at a time is changed in
//! it: a fault does not begin, a step ends otherwise, a line is missing or there is one too many, a value
//! or the number of events is out of bounds. The expectations about it must fail, and no others.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use devices::stale::StaleCounts;
use iommu::event::Event;
use regex_syntax::hir::{Class, Hir, HirKind};
use steps::{Message, Outcome as StepOutcome, Quantity, Stamped};
use vmm::Exit;

use crate::fix::Assume;
use crate::tally::Tally;
use crate::{Bounds, End, Look, Observation, Outcome, RunResult, Scenario, Status};

/// Releases of the kernels for which scenarios have expectations.
const RELEASES: [&str; 3] = ["6.1.192", "6.12.117", "7.3.4"];

/// A text that matches the expression.
fn matching(expression: &str) -> String {
    let hir = regex_syntax::Parser::new().parse(expression).expect("an expression");
    let mut text = String::new();
    generate(&hir, &mut text);
    let matches = regex_lite::Regex::new(expression).is_ok_and(|regex| regex.is_match(&text));
    assert!(matches, "'{text}' is to match /{expression}/");
    text
}

fn generate(hir: &Hir, text: &mut String) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(Class::Unicode(class)) => {
            let chars = class.iter().map(|range| range.start().max('!').min(range.end()));
            text.extend(chars.take(1));
        }
        HirKind::Class(Class::Bytes(class)) => {
            text.extend(class.iter().map(|range| char::from(range.start())).take(1));
        }
        HirKind::Repetition(repetition) => {
            (0..repetition.min).for_each(|_| generate(&repetition.sub, text));
        }
        HirKind::Capture(capture) => generate(&capture.sub, text),
        HirKind::Concat(parts) => parts.iter().for_each(|part| generate(part, text)),
        HirKind::Alternation(parts) => generate(&parts[0], text),
    }
}

fn stamped(message: Message) -> Stamped {
    Stamped { at: Duration::from_secs(1), message }
}

fn within(bounds: Bounds) -> u64 {
    bounds.at_least
}

/// Values that are not within: below, above.
fn outside(bounds: Bounds) -> Vec<u64> {
    let below = bounds.at_least.checked_sub(1);
    let above = (bounds.at_most < u64::MAX).then(|| bounds.at_most + 1);
    below.into_iter().chain(above).collect()
}

/// The events of an expectation, as JSON.
fn events(kind: &str, with: &toml::Table, count: u64) -> Vec<serde_json::Value> {
    static SAMPLES: OnceLock<Vec<serde_json::Value>> = OnceLock::new();
    let samples = SAMPLES.get_or_init(|| {
        let samples = Event::samples();
        samples.iter().map(|event| serde_json::to_value(event).expect("JSON")).collect()
    });
    let mut sample = samples.iter().find(|json| json["event"] == kind).expect("an event").clone();
    for (field, value) in with {
        sample[field] = serde_json::to_value(value).expect("JSON");
    }
    vec![sample; usize::try_from(count).expect("not many")]
}

/// What a made-up run has, by the expectations that need it.
#[derive(Clone)]
struct MadeUp<'a> {
    scenario: &'a Scenario,
    release: &'static str,
    assume: Assume,
    lines: Vec<String>,
    messages: Vec<Message>,
    events: Vec<serde_json::Value>,
    faults: Vec<String>,
    stale: StaleCounts,
    exit: Exit,
}

impl<'a> MadeUp<'a> {
    /// A run that meets all expectations.
    fn new(scenario: &'a Scenario, release: &'static str, assume: Assume) -> Self {
        let start = Message::Start { release: release.into(), cpus: scenario.cpus.into() };
        let steps = scenario.steps.iter().zip(1..).map(|(step, number)| Message::Result {
            number,
            word: step.step.to_string().into(),
            outcome: match step.succeeds {
                Some(false) => StepOutcome::NotOk,
                _ => StepOutcome::Ok,
            },
        });
        let mut run = Self {
            scenario,
            release,
            assume,
            lines: Vec::new(),
            messages: std::iter::once(start).chain(steps).collect(),
            events: Vec::new(),
            faults: scenario.root_complex.faults.iter().map(ToString::to_string).collect(),
            stale: StaleCounts::default(),
            exit: match (scenario.ends, scenario.survives) {
                (Some(End::Reset), _) => Exit::Reset,
                (Some(End::PowerOff), _) => Exit::PowerOff,
                (None, true) => Exit::DebugExit(0),
                (None, false) => Exit::TimeLimit,
            },
        };
        for index in run.applicable() {
            match &scenario.expect[index].look {
                Look::Console(pattern) => run.lines.push(matching(pattern.0.as_str())),
                Look::Absent(_) => {}
                Look::Event { kind, with, count } => {
                    run.events.extend(events(kind, with, within(*count)));
                }
                Look::Value { name, bounds } => run.set_value(name, Some(within(*bounds))),
            }
        }
        run
    }

    /// The expectations that are for this kernel.
    fn applicable(&self) -> Vec<usize> {
        let fixed = self.assume == Assume::Fixed;
        let expectations = self.scenario.expect.iter().enumerate();
        let applies = |kernels: &[String]| {
            let is_of = |series: &String| {
                let rest = self.release.strip_prefix(series.as_str());
                rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
            };
            kernels.is_empty() || kernels.iter().any(is_of)
        };
        let expectations = expectations.filter(|(_, expectation)| {
            expectation.fixed.is_none_or(|wanted| wanted == fixed) && applies(&expectation.kernels)
        });
        expectations.map(|(index, _)| index).collect()
    }

    fn set_value(&mut self, name: &str, value: Option<u64>) {
        let is_other = |message: &Message| !matches!(message, Message::Value { name: it, .. } if it.as_str() == name);
        self.messages.retain(is_other);
        if let Some(value) = value {
            let name = name.parse().expect("a name");
            let quantity = Quantity::Number(value);
            self.messages.push(Message::Value { name, quantity });
        }
    }

    fn result(&self) -> RunResult {
        let tally = Tally::new(&self.scenario.expect, None);
        for event in &self.events {
            tally.add_json(event);
        }
        let mut counts = tally.counts();
        for fault in &self.faults {
            *counts.faults.entry(fault.clone()).or_default() += 1;
        }
        let observation = Observation {
            console: self.lines.clone(),
            messages: self.messages.iter().cloned().map(stamped).collect(),
            counts,
            stale: self.stale,
            exit: self.exit,
            seconds: 1.0,
        };
        observation.judge(self.scenario, "made-up", self.assume)
    }

    /// The verdicts that are not met, by their number.
    fn failed(&self) -> BTreeSet<usize> {
        let result = self.result();
        let failed = result.verdicts.iter().enumerate();
        failed.filter(|(_, it)| it.status != Status::Ok).map(|(index, _)| index).collect()
    }
}

/// What has been shown.
#[derive(Default)]
struct Figures {
    expectations: BTreeSet<(String, String)>,
    refuted: BTreeSet<(String, String)>,
    mutants: usize,
}

impl Figures {
    /// The mutant must fail the expectation with that number, and only others of `also`.
    fn check(&mut self, run: &MadeUp<'_>, number: usize, also: &[usize], what: &str) {
        self.mutants += 1;
        let failed = run.failed();
        let Scenario { name, .. } = run.scenario;
        let release = run.release;
        assert!(failed.contains(&number), "{name} ({release}): {what} and {number} is met");
        let others: Vec<_> =
            failed.iter().filter(|it| **it != number && !also.contains(it)).collect();
        assert!(others.is_empty(), "{name} ({release}): {what} fails {others:?} as well");
        let that = &run.result().verdicts[number].that;
        self.refuted.insert((name.clone(), format!("{number} {that}")));
    }
}

/// Mutants of the end, faults, steps, and stale DMA.
fn mutate_frame(run: &MadeUp<'_>, figures: &mut Figures) {
    let scenario = run.scenario;
    let mut other_end = run.clone();
    other_end.exit = match run.exit {
        Exit::TimeLimit => Exit::DebugExit(0),
        _ => Exit::TimeLimit,
    };
    figures.check(&other_end, 0, &[], "another end");
    for index in 0..run.faults.len() {
        let mut without = run.clone();
        without.faults.remove(index);
        figures.check(&without, 1 + index, &[], "a fault that does not begin");
    }
    let judged = scenario.steps.iter().enumerate().filter(|(_, step)| step.succeeds.is_some());
    for (verdict, (index, step)) in (1 + run.faults.len()..).zip(judged) {
        for outcome in [
            None,
            Some(StepOutcome::Skip("no such file".into())),
            Some(match step.succeeds {
                Some(true) => StepOutcome::NotOk,
                _ => StepOutcome::Ok,
            }),
        ] {
            let mut other = run.clone();
            // The first message is the start.
            match (&mut other.messages[1 + index], outcome) {
                (Message::Result { outcome: old, .. }, Some(new)) => *old = new,
                (message, _) => *message = Message::End,
            }
            figures.check(&other, verdict, &[], "another end of a step");
        }
    }
    if let Some(most) = scenario.stale_accesses {
        let last = run.result().verdicts.len() - 1;
        for stale in [
            StaleCounts { stale_accesses: most + 1, ..run.stale },
            StaleCounts { not_judged: 1, ..run.stale },
        ] {
            let other = MadeUp { stale, ..run.clone() };
            figures.check(&other, last, &[], "stale DMA");
        }
    }
}

/// Mutants of what the expectations of the file are about.
fn mutate_expectations(run: &MadeUp<'_>, figures: &mut Figures) {
    let scenario = run.scenario;
    let judged = scenario.steps.iter().filter(|step| step.succeeds.is_some()).count();
    let first = 1 + run.faults.len() + judged;
    let applicable = run.applicable();
    for (verdict, index) in (first..).zip(&applicable) {
        // Expectations may look at the same lines, events or values.
        let related: Vec<usize> = (first..)
            .zip(&applicable)
            .filter(|(_, other)| {
                are_related(&scenario.expect[*index].look, &scenario.expect[**other].look)
            })
            .map(|(verdict, _)| verdict)
            .collect();
        match &scenario.expect[*index].look {
            Look::Console(pattern) => {
                let mut without = run.clone();
                without.lines.retain(|line| !pattern.0.is_match(line));
                figures.check(&without, verdict, &related, "a missing line");
            }
            Look::Absent(pattern) => {
                let mut with = run.clone();
                with.lines.push(matching(pattern.0.as_str()));
                figures.check(&with, verdict, &related, "a line too many");
            }
            Look::Event { kind, with, count } => {
                for wrong in outside(*count) {
                    let mut other = run.clone();
                    other.events.retain(|event| event["event"] != kind.as_str());
                    other.events.extend(events(kind, with, wrong));
                    figures.check(&other, verdict, &related, "another number of events");
                }
            }
            Look::Value { name, bounds } => {
                let numbers = outside(*bounds).into_iter().map(Some);
                for wrong in numbers.chain([None]) {
                    let mut other = run.clone();
                    other.set_value(name, wrong);
                    figures.check(&other, verdict, &related, "another value");
                }
            }
        }
    }
}

fn are_related(one: &Look, other: &Look) -> bool {
    match (one, other) {
        (Look::Console(_) | Look::Absent(_), Look::Console(_) | Look::Absent(_)) => true,
        (Look::Event { kind, .. }, Look::Event { kind: other, .. }) => kind == other,
        (Look::Value { name, .. }, Look::Value { name: other, .. }) => name == other,
        _ => false,
    }
}

/// The kernels that differ for the scenario: releases, and whether they have the fix.
fn kernels(scenario: &Scenario) -> Vec<(&'static str, Assume)> {
    let any_release = scenario.expect.iter().all(|expectation| expectation.kernels.is_empty());
    let releases = if any_release { &RELEASES[..1] } else { &RELEASES[..] };
    let assumed: &[Assume] = match scenario.fix {
        Some(_) => &[Assume::Fixed, Assume::NotFixed],
        None => &[Assume::Auto],
    };
    let all = releases.iter().flat_map(|release| assumed.iter().map(|assume| (*release, *assume)));
    all.collect()
}

#[test]
fn every_expectation_of_every_scenario_fails_for_what_it_is_about() {
    let mut figures = Figures::default();
    let scenarios = Scenario::all().expect("all are right");
    for scenario in &scenarios {
        for (release, assume) in kernels(scenario) {
            let run = MadeUp::new(scenario, release, assume);
            let result = run.result();
            let name = &scenario.name;
            let failed: Vec<_> =
                result.verdicts.iter().filter(|it| it.status != Status::Ok).collect();
            assert_eq!(result.outcome, Outcome::Pass, "{name} ({release}): {failed:?}");
            let all = result.verdicts.iter().enumerate();
            figures
                .expectations
                .extend(all.map(|(index, it)| (name.clone(), format!("{index} {}", it.that))));
            mutate_frame(&run, &mut figures);
            mutate_expectations(&run, &mut figures);
        }
    }
    let left: Vec<_> = figures.expectations.difference(&figures.refuted).collect();
    assert!(left.is_empty(), "these cannot fail: {left:?}");
    let all: usize = scenarios.iter().map(|scenario| scenario.expect.len()).sum();
    println!(
        "{} scenarios, {} verdicts, {all} of them of expectations: {} mutants, each refuted by what it is about",
        scenarios.len(),
        figures.expectations.len(),
        figures.mutants
    );
    // Each expectation of a file is for one of these kernels at least.
    assert!(figures.expectations.len() >= all);
    for scenario in &scenarios {
        let looked_at: BTreeSet<usize> = kernels(scenario)
            .into_iter()
            .map(|(release, assume)| MadeUp::new(scenario, release, assume))
            .flat_map(|run| run.applicable())
            .collect();
        assert_eq!(looked_at.len(), scenario.expect.len(), "{}: for no kernel", scenario.name);
    }
}
