//! Which events there are, with which fields, and what can emit them: for expectations that name
//! events.

use std::time::Duration;

use strum::IntoEnumIterator;

use super::{Event, UnitRole};
use crate::ats::ITag;
use crate::ids::{Bdf, Gpa, Iova, Pasid};
use crate::spec::fault::FaultReason;
use crate::submit::Ticket;

/// What can emit an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Emitter {
    /// Any machine: a unit, a link, a function, or the guest.
    Machine,
    /// The driver of a host below the guest.
    Host,
    /// A simulation, which has drivers and CPUs of its own.
    Simulation,
    /// The schedule of faults.
    Faults,
}

impl Event {
    /// The names of all events, as JSON has them.
    pub const NAMES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    /// What can emit this event.
    pub const fn emitter(&self) -> Emitter {
        match self {
            Self::DescriptorFetched { .. }
            | Self::InvalidateRequested { .. }
            | Self::InvalidateCompleted { .. }
            | Self::InvalidationTimeout { .. }
            | Self::UnexpectedCompletion { .. }
            | Self::WaitCompleted { .. }
            | Self::QueueError { .. }
            | Self::DmaFault { .. }
            | Self::PageRequested { .. }
            | Self::PageGroupResponded { .. }
            | Self::InterruptFault { .. }
            | Self::StaleAccess { .. }
            | Self::AccessNotJudged { .. }
            | Self::Link { .. }
            | Self::Lost { .. }
            | Self::Dropped { .. }
            | Self::AtcFilled { .. }
            | Self::AtcInvalidated { .. }
            | Self::Dma { .. }
            | Self::Interrupt { .. }
            | Self::Doorbell { .. }
            | Self::GuestReport { .. }
            | Self::GuestExit { .. } => Emitter::Machine,
            Self::Submitted { .. }
            | Self::PresenceChecked { .. }
            | Self::Verdict { .. }
            | Self::FalseCompletion { .. }
            | Self::FenceSubmitted { .. }
            | Self::QuarantineBegan { .. }
            | Self::Quarantined { .. }
            | Self::QuarantineEnded { .. }
            | Self::RecoveryBegan { .. }
            | Self::RecoveryEnded { .. }
            | Self::ResetBlockBegan { .. }
            | Self::ResetBlockEnded { .. }
            | Self::PortFenced { .. }
            | Self::PortFenceEnded { .. }
            | Self::RemovalSimulated { .. }
            | Self::FunctionResetByHost { .. }
            | Self::AtsDisabledByHost { .. }
            | Self::HostWalkHasNoEnd { .. }
            | Self::HostWaitsAborted { .. }
            | Self::HostLockup { .. } => Emitter::Host,
            Self::CpuBlocked { .. }
            | Self::CpuReleased { .. }
            | Self::IoTimedOut { .. }
            | Self::DriverReset { .. }
            | Self::DriverUnbound { .. }
            | Self::DriverBound { .. } => Emitter::Simulation,
            Self::FaultInjected { .. } | Self::FaultEnded { .. } => Emitter::Faults,
        }
    }

    /// Events of each kind: together they have each field, and each value of fields that have a
    /// few.
    pub fn samples() -> Vec<Self> {
        let mut samples = unit_samples();
        samples.extend(host_samples());
        samples.extend(device_samples());
        samples.extend(simulation_samples());
        samples
    }
}

const FUNCTION: Bdf = Bdf::new(1, 0, 0);
const ADDRESS: Iova = Iova(0x1000);
const WAITED: Duration = Duration::from_millis(1);

fn unit_samples() -> Vec<Event> {
    let (function, itag, address) = (FUNCTION, ITag::new(1), ADDRESS);
    let of_unit = |unit: UnitRole| {
        [
            Event::DescriptorFetched { unit, descriptor_type: 3, slot: 1 },
            Event::InvalidateRequested { unit, function, itag },
            Event::InvalidateCompleted { unit, function, itag, waited: WAITED },
            Event::InvalidationTimeout { unit, function, itag, waits_aborted: 1 },
            Event::UnexpectedCompletion { unit, function, itag_vector: 1 },
            Event::WaitCompleted { unit, status_address: Some(Gpa(0x1000)) },
            Event::DmaFault { unit, function, address, reason: FaultReason(2), recorded: true },
            Event::InterruptFault {
                unit,
                requester: Some(function),
                index: Some(1),
                reason: FaultReason(0x22),
                recorded: true,
            },
        ]
    };
    let mut samples: Vec<Event> = UnitRole::iter().flat_map(of_unit).collect();
    let unit = UnitRole::Guest;
    let errors = crate::spec::queue::QueueErrorInfo::iter();
    samples.extend(errors.map(|reason| Event::QueueError { unit, reason, slot: 1 }));
    let outcomes = super::PageRequestOutcome::iter();
    samples.extend(outcomes.map(|outcome| Event::PageRequested {
        unit,
        function,
        address,
        group: 1,
        outcome,
    }));
    let codes = crate::ats::ResponseCode::iter();
    samples.extend(codes.map(|code| Event::PageGroupResponded {
        unit,
        function,
        group: 1,
        code,
        automatic: true,
    }));
    let caches = super::TranslationCache::iter();
    samples.extend(caches.map(|cache| Event::StaleAccess {
        function,
        pasid: Some(Pasid::new(1)),
        address,
        target: Gpa(0x1000),
        cache,
        age: WAITED,
        told_success: true,
        mapped: true,
        foreign: Some(true),
    }));
    samples.push(Event::AccessNotJudged { function, address });
    samples
}

fn host_samples() -> Vec<Event> {
    let (function, ticket) = (FUNCTION, Ticket(1));
    let mut samples = vec![
        Event::Submitted { ticket, function, attempt: 1 },
        Event::PresenceChecked { function, present: true },
        Event::FalseCompletion { ticket },
        Event::FenceSubmitted { function, attempt: 1 },
        Event::QuarantineBegan { function },
        Event::Quarantined { function, waited: WAITED },
        Event::QuarantineEnded { function },
        Event::RecoveryBegan { function },
        Event::RecoveryEnded { function, succeeded: true },
        Event::ResetBlockBegan { function },
        Event::ResetBlockEnded { function },
        Event::RemovalSimulated { function },
        Event::FunctionResetByHost { function },
        Event::AtsDisabledByHost { function },
        Event::HostWalkHasNoEnd { tail: 1 },
        Event::HostWaitsAborted { count: 1 },
    ];
    let verdicts = crate::submit::Verdict::iter();
    samples.extend(verdicts.map(|verdict| Event::Verdict {
        ticket,
        function,
        verdict,
        waited: WAITED,
    }));
    for fence in crate::submit::PortFence::iter() {
        samples.push(Event::PortFenced { function, fence });
        samples.push(Event::PortFenceEnded { function, fence });
    }
    let detectors = super::LockupDetector::iter();
    samples.extend(detectors.map(|detector| Event::HostLockup { ticket, detector }));
    samples
}

fn device_samples() -> Vec<Event> {
    let (function, port) = (FUNCTION, Bdf::new(0, 1, 0));
    let fault = || "at=1s,mode=silent".to_owned();
    let mut samples = vec![
        Event::FaultInjected { fault: fault() },
        Event::FaultEnded { fault: fault() },
        Event::AtcFilled { function, address: ADDRESS, order: 12 },
        Event::AtcInvalidated { function, dropped: 1 },
        Event::Interrupt { requester: function, address: 0xfee0_0000, data: 1 },
        Event::Doorbell { value: 1 },
        Event::GuestReport { metric: 1, value: 1 },
        Event::GuestExit { value: 0 },
    ];
    samples.extend(super::LinkState::iter().map(|state| Event::Link { port, state }));
    for what in super::Lost::iter() {
        samples.push(Event::Lost { port, what });
        let dropped = super::DropReason::iter();
        samples.extend(dropped.map(|reason| Event::Dropped { function, what, reason }));
    }
    for address_type in crate::ats::AddressType::iter() {
        samples.extend(crate::ats::Access::iter().map(|access| Event::Dma {
            function,
            address: ADDRESS,
            address_type,
            access,
            length: 64,
        }));
    }
    samples
}

fn simulation_samples() -> Vec<Event> {
    let (function, cpu) = (FUNCTION, 1);
    vec![
        Event::CpuBlocked { cpu, function },
        Event::CpuReleased { cpu, function, waited: WAITED },
        Event::IoTimedOut { cpu, function },
        Event::DriverReset { function },
        Event::DriverUnbound { function },
        Event::DriverBound { function },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::mem::discriminant;

    use super::*;

    #[test]
    fn there_is_a_sample_of_each_kind() {
        let samples = Event::samples();
        let kinds: std::collections::HashSet<_> = samples.iter().map(discriminant).collect();
        assert_eq!(kinds.len(), Event::NAMES.len(), "a kind has no sample");
        let names: BTreeSet<&str> = Event::NAMES.iter().copied().collect();
        assert!(names.contains("invalidation_timeout") && names.contains("dma"));
    }
}
