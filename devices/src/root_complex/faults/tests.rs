//! Every point of the protocol: what has happened at it, and what has not.

use std::time::Duration;

use iommu::ats::AddressType;
use iommu::event::{Event, Lost, UnitRole};
use iommu::spec::offset;
use iommu::submit::Verdict;
use iommu::time::Timeout;
use iommu::unit::Ordering;

use super::super::tests::{BOUND, IOVA, Rig, TARGET, function};
use crate::endpoint::regs;

fn rig(faults: &[&str]) -> Rig {
    let mut rig = Rig::with_faults("bounded:100ms", Timeout::Never, Ordering::Serial, faults);
    rig.fill(0, 1);
    rig
}

fn count(rig: &Rig, matches: impl Fn(&Event) -> bool) -> usize {
    rig.events().iter().filter(|event| matches(event)).count()
}

fn lost(rig: &Rig, what: Lost) -> usize {
    count(rig, |event| matches!(event, Event::Lost { what: lost, .. } if *lost == what))
}

fn dropped(rig: &Rig) -> usize {
    count(rig, |event| matches!(event, Event::AtcInvalidated { dropped: 1, .. }))
}

fn fetched(rig: &Rig) -> usize {
    let guest = UnitRole::Guest;
    count(rig, |event| matches!(event, Event::DescriptorFetched { unit, .. } if *unit == guest))
}

fn injected(rig: &Rig) -> usize {
    count(rig, |event| matches!(event, Event::FaultInjected { .. }))
}

#[test]
fn before_the_tail_nothing_of_the_flush_has_happened() {
    let mut rig = rig(&["before=tail:2,mode=silent"]);
    rig.flush(0, 0);
    assert!(rig.done(0));
    rig.flush(0, 1);
    assert_eq!((fetched(&rig), dropped(&rig), lost(&rig, Lost::InvalidateRequest)), (4, 1, 1));
    assert!(!rig.done(1));
    rig.pass(BOUND);
    assert_eq!(rig.ite(), Some(function(0)));
}

#[test]
fn after_a_request_it_is_lost_on_the_way() {
    let mut rig = rig(&["after=requests:1,mode=ghost"]);
    rig.flush(0, 0);
    assert_eq!((dropped(&rig), lost(&rig, Lost::InvalidateRequest)), (0, 1));
    assert!(!rig.done(0));
}

#[test]
fn before_a_completion_the_atc_is_empty_and_nobody_knows() {
    let mut rig = rig(&["before=completion:1,mode=silent"]);
    rig.flush(0, 0);
    assert_eq!(lost(&rig, Lost::InvalidateRequest), 0);
    assert_eq!((dropped(&rig), lost(&rig, Lost::InvalidateCompletion)), (1, 1));
    assert!(!rig.done(0));
}

#[test]
fn after_an_invalidation_that_one_is_done_and_the_next_is_lost() {
    let mut rig = rig(&["after=invalidations:2,mode=silent"]);
    for n in 0..3 {
        rig.fill(0, 1);
        rig.flush(0, n);
    }
    assert_eq!([0, 1, 2].map(|n| rig.done(n)), [true, true, false]);
}

#[test]
fn before_the_status_write_the_wait_completes_all_the_same() {
    let mut rig = rig(&["before=status:1,mode=silent"]);
    rig.flush(0, 0);
    assert!(rig.done(0), "the unit does not need the link for it");
    assert_eq!(injected(&rig), 1);
    let order: Vec<Event> = rig.events();
    let position = |wanted: &dyn Fn(&Event) -> bool| order.iter().position(wanted).unwrap();
    let injection = position(&|event| matches!(event, Event::FaultInjected { .. }));
    let verdict =
        position(&|event| matches!(event, Event::Verdict { verdict: Verdict::Completed, .. }));
    let guest = UnitRole::Guest;
    let status =
        position(&|event| matches!(event, Event::WaitCompleted { unit, .. } if *unit == guest));
    assert!(verdict < injection && injection < status);
}

#[test]
fn after_a_descriptor_the_next_is_not_fetched_yet() {
    for number in 1..=4_usize {
        let fault = format!("after=descriptors:{number},mode=no-completion");
        let mut rig = rig(&[&fault]);
        rig.two_flushes_in_one_ring();
        let events = rig.events();
        let injection =
            events.iter().position(|event| matches!(event, Event::FaultInjected { .. }));
        let before = &events[..injection.unwrap()];
        let guest = UnitRole::Guest;
        let fetched = |event: &&Event| matches!(event, Event::DescriptorFetched { unit, .. } if *unit == guest);
        assert_eq!(before.iter().filter(fetched).count(), number, "{fault}");
        // Invalidation, wait, invalidation, wait: the first is answered in any case.
        assert_eq!([rig.done(0), rig.done(1)], [true, number >= 3], "{fault}");
    }
}

#[test]
fn after_so_much_dma_not_one_request_more_passes() {
    let mut rig = rig(&["after=dma:4,mode=silent"]);
    for pattern in 2..=6 {
        rig.fill(0, pattern);
    }
    let dma =
        |event: &Event| matches!(event, Event::Dma { address_type: AddressType::Translated, .. });
    assert_eq!((count(&rig, dma), rig.peek(TARGET)), (4, 4));
}

/// One command that sends two requests, to a port that contains errors or not. How many faults have
/// happened, and how many requests were lost.
fn crossing_a_page(contains: bool, faults: &[&str]) -> (usize, usize) {
    let mut rig = Rig::with_faults("linux", Timeout::Never, Ordering::Serial, faults);
    if contains {
        rig.contain_errors(0);
    }
    rig.register(0, regs::IOVA, IOVA as u32 + 0xff8);
    rig.register(0, regs::LENGTH, 16);
    rig.register(0, regs::COMMAND, 3);
    (injected(&rig), lost(&rig, Lost::Dma))
}

#[test]
fn not_one_more_even_if_the_same_command_sends_it() {
    assert_eq!(crossing_a_page(false, &["after=dma:1,mode=silent"]), (1, 1));
    let both = ["after=dma:1,mode=no-completion", "after=dma:1,mode=silent"];
    assert_eq!(crossing_a_page(false, &both), (2, 1), "the first loses nothing");
    let containment = ["after=dma:1,mode=dpc"];
    assert_eq!(crossing_a_page(false, &containment), (1, 0), "no port contains it");
    assert_eq!(crossing_a_page(true, &containment), (1, 1));
}

#[test]
fn the_time_comes_without_anybody_doing_anything() {
    let mut rig = rig(&["at=3s,port=rp1,mode=surprise,for=500ms"]);
    assert_eq!(rig.complex.poll_timeout().map(|due| due.as_nanos()), Some(3_000_000_000));
    rig.pass(Duration::from_millis(3100));
    assert_eq!(injected(&rig), 1);
    rig.pass(Duration::from_secs(1));
    assert_eq!(count(&rig, |event| matches!(event, Event::FaultEnded { .. })), 1);
}

#[test]
fn the_doorbell_is_a_moment_of_the_guests_choice() {
    let mut rig = rig(&["on=doorbell,mode=ghost"]);
    rig.flush(0, 0);
    rig.complex.doorbell(rig.now);
    rig.flush(0, 1);
    assert_eq!([rig.done(0), rig.done(1)], [true, false]);
}

#[test]
fn the_unit_itself_can_be_gone() {
    let mut rig = rig(&["on=doorbell,mode=all-ones-unit,for=1s"]);
    let version = |rig: &mut Rig| {
        let mut data = [0; 4];
        rig.complex.unit_read(offset::VER.into(), &mut data);
        u32::from_le_bytes(data)
    };
    let before = version(&mut rig);
    rig.complex.doorbell(rig.now);
    assert_eq!(version(&mut rig), u32::MAX);
    rig.flush(0, 0);
    assert!(!rig.done(0), "it takes no writes");
    rig.fill(0, 7);
    assert_eq!(rig.peek(TARGET), 7, "DMA is translated all the same");
    rig.pass(Duration::from_secs(2));
    assert_eq!(version(&mut rig), before);
    rig.flush(0, 0);
    assert!(rig.done(0));
}

#[test]
fn a_repeating_write_is_counted_in_the_timer_too() {
    let mut rig = rig(&["after=dma:3,mode=silent"]);
    rig.register(0, regs::COMMAND, 4 | 1 << 4);
    rig.pass(Duration::from_millis(100));
    assert_eq!(injected(&rig), 1);
    assert_eq!(count(&rig, |event| matches!(event, Event::Dma { .. })), 3);
}

#[test]
fn a_bad_schedule_is_refused_with_its_number() {
    use super::super::{RootComplex, RootComplexConfig};
    use iommu::event::Tracer;
    use iommu::unit::UnitConfig;
    let mut config = RootComplexConfig::direct(UnitConfig::new(UnitRole::Guest));
    config.faults = vec!["at=1s,mode=silent,port=rp9".parse().unwrap()];
    let memory = iommu::Memory::from_ranges(&[(vm_memory::GuestAddress(0), 4096)]).unwrap();
    let error = RootComplex::new(config, memory, Tracer::none()).unwrap_err().to_string();
    assert!(error.starts_with("fault 1 ('at=1s,port=rp9,mode=silent')"), "{error}");
}
