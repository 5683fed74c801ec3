//! Many CPUs on one device: what a bound is worth when callers queue up on the lock of a domain, and
//! when a device that does not answer uses up the unit.

use std::time::Duration;

use devices::pcie::link::Obeys;

use super::*;

fn simulate(id: &str) -> RunResult {
    let spec = Catalog::default().spec(&id.parse().unwrap()).unwrap();
    run(&spec, &Tracer::none()).unwrap()
}

/// The domain's lock is held over the whole of an invalidation, so that the last of N callers waits
/// for N bounds.
#[test]
fn a_bound_is_multiplied_by_the_callers_on_one_lock() {
    for (cpus, bound, is_hard) in [(8, 800, false), (64, 6400, false)] {
        let result = simulate(&format!("bounded:100ms/silent/strict@{cpus}/serial/1"));
        let longest = result.interrupts_off.max().as_secs_f64() * 1000.0;
        let expected = f64::from(bound);
        assert!((0.9..1.1).contains(&(longest / expected)), "{cpus} CPUs: {longest} ms");
        assert_eq!((result.hard_lockups > 0, result.lost), (is_hard, 0), "{cpus} CPUs");
    }
    let result = simulate("bounded:100ms/silent/strict@128/serial/1");
    let longest = result.interrupts_off.max();
    assert!(longest > Duration::from_secs(12) && result.hard_lockups > 0, "{longest:?}");
}

/// After 32 expired bounds the ITags of the mute device are used up, and the unit stops fetching: the
/// healthy device is not asked any more, and its callers give up.
#[test]
fn a_healthy_neighbor_uses_stale_pages_when_the_itags_of_a_mute_device_are_used_up() {
    for unit in ["serial", "parallel"] {
        let few = simulate(&format!("bounded:100ms/silent/strict@2/{unit}/1"));
        assert_eq!(few.stale_innocent, 0, "{unit}");
        let many = simulate(&format!("bounded:100ms/silent/strict@64/{unit}/1"));
        assert!(many.stale_innocent > 0, "{unit}: {}", many.stale_accesses);
    }
}

/// The driver's reset ends a quarantine, and the device is as mute as before: each round costs an
/// ITag, until the unit does not fetch the fence.
#[test]
fn a_quarantine_ends_by_resets_until_the_fence_is_not_fetched() {
    let few = simulate("quarantine:100ms/ignore-invalidate/strict@2/parallel/1");
    assert_eq!((few.hard_lockups, few.stale_accesses), (0, 0));
    let many = simulate("quarantine:100ms/ignore-invalidate/strict@64/parallel/1");
    assert!(many.hard_lockups > 0, "{:?}", many.interrupts_off.max());
    assert!(many.interrupts_off.max() > Duration::from_secs(10));
}

/// Behind a wait with FN that is not done, the unit executes nothing: a caller that gives up has not
/// even had its IOTLB part.
#[test]
fn with_fn_a_bound_is_unsafe_where_it_was_safe_without() {
    for fault in ["silent", "surprise"] {
        let stale = |fence| {
            let run = |seed| {
                let id = format!("bounded:100ms/{fault}/strict/serial/{seed}");
                let mut spec = Catalog::default().spec(&id.parse().unwrap()).unwrap();
                spec.workload.fence = fence;
                super::run(&spec, &Tracer::none()).unwrap().stale_accesses
            };
            (0..3).map(run).sum::<u64>()
        };
        assert_eq!(stale(false), 0, "{fault}");
        assert!(stale(true) > 0, "{fault}");
    }
}

/// A unit that fetches nothing behind a pending wait is as unsafe, with FN or without.
#[test]
fn a_blocking_unit_makes_a_bound_unsafe() {
    let stale = |unit| {
        let run = |seed| simulate(&format!("bounded:100ms/silent/strict/{unit}/{seed}"));
        (0..3).map(|seed| run(seed).stale_accesses).sum::<u64>()
    };
    assert_eq!((stale("serial"), stale("parallel")), (0, 0));
    assert!(stale("blocking") > 0);
}

/// A device may use a translation until it answers: a bound that is shorter than the answer takes is
/// unsafe, although the answer comes.
#[test]
fn a_bound_below_the_time_of_an_answer_is_unsafe_unless_devices_obey_at_once() {
    for fault in ["late", "slow:50ms"] {
        let stale = |obeys| {
            let id = format!("bounded:1ms/{fault}/strict/serial/1");
            let mut spec = Catalog::default().spec(&id.parse().unwrap()).unwrap();
            spec.obeys = obeys;
            super::run(&spec, &Tracer::none()).unwrap().stale_accesses
        };
        assert!(stale(Obeys::AtAnswer) > 0, "{fault}");
        assert_eq!(stale(Obeys::AtOnce), 0, "{fault}");
    }
}

/// What else stands behind a stuck queue: a CPU that moves an interrupt, and has nothing to do with
/// the device.
#[test]
fn moving_an_interrupt_waits_behind_a_mute_device() {
    let moves = |id: &str| simulate(id).irq_moves;
    let healthy = moves("linux/none/irqs/serial/1");
    assert!(healthy.count() > 1000 && healthy.max() < Duration::from_millis(1), "{healthy:?}");
    let serial = moves("linux/silent/irqs/serial/1");
    assert!(serial.max() > Duration::from_secs(80), "{:?}", serial.max());
    // Waits complete out of order, until the ring is full behind the slot that is never done.
    let parallel = moves("linux/silent/irqs/parallel/1");
    let quick = |moves: &Latencies| {
        moves
            .buckets()
            .iter()
            .filter(|(low, _)| low.as_millis() == 0)
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    assert!(quick(&parallel) > quick(&serial) + 100, "{parallel:?}");
    assert!(parallel.max() > Duration::from_secs(80), "{:?}", parallel.max());
}

#[test]
fn a_reset_is_slow_where_there_is_much_io() {
    let calm = simulate("flr:100ms/silent/strict/serial/1").stuck.max();
    assert!(calm < Duration::from_secs(1), "{calm:?}");
    let busy = simulate("flr:100ms/silent/busy/serial/1").stuck.max();
    assert!(busy > Duration::from_secs(10), "{busy:?}");
}

/// A caller that waits at the horizon is lost only if nothing can end its wait.
#[test]
fn waits_that_last_to_the_horizon_are_told_from_those_that_never_end() {
    for policy in ["bounded+watchdog:1m30s", "pcie-120s", "riscv"] {
        let result = simulate(&format!("{policy}/silent/strict/serial/1"));
        assert_eq!(result.lost, 0, "{policy}");
    }
    let lost = simulate("linux/ignore-invalidate/strict/serial/1");
    assert!(lost.lost > 0 && lost.lost == lost.never_returned, "{lost:?}");
    assert!(lost.waiting.max() <= RunSpec::HORIZON);
}

/// The cost of a run is in proportion to its I/O, however many CPUs wait for one lock.
#[test]
fn steps_grow_with_the_cpus_of_a_device_and_no_faster() {
    for (policy, fault) in [("linux", "none"), ("bounded:100ms", "silent")] {
        let steps = |cpus: u16| {
            let result = simulate(&format!("{policy}/{fault}/strict@{cpus}/serial/1"));
            result.steps as f64 / f64::from(cpus)
        };
        let (few, many) = (steps(8), steps(128));
        assert!(many / few < 1.5, "{policy}, {fault}: {few} steps a CPU become {many}");
    }
}
