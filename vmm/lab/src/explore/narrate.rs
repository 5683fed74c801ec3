//! A trace in plain words: each action, and what comes of it.

use iommu::event::{Event, TimedEvent};
use iommu::submit::HostError;
use iommu::time::{Instant, Timeout};

use super::action::Action;
use super::world::World;
use super::{ExploreConfig, Invariant};
use crate::narrate::sentence;

/// The lines of a trace, numbered, and the violation in which it ends.
pub(super) fn narrate(
    config: &ExploreConfig,
    trace: &[Action],
    invariant: Invariant,
) -> Result<Vec<String>, HostError> {
    let mut world = World::new(config, true)?;
    let mut seen = world.events().len();
    let mut lines = Vec::new();
    for (number, action) in trace.iter().enumerate() {
        world.act(*action);
        lines.push(format!("{}. {}", number + 1, describe(*action)));
        let events = world.events();
        add_notes(&events[seen..], &mut lines);
        seen = events.len();
    }
    if world.broken.is_none() {
        world.settle();
        let number = trace.len() + 1;
        lines.push(format!("{number}. Nothing more goes wrong; all that can still come comes."));
        add_notes(&world.events()[seen..], &mut lines);
    }
    lines.push(format!("=> {}", ending(invariant)));
    Ok(lines)
}

/// Adds the notes on one action, without the middle ones if there are many.
fn add_notes(events: &[TimedEvent], lines: &mut Vec<String>) {
    const MOST: usize = 8;
    let notes: Vec<String> = events.iter().filter_map(note).collect();
    let (head, tail) = match notes.len() > MOST {
        true => (&notes[..MOST / 2], &notes[notes.len() - MOST / 2..]),
        false => (&notes[..], &notes[..0]),
    };
    lines.extend(head.iter().map(|note| format!("     {note}")));
    if !tail.is_empty() {
        lines.push(format!("     .. and {} more like that ..", notes.len() - MOST));
    }
    lines.extend(tail.iter().map(|note| format!("     {note}")));
}

fn describe(action: Action) -> String {
    match action {
        Action::Unmap(page) => {
            format!("A CPU unmaps {page}, submits IOTLB, Device-TLB and wait, and begins to wait.")
        }
        Action::Deliver(who) => format!("An Invalidate Request reaches {who}."),
        Action::Answer(who) => format!("An Invalidate Completion of {who} reaches the unit."),
        Action::Lose(who) => format!("An Invalidate Completion of {who} is lost."),
        Action::Twice(who) => format!("An Invalidate Completion of {who} reaches the unit twice."),
        Action::Use(page) => format!("A device uses {page}."),
        Action::Wait => "Time passes until something is due.".to_owned(),
        Action::GoRound => {
            "The neighbor's invalidations go round the ring to where the abandoned wait was."
                .to_owned()
        }
        Action::LinkDown => "The victim's link goes down, and no driver is told.".to_owned(),
        Action::LinkUp => "The link comes up again; the victim has noticed nothing.".to_owned(),
        Action::Sleep => "The victim is put into D3hot.".to_owned(),
        Action::Wake => "The victim is in D0 again, with its ATC as it was.".to_owned(),
        Action::Reset => "The victim is reset by FLR, and the host knows.".to_owned(),
    }
}

fn ending(invariant: Invariant) -> &'static str {
    match invariant {
        Invariant::FalseCompletion => {
            "a caller believes that its invalidation is done, and it is not"
        }
        Invariant::LostWait => "a caller waits, and nothing is left that could end its wait",
        Invariant::StaleAfterSuccess => {
            "the device has reached a page of another user; the caller was told of success"
        }
        Invariant::Late => "a caller has waited for as long as the hard lock-up detector allows",
        Invariant::Unfair => {
            "the neighbor is isolated or reset, and it has answered what it was asked"
        }
        Invariant::StaleAfterFailure => {
            "the device has reached a page of another user; the caller was told of a failure"
        }
    }
}

/// The note on an event, `None` for events that a trace's narration leaves out.
fn note(timed: &TimedEvent) -> Option<String> {
    let sentence = sentence(&timed.event).filter(|_| is_noted(&timed.event))?;
    let text = match &timed.event {
        Event::Verdict { verdict, .. } => {
            let reported = if verdict.is_success() { "success" } else { "failure" };
            format!("{sentence} (reported as {reported}); its page goes to another user")
        }
        _ => sentence,
    };
    let at = Timeout::After(timed.at - Instant::START);
    Some(if timed.at == Instant::START { text } else { format!("{at}: {text}") })
}

/// Whether an event tells something that the actions of a trace do not.
fn is_noted(event: &Event) -> bool {
    matches!(
        event,
        Event::Verdict { .. }
            | Event::InvalidationTimeout { .. }
            | Event::HostWaitsAborted { .. }
            | Event::FalseCompletion { .. }
            | Event::QuarantineBegan { .. }
            | Event::Quarantined { .. }
            | Event::QuarantineEnded { .. }
            | Event::RemovalSimulated { .. }
            | Event::FunctionResetByHost { .. }
            | Event::AtsDisabledByHost { .. }
            | Event::HostWalkHasNoEnd { .. }
            | Event::Lost { .. }
            | Event::Dropped { .. }
            | Event::AtcFilled { .. }
            | Event::DmaFault { .. }
            | Event::UnexpectedCompletion { .. }
    )
}
