//! All that happens in the machine, as typed [`Event`]s with a time stamp.
//!
//! Tests assert on events; traces, tables and reports are views of them. Without a sink an event
//! costs one branch and is never built.

mod fields;
mod samples;
mod tracer;

use std::time::Duration;

use serde::Serialize;

use crate::ats::{Access, AddressType, ITag, ResponseCode};
use crate::ids::{Bdf, Gpa, Iova, Pasid};
use crate::spec::fault::FaultReason;
use crate::spec::queue::QueueErrorInfo;
use crate::submit::{PortFence, Ticket, Verdict};

pub use fields::{
    DropReason, LinkState, LockupDetector, Lost, PageRequestOutcome, TranslationCache, UnitRole,
};
pub use samples::Emitter;
pub use tracer::{EventSink, Recorder, TimedEvent, Tracer};

/// An event of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, strum::VariantNames)]
#[serde(tag = "event", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The unit has fetched and accepted a descriptor, and moved its head past it.
    DescriptorFetched {
        /// The unit with the queue.
        unit: UnitRole,
        /// The type field.
        descriptor_type: u8,
        /// The slot in the ring.
        slot: u32,
    },
    /// The unit has sent an Invalidate Request.
    InvalidateRequested {
        /// The unit.
        unit: UnitRole,
        /// The function with the ATC.
        function: Bdf,
        /// The tag of the request.
        itag: ITag,
    },
    /// All Invalidate Completions for a tag have come, or the host has acknowledged the request.
    InvalidateCompleted {
        /// The unit.
        unit: UnitRole,
        /// The function that answered.
        function: Bdf,
        /// The tag of the request.
        itag: ITag,
        /// Since the request was sent.
        waited: Duration,
    },
    /// Invalidation Time-out Error: the unit has set FSTS.ITE (`VT-d 6.5.2.11`).
    InvalidationTimeout {
        /// The unit.
        unit: UnitRole,
        /// The function that did not answer.
        function: Bdf,
        /// The tag of the request, which is free again.
        itag: ITag,
        /// The number of pending waits that the unit has aborted.
        waits_aborted: u32,
    },
    /// An Invalidate Completion matches no request: the unit has set FSTS.ICE.
    UnexpectedCompletion {
        /// The unit.
        unit: UnitRole,
        /// The function that sent it.
        function: Bdf,
        /// A bit for each tag that matches no request.
        itag_vector: u32,
    },
    /// The unit has completed a wait descriptor.
    WaitCompleted {
        /// The unit.
        unit: UnitRole,
        /// The address of its status write, if it has one.
        status_address: Option<Gpa>,
    },
    /// Invalidation Queue Error: the unit has set FSTS.IQE and stopped fetching.
    QueueError {
        /// The unit.
        unit: UnitRole,
        /// IQEI in IQERCD.
        reason: QueueErrorInfo,
        /// The slot of the head.
        slot: u32,
    },
    /// The unit has blocked a DMA request.
    DmaFault {
        /// The unit.
        unit: UnitRole,
        /// The function that sent it.
        function: Bdf,
        /// The address of the request.
        address: Iova,
        /// The fault reason.
        reason: FaultReason,
        /// Whether the unit has written a fault record.
        recorded: bool,
    },
    /// The unit has received a Page Request.
    PageRequested {
        /// The unit.
        unit: UnitRole,
        /// The function that sent it.
        function: Bdf,
        /// The page.
        address: Iova,
        /// The PRG Index.
        group: u16,
        /// The unit's handling of the request.
        outcome: PageRequestOutcome,
    },
    /// The unit has sent a PRG Response.
    PageGroupResponded {
        /// The unit.
        unit: UnitRole,
        /// The function that receives it.
        function: Bdf,
        /// The PRG Index.
        group: u16,
        /// The result.
        code: ResponseCode,
        /// Whether the unit has sent it without a descriptor.
        automatic: bool,
    },
    /// The unit has blocked an interrupt.
    InterruptFault {
        /// The unit.
        unit: UnitRole,
        /// The function that sent it; `None` for an I/O APIC without requester id.
        requester: Option<Bdf>,
        /// The index of the remapping entry, if the unit has computed it.
        index: Option<u16>,
        /// The fault reason.
        reason: FaultReason,
        /// Whether the unit has written a fault record.
        recorded: bool,
    },
    /// The host side has put an invalidation in the physical unit's queue.
    Submitted {
        /// The invalidation.
        ticket: Ticket,
        /// The function with the ATC.
        function: Bdf,
        /// 1 for the first submission, higher for each further one.
        attempt: u32,
    },
    /// The host side has read a function's vendor ID.
    PresenceChecked {
        /// The function.
        function: Bdf,
        /// Whether the function has answered.
        present: bool,
    },
    /// A wait of the host side has ended.
    Verdict {
        /// The invalidation.
        ticket: Ticket,
        /// The function with the ATC.
        function: Bdf,
        /// How the wait has ended.
        verdict: Verdict,
        /// Since the wait began.
        waited: Duration,
    },
    /// A waiter has taken another's status write for its own: the unit has not completed its
    /// invalidation.
    FalseCompletion {
        /// The invalidation.
        ticket: Ticket,
    },
    /// The host side has put a fence in the physical unit's queue: descriptors after which the unit
    /// reads the context entry of a function again.
    FenceSubmitted {
        /// The function that the unit is to block.
        function: Bdf,
        /// 1 for the first submission, higher for each one after ITE.
        attempt: u32,
    },
    /// The host side has cleared P in a function's context entry, and submits a fence.
    QuarantineBegan {
        /// The function.
        function: Bdf,
    },
    /// The physical unit has executed a fence, and blocks the function.
    Quarantined {
        /// The function.
        function: Bdf,
        /// Since the quarantine began.
        waited: Duration,
    },
    /// A function was reset, and leaves quarantine.
    QuarantineEnded {
        /// The function.
        function: Bdf,
    },
    /// A function has timed out, and a worker is to reset it. Its callers go on.
    RecoveryBegan {
        /// The function.
        function: Bdf,
    },
    /// The time after the worker's reset is over.
    RecoveryEnded {
        /// The function.
        function: Bdf,
        /// Whether the function answers again. Otherwise it stays blocked until a reset from outside.
        succeeded: bool,
    },
    /// A driver of the host is about to reset a function: the unit is to block it until the reset is
    /// over, and it gets no further invalidation.
    ResetBlockBegan {
        /// The function.
        function: Bdf,
    },
    /// The reset of a function is over, and its context entry is restored.
    ResetBlockEnded {
        /// The function.
        function: Bdf,
    },
    /// The host side has made the port above a function block it.
    PortFenced {
        /// The function.
        function: Bdf,
        /// The fence.
        fence: PortFence,
    },
    /// All functions that a fence at a port was for were reset, and the fence has ended.
    PortFenceEnded {
        /// The function for which the fence began.
        function: Bdf,
        /// The fence.
        fence: PortFence,
    },
    /// The host side treats a function as removed, until it is reset.
    RemovalSimulated {
        /// The function.
        function: Bdf,
    },
    /// The host side has initiated a Function Level Reset.
    FunctionResetByHost {
        /// The function.
        function: Bdf,
    },
    /// The host side has turned ATS off in a function, for good. The write may be lost.
    AtsDisabledByHost {
        /// The function.
        function: Bdf,
    },
    /// The loop by which the host side marks waits as aborted has no end, since IQT is odd. It holds
    /// the lock of the queue.
    HostWalkHasNoEnd {
        /// The slot at IQT.
        tail: u32,
    },
    /// The host side has marked waits as aborted, after ITE of the physical unit.
    HostWaitsAborted {
        /// The number of waits.
        count: u32,
    },
    /// A lock-up detector reports a CPU of the host that spins in a wait.
    HostLockup {
        /// The invalidation of that wait.
        ticket: Ticket,
        /// The detector.
        detector: LockupDetector,
    },
    /// In a simulation: a CPU begins an invalidation, and disables interrupts.
    CpuBlocked {
        /// The CPU.
        cpu: u16,
        /// The function with the ATC.
        function: Bdf,
    },
    /// In a simulation: a CPU has finished an invalidation, and enables interrupts.
    CpuReleased {
        /// The CPU.
        cpu: u16,
        /// The function with the ATC.
        function: Bdf,
        /// How long its interrupts were disabled.
        waited: Duration,
    },
    /// DMA has reached memory by a cached translation whose invalidation was reported complete
    /// before, or was given up. Only an oracle outside of the machine knows this.
    StaleAccess {
        /// The function of the DMA.
        function: Bdf,
        /// The address space, if the translation has a PASID.
        pasid: Option<Pasid>,
        /// The I/O virtual address.
        address: Iova,
        /// The physical address that the request has reached.
        target: Gpa,
        /// The cache that held the translation.
        cache: TranslationCache,
        /// Since the invalidation was reported or given up.
        age: Duration,
        /// Whether the caller was told of success: it may use the page for something else.
        told_success: bool,
        /// Whether the tables still have the translation: the access does no harm then, and the
        /// cache should have asked again.
        mapped: bool,
        /// Whether another device owns the page by now. Only a simulation knows owners.
        foreign: Option<bool>,
    },
    /// The oracle cannot tell whether DMA was stale, since its bounded memory has no record of the
    /// translation.
    AccessNotJudged {
        /// The function of the DMA.
        function: Bdf,
        /// The I/O virtual address.
        address: Iova,
    },
    /// In a simulation: a driver's I/O has timed out.
    IoTimedOut {
        /// The CPU that began the I/O.
        cpu: u16,
        /// The function.
        function: Bdf,
    },
    /// In a simulation: a driver has reset its function.
    DriverReset {
        /// The function.
        function: Bdf,
    },
    /// In a simulation: a driver was unbound from its function.
    DriverUnbound {
        /// The function.
        function: Bdf,
    },
    /// In a simulation: a driver was bound to its function again.
    DriverBound {
        /// The function.
        function: Bdf,
    },
    /// A fault of the schedule begins.
    FaultInjected {
        /// The fault in the schedule's notation.
        fault: String,
    },
    /// A fault of the schedule ends by itself.
    FaultEnded {
        /// The fault in the schedule's notation.
        fault: String,
    },
    /// A link has come up or gone down.
    Link {
        /// The port above it.
        port: Bdf,
        /// Its new state.
        state: LinkState,
    },
    /// A link that is down has dropped a TLP.
    Lost {
        /// The port above it.
        port: Bdf,
        /// The kind of the TLP.
        what: Lost,
    },
    /// A function or a port has dropped a TLP that its link has carried.
    Dropped {
        /// The function or the port.
        function: Bdf,
        /// The kind of the TLP.
        what: Lost,
        /// Why it was dropped.
        reason: DropReason,
    },
    /// A function's ATC has cached a translation.
    AtcFilled {
        /// The function with the ATC.
        function: Bdf,
        /// The first untranslated address.
        address: Iova,
        /// log2 of the size in bytes.
        order: u8,
    },
    /// A function's ATC has dropped translations.
    AtcInvalidated {
        /// The function with the ATC.
        function: Bdf,
        /// The number of translations.
        dropped: u32,
    },
    /// A function's DMA has reached memory.
    Dma {
        /// The function.
        function: Bdf,
        /// The address in the request.
        address: Iova,
        /// Whether the ATC has translated the address.
        address_type: AddressType,
        /// Read or write.
        access: Access,
        /// Bytes transferred.
        length: u32,
    },
    /// A function or a port has sent an interrupt.
    Interrupt {
        /// The function or port.
        requester: Bdf,
        /// The message's address.
        address: u64,
        /// The message's data.
        data: u32,
    },
    /// The guest has written the bench's doorbell.
    Doorbell {
        /// The value written.
        value: u32,
    },
    /// The guest has reported a measurement.
    GuestReport {
        /// The metric, a number of the guest's protocol.
        metric: u32,
        /// The measured value.
        value: u64,
    },
    /// The guest has ended the run by a write to the debug-exit port.
    GuestExit {
        /// The value written. The exit status is `value << 1 | 1`.
        value: u32,
    },
}
