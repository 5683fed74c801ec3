//! Pages that a device reaches after its driver was told that it cannot, or gave up: found by the
//! oracle under KVM, with and without a host below the guest.

use std::time::Duration;

use devices::pcie::link::Obeys;
use iommu::event::{Event, TranslationCache};
use iommu::unit::Ordering;
use tests::{Rig, Run, VICTIM, count};

const ICT: Duration = Duration::from_millis(200);

/// The guest unmaps the page, flushes it once, and has the device write to it some more times.
fn rig() -> Option<Rig> {
    Some(Rig::new("test=drop flushes=4 blame=first unmap=on giveup_ms=1000")?.cpus(1))
}

fn on_doorbell(mode: &str) -> String {
    format!("on=doorbell,mode={mode}")
}

/// Stale accesses after success, and after failure. Each must be the victim's, by its ATC.
fn stale(mut rig: Rig) -> (usize, usize) {
    rig.config.root_complex.oracle = true;
    let run: Run = rig.run().passed();
    let after = |told: bool| {
        count(&run.events, |event| {
            matches!(event, Event::StaleAccess {
                function: VICTIM, cache: TranslationCache::Atc, mapped: false, told_success, .. }
                if *told_success == told)
        })
    };
    let all = count(&run.events, |event| matches!(event, Event::StaleAccess { .. }));
    let not_judged = count(&run.events, |event| matches!(event, Event::AccessNotJudged { .. }));
    let found = (after(true), after(false));
    assert_eq!((all, not_judged), (found.0 + found.1, 0), "{run}");
    assert_eq!(run.summary().stale_accesses, all as u64);
    found
}

#[test]
fn what_the_host_tells_the_guest_decides_what_is_stale() {
    for (policy, fault, found) in [
        ("late-removal:50ms", "ignore-invalidate", (4, 0)),
        ("bounded:50ms", "ignore-invalidate", (0, 4)),
        ("quarantine:50ms", "ignore-invalidate", (0, 0)),
        ("late-removal:50ms", "no-completion", (4, 0)),
        ("late-removal:50ms", "late:1m", (4, 0)),
        ("linux", "early", (4, 0)),
        ("linux", "byte-swap", (4, 0)),
        ("linux", "dup", (0, 0)),
    ] {
        let Some(rig) = rig() else { return };
        let rig = rig.policy(policy).ordering(Ordering::Parallel).fault(&on_doorbell(fault));
        assert_eq!(stale(rig), found, "{policy}, {fault}");
    }
}

#[test]
fn without_a_host_the_unit_itself_tells_the_guest() {
    for (fault, found) in [
        ("ignore-invalidate", (0, 4)),
        ("early", (4, 0)),
        ("drop-at-next", (4, 0)),
        ("no-completion", (0, 4)),
        ("late:1m", (0, 4)),
    ] {
        let Some(rig) = rig() else { return };
        assert_eq!(stale(rig.direct().ict(ICT).fault(&on_doorbell(fault))), found, "{fault}");
    }
}

#[test]
fn a_device_that_obeys_at_once_has_nothing_stale() {
    for fault in ["no-completion", "late:1m"] {
        let Some(rig) = rig() else { return };
        let mut rig = rig.direct().ict(ICT).fault(&on_doorbell(fault));
        rig.config.root_complex.obeys = Obeys::AtOnce;
        assert_eq!(stale(rig), (0, 0), "{fault}");
    }
}

#[test]
fn without_the_oracle_there_are_no_events() {
    let Some(rig) = rig() else { return };
    let run = rig.fault(&on_doorbell("early")).run().passed();
    assert_eq!(count(&run.events, |event| matches!(event, Event::StaleAccess { .. })), 0);
}
