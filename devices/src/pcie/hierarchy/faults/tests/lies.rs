//! Functions that complete invalidations and do something else: which translations their ATCs hold,
//! and which completions come.

use iommu::ats::InvalidateCompletion;
use iommu::event::{DropReason, Event, Lost};

use super::*;
use crate::testkit::driver::Driver;

/// A function with translations of pages 0 and 1 in its ATC, and a fault.
pub(super) fn machine(mode: FaultMode) -> Machine {
    let mut machine = Machine::ready();
    for page in 0..2 {
        machine.upstream.map(page << 12, 12, 0x8000 + (page << 12), true, true);
        assert_eq!(machine.command(0, TRANSLATE, page << 12, 0), 0);
    }
    machine.inject(0, mode);
    machine
}

pub(super) fn page(number: u64) -> PageRange {
    PageRange::page(Iova(number << 12))
}

/// ITag vector and Completion Count of each completion.
pub(super) fn completions(machine: &mut Machine) -> Vec<(u32, u8)> {
    let completion = |message| match message {
        UpstreamMessage::InvalidateCompletion(InvalidateCompletion {
            itag_vector,
            completion_count,
            ..
        }) => Some((itag_vector, completion_count)),
        _ => None,
    };
    machine.messages().into_iter().filter_map(completion).collect()
}

pub(super) fn entries(machine: &mut Machine) -> u32 {
    machine.register(0, regs::ATC_ENTRIES)
}

#[test]
fn an_early_completion_leaves_the_entry() {
    let mut machine = machine(FaultMode::EarlyCompletion);
    machine.invalidate(0, 3, PageRange::ALL);
    assert_eq!(completions(&mut machine), [(1 << 3, 1)]);
    assert_eq!(entries(&mut machine), 2);
    machine.lift(0, FaultMode::EarlyCompletion);
    machine.invalidate(0, 3, page(0));
    assert_eq!(entries(&mut machine), 1);
}

/// The address of page 0x1000 is 0x10000000000000 in the other byte order, and page 0 is page 0.
#[test]
fn an_address_in_the_wrong_byte_order_drops_another_page() {
    let mut machine = machine(FaultMode::ByteSwap);
    machine.invalidate(0, 3, page(1));
    assert_eq!(completions(&mut machine), [(1 << 3, 1)]);
    assert_eq!(entries(&mut machine), 2);
    let other = 0x0010_0000_0000_0000;
    machine.upstream.map(other, 12, 0xa000, true, true);
    assert_eq!(machine.command(0, TRANSLATE, other, 0), 0);
    machine.invalidate(0, 3, page(1));
    assert_eq!(entries(&mut machine), 2, "the other page is gone");
    machine.invalidate(0, 3, PageRange::ALL);
    assert_eq!(entries(&mut machine), 2, "all addresses are others as well");
    machine.invalidate(0, 3, page(0));
    assert_eq!(entries(&mut machine), 1);
}

#[test]
fn an_invalidation_that_is_needed_twice() {
    let mut machine = machine(FaultMode::DropAtNext);
    machine.invalidate(0, 3, page(1));
    assert_eq!(completions(&mut machine), [(1 << 3, 1)]);
    assert_eq!(entries(&mut machine), 2);
    machine.invalidate(0, 3, page(1));
    assert_eq!(completions(&mut machine), [(1 << 3, 1)]);
    assert_eq!(entries(&mut machine), 1);
    machine.invalidate(0, 3, page(0));
    assert_eq!(entries(&mut machine), 1, "it drops page 1 again");
    machine.invalidate(0, 3, page(5));
    assert_eq!(entries(&mut machine), 0);
}

#[test]
fn completions_come_as_one_with_several_itags() {
    let mut machine = machine(FaultMode::Merge(SECOND));
    for itag in [3, 4, 9] {
        machine.invalidate(0, itag, page(1));
    }
    machine.invalidate(1, 7, page(1));
    assert_eq!(completions(&mut machine), [(1 << 7, 1)], "the other function is healthy");
    machine.run_until(machine.now + SECOND / 2);
    // The unit has given up on ITag 3, and uses it again.
    machine.invalidate(0, 3, page(1));
    machine.run_until(machine.now + SECOND);
    assert_eq!(completions(&mut machine), [(1 << 3 | 1 << 4 | 1 << 9, 1), (1 << 3, 1)]);
    assert_eq!(entries(&mut machine), 1);
}

#[test]
fn completions_come_in_several_messages() {
    for parts in 2..=8 {
        let mut machine = machine(FaultMode::Split(parts));
        machine.invalidate(0, 3, page(1));
        assert_eq!(completions(&mut machine), vec![(1 << 3, parts); usize::from(parts)]);
        assert_eq!(entries(&mut machine), 1);
    }
}

#[test]
fn a_function_that_chokes_loses_what_comes_beyond_its_limit() {
    let choke = FaultMode::Choke { depth: 2, time: SECOND };
    let mut machine = machine(choke);
    machine.invalidate(0, 3, page(5));
    machine.invalidate(0, 4, page(5));
    machine.invalidate(0, 5, page(1));
    assert_eq!(entries(&mut machine), 2, "the third is lost");
    let (function, what) = (Machine::endpoint(0), Lost::InvalidateRequest);
    let event = Event::Dropped { function, what, reason: DropReason::QueueFull };
    assert!(machine.events().contains(&event));
    machine.run_until(machine.now + SECOND);
    assert_eq!(completions(&mut machine), [(1 << 3, 1), (1 << 4, 1)]);
    machine.invalidate(0, 5, page(1));
    machine.run_until(machine.now + SECOND);
    assert_eq!(entries(&mut machine), 1);
}

/// The behavior is that of the functions below the link with the fault, also below a switch.
#[test]
fn a_fault_above_a_switch_is_one_of_the_functions_below_it() {
    for (mode, completions) in [
        (FaultMode::IgnoreInvalidate, 0),
        (FaultMode::NoCompletion, 0),
        (FaultMode::EarlyCompletion, 1),
        (FaultMode::Sleep, 0),
    ] {
        let mut driver = Driver::new(&[
            "root-port,id=rp0",
            "switch,id=sw0,bus=rp0,ports=1",
            "ats-endpoint,bus=sw0.0",
        ]);
        let id = driver.endpoints()[0];
        let bar = driver.bar(id);
        driver.enable_ats(id);
        driver.machine.upstream.map(0, 12, 0x8000, true, true);
        assert_eq!(driver.fill(bar, true), 0);
        driver.machine.inject(0, mode);
        assert_eq!(driver.invalidate(id).len(), completions, "{mode}");
        driver.machine.lift(0, mode);
        assert_eq!(driver.register(bar, regs::ATC_ENTRIES), 1, "{mode}");
    }
}
