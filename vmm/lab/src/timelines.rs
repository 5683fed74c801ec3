//! The single runs in the report: the worst run of each policy.

use std::sync::Arc;

use crate::sim::{RunResult, RunSpec};
use iommu::event::{Recorder, TimedEvent, Tracer};
use iommu::time::Instant;

use super::error::LabError;
use super::plan::Plan;
use super::plot::Ink;
use super::plot::timeline::{Lane, Mark, Span};
use super::report::Timeline;
use super::summary::{Summary, Worst};
use super::text::time;
use super::tracks::{State, Subject, Track, Tracks};

/// A run that was run again.
#[derive(Debug)]
pub struct Replay {
    /// Its measurements.
    pub result: RunResult,
    /// Its events, in order.
    pub events: Vec<TimedEvent>,
}

/// Runs `spec` again, and keeps its events.
///
/// # Errors
///
/// It cannot be run.
pub fn replay(spec: &RunSpec) -> Result<Replay, LabError> {
    let recorder = Arc::new(Recorder::default());
    let result = crate::sim::run(spec, &Tracer::to(recorder.clone()))
        .map_err(|source| LabError::Run { run: Box::new(spec.id()), source: Box::new(source) })?;
    Ok(Replay { result, events: recorder.events() })
}

/// One for each policy.
///
/// # Errors
///
/// A run cannot be run again.
pub(super) fn choose(plan: &Plan, summary: &Summary) -> Result<Vec<Timeline>, LabError> {
    let policies = 0..summary.policies.len();
    let worst = policies.filter_map(|policy| summary.over_groups(policy, |_| true).worst);
    let timeline = |worst: Worst| {
        // It was run under this plan, so its rows are there.
        let Ok(spec) = plan.spec(&worst.run) else { return Ok(None) };
        let events = replay(&spec)?.events;
        let safety = if worst.is_unsafe { "unsafe" } else { "safe" };
        let caption = format!(
            "Where {} did worst: {safety}, and the longest wait was {}.",
            worst.run.policy,
            time(worst.longest)
        );
        Ok(Some(Timeline { run: worst.run.clone(), caption, lanes: lanes(&spec, &events) }))
    };
    worst.map(timeline).filter_map(Result::transpose).collect()
}

/// The lanes of a run.
fn lanes(spec: &RunSpec, events: &[TimedEvent]) -> Vec<Lane> {
    let tracks = Tracks::new(events, Instant::START + spec.horizon);
    let zero = tracks.fault.unwrap_or(Instant::START);
    let shown = tracks.tracks.iter().filter(|(subject, _)| is_shown(**subject));
    shown.map(|(subject, track)| lane(*subject, track, zero)).collect()
}

/// Of many devices, only the one with the fault and the first without it are shown. Of many CPUs,
/// only the first four are. The lanes of the CPUs show what their callers wait for.
fn is_shown(subject: Subject) -> bool {
    match subject {
        Subject::Cpu(cpu) => cpu < 4,
        Subject::Function(function) => function.bus() <= 2,
        Subject::Link(_) | Subject::Slots | Subject::Requests => true,
        Subject::Callers(_) => false,
    }
}

fn lane(subject: Subject, track: &Track, zero: Instant) -> Lane {
    let ink = |state| match state {
        State::Well => Ink::Good,
        State::GivenUp => Ink::Wait,
        State::Stuck => Ink::Stuck,
        State::Down => Ink::Muted,
        State::Blocked => Ink::Device,
        State::False => Ink::Unsafe,
    };
    // Spans that end before the fault are left out.
    let spans = track.spans.iter().filter(|span| span.to > zero).map(|span| Span {
        from: span.from - zero,
        to: span.to - zero,
        row: span.row,
        ink: ink(span.state),
        text: span.text.clone(),
    });
    let moments = track.moments.iter().filter(|moment| moment.at >= zero);
    let marks = moments.map(|moment| Mark {
        at: moment.at - zero,
        ink: ink(moment.state),
        text: moment.text.clone(),
    });
    let (name, rows) = (subject.name(), track.rows());
    Lane { name, rows, spans: spans.collect(), marks: marks.collect() }
}
