//! Events in plain words: each as a sentence ([`sentence`]), and a run of them (`run`). The
//! explorer narrates its traces by the same sentences.

mod run;

use std::time::Duration;

use iommu::event::{DropReason, Event, LinkState, LockupDetector, Lost, UnitRole};
use iommu::submit::Verdict;

use super::text::time;
pub use run::narrate;

/// Shorter waits of a CPU are told by what its caller sees.
const NOTABLE: Duration = Duration::from_millis(1);

/// The words for the verdict that a caller gets at the end of its wait.
pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Completed => "completed",
        Verdict::Skipped => "skipped: the device is taken to be gone",
        Verdict::DeadlinePassed => "given up: the deadline has passed",
        Verdict::UnitTimedOut => "given up: the unit has timed out, and the device is gone",
        Verdict::Quarantined => "the device is in quarantine",
        Verdict::Removed => "the device is taken for removed",
        Verdict::Recovering => "a worker resets the device",
        Verdict::Fenced => "a port above the device blocks it",
        Verdict::Blocked => "the driver blocks the device while it resets it",
        Verdict::Withheld => "the device has timed out before, and was not asked",
        Verdict::Reset => "the device was reset",
        Verdict::AtsDisabled => "ATS is turned off in the device for good",
        Verdict::Crashed => "the domain of the caller is ended",
    }
}

/// The event as a sentence, `None` if it does not matter to a wait.
pub(super) fn sentence(event: &Event) -> Option<String> {
    host_side(event).or_else(|| unit(event)).or_else(|| link(event)).or_else(|| drivers(event))
}

/// Sentences for events of drivers and of the oracle.
fn drivers(event: &Event) -> Option<String> {
    Some(match event {
        Event::CpuReleased { cpu, function, waited } if *waited >= NOTABLE => {
            format!(
                "CPU {cpu} goes on: it wanted {function} invalidated, IRQs off for {}",
                time(*waited)
            )
        }
        Event::StaleAccess { function, address, age, foreign, mapped, .. } => {
            let whose = match (foreign, mapped) {
                (Some(true), _) => ", which is another device's by now",
                (_, true) => ", which the tables still map",
                _ => "",
            };
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

/// Sentences for events of the host's software.
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
        Event::QuarantineEnded { function } => {
            format!("{function} was reset, and leaves quarantine")
        }
        Event::ResetBlockBegan { function } => {
            format!("a driver is about to reset {function}, and blocks it")
        }
        Event::ResetBlockEnded { function } => {
            format!("the reset of {function} is over, and it is attached again")
        }
        Event::RecoveryBegan { function } => format!("a worker is to reset {function}"),
        Event::RecoveryEnded { function, succeeded: true } => format!("{function} answers again"),
        Event::RecoveryEnded { function, succeeded: false } => {
            format!("{function} does not answer after its reset, and stays blocked")
        }
        Event::PortFenced { function, fence } => {
            format!("the port above {function} blocks it and what else is below: {fence}")
        }
        Event::PortFenceEnded { function, fence } => {
            format!("what {fence} was for is reset, and the port above {function} lets it be")
        }
        Event::RemovalSimulated { function } => format!("{function} is taken for removed"),
        Event::FunctionResetByHost { function } => format!("Function Level Reset of {function}"),
        Event::AtsDisabledByHost { function } => {
            format!("ATS is turned off in {function} for good, if the write arrives")
        }
        Event::HostWalkHasNoEnd { tail } => format!(
            "IQT is at slot {tail}, an odd one: the walk over the slots NEVER ENDS, with the lock of \
             the queue held"
        ),
        Event::HostWaitsAborted { count } => format!("software finds {count} waits aborted"),
        Event::HostLockup { ticket, detector } => {
            let (name, limit) = match detector {
                LockupDetector::Hard => ("HARD", detector.threshold()),
                LockupDetector::Soft => ("SOFT", detector.threshold()),
            };
            let limit = time(Duration::from_secs(limit.as_secs()));
            let when = match detector {
                LockupDetector::Hard => "",
                LockupDetector::Soft => ", and will be reported when its interrupts are on again",
            };
            format!(
                "{name} LOCK-UP: the CPU of caller {} has been stuck for {limit}{when}",
                ticket.0
            )
        }
        _ => return None,
    })
}

/// Sentences for events of the physical unit.
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
            format!("an Invalidate Completion of {function} that no request waits for: FSTS.ICE")
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

/// Sentences for events of devices and links.
fn link(event: &Event) -> Option<String> {
    Some(match event {
        Event::FaultInjected { fault } => format!("THE FAULT: {fault}"),
        Event::FaultEnded { fault } => format!("the fault ends: {fault}"),
        Event::Link { port, state: LinkState::Down } => format!("the link below {port} is down"),
        Event::Link { port, state: LinkState::Up } => format!("the link below {port} is up"),
        Event::Lost { port, what } => {
            format!("the link below {port} loses {}", tlp(*what))
        }
        Event::Dropped { function, what, reason } => {
            let reason = match reason {
                DropReason::Sleeping => "sleeps",
                DropReason::QueueFull => "has as many Invalidate Requests as it can take",
                DropReason::NotReady => "is not ready after a reset",
            };
            format!("{function} {reason}, and drops {}", tlp(*what))
        }
        Event::AtcFilled { function, .. } => {
            format!("the ATC of {function} has a new translation")
        }
        Event::AtcInvalidated { function, dropped } => {
            format!("the ATC of {function} drops {dropped} translations")
        }
        _ => return None,
    })
}

/// A TLP, with its article.
fn tlp(kind: Lost) -> &'static str {
    match kind {
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
        Lost::ErrorMessage => "an error message",
    }
}
