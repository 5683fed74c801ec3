//! A run, step by step: numbered, with times from the fault. What repeats is narrated once.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use iommu::event::{Event, TimedEvent};
use iommu::time::Instant;

use super::sentence;
use crate::text::time;

/// The highest number of steps in a sequence that repeats.
const PERIOD: usize = 12;

/// Narrates what happened, in at most `limit` lines, if there is a limit; a last line says how many
/// steps are left out. Times are relative to the first fault; what came before it is summed up.
///
/// # Errors
///
/// `out` cannot be written.
pub fn narrate(events: &[TimedEvent], limit: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let is_fault = |event: &TimedEvent| matches!(event.event, Event::FaultInjected { .. });
    let fault = events.iter().position(is_fault).unwrap_or(0);
    let zero = events.get(fault).filter(|event| is_fault(event));
    let zero = zero.map_or(Instant::START, |event| event.at);
    before(&events[..fault], out)?;
    let falsely = falsely_completed(events);
    let steps: Vec<Step> =
        events[fault..].iter().filter_map(|event| Step::new(event, zero, &falsely)).collect();
    let mut number = 1;
    let mut at = 0;
    let mut lines = 0;
    while at < steps.len() {
        if limit.is_some_and(|limit| lines >= limit) {
            return writeln!(out, "{:19}  ... {} more steps: --all", "", steps.len() - at);
        }
        let (period, times) = repetition(&steps[at..]);
        lines += period + usize::from(times > 1);
        for step in &steps[at..at + period] {
            writeln!(out, "{number:5}  {:>12}  {}", step.when, step.text)?;
            number += 1;
        }
        at += period * times;
        if times > 1 {
            let what = if period == 1 { "this".to_owned() } else { format!("these {period},") };
            let again = if times == 2 { "once".to_owned() } else { format!("{} times", times - 1) };
            let last = &steps[at - 1].when;
            writeln!(out, "{:19}  ... {what} {again} more, up to {last}", "")?;
            number += period * (times - 1);
        }
    }
    Ok(())
}

/// The tickets whose callers took another's status write for their own.
fn falsely_completed(events: &[TimedEvent]) -> BTreeSet<u64> {
    let ticket = |event: &TimedEvent| match event.event {
        Event::FalseCompletion { ticket } => Some(ticket.0),
        _ => None,
    };
    events.iter().filter_map(ticket).collect()
}

/// Sums up what was before the fault.
fn before(events: &[TimedEvent], out: &mut dyn Write) -> io::Result<()> {
    let verdicts = events.iter().filter_map(|event| match event.event {
        Event::Verdict { waited, .. } => Some(waited),
        _ => None,
    });
    let (count, longest) =
        verdicts.fold((0_u64, Duration::ZERO), |(n, longest), t| (n + 1, longest.max(t)));
    if count > 0 {
        let longest = time(longest);
        writeln!(out, "       before: {count} invalidations complete, each within {longest}")?;
    }
    Ok(())
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    when: String,
    text: String,
    /// The text without what differs from one time to the next.
    shape: String,
}

impl Step {
    fn new(event: &TimedEvent, zero: Instant, falsely: &BTreeSet<u64>) -> Option<Self> {
        let mut text = sentence(&event.event).filter(|_| is_step(&event.event))?;
        if let Event::Verdict { ticket, .. } = &event.event
            && falsely.contains(&ticket.0)
        {
            text += ", FALSELY";
        }
        let when = format!("+{}", time(event.at - zero));
        let shape = shape(&text);
        Some(Self { when, text, shape })
    }
}

/// Whether an event is a step of its own. An ATC is filled again and again, as part of DMA.
fn is_step(event: &Event) -> bool {
    !matches!(event, Event::AtcFilled { .. })
}

/// `text` with a `#` for each number that is no address of a function.
fn shape(text: &str) -> String {
    let word = |word: &str| {
        if word.contains(':') || !word.chars().any(|c| c.is_ascii_digit()) {
            word.to_owned()
        } else {
            "#".to_owned()
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The first steps as a sequence that repeats: its number of steps, and how often it comes. Of
/// several such sequences this is the one that covers most steps, and the shortest of those.
fn repetition(steps: &[Step]) -> (usize, usize) {
    let mut best = (1, 1);
    for period in 1..=PERIOD.min(steps.len() / 2) {
        let first = &steps[..period];
        let same = |chunk: &&[Step]| {
            chunk.len() == period && chunk.iter().zip(first).all(|(a, b)| a.shape == b.shape)
        };
        let times = steps.chunks(period).take_while(same).count();
        if times > 1 && period * times > best.0 * best.1 {
            best = (period, times);
        }
    }
    best
}
