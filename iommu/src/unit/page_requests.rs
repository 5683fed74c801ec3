//! Page requests (`VT-d 7.4`): functions ask for pages, software answers for groups of them.
//!
//! ```text
//! Page Request --> tables allow it? --> room in the ring? --> descriptor, PQT --> PRS.PPR --> event
//!                     | no: fault record    | no: PRS.PRO --------------------------------> event
//!                     v                     v
//!              Invalid Request           Success                  automatic, to the last of a group
//!
//! PRG Response <-- page group response descriptor on the invalidation queue
//! ```
//!
//! A request is in the ring, or gone, before the call that brings it returns: a wait descriptor
//! that asks for the drain of page requests (PD) therefore has nothing left to wait for.

use vm_memory::{Bytes, GuestAddress};

use super::{Output, Unit};
use crate::Memory;
use crate::ats::{PageGroupResponse, PageRequest, ResponseCode};
use crate::event::{Event, PageRequestOutcome};
use crate::ids::{Bdf, PAGE_SIZE, Pasid};
use crate::spec::descriptor::PageGroupResponseDescriptor;
use crate::spec::offset;
use crate::spec::page_request::{DESCRIPTOR_BYTES, PageRequestDescriptor, PageRequestStatus};
use crate::time::Instant;

/// PRS bits of which any one keeps further events from sending a message (`VT-d 7.5`).
const fn announced(status: PageRequestStatus) -> bool {
    status.pending() || status.overflow()
}

impl Unit {
    /// A Page Request has come up a link (`VT-d 7.4`). A unit without ECAP.PRS does not know the
    /// message and drops it.
    pub fn handle_page_request(&mut self, request: PageRequest, memory: &Memory, now: Instant) {
        if !self.config.page_requests {
            return;
        }
        let outcome = self.take_page_request(&request, memory, now);
        let unit = self.role();
        self.tracer.emit(now, || Event::PageRequested {
            unit,
            function: request.requester,
            address: request.address,
            group: request.group,
            outcome,
        });
        match outcome {
            PageRequestOutcome::Queued | PageRequestOutcome::Lost => {}
            PageRequestOutcome::Refused => {
                self.answer_unasked(&request, ResponseCode::InvalidRequest, now);
            }
            // The function may try again: its next translation request finds out.
            PageRequestOutcome::Overflowed => {
                self.answer_unasked(&request, ResponseCode::Success, now);
            }
        }
    }

    fn take_page_request(
        &mut self,
        request: &PageRequest,
        memory: &Memory,
        now: Instant,
    ) -> PageRequestOutcome {
        // A unit that does not translate has no tables that could be at fault: no record.
        if !self.translator.enabled() {
            return PageRequestOutcome::Refused;
        }
        if let Err(fault) = self.port.check_page_request(request, memory) {
            self.record_page_request_fault(&fault, now);
            return PageRequestOutcome::Refused;
        }
        self.write_page_request(request, memory)
    }

    /// Puts a request into the ring, unless that is full or has overflowed (`VT-d 7.4.1`).
    fn write_page_request(&mut self, request: &PageRequest, memory: &Memory) -> PageRequestOutcome {
        let ring = self.registers.page_request_queue();
        // What software wrote beyond the ring wraps into it.
        let within = |at: u32| at & (ring.bytes() - 1);
        let tail = within(self.registers.page_request_tail());
        let next = within(tail + DESCRIPTOR_BYTES);
        if self.registers.page_request_status().overflow() {
            return PageRequestOutcome::Overflowed;
        }
        if next == within(self.registers.page_request_head()) {
            self.set_page_request_status(|status| status.with_overflow(true));
            return PageRequestOutcome::Overflowed;
        }
        // Software changes the page tables next: what the unit remembers of the page goes first.
        self.port.invalidate_for_page_request(request, memory);
        let slot = ring.page() * PAGE_SIZE + u64::from(tail);
        if memory.write_slice(&descriptor(request).to_memory(), GuestAddress(slot)).is_err() {
            return PageRequestOutcome::Lost;
        }
        self.registers.set_page_request_tail(next);
        self.set_page_request_status(|status| status.with_pending(true));
        PageRequestOutcome::Queued
    }

    /// Sets status bits, with an event if none was set.
    fn set_page_request_status(
        &mut self,
        change: impl FnOnce(PageRequestStatus) -> PageRequestStatus,
    ) {
        let before = self.registers.page_request_status();
        self.registers.set_page_request_status(change(before));
        if !announced(before) {
            self.raise_event(offset::PECTL);
        }
    }

    /// Software has cleared PRS bits, or tried to.
    pub(super) fn page_request_status_written(&mut self) {
        if !announced(self.registers.page_request_status()) {
            self.withdraw_event(offset::PECTL);
        }
    }

    /// The unit answers for software, where somebody waits for an answer.
    fn answer_unasked(&mut self, request: &PageRequest, code: ResponseCode, now: Instant) {
        if request.needs_response() {
            let PageRequest { requester: destination, pasid, group, .. } = *request;
            self.send_response(PageGroupResponse { destination, pasid, group, code }, true, now);
        }
    }

    /// Software answers for a group, by a descriptor (`VT-d 7.6.1`).
    pub(super) fn respond(&mut self, response: PageGroupResponseDescriptor, now: Instant) {
        let response = PageGroupResponse {
            destination: Bdf::from_bits(response.requester()),
            pasid: response.pasid_present().then_some(Pasid::new(response.pasid())),
            group: response.group(),
            code: ResponseCode::from_bits(response.code()),
        };
        self.send_response(response, false, now);
    }

    fn send_response(&mut self, response: PageGroupResponse, automatic: bool, now: Instant) {
        self.outputs.push_back(Output::PageGroupResponse(response));
        let unit = self.role();
        self.tracer.emit(now, || Event::PageGroupResponded {
            unit,
            function: response.destination,
            group: response.group,
            code: response.code,
            automatic,
        });
    }
}

/// What software reads of a request.
fn descriptor(request: &PageRequest) -> PageRequestDescriptor {
    let with_pasid = request.pasid.is_some();
    PageRequestDescriptor::new()
        .with_pasid_present(with_pasid)
        .with_pasid(request.pasid.map_or(0, Pasid::get))
        .with_execute(with_pasid && request.execute)
        .with_privileged(with_pasid && request.privileged)
        .with_requester(request.requester.into_bits())
        .with_read(request.read)
        .with_write(request.write)
        .with_last(request.last)
        .with_group(request.group % PageRequest::GROUPS)
        .with_page(request.address.0 / PAGE_SIZE)
}
