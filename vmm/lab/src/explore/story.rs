//! A trace as a person reads it: what is done, and what comes of it.

use iommu::event::{Event, TimedEvent};
use iommu::submit::HostError;
use iommu::time::Timeout;

use super::action::Action;
use super::world::World;
use super::{ExploreConfig, Invariant};

/// The lines of a trace, numbered, with what it ends in.
pub(super) fn tell(
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

/// What comes of one action; the middle is left out where there is much.
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
        Action::LinkDown => "The victim's link goes down, and nobody is told.".to_owned(),
        Action::LinkUp => "The link comes up again; the victim has noticed nothing.".to_owned(),
        Action::Reset => "The victim is reset by FLR, and the host knows.".to_owned(),
    }
}

fn ending(invariant: Invariant) -> &'static str {
    match invariant {
        Invariant::FalseCompletion => {
            "a caller believes that its invalidation is done, and it is not"
        }
        Invariant::LostWait => "somebody waits, and nothing is left that could end it",
        Invariant::StaleAfterSuccess => {
            "the device has reached a page of somebody else; the caller was told of success"
        }
        Invariant::StaleAfterFailure => {
            "the device has reached a page of somebody else; the caller was told of a failure"
        }
    }
}

/// What is worth telling of an event.
fn note(timed: &TimedEvent) -> Option<String> {
    let at = Timeout::After(timed.at - iommu::time::Instant::START);
    let text = match &timed.event {
        Event::Verdict { ticket, verdict, .. } => {
            let told = if verdict.is_success() { "success" } else { "a failure" };
            let verdict = format!("{verdict:?}");
            format!(
                "call {} returns {told} ({verdict}); its page is given to somebody else",
                ticket.0
            )
        }
        Event::InvalidationTimeout { function, waits_aborted, .. } => {
            format!("the unit gives up on {function}: ITE, {waits_aborted} waits aborted")
        }
        Event::HostWaitsAborted { count } => format!("the driver takes {count} waits for aborted"),
        Event::FalseCompletion { ticket } => {
            format!("the status word of call {} is written, for another", ticket.0)
        }
        Event::QuarantineBegan { function } => format!("the driver begins to fence {function}"),
        Event::Quarantined { function, .. } => format!("the unit says that it blocks {function}"),
        Event::QuarantineEnded { function } => format!("the quarantine of {function} ends"),
        Event::RemovalSimulated { function } => format!("{function} is taken for removed"),
        Event::FunctionResetByHost { function } => format!("the host initiates FLR of {function}"),
        Event::Lost { what, .. } => format!("lost on the link: {what:?}"),
        Event::AtcFilled { function, .. } => format!("the ATC of {function} has a new translation"),
        Event::DmaFault { function, .. } => format!("the unit blocks the request of {function}"),
        Event::UnexpectedCompletion { function, .. } => {
            format!("nobody waits for that answer of {function}: ICE")
        }
        _ => return None,
    };
    Some(if timed.at == iommu::time::Instant::START { text } else { format!("{at}: {text}") })
}
