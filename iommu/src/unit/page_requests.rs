//! Page requests (`VT-d 7.4`): functions ask for pages, and software answers groups of requests.
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
//! The unit handles a request before the call returns that brings it. A wait descriptor that drains
//! page requests (PD) thus has nothing to wait for.

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

/// Whether a PRS bit is set that suppresses further events (`VT-d 7.5`).
const fn announced(status: PageRequestStatus) -> bool {
    status.pending() || status.overflow()
}

impl Unit {
    /// A Page Request arrives from a link (`VT-d 7.4`). A unit without ECAP.PRS drops it.
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
            // Success: the function asks for the translation again, and makes another page request
            // if need be.
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
        // A unit that does not translate has no tables to fault on.
        if !self.translator.enabled() {
            return PageRequestOutcome::Refused;
        }
        if let Err(fault) = self.port.check_page_request(request, memory) {
            self.record_page_request_fault(&fault, now);
            return PageRequestOutcome::Refused;
        }
        self.write_page_request(request, memory)
    }

    /// Puts a request in the ring, unless the ring is full or has overflowed (`VT-d 7.4.1`).
    fn write_page_request(&mut self, request: &PageRequest, memory: &Memory) -> PageRequestOutcome {
        let ring = self.registers.page_request_queue();
        // Offsets beyond the ring wrap into it.
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
        // Software changes the page tables next, so that cached translations of the page must go.
        self.port.invalidate_for_page_request(request, memory);
        let slot = ring.page() * PAGE_SIZE + u64::from(tail);
        if memory.write_slice(&descriptor(request).to_memory(), GuestAddress(slot)).is_err() {
            return PageRequestOutcome::Lost;
        }
        self.registers.set_page_request_tail(next);
        self.set_page_request_status(|status| status.with_pending(true));
        PageRequestOutcome::Queued
    }

    /// Sets status bits, and raises an event if none of the bits was set before.
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

    /// Software has written PRS.
    pub(super) fn page_request_status_written(&mut self) {
        if !announced(self.registers.page_request_status()) {
            self.withdraw_event(offset::PECTL);
        }
    }

    /// Answers without software, if the function waits for a response.
    fn answer_unasked(&mut self, request: &PageRequest, code: ResponseCode, now: Instant) {
        if request.needs_response() {
            let PageRequest { requester: destination, pasid, group, .. } = *request;
            self.send_response(PageGroupResponse { destination, pasid, group, code }, true, now);
        }
    }

    /// Answers a group for software, by a descriptor (`VT-d 7.6.1`).
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

/// The descriptor of a request.
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
