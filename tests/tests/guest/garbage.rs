//! A guest that writes random values everywhere. The VMM survives, and the guest reaches its end.

use iommu::event::Event;
use tests::{Rig, count};

fn survive(seeds: std::ops::RangeInclusive<u32>, scalable: bool) {
    let (mut queue_errors, mut faults, mut requests) = (0, 0, 0);
    for seed in seeds {
        let Some(rig) = Rig::new(&format!("test=garbage seed={seed}")) else { return };
        let run = rig.cpus(1).scalable(scalable).policy("bounded:1ms").run().passed();
        let happened = |wanted: &dyn Fn(&Event) -> bool| count(&run.events, wanted);
        queue_errors += happened(&|event| matches!(event, Event::QueueError { .. }));
        faults += happened(&|event| matches!(event, Event::DmaFault { .. }));
        requests += happened(&|event| matches!(event, Event::InvalidateRequested { .. }));
    }
    // The values have passed the first check of each path.
    assert!(queue_errors > 0 && faults > 0 && requests > 0, "{queue_errors} {faults} {requests}");
}

#[test]
fn legacy_units_survive() {
    survive(1..=6, false);
}

#[test]
fn scalable_units_survive() {
    survive(11..=16, true);
}
