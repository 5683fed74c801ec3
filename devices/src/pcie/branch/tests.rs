//! What an endpoint sends when its link is gone. A guest cannot ask for most of it any more, so
//! that these tests reach past the link.

use iommu::ats::{Access, ITag, PageRange};
use iommu::event::{Event, Recorder};
use iommu::ids::Iova;
use std::sync::Arc;

use super::*;
use crate::endpoint::regs;
use crate::testkit::{FakeUpstream, MEMORY_AND_MASTER, offset};

const NOW: Instant = Instant::START;
const PORT: Bdf = Bdf::new(0, 1, 0);
const ENDPOINT: Bdf = Bdf::new(1, 0, 0);

/// A branch that is set up, whose link then goes down.
fn dropped() -> (Branch, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let mut branch = Branch::new(PORT, 1, Tracer::to(recorder.clone())).unwrap();
    branch.port_mut().config_write(offset::SECONDARY_BUS, &[1]);
    branch.port_mut().config_write(offset::SUBORDINATE_BUS, &[1]);
    branch.port_mut().config_write(offset::COMMAND, &MEMORY_AND_MASTER.to_le_bytes());
    branch.config_write(ENDPOINT, offset::COMMAND, &MEMORY_AND_MASTER.to_le_bytes(), NOW);
    branch.set_link(LinkState::SilentlyDown, NOW);
    (branch, recorder)
}

fn lost(recorder: &Recorder) -> Vec<Lost> {
    let lost = |event| match event {
        Event::Lost { port: PORT, what } => Some(what),
        _ => None,
    };
    recorder.events().into_iter().filter_map(|timed| lost(timed.event)).collect()
}

#[test]
fn requests_do_not_come_up_and_those_that_wait_time_out() {
    let (branch, recorder) = dropped();
    let mut upstream = FakeUpstream::default();
    upstream.map(0, 12, 0, true, true);
    let Branch { port, link, .. } = &branch;
    let mut uplink = Uplink { port, link, upstream: &mut upstream };
    let dma = |access| DmaRequest {
        requester: ENDPOINT,
        pasid: None,
        privileged: false,
        address: Iova(0),
        address_type: AddressType::Untranslated,
        access,
    };
    let translation = TranslationRequest {
        requester: ENDPOINT,
        pasid: None,
        privileged: false,
        address: Iova(0),
        no_write: false,
    };
    let timeout = RequestError::CompletionTimeout;
    assert_eq!(uplink.read(dma(Access::Read), &mut [0; 8], NOW), Err(timeout));
    assert_eq!(uplink.translate(translation, NOW), Err(timeout));
    uplink.write(dma(Access::Write), &[0; 8], NOW);
    assert_eq!(lost(&recorder), [Lost::Dma, Lost::TranslationRequest, Lost::Dma]);
    assert!(upstream.requests.is_empty() && upstream.translations.is_empty());
}

#[test]
fn the_function_counts_what_timed_out_and_not_what_was_posted() {
    let (mut branch, _) = dropped();
    let mut upstream = FakeUpstream::default();
    let ats_control = 0x100 + 6;
    branch.endpoint.config_write(ENDPOINT, ats_control, &0x8000_u16.to_le_bytes(), NOW);
    let Branch { port, link, endpoint } = &mut branch;
    let mut run = |command: u32| {
        let mut uplink = Uplink { port, link, upstream: &mut upstream };
        endpoint.memory_write(regs::LENGTH, &8_u32.to_le_bytes(), &mut uplink, NOW);
        endpoint.memory_write(regs::COMMAND, &command.to_le_bytes(), &mut uplink, NOW);
        [regs::RESULT, regs::COUNT, regs::ERRORS].map(|register| {
            let mut data = [0; 4];
            endpoint.memory_read(register, &mut data);
            u32::from_le_bytes(data)
        })
    };
    let timeout = regs::Status::CompletionTimeout as u32;
    let [read, write, translate] = [1, 2, 6].map(&mut run);
    assert_eq!(read, [timeout, 0, 1]);
    assert_eq!(write, [0, 1, 1]);
    assert_eq!(translate, [timeout, 1, 1]);
}

#[test]
fn messages_do_not_come_up() {
    let (mut branch, recorder) = dropped();
    let itag = ITag::new(0);
    let range = PageRange::ALL;
    let request =
        InvalidateRequest { destination: ENDPOINT, itag, pasid: None, global: false, range };
    branch.endpoint.invalidate_request(request, NOW);
    let msi_control = 0x48 + 2;
    branch.endpoint.config_write(ENDPOINT, msi_control, &[1], NOW);
    let (ats, pri) = (0x100, 0x108);
    branch.endpoint.config_write(ENDPOINT, ats + 6, &0x8000_u16.to_le_bytes(), NOW);
    branch.endpoint.config_write(ENDPOINT, pri + 12, &[1], NOW);
    branch.endpoint.config_write(ENDPOINT, pri + 4, &[1], NOW);
    let mut upstream = FakeUpstream::default();
    let page_request = 8 | 1 << 7;
    for command in [7_u32, page_request] {
        branch.endpoint.memory_write(regs::COMMAND, &command.to_le_bytes(), &mut upstream, NOW);
    }
    let mut messages = VecDeque::new();
    branch.collect_messages(&mut messages, NOW);
    assert!(messages.is_empty());
    assert_eq!(lost(&recorder), [Lost::InvalidateCompletion, Lost::Msi, Lost::PageRequest]);
}
