//! A root complex without a host: the guest's unit is the physical one, as on bare metal.

use std::time::Duration;

use iommu::event::{Event, Lost};
use iommu::spec::fault::FaultStatus;
use iommu::spec::offset;
use iommu::time::Timeout;
use iommu::unit::{Ordering, UnitConfig};

use super::tests::{Rig, TARGET, function};
use super::*;
use crate::fault::FaultMode;

const ICT: Duration = Duration::from_secs(60);
const LAST_NANO: Duration = Duration::from_nanos(1);

fn unit() -> UnitConfig {
    UnitConfig { ict: Timeout::After(ICT), ..UnitConfig::new(UnitRole::Guest) }
}

fn rig(faults: &[&str]) -> Rig {
    let mut rig = Rig::direct(unit(), faults);
    rig.fill(0, 1);
    rig
}

fn count(rig: &Rig, matches: impl Fn(&Event) -> bool) -> usize {
    rig.events().iter().filter(|event| matches(event)).count()
}

fn fault_status(rig: &mut Rig) -> FaultStatus {
    let mut status = [0; 4];
    rig.complex.unit_read(offset::FSTS.into(), &mut status);
    FaultStatus::from_bits(u32::from_le_bytes(status))
}

fn clear_ite(rig: &mut Rig) {
    rig.unit(offset::FSTS, FaultStatus::new().with_timeout_error(true).into_bits());
}

#[test]
fn a_healthy_flush_has_one_unit_on_its_way_and_no_verdict() {
    let mut rig = rig(&[]);
    rig.flush(0, 0);
    assert!(rig.done(0));
    assert!(rig.complex.host_unit().is_none());
    let guest = UnitRole::Guest;
    let requested =
        |event: &Event| matches!(event, Event::InvalidateRequested { unit, .. } if *unit == guest);
    let dropped = |event: &Event| matches!(event, Event::AtcInvalidated { dropped: 1, .. });
    let of_the_host = |event: &Event| {
        matches!(event, Event::Submitted { .. } | Event::Verdict { .. })
            || matches!(event, Event::DescriptorFetched { unit: UnitRole::Host, .. })
    };
    assert_eq!((count(&rig, requested), count(&rig, dropped)), (1, 1));
    assert_eq!(count(&rig, of_the_host), 0);
}

#[test]
fn the_unit_names_a_function_that_does_not_answer_present_or_not() {
    for mode in [FaultMode::Silent, FaultMode::NoCompletion, FaultMode::IgnoreInvalidate] {
        let mut rig = rig(&[]);
        rig.complex.inject(0, mode, rig.now);
        rig.flush(0, 0);
        rig.pass(ICT - LAST_NANO);
        assert_eq!((rig.done(0), rig.ite()), (false, None), "{mode}");
        rig.pass(LAST_NANO);
        assert_eq!((rig.done(0), rig.ite()), (false, Some(function(0))), "{mode}");
        // Only after software has cleared ITE does the unit fetch on.
        rig.flush(1, 1);
        assert!(!rig.done(1), "{mode}");
        clear_ite(&mut rig);
        assert_eq!((rig.done(0), rig.done(1), rig.ite()), (false, true, None), "{mode}");
    }
}

#[test]
fn an_old_unit_names_no_function() {
    let unit = UnitConfig { itesid: Some(Bdf::default()), ..unit() };
    let mut rig = Rig::direct(unit, &[]);
    rig.complex.inject(0, FaultMode::Silent, rig.now);
    rig.flush(0, 0);
    rig.pass(ICT);
    assert_eq!(rig.ite(), Some(Bdf::default()));
}

#[test]
fn without_a_time_out_a_silent_link_stalls_the_queue_for_ever() {
    let unit = UnitConfig { ict: Timeout::Never, ..unit() };
    let mut rig = Rig::direct(unit, &[]);
    rig.complex.inject(0, FaultMode::Silent, rig.now);
    rig.flush(0, 0);
    rig.pass(Duration::from_secs(1 << 20));
    assert_eq!((rig.done(0), rig.ite()), (false, None));
    assert_eq!(rig.complex.poll_timeout(), None);
}

#[test]
fn a_healthy_neighbor_suffers_as_the_ordering_says() {
    for (ordering, done) in [(Ordering::Serial, false), (Ordering::Parallel, true)] {
        let mut rig = Rig::direct(UnitConfig { ordering, ..unit() }, &[]);
        rig.complex.inject(0, FaultMode::Silent, rig.now);
        rig.flush(0, 0);
        rig.flush(1, 1);
        assert_eq!((rig.done(0), rig.done(1)), (false, done), "{ordering}");
        rig.pass(ICT);
        assert_eq!(rig.done(1), done, "{ordering}: ITE has aborted the wait for good");
    }
}

#[test]
fn a_completion_that_matches_no_request_sets_ice() {
    let mut rig = rig(&[]);
    rig.complex.inject(0, FaultMode::Duplicate, rig.now);
    rig.flush(0, 0);
    assert!(rig.done(0));
    let status = fault_status(&mut rig);
    assert!(status.completion_error() && !status.timeout_error());
    let unexpected = |event: &Event| {
        matches!(event, Event::UnexpectedCompletion { unit: UnitRole::Guest, itag_vector: 1, .. })
    };
    assert_eq!(count(&rig, unexpected), 1);
}

#[test]
fn a_completion_after_ite_sets_ice() {
    let mut rig = rig(&[]);
    rig.complex.inject(0, FaultMode::Late(ICT + Duration::from_secs(1)), rig.now);
    rig.flush(0, 0);
    rig.pass(ICT);
    assert_eq!(rig.ite(), Some(function(0)));
    clear_ite(&mut rig);
    assert!(!fault_status(&mut rig).completion_error());
    rig.pass(Duration::from_secs(1));
    assert!(fault_status(&mut rig).completion_error());
    assert!(!rig.done(0), "the wait is aborted for good");
}

/// A function that answers nothing uses up its ITags. Then the unit fetches no more, whatever the
/// ordering, and the neighbor's flush is not even sent.
#[test]
fn the_unit_stops_when_a_function_has_no_itag_left() {
    let mut rig = Rig::direct(UnitConfig { ordering: Ordering::Parallel, ..unit() }, &[]);
    rig.complex.inject(0, FaultMode::NoCompletion, rig.now);
    for n in 0..33 {
        rig.flush(0, n);
    }
    let requested = |event: &Event| matches!(event, Event::InvalidateRequested { .. });
    assert_eq!(count(&rig, requested), 32);
    rig.flush(1, 33);
    assert!(!rig.done(33));
    rig.pass(ICT);
    assert_eq!(rig.ite(), Some(function(0)));
    clear_ite(&mut rig);
    assert!(rig.done(33));
}

#[test]
fn no_host_blocks_a_function() {
    let mut rig = rig(&[]);
    rig.complex.inject(0, FaultMode::IgnoreInvalidate, rig.now);
    rig.flush(0, 0);
    rig.pass(ICT);
    rig.fill(0, 2);
    assert_eq!(rig.peek(TARGET), 2, "the function goes on with the translation that it holds");
}

#[test]
fn a_unit_that_is_gone_keeps_its_timers_and_shows_ite_when_it_is_back() {
    let mut rig = rig(&["after=descriptors:2,mode=all-ones-unit,for=120s"]);
    rig.complex.inject(0, FaultMode::Silent, rig.now);
    rig.flush(0, 0);
    assert_eq!(fault_status(&mut rig).into_bits(), u32::MAX);
    rig.pass(ICT);
    let timeouts = |event: &Event| matches!(event, Event::InvalidationTimeout { .. });
    assert_eq!(count(&rig, timeouts), 1);
    // The write that clears ITE does not reach the unit.
    clear_ite(&mut rig);
    rig.pass(ICT);
    assert_eq!(rig.ite(), Some(function(0)));
    assert!(!rig.done(0));
}

#[test]
fn after_a_request_it_is_lost_on_the_way() {
    let mut rig = rig(&["after=requests:1,mode=ghost"]);
    rig.flush(0, 0);
    let lost = |event: &Event| matches!(event, Event::Lost { what: Lost::InvalidateRequest, .. });
    let dropped = |event: &Event| matches!(event, Event::AtcInvalidated { dropped: 1, .. });
    assert_eq!((count(&rig, lost), count(&rig, dropped), rig.done(0)), (1, 0, false));
}

#[test]
fn before_a_completion_the_atc_is_empty_and_the_unit_does_not_learn_of_it() {
    let mut rig = rig(&["before=completion:1,mode=silent"]);
    rig.flush(0, 0);
    let lost =
        |event: &Event| matches!(event, Event::Lost { what: Lost::InvalidateCompletion, .. });
    let dropped = |event: &Event| matches!(event, Event::AtcInvalidated { dropped: 1, .. });
    assert_eq!((count(&rig, lost), count(&rig, dropped), rig.done(0)), (1, 1, false));
}

#[test]
fn after_an_invalidation_that_one_is_done_and_the_next_is_lost() {
    let mut rig = rig(&["after=invalidations:2,mode=silent"]);
    for n in 0..3 {
        rig.flush(0, n);
    }
    assert_eq!([0, 1, 2].map(|n| rig.done(n)), [true, true, false]);
}

#[test]
fn before_the_status_write_the_unit_has_the_completion_and_no_wait_has_completed() {
    let mut rig = rig(&["before=status:1,mode=silent"]);
    rig.flush(0, 0);
    assert!(rig.done(0), "the unit does not need the link for it");
    let order = rig.events();
    let position = |wanted: &dyn Fn(&Event) -> bool| order.iter().position(wanted).unwrap();
    let completed = position(&|event| matches!(event, Event::InvalidateCompleted { .. }));
    let injected = position(&|event| matches!(event, Event::FaultInjected { .. }));
    let status = position(&|event| matches!(event, Event::WaitCompleted { .. }));
    assert!(completed < injected && injected < status);
}

#[test]
fn faults_that_count_descriptors_and_writes_of_the_tail_count_the_only_unit() {
    let mut first = rig(&["before=tail:2,mode=silent"]);
    let mut second = rig(&["after=descriptors:2,mode=no-completion"]);
    for rig in [&mut first, &mut second] {
        rig.flush(0, 0);
        rig.flush(0, 1);
        assert_eq!([rig.done(0), rig.done(1)], [true, false]);
    }
}
