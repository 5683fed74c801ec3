//! Runs whose outcome is known, and what holds of every run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use iommu::event::{Event, Lost, Recorder};
use iommu::submit::{Completion, Verdict};
use iommu::time::Timeout;
use iommu::unit::Ordering;
use proptest::prelude::*;

use super::*;

fn spec(id: &str) -> RunSpec {
    Catalog::default().spec(&id.parse().unwrap()).unwrap()
}

fn simulate(id: &str) -> RunResult {
    run(&spec(id), &Tracer::none()).unwrap()
}

fn record(spec: &RunSpec) -> (Vec<iommu::event::TimedEvent>, RunResult) {
    let recorder = Arc::new(Recorder::default());
    let result = run(spec, &Tracer::to(recorder.clone())).unwrap();
    (recorder.events(), result)
}

/// The soft detector reports from a timer interrupt, which a CPU that never comes back does not get.
#[test]
fn a_soft_lockup_is_reported_when_interrupts_are_on_again() {
    let counts = |id: &str, ict: u64| {
        let mut spec = Catalog::default().spec(&id.parse().unwrap()).unwrap();
        spec.unit.ict = Timeout::After(Duration::from_secs(ict));
        let result = run(&spec, &Tracer::none()).unwrap();
        (result.hard_lockups > 0, result.soft_lockups > 0, result.never_returned > 0)
    };
    // It waits for the unit's time-out, and goes on as the device is gone.
    assert_eq!(counts("linux/surprise/victim/1", 15), (true, false, false), "15 s are hard only");
    assert_eq!(counts("linux/surprise/victim/1", 30), (true, true, false), "30 s are both");
    assert_eq!(
        counts("xen/ignore-invalidate/victim/1", 30),
        (true, false, true),
        "no end, no report"
    );
}

#[test]
fn a_healthy_machine_waits_for_microseconds_and_nothing_is_stale() {
    for workload in ["strict", "lazy", "victim", "sva", "teardown", "detach"] {
        for policy in ["linux", "linux-7.0", "bounded:100ms", "quarantine:100ms", "amd", "xen-4.15"]
        {
            let result = simulate(&format!("{policy}/none/{workload}/1"));
            let id = format!("{policy} {workload}");
            assert!(result.completed_io > 40, "{id}");
            assert!(result.interrupts_off.max() < Duration::from_millis(1), "{id}");
            assert_eq!((result.stale_accesses, result.never_returned), (0, 0), "{id}");
            assert_eq!(result.told.completed.held, 0, "{id}");
            assert_eq!(result.host.false_completions, 0, "{id}");
        }
    }
}

#[test]
fn a_device_without_its_link_gives_requests_up_after_the_completion_timeout() {
    let (events, _) = record(&spec("bounded:100ms/silent/strict/1"));
    let times = |wanted: Lost| {
        let found = events.iter().filter(move |timed| match timed.event {
            Event::Lost { what, .. } => what == wanted,
            _ => false,
        });
        found.map(|timed| timed.at)
    };
    let ends = times(Lost::TranslationRequest).map(|sent| sent + Duration::from_millis(50));
    let (ends, reports) = (ends.collect::<Vec<_>>(), times(Lost::ErrorMessage).collect::<Vec<_>>());
    assert!(!ends.is_empty(), "no request was lost");
    assert_eq!(ends, reports);
}

#[test]
fn address_spaces_are_invalidated_by_their_pasids() {
    let (events, _) = record(&spec("linux/none/sva/1"));
    let kinds = events.iter().filter_map(|timed| match timed.event {
        Event::DescriptorFetched { descriptor_type, .. } => Some(descriptor_type),
        _ => None,
    });
    // PASID-based IOTLB, PASID-based Device-TLB, wait.
    assert_eq!(kinds.collect::<BTreeSet<_>>(), BTreeSet::from([6, 8, 5]));
}

#[test]
fn a_reset_of_the_function_is_not_taken_for_what_the_unit_has_not_begun() {
    let mut spec = spec("flr:100ms/no-completion/victim/1040513295917609597");
    // Once its ITags are used up the unit fetches no more: not the IOTLB part either.
    spec.unit.ict = Timeout::Never;
    let result = run(&spec, &Tracer::none()).unwrap();
    assert!(result.never_returned > 0);
    assert_eq!(result.stale_accesses, 0);
}

#[test]
fn without_any_bound_a_silent_link_loss_locks_the_cpu_up_to_the_horizon() {
    let mut spec = spec("linux/silent/strict/1");
    spec.unit.ict = Timeout::Never;
    let result = run(&spec, &Tracer::none()).unwrap();
    assert!(result.never_returned >= 1 && result.recovered == 0);
    // The soft detector reports from a timer interrupt, which such a CPU never takes.
    assert!(result.hard_lockups >= 1 && result.soft_lockups == 0);
    assert!(result.interrupts_off.max() > Duration::from_secs(190));
    spec.unit.ict = Timeout::After(Duration::from_secs(30));
    let result = run(&spec, &Tracer::none()).unwrap();
    assert!(result.hard_lockups >= 1 && result.soft_lockups >= 1, "it comes back after 30 s");
}

#[test]
fn what_a_guest_forwards_has_no_wait_in_an_even_slot() {
    let lockups = |kind| {
        let run = |seed| {
            let mut spec = spec(&format!("linux-6.12/silent/victim/{seed}"));
            spec.workload.kind = kind;
            // Too short for a lock-up, unless a wait is lost.
            spec.unit.ict = Timeout::After(Duration::from_secs(1));
            run(&spec, &Tracer::none()).unwrap().hard_lockups
        };
        (0..8).map(run).sum::<u64>()
    };
    assert!(lockups(Kind::Strict) > 0, "three descriptors: after ITE waits in even slots are lost");
    assert_eq!(lockups(Kind::Forwarded), 0, "two: all waits are in odd slots");
}

#[test]
fn a_built_in_guest_has_its_victim_write_to_pages_that_it_has_flushed() {
    let stale = |kind| {
        let mut spec = spec("linux/early/victim/1");
        (spec.workload.kind, spec.workload.touches) = (kind, 0);
        run(&spec, &Tracer::none()).unwrap().stale_accesses
    };
    let strict = stale(Kind::Strict);
    for kind in [Kind::Direct, Kind::Forwarded] {
        assert!(stale(kind) > 2 * strict, "four more writes for each flush: {kind:?}");
    }
}

#[test]
fn a_built_in_guest_does_not_reset_its_devices() {
    let resets = |kind| {
        let mut spec = spec("bounded:100ms/flap/victim/1");
        spec.workload.kind = kind;
        let (events, _) = record(&spec);
        events.iter().filter(|it| matches!(it.event, Event::DriverReset { .. })).count()
    };
    assert!(resets(Kind::Strict) > 0);
    assert_eq!((resets(Kind::Direct), resets(Kind::Forwarded)), (0, 0));
}

#[test]
fn a_mute_device_makes_linux_wait_for_ever_although_the_unit_gives_up() {
    let result = simulate("linux/no-completion/victim/1");
    assert!(result.never_returned >= 1 && result.host.resubmitted >= 2);
}

#[test]
fn a_bound_without_a_fence_leaves_stale_translations_in_use() {
    let result = simulate("bounded:100ms/ignore-invalidate/strict/1");
    assert!(result.stale_accesses > 0 && result.told.deadline_passed.held > 0);
    assert_eq!((result.never_returned, result.hard_lockups), (0, 0));
}

#[test]
fn a_quarantine_keeps_stale_translations_from_being_used() {
    let result = simulate("quarantine:100ms/ignore-invalidate:30s/strict/1");
    assert_eq!(result.stale_accesses, 0);
    assert!(result.told.quarantined.held > 0, "the ATC still holds them");
    assert_eq!((result.recovered, result.never_returned), (1, 0), "after a reset it works");
}

#[test]
fn on_a_serial_unit_the_fence_stands_behind_what_it_is_to_fence() {
    let quarantine = |ordering| {
        let mut spec = spec("quarantine:100ms/ignore-invalidate:30s/strict/1");
        spec.unit.ordering = ordering;
        run(&spec, &Tracer::none()).unwrap().time_to_quarantine.max()
    };
    assert!(quarantine(Ordering::Serial) >= RunSpec::ICT);
    assert!(quarantine(Ordering::Parallel) < Duration::from_millis(110));
}

#[test]
fn late_answers_complete_what_they_are_not_about_where_status_words_are_reused() {
    let mut reused = spec("bounded:100ms/late/strict/1");
    reused.policy.completion = Completion::Cpu;
    assert!(run(&reused, &Tracer::none()).unwrap().host.false_completions > 0);
    let wrapped = |policy: &str| {
        let mut spec = spec(&format!("{policy}/late/wide/1"));
        spec.fault.fault = Some("before=completion:20,mode=late:500ms".parse().unwrap());
        run(&spec, &Tracer::none()).unwrap().host.false_completions
    };
    assert!(wrapped("bounded:100ms") > 0, "64 CPUs have gone once round the ring");
    assert_eq!(wrapped("amd"), 0);
}

#[test]
fn a_driver_that_hot_plug_has_told_lets_go_and_one_that_nobody_told_does_not() {
    let told = simulate("bounded:100ms/surprise/victim/1");
    assert_eq!(told.recovered, 1);
    assert!(told.zombie.max() < Duration::from_secs(1));
    let untold = simulate("bounded:100ms/silent/victim/1");
    assert_eq!(untold.recovered, 0);
    assert!(untold.zombie.max() > Duration::from_secs(100));
}

#[test]
fn removal_itself_waits_for_the_device_that_is_gone() {
    let result = simulate("linux/surprise/victim/1");
    assert!(result.zombie.max() >= RunSpec::ICT, "the driver is bound until ITE lets it go");
    let checked = simulate("linux-6.9/surprise/victim/1");
    assert!(checked.told.skipped.held + checked.told.skipped.dropped > 0);
}

#[test]
fn a_safe_removal_harms_nobody() {
    for policy in ["linux", "bounded:100ms", "quarantine:100ms"] {
        let result = simulate(&format!("{policy}/safe/strict/1"));
        assert_eq!((result.recovered, result.stale_accesses, result.hard_lockups), (1, 0, 0));
        assert!(result.interrupts_off.max() < Duration::from_millis(1));
    }
}

#[test]
fn a_reset_before_detaching_empties_the_atc_until_the_device_fills_it_again() {
    let reset = simulate("bounded:100ms/ignore-invalidate/detach/1").told.deadline_passed;
    assert!(
        reset.dropped > 0 && reset.held > 0,
        "a device that is attached may use its ATC: {reset:?}"
    );
    let unreset = simulate("bounded:100ms/ignore-invalidate/teardown/1").told.deadline_passed;
    assert!(unreset.held > unreset.dropped, "{unreset:?}");
}

#[test]
fn contained_and_flapping_devices_work_again() {
    for fault in ["dpc", "flap", "ignore-invalidate:30s"] {
        let result = simulate(&format!("bounded:100ms/{fault}/strict/1"));
        assert_eq!(result.recovered, 1, "{fault}");
    }
}

#[test]
fn a_watchdog_that_is_petted_sees_the_submitter_not_but_whoever_spins_on_its_lock() {
    let mut alone = spec("bounded+watchdog:1m30s/no-completion/victim/1");
    alone.unit.ict = Timeout::Never;
    let mut alone_result = run(&alone, &Tracer::none()).unwrap();
    assert_eq!(alone_result.hard_lockups, 0);
    assert!(alone_result.interrupts_off.max() >= Duration::from_secs(90));
    alone_result = simulate("bounded+watchdog:1m30s/no-completion/strict/1");
    assert!(alone_result.hard_lockups > 0, "two CPUs, one lock");
}

#[test]
fn the_same_spec_gives_the_same_events_and_the_same_result() {
    for id in [
        "linux/no-completion/strict/7",
        "bounded:100ms/slow/victim/7",
        "quarantine:100ms/lossy/sva/7",
    ] {
        let (first, second) = (record(&spec(id)), record(&spec(id)));
        assert!(first.0.len() > 100 && first == second, "{id}");
        assert_eq!(first.1, simulate(id), "with and without a sink: {id}");
        let other = id.replace("/7", "/8");
        assert_ne!(first.0, record(&spec(&other)).0, "{other}");
    }
}

#[test]
fn merging_knows_no_order_and_survives_being_written_and_read() {
    let results: Vec<RunResult> =
        (0..4).map(|seed| simulate(&format!("bounded:100ms/lossy/victim/{seed}"))).collect();
    let merge = |order: &[usize]| {
        let mut total = RunResult::default();
        order.iter().for_each(|index| total.merge(&results[*index]));
        total
    };
    let total = merge(&[0, 1, 2, 3]);
    assert_eq!(total, merge(&[3, 1, 0, 2]));
    let text = serde_json::to_string(&total).unwrap();
    let read: RunResult = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    assert_eq!((read.runs, read.stuck.count()), (total.runs, total.stuck.count()));
}

#[test]
fn earlier_names_of_faults_stand_for_the_rows_of_today() {
    for (earlier, name) in [
        ("hang", "no-completion"),
        ("deaf", "ignore-invalidate"),
        ("deaf:30s", "ignore-invalidate:30s"),
    ] {
        let run = spec(&format!("linux/{earlier}/strict/1"));
        assert_eq!(run.id().to_string(), format!("linux/{name}/strict/serial/1"));
    }
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let refused = |spec: &RunSpec| run(spec, &Tracer::none()).unwrap_err().to_string();
    let mut no_cpus = spec("linux/none/strict/1");
    no_cpus.workload.cpus = 0;
    assert!(
        refused(&no_cpus).contains("linux/none/strict/serial/1")
            && refused(&no_cpus).contains("CPUs")
    );
    let mut no_pasids = spec("linux/none/sva/1");
    no_pasids.unit.pasid_bits = None;
    assert!(refused(&no_pasids).contains("pasid_bits"));
    let mut guest = spec("linux/none/strict/1");
    guest.fault.fault = Some("on=doorbell,mode=silent".parse().unwrap());
    assert!(refused(&guest).contains("there is no guest"));
    let mut port = spec("linux/none/strict/1");
    port.fault.fault = Some("at=1s,port=rp9,mode=silent".parse().unwrap());
    assert!(refused(&port).contains("rp9"));
    let error = Catalog::default().spec(&"linux/none/nothing/1".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("'nothing'") && error.to_string().contains("strict"));
}

#[test]
fn in_lazy_mode_devices_use_pages_between_unmapping_and_flush_and_that_is_not_stale() {
    let lazy = simulate("linux/none/lazy/1");
    assert!(lazy.deferred_accesses > 0 && lazy.stale_accesses == 0, "{lazy:?}");
    assert!(lazy.deferred_age <= Duration::from_millis(11), "{:?}", lazy.deferred_age);
    assert_eq!(simulate("linux/none/strict/1").deferred_accesses, 0);
}

#[test]
fn whoever_asks_a_unit_that_is_gone_never_hears_of_it() {
    let gone = |policy: &str, text: &str| {
        let mut spec = spec(&format!("{policy}/none/strict/1"));
        spec.fault.fault = Some(text.parse().unwrap());
        run(&spec, &Tracer::none()).unwrap()
    };
    let linux = gone("linux", "at=1s,mode=all-ones-unit");
    assert!(linux.never_returned > 0 && linux.recovered == 0 && linux.hard_lockups > 0);
    let bounded = gone("bounded:100ms", "at=1s,mode=all-ones-unit");
    assert_eq!((bounded.never_returned, bounded.hard_lockups), (0, 0));
    assert!(bounded.told.deadline_passed.held > 0 && bounded.stale_accesses > 0);
}

#[test]
fn every_point_that_is_counted_can_be_waited_for() {
    for point in [
        "before=tail",
        "after=descriptors",
        "after=requests",
        "before=completion",
        "after=invalidations",
        "before=status",
        "after=dma",
    ] {
        let mut spec = spec("bounded:100ms/none/victim/1");
        spec.fault.fault = Some(format!("{point}:12,mode=silent").parse().unwrap());
        let result = run(&spec, &Tracer::none()).unwrap();
        assert_eq!(result.faulted, 1, "{point}");
        assert!(result.stuck.max() >= Duration::from_millis(100), "{point}");
    }
}

#[test]
fn behind_a_wait_with_fn_nothing_is_executed_before_it_is_done() {
    let parallel = |fence| {
        let mut spec = spec("linux/silent/victim/1");
        (spec.workload.fence, spec.unit.ordering) = (fence, Ordering::Parallel);
        run(&spec, &Tracer::none()).unwrap()
    };
    let (free, fenced) = (parallel(false), parallel(true));
    assert!(free.innocent.max() < Duration::from_secs(1), "{:?}", free.innocent.max());
    assert!(fenced.innocent.max() + fenced.waiting.max() > Duration::from_secs(80));
}

#[test]
fn all_functions_of_a_card_go_with_its_link_and_no_others() {
    let gone = simulate("present+bounded:100ms/surprise/ari/1");
    assert_eq!(
        (gone.faulted, gone.recovered, gone.zombie.count()),
        (1, 1, 16),
        "16 drivers let go"
    );
    let bound = simulate("bounded:100ms/silent/ari/1");
    assert_eq!(bound.zombie.count(), 16, "no driver is told");
    assert!(bound.stuck.max() >= Duration::from_millis(100));
}

#[test]
fn steps_grow_with_devices_and_no_faster() {
    let steps = |devices: u16| {
        let mut wide = spec("linux/none/wide/1");
        (wide.workload.devices, wide.workload.cpus, wide.workload.functions) =
            (devices, devices, 32);
        wide.unit =
            RunSpec::new(wide.policy.clone(), wide.fault.clone(), wide.workload.clone(), 1).unit;
        let result = run(&wide, &Tracer::none()).unwrap();
        assert_eq!(result.never_returned, 0, "{devices}");
        result.steps as f64 / f64::from(devices)
    };
    let (few, many) = (steps(16), steps(512));
    assert!((0.9..1.1).contains(&(many / few)), "{few} steps a device become {many}");
    let mut crowded = spec("linux/none/wide/1");
    crowded.workload.devices = 300;
    let error = run(&crowded, &Tracer::none()).unwrap_err().to_string();
    assert!(error.contains("240 cards") && error.contains("functions = "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Nothing is lost and nothing is counted twice, whatever the run.
    #[test]
    fn what_goes_in_comes_out(
        policy in 0_usize..64,
        fault in 0_usize..64,
        workload in 0_usize..6,
        seed: u64,
        parallel: bool,
        ict in prop_oneof![Just(Timeout::Never), Just(Timeout::After(Duration::from_secs(2)))],
    ) {
        let catalog = Catalog::default();
        let pick = |at: usize, length: usize| at % length;
        let mut spec = RunSpec::new(
            catalog.policies[pick(policy, catalog.policies.len())].clone(),
            catalog.faults[pick(fault, catalog.faults.len())].clone(),
            catalog.workloads[workload].clone(),
            seed,
        );
        spec.unit.ict = ict;
        spec.unit.ordering = if parallel { Ordering::Parallel } else { Ordering::Serial };
        let (events, result) = record(&spec);
        let count = |wanted: fn(&Event) -> bool| events.iter().filter(|e| wanted(&e.event)).count() as u64;
        let blocked = count(|event| matches!(event, Event::CpuBlocked { .. }));
        let released = count(|event| matches!(event, Event::CpuReleased { .. }));
        prop_assert_eq!(blocked, released + result.never_returned);
        prop_assert_eq!(released, result.stuck.count() + result.innocent.count());
        prop_assert_eq!(result.interrupts_off.count(), blocked);
        prop_assert_eq!(result.stale_accesses, count(|event| matches!(event, Event::StaleAccess { .. })));
        prop_assert_eq!(result.waiting.count(), result.never_returned);
        prop_assert!(result.stale_innocent <= result.stale_accesses);
        prop_assert!(result.stale_accesses == 0 || result.exposure.count() > 0, "used, and not exposed");
        prop_assert!(result.healthy.fenced + result.healthy.removed <= 2 * result.healthy.devices);
        let told: u64 = result.told.all().iter().map(|(_, told)| told.dropped + told.held).sum();
        prop_assert!(told >= released && told <= blocked);
        prop_assert!(events.is_sorted_by_key(|event| event.at));
        prop_assert_eq!(result.virtual_time, spec.horizon);
        prop_assert!(result.soft_lockups <= result.hard_lockups && result.hard_lockups <= blocked);
        if result.told.all().iter().all(|(verdict, told)| told.held == 0 || *verdict == Verdict::Quarantined) {
            prop_assert_eq!(result.stale_accesses, 0, "nothing was held, and nothing is stale");
        }
    }
}

#[test]
fn a_device_that_lies_is_stale_although_each_caller_is_told_of_success() {
    for fault in ["early", "byte-swap", "drop-at-next"] {
        for policy in ["linux", "quarantine:100ms"] {
            let result = simulate(&format!("{policy}/{fault}/strict/1"));
            let id = format!("{policy} {fault}");
            assert!(result.stale_accesses > 0 && result.told.completed.held > 0, "{id}");
            assert_eq!((result.never_returned, result.hard_lockups), (0, 0), "{id}");
        }
    }
}

#[test]
fn completions_that_are_merged_or_split_are_safe() {
    for fault in ["merge", "split"] {
        let result = simulate(&format!("linux/{fault}/strict/1"));
        assert!(result.completed_io > 40, "{fault}");
        assert_eq!((result.stale_accesses, result.never_returned), (0, 0), "{fault}");
        assert_eq!(result.host.false_completions, 0, "{fault}");
    }
}

#[test]
fn a_device_that_sleeps_is_present_and_mute() {
    let result = simulate("linux/sleep/victim/1");
    assert!(result.never_returned >= 1 && result.host.resubmitted >= 2);
    let result = simulate("quarantine:100ms/sleep:30s/victim/1");
    assert_eq!((result.stale_accesses, result.never_returned), (0, 0));
}

#[test]
fn a_device_that_resets_slowly_is_used_again_when_it_is_ready() {
    let (events, result) = record(&spec("linux/slow-reset/detach/1"));
    let victim = iommu::ids::Bdf::new(1, 0, 0);
    let injected = |event: &Event| matches!(event, Event::FaultInjected { .. });
    let reset = Event::DriverReset { function: victim };
    let dma = |event: &Event| matches!(event, Event::Dma { function, .. } if *function == victim);
    let mut later = events.iter().skip_while(|timed| !injected(&timed.event));
    let reset = later.find(|timed| timed.event == reset).unwrap();
    let next = later.find(|timed| dma(&timed.event)).unwrap();
    assert!(next.at - reset.at >= Duration::from_secs(2), "{:?}", next.at - reset.at);
    assert_eq!(result.stale_accesses, 0);
}
