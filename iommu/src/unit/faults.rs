//! How the unit reports to software: fault records, status bits, and event messages.
//!
//! ```text
//! blocked request -> FRCD[i], FSTS.PPF --+
//! queue error, time-out, completion -----+--> FECTL: IM=0 send, IM=1 keep IP -> fault MSI
//! wait with IF=1 -> ICS.IWC ----------------> IECTL: likewise             -> completion MSI
//! page request -> PRS.PPR, PRS.PRO ---------> PECTL: likewise             -> page request MSI
//! ```

use super::interrupts::InterruptFault;
use super::registers::Registers;
use super::translate::Fault;
use super::{Output, Unit};
use crate::ats::{Access, Msi};
use crate::event::Event;
use crate::ids::Bdf;
use crate::spec::fault::{FaultRecordHigh, FaultStatus};
use crate::spec::offset;
use crate::spec::queue::QueueErrorInfo;
use crate::time::Instant;

/// SID in the record of an interrupt without requester id.
const NO_REQUESTER: u16 = 0xffff;

/// The message in the event registers at `control`.
fn message(registers: &Registers, control: u16) -> Msi {
    let [data, low, high] = [4, 8, 12].map(|at| registers.read(control + at));
    Msi { address: u64::from(low) | u64::from(high) << 32, data }
}

/// The type of the request in a fault record: T1 and T2 (`VT-d 11.4.7.6`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestType {
    Write,
    PageRequest,
    Read,
}

impl RequestType {
    const fn of(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Write => Self::Write,
        }
    }

    const fn type1(self) -> bool {
        matches!(self, Self::Read)
    }

    const fn type2(self) -> bool {
        matches!(self, Self::PageRequest)
    }
}

/// Whether an FSTS bit is set that suppresses further fault events (`VT-d 7.3`).
const fn announced(status: FaultStatus) -> bool {
    status.overflow()
        || status.pending()
        || status.queue_error()
        || status.completion_error()
        || status.timeout_error()
}

impl Unit {
    /// A condition arises for which the event registers at `control` send a message. Sends the
    /// message, or keeps it pending while it is masked (`VT-d 7.3`).
    pub(super) fn raise_event(&mut self, control: u16) {
        let state = self.registers.event_control(control);
        if state.masked() {
            self.registers.set_event_control(control, state.with_pending(true));
        } else {
            self.outputs.push_back(Output::Msi(message(&self.registers, control)));
        }
    }

    /// Software has written a control register: sends a pending message that is unmasked.
    pub(super) fn event_control_written(&mut self, control: u16) {
        let state = self.registers.event_control(control);
        if state.pending() && !state.masked() {
            self.registers.set_event_control(control, state.with_pending(false));
            self.outputs.push_back(Output::Msi(message(&self.registers, control)));
        }
    }

    /// No condition is left: drops a pending message.
    pub(super) fn withdraw_event(&mut self, control: u16) {
        let state = self.registers.event_control(control);
        self.registers.set_event_control(control, state.with_pending(false));
    }

    /// Sets status bits, and raises an event if none of the bits was set before.
    fn set_fault_status(&mut self, change: impl FnOnce(FaultStatus) -> FaultStatus) {
        let before = self.registers.fault_status();
        self.registers.set_fault_status(change(before));
        if !announced(before) {
            self.raise_event(offset::FECTL);
        }
    }

    /// Software has cleared bits in FSTS or in a record: updates PPF, FRI and the event.
    pub(super) fn fault_status_written(&mut self) {
        let records = 0..self.fault_records();
        let pending = records.clone().any(|i| self.record_in_use(i));
        let mut status = self.registers.fault_status().with_pending(pending);
        if pending && !self.record_in_use(status.record_index()) {
            // FRI is the oldest record in use: the next one from the old FRI on.
            let count = self.fault_records();
            let from = status.record_index();
            let oldest = (0..count).map(|i| (from + i) % count).find(|i| self.record_in_use(*i));
            status.set_record_index(oldest.unwrap_or(0));
        }
        self.registers.set_fault_status(status);
        if !announced(status) {
            self.withdraw_event(offset::FECTL);
        }
    }

    /// Software has written ICS.
    pub(super) fn completion_status_written(&mut self) {
        if !self.registers.wait_completed() {
            self.withdraw_event(offset::IECTL);
        }
    }

    /// A wait descriptor with IF=1 has completed (`VT-d 6.5.2.9`).
    pub(super) fn announce_wait(&mut self) {
        if !self.registers.wait_completed() {
            self.registers.set_wait_completed();
            self.raise_event(offset::IECTL);
        }
    }

    /// The unit stops fetching (`VT-d 6.5.2.11`).
    pub(super) fn queue_error(&mut self, reason: QueueErrorInfo, now: Instant) {
        let record = self.registers.error_record().with_info(reason as u8);
        self.registers.set_error_record(record);
        self.set_fault_status(|status| status.with_queue_error(true));
        let (unit, slot) = (self.role(), self.queue.slot(&self.registers));
        self.tracer.emit(now, || Event::QueueError { unit, reason, slot });
    }

    /// A Device-TLB invalidation has timed out: sets ITE, and ITESID if ITE was clear.
    pub(super) fn timeout_error(&mut self, function: Bdf) {
        if !self.registers.fault_status().timeout_error() {
            let source = self.config.itesid.unwrap_or(function).into_bits();
            let record = self.registers.error_record().with_timeout_source(source);
            self.registers.set_error_record(record);
        }
        self.set_fault_status(|status| status.with_timeout_error(true));
    }

    /// An Invalidate Completion matches no request: sets ICE, and ICESID if ICE was clear.
    pub(super) fn completion_error(&mut self, function: Bdf) {
        if !self.registers.fault_status().completion_error() {
            let record = self.registers.error_record().with_completion_source(function.into_bits());
            self.registers.set_error_record(record);
        }
        self.set_fault_status(|status| status.with_completion_error(true));
    }

    /// Records a blocked request, if its fault must be recorded (`VT-d 7.2.1`).
    pub(super) fn record_fault(&mut self, fault: &Fault, now: Instant) {
        let kind = RequestType::of(fault.access);
        self.record_fault_of(kind, fault, now);
    }

    /// Records a refused page request.
    pub(super) fn record_page_request_fault(&mut self, fault: &Fault, now: Instant) {
        self.record_fault_of(RequestType::PageRequest, fault, now);
    }

    fn record_fault_of(&mut self, kind: RequestType, fault: &Fault, now: Instant) {
        let recorded = !fault.silenced && self.write_record(kind, fault);
        let unit = self.role();
        self.tracer.emit(now, || Event::DmaFault {
            unit,
            function: fault.requester,
            address: fault.address,
            reason: fault.reason,
            recorded,
        });
    }

    fn write_record(&mut self, kind: RequestType, fault: &Fault) -> bool {
        let high = FaultRecordHigh::new()
            .with_source_id(fault.requester.into_bits())
            .with_pasid_present(fault.pasid.is_some())
            .with_pasid(fault.pasid.map_or(0, |pasid| pasid.get()))
            .with_privileged(fault.privileged && fault.pasid.is_some())
            .with_execute(fault.execute && fault.pasid.is_some())
            .with_reason(fault.reason.0)
            .with_address_type(fault.address_type)
            .with_type1(kind.type1())
            .with_type2(kind.type2())
            .with_fault(true);
        self.push_record(fault.address.page().0, high)
    }

    /// Writes the next record. If that is in use, the fault is lost (`VT-d 7.2.1`).
    fn push_record(&mut self, low: u64, high: FaultRecordHigh) -> bool {
        let status = self.registers.fault_status();
        let index = self.next_record;
        if status.overflow() {
            return false;
        }
        if self.record_in_use(index) {
            self.set_fault_status(|status| status.with_overflow(true));
            return false;
        }
        self.registers.set_fault_record(index, (low, high.into_bits()));
        self.next_record = (index + 1) % self.fault_records();
        self.set_fault_status(|status| {
            let first = if status.pending() { status.record_index() } else { index };
            status.with_pending(true).with_record_index(first)
        });
        true
    }

    /// Records a blocked interrupt, if its fault must be recorded. The record holds the index
    /// instead of an address.
    pub(super) fn record_interrupt_fault(&mut self, fault: &InterruptFault, now: Instant) {
        let &InterruptFault { requester, index, reason, silenced } = fault;
        let high = FaultRecordHigh::new()
            .with_source_id(requester.map_or(NO_REQUESTER, Bdf::into_bits))
            .with_reason(reason.0)
            .with_fault(true);
        let low = u64::from(index.unwrap_or(0)) << 48;
        let recorded = !silenced && self.push_record(low, high);
        let unit = self.role();
        self.tracer.emit(now, || Event::InterruptFault {
            unit,
            requester,
            index,
            reason,
            recorded,
        });
    }

    fn record_in_use(&self, index: u8) -> bool {
        FaultRecordHigh::from_bits(self.registers.fault_record(index).1).fault()
    }

    fn fault_records(&self) -> u8 {
        self.registers.cap().fault_records() + 1
    }
}
