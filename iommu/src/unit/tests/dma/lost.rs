//! Invalidations behind a Device-TLB invalidation that times out.

use super::*;
use crate::unit::IteLoses;

const OLD: Gpa = Gpa(0x80_0000);
const NEW: Gpa = Gpa(0x84_0000);

/// A page that is cached as OLD, while the tables have NEW.
fn rig(ite_loses: IteLoses) -> Rig {
    let ict = Timeout::After(ICT);
    let config = UnitConfig { ite_loses, ict, ..UnitConfig::new(UnitRole::Guest) };
    let mut rig = Rig::with(config).enable(QueueAddress::new(), ROOT).with_context(1);
    rig.map(0x1000, 1, leaf(OLD.0));
    assert_eq!(rig.dma(0x1000, Access::Read), Ok(OLD));
    rig.map(0x1000, 1, leaf(NEW.0));
    rig
}

fn flush() -> u128 {
    let descriptor = IotlbDescriptor::new().with_granularity(3).with_domain(DOMAIN);
    descriptor.with_page(1).into_bits()
}

fn words(rig: &Rig) -> [u32; 2] {
    [0, 1].map(|n| rig.peek32(status_word(n)))
}

#[test]
fn an_iotlb_invalidation_behind_the_request_is_lost_with_ite() {
    for (ite_loses, expected) in [(IteLoses::Nothing, NEW), (IteLoses::All, OLD)] {
        let mut rig = rig(ite_loses);
        rig.submit(&[device_tlb(VICTIM), wait(0).into_bits()]);
        rig.submit(&[flush(), wait(1).into_bits()]);
        assert_eq!(rig.head(), 4, "all are fetched");
        rig.pass(ICT);
        assert!(rig.fault_status().timeout_error());
        rig.clear_faults(FaultStatus::new().with_timeout_error(true));
        assert_eq!(words(&rig), [0, 0], "both waits are aborted");
        assert_eq!(rig.dma(0x1000, Access::Read), Ok(expected));
        // Software repeats them.
        rig.submit(&[flush(), wait(1).into_bits()]);
        assert_eq!(words(&rig), [0, 1]);
        assert_eq!(rig.dma(0x1000, Access::Read), Ok(NEW));
    }
}

#[test]
fn an_answer_executes_all_in_order() {
    let mut rig = rig(IteLoses::All);
    rig.submit(&[device_tlb(VICTIM), device_tlb(NEIGHBOR), wait(0).into_bits()]);
    rig.submit(&[flush(), device_tlb(VICTIM), wait(1).into_bits()]);
    let requests = rig.requests();
    assert_eq!(requests.len(), 2, "the third one stands behind an invalidation of the IOTLB");
    rig.answer(requests[0]);
    assert_eq!((words(&rig), rig.dma(0x1000, Access::Read)), ([0, 0], Ok(OLD)));
    rig.answer(requests[1]);
    assert_eq!((words(&rig), rig.dma(0x1000, Access::Read)), ([1, 0], Ok(NEW)));
    let requests = rig.requests();
    assert_eq!(requests.len(), 1);
    rig.answer(requests[0]);
    assert_eq!(words(&rig), [1, 1]);
    rig.map(0x1000, 1, leaf(OLD.0));
    rig.submit(&[flush()]);
    assert_eq!(rig.dma(0x1000, Access::Read), Ok(OLD), "nothing is outstanding: done at once");
}

#[test]
fn fences_errors_and_the_end_of_the_queue_hold_behind_a_request() {
    let mut rig = rig(IteLoses::All);
    let fence = wait(0).with_fence(true).into_bits();
    rig.submit(&[device_tlb(VICTIM), flush(), fence, flush(), 0, wait(1).into_bits()]);
    assert_eq!(rig.head(), 3, "nothing behind the fence");
    let requests = rig.requests();
    rig.answer(requests[0]);
    assert_eq!((rig.head(), words(&rig)), (4, [1, 0]));
    assert!(rig.fault_status().queue_error());

    let mut rig = self::rig(IteLoses::All);
    rig.submit(&[device_tlb(VICTIM), flush(), 0]);
    assert!(rig.fault_status().queue_error(), "checked while it waits");
    rig.command(|bits| bits.with_queued_invalidation(false));
    assert!(rig.status().queued_invalidation(), "it drains");
    let requests = rig.requests();
    rig.answer(requests[0]);
    assert!(!rig.status().queued_invalidation());
    assert_eq!(rig.dma(0x1000, Access::Read), Ok(NEW), "fetched before QIE was cleared");
}

#[test]
fn the_list_is_bounded() {
    let ring = QueueAddress::new().with_size(3);
    let config = UnitConfig { ite_loses: IteLoses::All, ..UnitConfig::new(UnitRole::Guest) };
    let mut rig = Rig::with(config).enable(ring, ROOT);
    let slots = ring.bytes() / 16;
    let behind = vec![flush(); slots as usize - 3];
    rig.submit(&[&[device_tlb(VICTIM)], &behind[..], &[wait(0).into_bits()]].concat());
    assert_eq!(rig.head(), 1 + 1024);
    let requests = rig.requests();
    rig.answer(requests[0]);
    assert_eq!((rig.head(), rig.peek32(status_word(0))), (slots - 1, 1));
}
