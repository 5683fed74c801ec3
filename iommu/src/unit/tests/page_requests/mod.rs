//! Page requests: the ring, status and event, the tables, and responses.

mod ring;
mod tables;

use super::*;
use crate::ats::{PageGroupResponse, PageRequest, ResponseCode};
use crate::event::PageRequestOutcome;
use crate::ids::{Iova, Pasid};
use crate::spec::descriptor::PageGroupResponseDescriptor;
use crate::spec::fault::{FaultReason, FaultRecordHigh};
use crate::spec::page_request::{
    DESCRIPTOR_BYTES, PageRequestDescriptor, PageRequestQueueAddress, PageRequestStatus,
};
use crate::spec::tables::*;

const REQUESTS: u64 = 0x60_0000;
const CONTEXTS: u64 = 0x40_0000;
const DIRECTORY: u64 = 0x41_0000;
const PASIDS: u64 = 0x42_0000;
const EVENT: (u32, u32) = (0xfee0_2000, 0x44);
const SCALABLE: u64 = 1 << 10;
/// A PASID with a pass-through entry.
const PASID: Pasid = Pasid::new(5);

fn page(address: u64) -> u64 {
    address / PAGE_SIZE
}

/// A context entry that allows all requests.
fn context() -> ScalableContextLow {
    ScalableContextLow::new()
        .with_present(true)
        .with_device_tlb(true)
        .with_pasid(true)
        .with_page_requests(true)
        .with_page(page(DIRECTORY))
}

/// A request of VICTIM without PASID, which is alone in its group.
fn request(group: u16) -> PageRequest {
    PageRequest {
        requester: VICTIM,
        pasid: None,
        execute: false,
        privileged: false,
        address: Iova(0x1234_5000),
        read: true,
        write: false,
        last: true,
        group,
    }
}

fn response(group: u16, code: ResponseCode) -> Output {
    Output::PageGroupResponse(PageGroupResponse { destination: VICTIM, pasid: None, group, code })
}

impl Rig {
    /// A unit in scalable mode, with tables for VICTIM, a ring of 2^`size` pages, and an unmasked
    /// event.
    fn with_page_requests(size: u8) -> Self {
        let mut rig = Self::scalable().enable(QueueAddress::new().with_wide(true), ROOT | SCALABLE);
        let root = RootEntry::new().with_present(true).with_page(page(CONTEXTS));
        rig.poke(ROOT + u64::from(VICTIM.bus()) * 16, root.into_bits());
        rig.set_scalable_context(context());
        let directory = PasidDirectoryEntry::new().with_present(true).with_page(page(PASIDS));
        rig.poke(DIRECTORY, directory.into_bits());
        for pasid in [0, PASID.get()] {
            let entry = PasidLow::new().with_present(true).with_translation_type(4).with_width(2);
            rig.poke(PASIDS + u64::from(pasid) * 64, entry.into_bits());
            let domain = PasidHigh::new().with_domain(9).into_bits();
            rig.poke(PASIDS + u64::from(pasid) * 64 + 8, domain);
        }
        let queue = PageRequestQueueAddress::new().with_size(size).with_page(page(REQUESTS));
        rig.write64(offset::PQA, queue.into_bits());
        rig.route_events(offset::PECTL, EVENT.0, EVENT.1);
        rig
    }

    fn set_scalable_context(&self, entry: ScalableContextLow) {
        self.poke(CONTEXTS + u64::from(VICTIM.devfn()) * 32, entry.into_bits());
    }

    fn page_request(&mut self, request: PageRequest) {
        self.unit.handle_page_request(request, &self.memory, self.now);
    }

    /// The descriptor in slot `slot` of the ring.
    fn slot_of_requests(&self, slot: u32) -> PageRequestDescriptor {
        let mut bytes = [0; 32];
        let at = REQUESTS + u64::from(slot * DESCRIPTOR_BYTES);
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        assert_eq!(bytes[16..], [0; 16], "the upper half");
        PageRequestDescriptor::from_bits(u128::from_le_bytes(bytes[..16].try_into().unwrap()))
    }

    fn request_status(&self) -> PageRequestStatus {
        PageRequestStatus::from_bits(self.read32(offset::PRS))
    }

    fn tail_of_requests(&self) -> u32 {
        self.read32(offset::PQT) / DESCRIPTOR_BYTES
    }

    fn outcomes(&self) -> Vec<PageRequestOutcome> {
        let outcome = |event| match event {
            Event::PageRequested { outcome, .. } => Some(outcome),
            _ => None,
        };
        self.recorder.events().into_iter().filter_map(|timed| outcome(timed.event)).collect()
    }

    /// Takes the first fault record, and clears it.
    fn take_record(&mut self) -> Option<FaultRecordHigh> {
        let at = offset::FRCD + 16 * u16::from(self.fault_status().record_index());
        let high = FaultRecordHigh::from_bits(self.read64(at + 8));
        self.write32(at + 12, 1 << 31);
        high.fault().then_some(high)
    }
}

fn event() -> Output {
    Output::Msi(Msi { address: EVENT.0.into(), data: EVENT.1 })
}
