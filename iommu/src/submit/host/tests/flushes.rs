//! Calls with an IOTLB part and Device-TLBs of several functions.

use super::*;
use crate::ids::DomainId;
use crate::spec::descriptor::IotlbScope;
use crate::submit::FlushPath;

pub(super) const BOTH: [Bdf; 2] = [VICTIM, NEIGHBOR];

fn request(destination: Bdf) -> InvalidateRequest {
    let range = PageRange::page(Iova(0x1000));
    InvalidateRequest { destination, itag: ITag::new(0), pasid: None, global: false, range }
}

impl Rig {
    /// Submits the flush of an unmap of one page of `function`.
    pub(super) fn unmap(&mut self, function: Bdf) {
        self.unmap_all(&[function]);
    }

    pub(super) fn unmap_all(&mut self, functions: &[Bdf]) {
        self.invalidate_all(functions, FlushPath::Unmap);
    }

    /// The same for the teardown of a domain.
    pub(super) fn tear_down_all(&mut self, functions: &[Bdf]) {
        self.invalidate_all(functions, FlushPath::Teardown);
    }

    fn invalidate_all(&mut self, functions: &[Bdf], path: FlushPath) {
        let requests: Vec<_> = functions.iter().map(|function| request(*function)).collect();
        let pages = IotlbScope::Pages(DomainId(1), PageRange::page(Iova(0x1000)));
        let flush = Flush::new(Some(pages), &requests).unwrap().on(path);
        self.host.submit(flush, &mut self.functions, self.now);
        self.deliver();
    }

    /// The types of all descriptors that the unit has fetched.
    pub(super) fn fetched(&self) -> Vec<u8> {
        let kind = |event: &Event| match event {
            Event::DescriptorFetched { descriptor_type, .. } => Some(*descriptor_type),
            _ => None,
        };
        self.recorder.events().iter().filter_map(|timed| kind(&timed.event)).collect()
    }
}

#[test]
fn an_unmap_is_one_submission_with_iotlb_device_tlb_and_wait() {
    let mut rig = Rig::new("linux", Timeout::Never);
    rig.unmap_all(&BOTH);
    assert_eq!(rig.fetched(), [2, 3, 3, 5]);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Completed)], "one verdict for all of it");
    assert_eq!(rig.submissions(), 1);
}

#[test]
fn the_precheck_skips_only_functions_that_are_gone() {
    let mut rig = Rig::new("present+bounded", Timeout::Never);
    rig.drop_link(VICTIM);
    rig.unmap_all(&BOTH);
    assert_eq!(rig.fetched(), [2, 3, 5]);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Skipped)]);
    rig.unmap(VICTIM);
    assert_eq!(rig.fetched(), [2, 3, 5, 2, 5], "the IOTLB's part is always done");
}

#[test]
fn quarantine_blocks_all_functions_of_a_submission() {
    let mut rig = Rig::with("quarantine:100ms", Timeout::Never, Ordering::Parallel);
    rig.functions.mute.insert(VICTIM);
    rig.unmap_all(&BOTH);
    rig.pass(BOUND * 3);
    assert_eq!(rig.verdicts(), [(VICTIM, Verdict::Quarantined)]);
    assert!(BOTH.iter().all(|function| rig.host.is_blocked(*function)));
    assert_eq!(rig.fetched()[4..], [1, 2, 5, 1, 2, 5]);
}

#[test]
fn a_range_too_large_for_the_unit_becomes_its_domain() {
    let mut rig = Rig::new("linux", Timeout::Never);
    let pages = IotlbScope::Pages(DomainId(1), PageRange::ALL);
    let flush = Flush::new(Some(pages), &[]).unwrap();
    rig.host.submit(flush, &mut rig.functions, rig.now);
    assert_eq!(rig.fetched(), [2, 5]);
    assert_eq!(rig.host.poll_verdict().unwrap().verdict, Verdict::Completed);
}

#[test]
fn a_call_has_a_limit_and_a_full_ring_loses_no_call() {
    assert_eq!(Flush::new(None, &[request(VICTIM); Flush::MAX + 1]), None);
    let mut rig = Rig::new("linux", Timeout::Never);
    rig.functions.mute.insert(VICTIM);
    for _ in 0..40 {
        rig.unmap_all(&[VICTIM; Flush::MAX]);
    }
    rig.functions.mute.clear();
    while let Some(request) = rig.unanswered.pop() {
        rig.answer(request);
        rig.deliver();
    }
    assert_eq!(rig.verdicts().len(), 40);
}
