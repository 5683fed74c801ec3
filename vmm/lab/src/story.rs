//! A run, told step by step: numbered, with times from the fault, and what repeats told once.

use std::io::{self, Write};
use std::time::Duration;

use iommu::event::{Event, LinkState, LockupDetector, Lost, TimedEvent, UnitRole};
use iommu::submit::Verdict;
use iommu::time::Instant;

use super::text::time;

/// How many steps a sequence that repeats may have.
const PERIOD: usize = 12;
/// Shorter waits of a CPU are told by what its caller sees.
const NOTABLE: Duration = Duration::from_millis(1);

/// Tells what happened. Times are relative to the first fault; what came before it is told in short.
///
/// # Errors
///
/// What `out` says.
pub fn tell(events: &[TimedEvent], out: &mut dyn Write) -> io::Result<()> {
    let is_fault = |event: &TimedEvent| matches!(event.event, Event::FaultInjected { .. });
    let fault = events.iter().position(is_fault).unwrap_or(0);
    let zero = events.get(fault).filter(|event| is_fault(event));
    let zero = zero.map_or(Instant::START, |event| event.at);
    before(&events[..fault], out)?;
    let steps: Vec<Step> =
        events[fault..].iter().filter_map(|event| Step::new(event, zero)).collect();
    let mut number = 1;
    let mut at = 0;
    while at < steps.len() {
        let (period, times) = repetition(&steps[at..]);
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

/// One line of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    when: String,
    text: String,
    /// The text without what differs from one time to the next.
    shape: String,
}

impl Step {
    fn new(event: &TimedEvent, zero: Instant) -> Option<Self> {
        let text = sentence(&event.event)?;
        let when = format!("+{}", time(event.at - zero));
        let shape = shape(&text);
        Some(Self { when, text, shape })
    }
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

/// How many of the first steps form a sequence that comes again at once, and how often it comes: the
/// period that covers most, the shortest of those.
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

/// What the host side says at the end of a wait.
pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Completed => "completed",
        Verdict::Skipped => "skipped: the device is taken to be gone",
        Verdict::DeadlinePassed => "given up: the deadline has passed",
        Verdict::UnitTimedOut => "given up: the unit has timed out, and the device is gone",
        Verdict::Quarantined => "the device is in quarantine",
        Verdict::Removed => "the device is taken for removed",
        Verdict::Reset => "the device was reset",
    }
}

/// What happened, as a sentence; `None` for what does not matter to a wait.
pub(super) fn sentence(event: &Event) -> Option<String> {
    host_side(event).or_else(|| unit(event)).or_else(|| link(event)).or_else(|| drivers(event))
}

/// What drivers notice and do, and what the oracle says.
fn drivers(event: &Event) -> Option<String> {
    Some(match event {
        Event::CpuReleased { cpu, function, waited } if *waited >= NOTABLE => {
            format!(
                "CPU {cpu} goes on: it wanted {function} invalidated, IRQs off for {}",
                time(*waited)
            )
        }
        Event::StaleAccess { function, address, age, foreign } => {
            let whose = if *foreign { ", which is another device's by now" } else { "" };
            let age = time(*age);
            format!(
                "STALE DMA: {function} reaches the page that was at {address} until {age} ago{whose}"
            )
        }
        Event::IoTimedOut { cpu, function } => {
            format!("the driver of {function} gives up an I/O of CPU {cpu}")
        }
        Event::DriverReset { function } => format!("the driver of {function} resets it"),
        Event::DriverUnbound { function } => format!("the driver of {function} lets it go"),
        Event::DriverBound { function } => format!("the driver of {function} takes it again"),
        _ => return None,
    })
}

/// What the host's software does.
fn host_side(event: &Event) -> Option<String> {
    Some(match event {
        Event::Submitted { ticket, function, attempt: 1 } => {
            format!("caller {} wants {function} invalidated: descriptors, IQT", ticket.0)
        }
        Event::Submitted { ticket, function, attempt } => {
            format!("caller {} submits again for {function}, attempt {attempt}", ticket.0)
        }
        Event::PresenceChecked { function, present: true } => {
            format!("{function} answers a read of its vendor ID")
        }
        Event::PresenceChecked { function, present: false } => {
            format!("{function} does not answer a read of its vendor ID")
        }
        Event::Verdict { ticket, function, verdict: end, waited } => {
            let end = verdict(*end);
            format!("caller {} of {function} goes on after {}: {end}", ticket.0, time(*waited))
        }
        Event::FalseCompletion { ticket } => {
            format!(
                "caller {} takes another's status write for its own: FALSE COMPLETION",
                ticket.0
            )
        }
        Event::FenceSubmitted { function, attempt } => {
            format!("a fence for {function} is put on the queue, attempt {attempt}")
        }
        Event::QuarantineBegan { function } => {
            format!("the context entry of {function} is cleared")
        }
        Event::Quarantined { function, waited } => {
            format!("{function} is in quarantine after {}", time(*waited))
        }
        Event::QuarantineEnded { function } => format!("{function} was reset and is let be again"),
        Event::RemovalSimulated { function } => format!("{function} is taken for removed"),
        Event::FunctionResetByHost { function } => format!("Function Level Reset of {function}"),
        Event::HostWaitsAborted { count } => format!("software finds {count} waits aborted"),
        Event::HostLockup { ticket, detector } => {
            let (name, limit) = match detector {
                LockupDetector::Hard => ("HARD", detector.threshold()),
                LockupDetector::Soft => ("SOFT", detector.threshold()),
            };
            let limit = time(Duration::from_secs(limit.as_secs()));
            format!("{name} LOCK-UP: the CPU of caller {} has been stuck for {limit}", ticket.0)
        }
        _ => return None,
    })
}

/// What the physical unit does.
fn unit(event: &Event) -> Option<String> {
    Some(match event {
        Event::InvalidateRequested { unit: UnitRole::Host, function, itag } => {
            format!("the unit sends an Invalidate Request to {function}, ITag {}", itag.get())
        }
        Event::InvalidateCompleted { unit: UnitRole::Host, function, itag, waited } => format!(
            "{function} answers with an Invalidate Completion, ITag {}, after {}",
            itag.get(),
            time(*waited)
        ),
        Event::InvalidationTimeout { unit: UnitRole::Host, function, waits_aborted, .. } => {
            format!("the unit gives up on {function}: FSTS.ITE, {waits_aborted} waits aborted")
        }
        Event::UnexpectedCompletion { unit: UnitRole::Host, function, .. } => {
            format!("an Invalidate Completion of {function} that nobody waits for: FSTS.ICE")
        }
        Event::QueueError { unit: UnitRole::Host, slot, .. } => {
            format!("the unit stops at slot {slot}: FSTS.IQE")
        }
        Event::DmaFault { unit: UnitRole::Host, function, address, .. } => {
            format!("DMA of {function} to {address} is blocked")
        }
        _ => return None,
    })
}

/// What devices and links do.
fn link(event: &Event) -> Option<String> {
    Some(match event {
        Event::FaultInjected { fault } => format!("THE FAULT: {fault}"),
        Event::FaultEnded { fault } => format!("the fault ends: {fault}"),
        Event::Link { port, state: LinkState::Down } => format!("the link below {port} is down"),
        Event::Link { port, state: LinkState::Up } => format!("the link below {port} is up"),
        Event::Lost { port, what } => {
            let what = match what {
                Lost::ConfigRead => "a configuration read",
                Lost::ConfigWrite => "a configuration write",
                Lost::MemoryRead => "a memory read",
                Lost::MemoryWrite => "a memory write",
                Lost::Dma => "DMA",
                Lost::Msi => "an interrupt",
                Lost::TranslationRequest => "a Translation Request",
                Lost::InvalidateRequest => "an Invalidate Request",
                Lost::InvalidateCompletion => "an Invalidate Completion",
                Lost::PageRequest => "a Page Request",
                Lost::PageGroupResponse => "a PRG Response",
            };
            format!("the link below {port} swallows {what}")
        }
        Event::AtcInvalidated { function, dropped } => {
            format!("the ATC of {function} drops {dropped} translations")
        }
        _ => return None,
    })
}
