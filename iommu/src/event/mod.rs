//! Everything that happens, as typed [`Event`]s with a time stamp.
//!
//! Tests assert on them; traces, tables and reports are views of them. Where nobody listens,
//! an event costs one branch and is never built.

mod fields;
mod tracer;

use std::time::Duration;

use serde::Serialize;

use crate::ats::{Access, AddressType, ITag, ResponseCode};
use crate::ids::{Bdf, Gpa, Iova};
use crate::spec::fault::FaultReason;
use crate::spec::queue::QueueErrorInfo;
use crate::submit::{Ticket, Verdict};

pub use fields::{LinkState, LockupDetector, Lost, PageRequestOutcome, UnitRole};
pub use tracer::{EventSink, Recorder, TimedEvent, Tracer};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The unit has fetched and accepted a descriptor, and moved its head past it.
    DescriptorFetched {
        /// Whose queue.
        unit: UnitRole,
        /// Its type field.
        descriptor_type: u8,
        /// Its slot in the ring.
        slot: u32,
    },
    /// The unit has sent an Invalidate Request.
    InvalidateRequested {
        /// Which unit.
        unit: UnitRole,
        /// The function whose ATC is meant.
        function: Bdf,
        /// Under which tag.
        itag: ITag,
    },
    /// All Invalidate Completions for a tag have come, or the host has said so.
    InvalidateCompleted {
        /// Which unit.
        unit: UnitRole,
        /// The function that answered.
        function: Bdf,
        /// Under which tag.
        itag: ITag,
        /// How long it took.
        waited: Duration,
    },
    /// Invalidation Time-out Error: the unit has set FSTS.ITE (`VT-d 6.5.2.11`).
    InvalidationTimeout {
        /// Which unit.
        unit: UnitRole,
        /// The function that did not answer.
        function: Bdf,
        /// The tag that is free again.
        itag: ITag,
        /// Pending waits that will never complete because of it.
        waits_aborted: u32,
    },
    /// An Invalidate Completion that nobody waits for: FSTS.ICE.
    UnexpectedCompletion {
        /// Which unit.
        unit: UnitRole,
        /// Who sent it.
        function: Bdf,
        /// The tags in it that match nothing.
        itag_vector: u32,
    },
    /// A wait descriptor has done what it was asked to.
    WaitCompleted {
        /// Which unit.
        unit: UnitRole,
        /// Where its status data went, if it had any.
        status_address: Option<Gpa>,
    },
    /// Invalidation Queue Error: FSTS.IQE, the queue stands still.
    QueueError {
        /// Which unit.
        unit: UnitRole,
        /// IQERCD.IQEI.
        reason: QueueErrorInfo,
        /// The slot at which the head stands.
        slot: u32,
    },
    /// A DMA request was blocked.
    DmaFault {
        /// Which unit.
        unit: UnitRole,
        /// Who asked.
        function: Bdf,
        /// For what.
        address: Iova,
        /// Why not.
        reason: FaultReason,
        /// Whether a fault record was written.
        recorded: bool,
    },
    /// A Page Request has reached the unit.
    PageRequested {
        /// Which unit.
        unit: UnitRole,
        /// Who asks.
        function: Bdf,
        /// For which page.
        address: Iova,
        /// As part of which group.
        group: u16,
        /// What became of it.
        outcome: PageRequestOutcome,
    },
    /// The unit has sent a PRG Response.
    PageGroupResponded {
        /// Which unit.
        unit: UnitRole,
        /// To whom.
        function: Bdf,
        /// For which group.
        group: u16,
        /// What it says.
        code: ResponseCode,
        /// The unit has sent it on its own, not because of a descriptor.
        automatic: bool,
    },
    /// An interrupt was blocked.
    InterruptFault {
        /// Which unit.
        unit: UnitRole,
        /// Who sent it; nothing for an I/O APIC without requester id.
        requester: Option<Bdf>,
        /// The entry that it named, if it got that far.
        index: Option<u16>,
        /// Why not.
        reason: FaultReason,
        /// Whether a fault record was written.
        recorded: bool,
    },
    /// The host side has put an invalidation on the physical unit's queue.
    Submitted {
        /// The invalidation.
        ticket: Ticket,
        /// The function whose ATC is meant.
        function: Bdf,
        /// 1 for the first time, more after a retry.
        attempt: u32,
    },
    /// The host side has asked a function for its vendor ID.
    PresenceChecked {
        /// Which function.
        function: Bdf,
        /// Whether it answered.
        present: bool,
    },
    /// The host side is done waiting.
    Verdict {
        /// The invalidation.
        ticket: Ticket,
        /// The function whose ATC is meant.
        function: Bdf,
        /// How it ended.
        verdict: Verdict,
        /// Since the first submission.
        waited: Duration,
    },
    /// A waiter of the host took a status write for its own that was another's: the physical unit is
    /// not done with its invalidation.
    FalseCompletion {
        /// The invalidation.
        ticket: Ticket,
    },
    /// The host side has put a fence on the physical unit's queue: the descriptors that make the unit
    /// read the context entry of a function anew.
    FenceSubmitted {
        /// The function that is to be blocked.
        function: Bdf,
        /// 1 for the first time, more after ITE.
        attempt: u32,
    },
    /// The host side has cleared a function's context entry, and will fence it.
    QuarantineBegan {
        /// The function.
        function: Bdf,
    },
    /// The physical unit has said that a fence is done: it blocks the function.
    Quarantined {
        /// The function.
        function: Bdf,
        /// Since the quarantine began.
        waited: Duration,
    },
    /// A function in quarantine was reset, and the host side lets it be again.
    QuarantineEnded {
        /// The function.
        function: Bdf,
    },
    /// The host side takes a function for removed, until it is reset.
    RemovalSimulated {
        /// The function.
        function: Bdf,
    },
    /// The host side has initiated a Function Level Reset.
    FunctionResetByHost {
        /// Of which function.
        function: Bdf,
    },
    /// Host descriptors that the physical unit's ITE has aborted.
    HostWaitsAborted {
        /// How many waits.
        count: u32,
    },
    /// A CPU of the host has spun in one wait for so long that a lock-up detector speaks.
    HostLockup {
        /// The invalidation that it waits for.
        ticket: Ticket,
        /// Which detector.
        detector: LockupDetector,
    },
    /// In a simulation: a CPU wants an invalidation. Its interrupts are off from now on.
    CpuBlocked {
        /// Which CPU.
        cpu: u16,
        /// The function whose ATC is meant.
        function: Bdf,
    },
    /// In a simulation: that CPU goes on.
    CpuReleased {
        /// Which CPU.
        cpu: u16,
        /// The function whose ATC was meant.
        function: Bdf,
        /// How long interrupts were off.
        waited: Duration,
    },
    /// In a simulation: DMA has reached memory by a translation whose invalidation had been reported
    /// complete, or been abandoned.
    StaleAccess {
        /// Whose DMA.
        function: Bdf,
        /// The address that it was mapped at.
        address: Iova,
        /// How long ago that report was.
        age: Duration,
        /// The page belongs to another device by now.
        foreign: bool,
    },
    /// In a simulation: a driver gives up an I/O that has not completed.
    IoTimedOut {
        /// The CPU that had begun it.
        cpu: u16,
        /// To which function.
        function: Bdf,
    },
    /// In a simulation: a driver has reset its function.
    DriverReset {
        /// Which function.
        function: Bdf,
    },
    /// In a simulation: a driver has let its function go.
    DriverUnbound {
        /// Which function.
        function: Bdf,
    },
    /// In a simulation: a driver has taken its function again.
    DriverBound {
        /// Which function.
        function: Bdf,
    },
    /// A fault of the schedule begins.
    FaultInjected {
        /// As it is written.
        fault: String,
    },
    /// A fault of the schedule ends by itself.
    FaultEnded {
        /// As it is written.
        fault: String,
    },
    /// A link has changed.
    Link {
        /// The port above it.
        port: Bdf,
        /// What it does now.
        state: LinkState,
    },
    /// A link that is down has swallowed something.
    Lost {
        /// The port above it.
        port: Bdf,
        /// What.
        what: Lost,
    },
    /// A function's ATC holds a new translation.
    AtcFilled {
        /// Whose ATC.
        function: Bdf,
        /// The first address that it covers.
        address: Iova,
        /// log2 of its size in bytes.
        order: u8,
    },
    /// A function's ATC has dropped translations.
    AtcInvalidated {
        /// Whose ATC.
        function: Bdf,
        /// How many.
        dropped: u32,
    },
    /// A function's DMA has reached memory.
    Dma {
        /// Whose.
        function: Bdf,
        /// The address that it used.
        address: Iova,
        /// How the address was to be taken.
        address_type: AddressType,
        /// Read or write.
        access: Access,
        /// Bytes.
        length: u32,
    },
    /// A function or a port has sent an interrupt.
    Interrupt {
        /// Who.
        requester: Bdf,
        /// The message's address.
        address: u64,
        /// The message's data.
        data: u32,
    },
    /// The guest has rung the bench's doorbell.
    Doorbell {
        /// What it wrote.
        value: u32,
    },
    /// The guest has reported a measurement.
    GuestReport {
        /// What was measured, see the guest's protocol.
        metric: u32,
        /// The measured value.
        value: u64,
    },
    /// The guest has ended the run by the debug-exit port, with this value.
    GuestExit {
        /// What it wrote; the exit status is `value << 1 | 1`.
        value: u32,
    },
}
