//! The stale-DMA oracle on whole machines: what software was told, and what reaches memory then.

use std::time::Duration;

use iommu::event::{Event, TranslationCache};
use iommu::ids::{Gpa, Iova};
use iommu::spec::descriptor::{DeviceTlbDescriptor, IotlbDescriptor, WaitDescriptor};
use iommu::spec::fault::FaultStatus;
use iommu::spec::offset;
use iommu::time::Timeout;
use iommu::unit::{IteLoses, Ordering, UnitConfig};
use vm_memory::{Bytes, GuestAddress};

use super::tests::{BOUND, ENTRY, IOVA, Rig, TARGET, function};
use super::*;
use crate::endpoint::regs;
use crate::fault::FaultMode;

const ICT: Duration = Duration::from_secs(1);

impl Rig {
    fn counts(&self) -> StaleCounts {
        self.complex.stale_counts().unwrap()
    }

    /// The first function caches the page by DMA, and the page is unmapped.
    fn cached_and_unmapped(policy: &str, ordering: Ordering) -> Self {
        let mut rig = Self::with(policy, Timeout::After(ICT), ordering);
        rig.fill(0, 1);
        rig.unmap();
        rig
    }

    /// Invalidates the page as a driver does that has unmapped it: in the IOTLB, and then in the ATC.
    fn unmap_flush(&mut self, port: u8, n: u64) {
        let domain = IotlbDescriptor::new().with_granularity(2).with_domain(1);
        self.queue(domain.into_bits());
        self.flush(port, n);
    }

    /// Lets the first function fill 8 bytes at IOVA with `pattern`, by an untranslated request.
    fn fill_untranslated(&mut self, pattern: u32) {
        const FILL: u32 = 3;
        self.register(0, regs::IOVA, IOVA as u32);
        self.register(0, regs::LENGTH, 8);
        self.register(0, regs::PATTERN, pattern);
        self.register(0, regs::COMMAND, FILL);
    }

    fn unmap(&self) {
        self.complex.memory.write_obj(0_u64, GuestAddress(ENTRY)).unwrap();
    }

    fn inject(&mut self, mode: FaultMode) {
        self.complex.inject(0, mode, self.now);
    }

    fn clear_ite(&mut self) {
        self.unit(offset::FSTS, FaultStatus::new().with_timeout_error(true).into_bits());
    }

    fn stale_events(&self) -> Vec<Event> {
        let is_stale = |event: &Event| matches!(event, Event::StaleAccess { .. });
        self.events().into_iter().filter(is_stale).collect()
    }
}

#[test]
fn a_healthy_flush_leaves_nothing_stale() {
    let mut rig = Rig::cached_and_unmapped("linux", Ordering::Serial);
    rig.fill(0, 2);
    assert_eq!(rig.peek(TARGET), 2, "lazy: the page is unmapped, and its flush is yet to come");
    rig.unmap_flush(0, 0);
    rig.fill(0, 3);
    assert_eq!(rig.peek(TARGET), 2, "the page is out of reach");
    assert_eq!(rig.counts(), StaleCounts::default());
}

#[test]
fn a_caller_that_is_told_of_success_at_the_deadline_has_stale_accesses() {
    for ordering in [Ordering::Serial, Ordering::Parallel] {
        let mut rig = Rig::cached_and_unmapped("late-removal:100ms", ordering);
        rig.inject(FaultMode::IgnoreInvalidate);
        rig.unmap_flush(0, 0);
        rig.fill(0, 2);
        assert_eq!(rig.counts().stale_accesses, 0, "the caller still waits");
        rig.pass(BOUND);
        assert!(rig.done(0));
        rig.pass(Duration::from_millis(7));
        rig.fill(0, 3);
        assert_eq!(rig.peek(TARGET), 3);
        let age = Duration::from_millis(7);
        let counts = StaleCounts {
            stale_accesses: 1,
            told_success: 1,
            longest_age: age,
            ..StaleCounts::default()
        };
        assert_eq!(rig.counts(), counts, "{ordering}");
        let event = Event::StaleAccess {
            function: function(0),
            pasid: None,
            address: Iova(IOVA),
            target: Gpa(TARGET),
            cache: TranslationCache::Atc,
            age,
            told_success: true,
            mapped: false,
            foreign: None,
        };
        assert_eq!(rig.stale_events(), [event]);
    }
}

#[test]
fn a_caller_that_is_told_of_failure_has_stale_accesses_until_it_asks_again() {
    let mut rig = Rig::cached_and_unmapped("bounded:100ms", Ordering::Parallel);
    rig.inject(FaultMode::IgnoreInvalidate);
    rig.unmap_flush(0, 0);
    rig.pass(BOUND);
    assert_eq!(rig.ite(), Some(function(0)));
    rig.fill(0, 2);
    let counts = rig.counts();
    assert_eq!((counts.stale_accesses, counts.told_success), (1, 0));
    rig.clear_ite();
    rig.unmap_flush(0, 1);
    rig.fill(0, 3);
    assert_eq!(rig.counts().stale_accesses, 1, "the caller waits again");
    rig.complex.lift(0, FaultMode::IgnoreInvalidate, rig.now);
    rig.pass(BOUND);
    rig.clear_ite();
    rig.unmap_flush(0, 2);
    assert!(rig.done(2));
    rig.fill(0, 4);
    assert_eq!((rig.counts().stale_accesses, rig.peek(TARGET)), (1, 3), "the ATC is empty");
}

#[test]
fn a_function_in_quarantine_has_none() {
    for policy in ["quarantine:100ms", "quarantine-posted:100ms"] {
        let mut rig = Rig::cached_and_unmapped(policy, Ordering::Parallel);
        rig.inject(FaultMode::IgnoreInvalidate);
        rig.unmap_flush(0, 0);
        rig.pass(BOUND);
        assert!(rig.done(0), "{policy}");
        rig.fill(0, 2);
        assert_eq!(rig.peek(TARGET), 1);
        assert_eq!(rig.counts(), StaleCounts::default(), "{policy}");
    }
}

#[test]
fn a_translation_that_the_tables_still_have_does_no_harm_and_is_counted_apart() {
    let mut rig = Rig::with("late-removal:100ms", Timeout::After(ICT), Ordering::Parallel);
    rig.fill(0, 1);
    rig.inject(FaultMode::IgnoreInvalidate);
    rig.unmap_flush(0, 0);
    rig.pass(BOUND);
    assert!(rig.done(0));
    rig.fill(0, 2);
    let counts = rig.counts();
    assert_eq!((counts.stale_accesses, counts.harmless), (0, 1));
    assert!(rig.has(|event| matches!(event, Event::StaleAccess { mapped: true, .. })));
    rig.unmap();
    rig.fill(0, 3);
    assert_eq!(rig.counts().stale_accesses, 1, "unmapped after the flush: the flush came too soon");
}

#[test]
fn a_wait_tells_only_of_what_it_covers() {
    // Serial: the victim's wait does not complete, and neither do those behind it.
    for (ordering, done) in [(Ordering::Serial, false), (Ordering::Parallel, true)] {
        let mut rig = Rig::cached_and_unmapped("linux", ordering);
        rig.inject(FaultMode::IgnoreInvalidate);
        rig.unmap_flush(0, 0);
        rig.unmap_flush(1, 1);
        assert_eq!((rig.done(0), rig.done(1)), (false, done), "{ordering}");
        rig.fill(0, 2);
        assert_eq!(rig.counts(), StaleCounts::default(), "{ordering}");
    }
}

#[test]
fn a_second_function_is_judged_by_its_own_translations() {
    let mut rig = Rig::cached_and_unmapped("late-removal:100ms", Ordering::Parallel);
    rig.inject(FaultMode::IgnoreInvalidate);
    rig.unmap_flush(0, 0);
    rig.pass(BOUND);
    assert!(rig.done(0));
    rig.fill(1, 2);
    assert_eq!((rig.counts(), rig.peek(TARGET)), (StaleCounts::default(), 1));
}

/// As bare metal, and as below a host without a bound: the oracle watches what the guest is told.
fn machines() -> [Rig; 2] {
    let unit = UnitConfig { ict: Timeout::After(ICT), ..UnitConfig::new(UnitRole::Guest) };
    let direct = Rig::direct(unit, &[]);
    let forwarded = Rig::with("linux", Timeout::After(ICT), Ordering::Serial);
    [direct, forwarded].map(|mut rig| {
        rig.fill(0, 1);
        rig.unmap();
        rig
    })
}

#[test]
fn a_device_that_completes_early_and_keeps_its_entry_is_found() {
    for mut rig in machines() {
        rig.inject(FaultMode::EarlyCompletion);
        rig.unmap_flush(0, 0);
        assert!(rig.done(0));
        rig.fill(0, 2);
        assert_eq!((rig.counts().stale_accesses, rig.counts().told_success), (1, 1));
    }
}

#[test]
fn a_device_that_drops_the_wrong_page_is_found() {
    for mut rig in machines() {
        rig.inject(FaultMode::ByteSwap);
        rig.unmap_flush(0, 0);
        assert!(rig.done(0));
        rig.fill(0, 2);
        assert_eq!((rig.counts().stale_accesses, rig.counts().told_success), (1, 1));
    }
}

#[test]
fn a_device_that_needs_the_request_twice_is_found_unless_it_gets_it_twice() {
    for (flushes, stale) in [(1, 1), (2, 0)] {
        for mut rig in machines() {
            rig.inject(FaultMode::DropAtNext);
            for n in 0..flushes {
                rig.unmap_flush(0, n);
                assert!(rig.done(n));
            }
            rig.fill(0, 2);
            assert_eq!(rig.counts().stale_accesses, stale, "{flushes} flushes");
        }
    }
}

#[test]
fn ite_of_the_physical_unit_is_a_failure_until_software_asks_again() {
    let [mut rig, _] = machines();
    rig.inject(FaultMode::IgnoreInvalidate);
    rig.unmap_flush(0, 0);
    rig.fill(0, 2);
    assert_eq!(rig.counts().stale_accesses, 0, "the guest waits");
    rig.pass(ICT);
    assert_eq!(rig.ite(), Some(function(0)));
    rig.pass(Duration::from_millis(3));
    rig.fill(0, 3);
    let counts = rig.counts();
    assert_eq!((counts.stale_accesses, counts.told_success), (1, 0));
    assert_eq!(counts.longest_age, Duration::from_millis(3));
    rig.clear_ite();
    rig.unmap_flush(0, 1);
    rig.fill(0, 4);
    assert_eq!(rig.counts().stale_accesses, 1);
}

#[test]
fn a_wait_behind_ite_that_completes_tells_of_success_nonetheless() {
    let unit = UnitConfig { ict: Timeout::After(ICT), ..UnitConfig::new(UnitRole::Guest) };
    let mut rig = Rig::direct(unit, &[]);
    rig.fill(0, 1);
    rig.unmap();
    rig.inject(FaultMode::IgnoreInvalidate);
    // The request is sent, and its wait is fetched after ITE.
    rig.queue(DeviceTlbDescriptor::new().with_source_id(0x100).with_page(IOVA >> 12).into_bits());
    rig.ring();
    rig.pass(ICT);
    rig.fill(0, 2);
    assert_eq!((rig.counts().stale_accesses, rig.counts().told_success), (1, 0));
    rig.clear_ite();
    let wait = WaitDescriptor::new().with_status_write(true).with_status_data(1);
    rig.queue(wait.with_status_dword(0x2000 >> 2).into_bits());
    rig.ring();
    assert!(rig.done(0));
    rig.fill(0, 3);
    assert_eq!((rig.counts().stale_accesses, rig.counts().told_success), (2, 1));
}

#[test]
fn an_iotlb_invalidation_that_is_lost_with_ite_leaves_a_stale_page_until_it_is_repeated() {
    for (ite_loses, stale) in [(IteLoses::Nothing, 0), (IteLoses::All, 1)] {
        let ict = Timeout::After(ICT);
        let unit = UnitConfig { ite_loses, ict, ..UnitConfig::new(UnitRole::Guest) };
        let mut rig = Rig::direct(unit, &[]);
        rig.fill_untranslated(1);
        rig.unmap();
        rig.inject(FaultMode::NoCompletion);
        // The invalidation of the IOTLB stands behind the request that is not answered.
        let request = DeviceTlbDescriptor::new().with_source_id(0x100).with_page(IOVA >> 12);
        rig.queue(request.into_bits());
        let domain = IotlbDescriptor::new().with_granularity(2).with_domain(1);
        rig.queue(domain.into_bits());
        let wait = WaitDescriptor::new().with_status_write(true).with_status_data(1);
        rig.queue(wait.with_status_dword(0x2000 >> 2).into_bits());
        rig.ring();
        rig.pass(ICT);
        assert_eq!(rig.ite(), Some(function(0)));
        rig.fill_untranslated(2);
        let counts = rig.counts();
        assert_eq!((counts.stale_accesses, counts.told_success), (stale, 0), "{ite_loses:?}");
        assert_eq!(rig.peek(TARGET), 1 + stale as u32, "{ite_loses:?}");
        // Software that repeats it has a page that is out of reach.
        rig.clear_ite();
        rig.complex.lift(0, FaultMode::NoCompletion, rig.now);
        rig.unmap_flush(0, 1);
        assert!(rig.done(1));
        rig.fill_untranslated(3);
        assert_eq!(rig.counts().stale_accesses, stale, "{ite_loses:?}");
    }
}

#[test]
fn an_iotlb_that_keeps_what_the_tables_have_lost_is_found() {
    // IH promises that only leaves have changed. The unit keeps the upper table, which is gone.
    let unit = UnitConfig { honor_hint: true, ..UnitConfig::new(UnitRole::Guest) };
    let mut rig = Rig::direct(unit, &[]);
    rig.fill_untranslated(1);
    assert_eq!(rig.peek(TARGET), 1);
    rig.complex.memory.write_obj(0_u64, GuestAddress((ENTRY & !0xfff) - 0x1000)).unwrap();
    rig.fill_untranslated(2);
    assert_eq!(rig.peek(TARGET), 2);
    assert_eq!(rig.counts(), StaleCounts::default(), "nothing was invalidated");
    let page = IotlbDescriptor::new().with_granularity(3).with_domain(1).with_page(IOVA >> 12);
    rig.queue(page.with_hint(true).into_bits());
    rig.flush(0, 0);
    assert!(rig.done(0));
    rig.fill_untranslated(3);
    assert_eq!(rig.peek(TARGET), 3);
    let counts = rig.counts();
    assert_eq!((counts.stale_accesses, counts.told_success, counts.not_judged), (1, 1, 0));
    let iotlb =
        |event: &Event| matches!(event, Event::StaleAccess { cache: TranslationCache::Iotlb, .. });
    assert!(rig.has(iotlb));
    // The same by an ATC that is given the translation now.
    rig.fill(0, 4);
    assert_eq!((rig.peek(TARGET), rig.counts().stale_accesses), (4, 2));
    rig.queue(page.into_bits());
    rig.flush(0, 1);
    rig.fill_untranslated(5);
    assert_eq!((rig.peek(TARGET), rig.counts().stale_accesses), (4, 2), "all is gone");
}

#[test]
fn completions_in_parts_or_for_several_itags_leave_nothing_stale() {
    for mode in [FaultMode::Split(8), FaultMode::Merge(Duration::from_millis(1))] {
        let mut rig = Rig::cached_and_unmapped("linux", Ordering::Parallel);
        rig.inject(mode);
        rig.unmap_flush(0, 0);
        rig.unmap_flush(0, 1);
        rig.pass(Duration::from_millis(2));
        assert!(rig.done(0) && rig.done(1), "{mode}");
        rig.fill(0, 2);
        assert_eq!(rig.counts(), StaleCounts::default(), "{mode}");
    }
}

#[test]
fn a_device_that_wakes_up_uses_its_old_translations() {
    let mut rig = Rig::cached_and_unmapped("bounded:100ms", Ordering::Serial);
    rig.inject(FaultMode::Sleep);
    rig.unmap_flush(0, 0);
    rig.pass(BOUND);
    assert_eq!(rig.ite(), Some(function(0)));
    rig.fill(0, 2);
    assert_eq!(rig.counts().stale_accesses, 0, "it sleeps");
    rig.complex.lift(0, FaultMode::Sleep, rig.now);
    rig.fill(0, 3);
    assert_eq!((rig.counts().stale_accesses, rig.peek(TARGET)), (1, 3));
}
