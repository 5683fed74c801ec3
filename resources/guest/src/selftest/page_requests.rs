//! Page requests: the queue, its event, responses, and overflow.

use crate::device::CopyEngine;
use crate::device::endpoint::{Endpoint, register};
use crate::ktap::{Verdict, ensure};
use crate::machine::interrupts;
use crate::machine::time::Ticks;
use crate::selftest::Machine;
use crate::vtd::bring_up::{self, healthy_limit};
use crate::vtd::registers as reg;
use crate::vtd::tables::{PASID, SecondStage, rights};
use crate::vtd::{Descriptor, PageRequest, PageRequests, Queue};

const DOMAIN: u16 = 3;
const IOVA: u64 = 0x34_5000;
const SUCCESS: u8 = 0;
const INVALID_REQUEST: u8 = 1;
const ALL_RIGHTS: u64 = rights::DEVICE_TLB | rights::PASIDS | rights::PAGE_REQUESTS;

/// Runs a test with page requests on, and the endpoint in a scalable-mode domain with these rights.
fn with_page_requests(
    machine: &Machine,
    rights: u64,
    test: impl FnOnce(&Endpoint, &Queue, &PageRequests) -> Result<(), &'static str>,
) -> Verdict {
    let capability = machine.unit.extended_capability();
    if !capability.has_page_requests() || !capability.has_scalable_second_stage() {
        return Verdict::Skip("the unit has no page requests");
    }
    machine.with_endpoint(|endpoint| {
        let domain = SecondStage::new(machine.unit.table_levels());
        let attachment = (endpoint.bdf(), &domain, DOMAIN);
        let queue = bring_up::scalable_with(machine.unit, &[attachment], rights)?;
        let requests = PageRequests::enable(machine.unit, interrupts::PAGE_REQUEST);
        ensure(endpoint.enable_ats(), "ATS cannot be turned on")?;
        let allocation = u32::from(PageRequests::CAPACITY) + 2;
        ensure(endpoint.enable_page_requests(allocation), "page requests cannot be turned on")?;
        test(endpoint, &queue, &requests)
    })
}

/// The page request of [`Endpoint::request_page`].
fn expected(endpoint: &Endpoint, pasid: Option<u32>, group: u16) -> PageRequest {
    PageRequest {
        source: endpoint.bdf().0,
        pasid,
        read: true,
        write: false,
        last: true,
        group,
        address: IOVA,
    }
}

/// A request is in the queue with all its fields when the event comes. The next event comes only
/// after software has cleared PPR.
pub(super) fn arrives(machine: &Machine) -> Verdict {
    with_page_requests(machine, ALL_RIGHTS, |endpoint, queue, requests| {
        let start = interrupts::count(interrupts::PAGE_REQUEST);
        let event = |times| {
            interrupts::wait_for(interrupts::PAGE_REQUEST, start, times, Ticks::from_ms(200))
        };
        ensure(endpoint.request_page(IOVA + 0x18, None, 0x155).is_ok(), "the request failed")?;
        ensure(event(1), "no event")?;
        ensure(requests.status() == reg::PAGE_REQUEST_PENDING, "PRS is not just PPR")?;
        let first = requests.take()?;
        ensure(
            first == Some(expected(endpoint, None, 0x155)),
            "the fields are not those asked for",
        )?;

        ensure(endpoint.request_page(IOVA, Some(PASID), 1).is_ok(), "with PASID it failed")?;
        ensure(!event(2), "an event although PPR is still set")?;
        let drain = queue.flush(&[Descriptor::page_request_drain()], healthy_limit());
        ensure(drain.is_healthy(), "the drain does not complete")?;
        let second = requests.take()?;
        ensure(second == Some(expected(endpoint, Some(PASID), 1)), "the PASID is not there")?;
        ensure(requests.take()?.is_none(), "there is one request too many")?;

        requests.acknowledge(reg::PAGE_REQUEST_PENDING);
        ensure(requests.status() == 0, "PPR cannot be cleared")?;
        ensure(endpoint.request_page(IOVA, None, 2).is_ok(), "the third request failed")?;
        ensure(event(2), "no event after PPR was cleared")
    })
}

/// The response of a descriptor reaches the device, and ends the group.
pub(super) fn is_answered(machine: &Machine) -> Verdict {
    with_page_requests(machine, ALL_RIGHTS, |endpoint, queue, requests| {
        for (pasid, group, code) in [(None, 0x1ff, SUCCESS), (Some(PASID), 7, INVALID_REQUEST)] {
            ensure(endpoint.request_page(IOVA, pasid, group).is_ok(), "the request failed")?;
            ensure(endpoint.read(register::OUTSTANDING) == 1, "it is not outstanding")?;
            let request = requests.take()?.ok_or("nothing in the queue")?;
            let answer = Descriptor::page_group_response(&request, code);
            let flush = queue.flush(&[answer], healthy_limit());
            ensure(flush.is_healthy(), "the answer's flush failed")?;
            ensure(endpoint.last_response() == Some((group, code)), "another answer arrived")?;
            ensure(endpoint.read(register::OUTSTANDING) == 0, "it is still outstanding")?;
        }
        Ok(())
    })
}

/// A full queue overflows: the unit answers requests itself, until software has emptied the queue
/// and cleared PRO.
pub(super) fn overflow(machine: &Machine) -> Verdict {
    const CAPACITY: u16 = PageRequests::CAPACITY;
    with_page_requests(machine, ALL_RIGHTS, |endpoint, _, requests| {
        for group in 0..CAPACITY {
            ensure(endpoint.request_page(IOVA, None, group).is_ok(), "a request failed")?;
        }
        ensure(requests.status() & reg::PAGE_REQUEST_OVERFLOW == 0, "PRO comes early")?;
        ensure(endpoint.request_page(IOVA, None, CAPACITY).is_ok(), "the last request failed")?;
        ensure(requests.status() & reg::PAGE_REQUEST_OVERFLOW != 0, "PRO is not set")?;
        ensure(endpoint.last_response() == Some((CAPACITY, SUCCESS)), "no automatic answer")?;

        for group in 0..CAPACITY {
            let request = requests.take()?;
            ensure(request == Some(expected(endpoint, None, group)), "a request was lost")?;
        }
        ensure(requests.take()?.is_none(), "the overflown request is in the queue")?;
        ensure(endpoint.request_page(IOVA, None, CAPACITY + 1).is_ok(), "a request failed")?;
        ensure(requests.take()?.is_none(), "a request is taken although PRO is set")?;
        requests.acknowledge(reg::PAGE_REQUEST_PENDING | reg::PAGE_REQUEST_OVERFLOW);
        ensure(endpoint.request_page(IOVA, None, CAPACITY + 2).is_ok(), "a request failed")?;
        let next = requests.take()?;
        ensure(next == Some(expected(endpoint, None, CAPACITY + 2)), "the queue does not go on")
    })
}

/// If the tables do not permit page requests, the unit answers Invalid Request and records a fault.
pub(super) fn refused(machine: &Machine) -> Verdict {
    const PAGE_REQUESTS_DISABLED: u8 = 0x47;
    with_page_requests(machine, rights::DEVICE_TLB, |endpoint, _, requests| {
        ensure(endpoint.request_page(IOVA, None, 9).is_ok(), "the request failed")?;
        ensure(endpoint.last_response() == Some((9, INVALID_REQUEST)), "no automatic answer")?;
        ensure(requests.take()?.is_none(), "it is in the queue all the same")?;
        let fault = machine.unit.take_fault().ok_or("no fault record")?;
        ensure(fault.source == endpoint.bdf().0, "the record names another requester")?;
        ensure(fault.reason == PAGE_REQUESTS_DISABLED, "the record names another reason")
    })
}
