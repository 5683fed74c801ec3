//! The main test: a device with cached translations stops answering, and the driver flushes.
//!
//! ```text
//!   CPU 0   set up - cache a page - healthy flushes - doorbell - measured flush - report
//!   CPU 1                                    flushes of the neighbour's page, in a loop
//!   CPU 2..                                  with `cpus_each=`: more flushes for both devices
//! ```
//!
//! Each outcome of the measured flush is a result. Only the steps before it can fail.

mod costs;
mod crowd;
mod domain;
mod neighbor;
mod rig;
mod settings;

use crate::bench::{self, Metric};
use crate::cmdline::Cmdline;
use crate::ktap::{Ktap, Verdict};
use crate::machine::smp::Work;
use crate::machine::time::{self, Deadline, Ticks, delay};
use crate::machine::{exit, smp};
use crate::pci::{Bdf, config};
use crate::println;
use crate::vtd::Flush;

use crowd::Crowd;
use neighbor::Neighbor;
use rig::{Rig, Target};
use settings::{Drop, MAX_CPUS_EACH, MAX_FLUSHES, Scenario, Settings};

/// Runs the scenario of the command line.
pub fn run(cmdline: &Cmdline) -> ! {
    let settings = match Settings::parse(cmdline) {
        Ok(settings) => settings,
        Err(reason) => {
            println!("# {reason}");
            exit::exit(exit::USAGE)
        }
    };
    let cpus = smp::start();
    let mut ktap = Ktap::start(5);
    println!("# drop: {settings}, {cpus} cpus, TSC {} kHz", time::khz());
    if let Err((name, reason)) = run_steps(&settings, cpus, &mut ktap) {
        ktap.result(name, Verdict::Fail(reason));
    }
    ktap.finish()
}

/// Runs the steps in order. The error is the name of the step that failed, and the reason.
fn run_steps(
    settings: &Settings,
    cpus: usize,
    ktap: &mut Ktap,
) -> Result<(), (&'static str, &'static str)> {
    let rig = Rig::new(settings.timeout_policy).map_err(|reason| ("unit", reason))?;
    ktap.result("unit", Verdict::Pass);

    rig.prove_dma().map_err(|reason| ("dma", reason))?;
    ktap.result("dma", Verdict::Pass);

    measure_healthy(&rig, settings).map_err(|reason| ("healthy_flushes", reason))?;
    if settings.costs {
        costs::measure(&rig, settings.give_up).map_err(|reason| ("healthy_flushes", reason))?;
    }
    ktap.result("healthy_flushes", Verdict::Pass);

    let has_neighbor = rig.neighbor.is_some() && cpus > settings.cpus_each;
    if cpus < settings.cpus_each * if has_neighbor { 2 } else { 1 } {
        return Err(("measured_flush", "there are fewer CPUs than cpus_each= asks for"));
    }
    let neighbor = rig.neighbor.as_ref().filter(|_| has_neighbor);
    let neighbor = neighbor.map(|target| Neighbor::new(&rig.queue, target, settings));
    let crowd = Crowd::new(&rig.queue, &rig.victim, settings.give_up);
    let measured = measure_beside(&rig, settings, neighbor.as_ref(), &crowd);
    let (verdict, flush) = measured.map_err(|reason| ("measured_flush", reason))?;
    report_measured(&rig.victim, &flush, neighbor.as_ref());
    if settings.cpus_each > 1 {
        crowd.report();
    }
    ktap.result("measured_flush", verdict);

    match neighbor {
        Some(neighbor) => {
            neighbor.report();
            ktap.result("neighbor", Verdict::Pass);
        }
        None => ktap.result("neighbor", Verdict::Skip("needs two endpoints and two CPUs")),
    }
    Ok(())
}

fn measure_healthy(rig: &Rig, settings: &Settings) -> Result<(), &'static str> {
    let mut times = [Ticks::default(); MAX_FLUSHES];
    let times = &mut times[..settings.flushes];
    for time in times.iter_mut() {
        let flush = rig.victim.flush(&rig.queue, settings.give_up);
        if !flush.is_healthy() {
            return Err("a flush failed although the link is up");
        }
        *time = flush.time;
    }
    rig.victim.expect_empty_atc()?;
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("# healthy: {} flushes, median {median}, longest {longest}", times.len());
    bench::report(Metric::HealthyMedianNs, median.as_ns());
    bench::report(Metric::HealthyMaximumNs, longest.as_ns());
    Ok(())
}

/// Makes the measured flush on CPU 0 while the other CPUs do their work: first those of the
/// neighbour, and then those of the victim.
fn measure_beside(
    rig: &Rig,
    settings: &Settings,
    neighbor: Option<&Neighbor<'_>>,
    crowd: &Crowd<'_>,
) -> Result<(Verdict, Flush), &'static str> {
    let body = || {
        neighbor.inspect(|neighbor| neighbor.wait_until_busy());
        let measured = measure(rig, settings, crowd);
        // They wait for a flush that has not been made after an error.
        crowd.begin();
        neighbor.inspect(|neighbor| neighbor.stop());
        measured
    };
    let run = || _ = neighbor.inspect(|neighbor| neighbor.run());
    let disturb = [1, 2, 3].map(|number| move || _ = neighbor.inspect(|it| it.disturb(number)));
    let flush = [1, 2, 3].map(|number| move || crowd.run(number));
    let others = settings.cpus_each - 1;
    let mut work: [Work<'_>; 2 * MAX_CPUS_EACH - 1] = [&|| (); _];
    let mut workers = 0;
    let mut add = |job| {
        work[workers] = job;
        workers += 1;
    };
    if neighbor.is_some() {
        add(&run);
        disturb[..others].iter().for_each(|job| add(job));
    }
    flush[..others].iter().for_each(|job| add(job));
    smp::beside(&work[..workers], body)
}

/// Has the page cached again, lets the link drop, and makes the measured flush.
fn measure(
    rig: &Rig,
    settings: &Settings,
    crowd: &Crowd<'_>,
) -> Result<(Verdict, Flush), &'static str> {
    rig.victim.cache_page()?;
    let flush = || {
        if settings.unmap {
            rig.victim.unmap();
        }
        let flush = rig.victim.flush_and(&rig.queue, settings.give_up, || crowd.begin());
        if settings.unmap {
            touch_after_flush(&rig.victim);
        }
        flush
    };
    match (settings.scenario, settings.drop) {
        (Scenario::Healthy, _) => Ok((Verdict::Pass, flush())),
        (Scenario::Silent, Drop::Doorbell) if !bench::present() => {
            Ok((Verdict::Skip("no bench port, so the link stays up"), flush()))
        }
        (Scenario::Silent, Drop::Doorbell) => {
            const DROP_FIRST_LINK: u32 = 1;
            bench::ring_doorbell(DROP_FIRST_LINK);
            Ok((Verdict::Pass, flush()))
        }
        (Scenario::Silent, Drop::Wait) => flush_until_dropped(rig, settings),
    }
}

/// The device writes to its page some more times, as devices do that prefetch, retry or malfunction.
/// The times are those of the simulation that `ghostlink validate` compares with.
fn touch_after_flush(victim: &Target) {
    for _ in 0..4 {
        delay(Ticks::from_ms(30));
        victim.touch();
    }
}

/// Flushes every 10 ms. The measured flush is the first one that begins after the device is gone,
/// or that fails.
fn flush_until_dropped(rig: &Rig, settings: &Settings) -> Result<(Verdict, Flush), &'static str> {
    let patience = Deadline::after(settings.wait);
    while !patience.passed() {
        let gone = !config::is_present(rig.victim.bdf());
        let flush = rig.victim.flush(&rig.queue, settings.give_up);
        if gone || !flush.is_healthy() {
            return Ok((Verdict::Pass, flush));
        }
        rig.victim.cache_page().ok();
        delay(Ticks::from_ms(10));
    }
    Err("the link did not drop in time (wait_ms)")
}

fn report_measured(victim: &Target, flush: &Flush, neighbor: Option<&Neighbor<'_>>) {
    let waits_aborted = flush.waits_aborted + neighbor.map_or(0, Neighbor::waits_aborted);
    let timeouts = flush.timeouts + neighbor.map_or(0, Neighbor::timeouts);
    // Either processor may have handled the ITE.
    let source = match neighbor {
        Some(neighbor) if flush.timeouts == 0 => neighbor.first_source(),
        _ => flush.last_source,
    };
    let (outcome, time) = (flush.outcome.name(), flush.time);
    println!("# measured: {outcome} after {time}, {} resubmissions", flush.resubmissions);
    println!("# {timeouts} ITE, source {}; {waits_aborted} waits aborted", Bdf(source));
    if config::is_present(victim.bdf()) {
        println!("# {} still answers", victim.bdf());
    }
    bench::report(Metric::Outcome, flush.outcome as u64);
    bench::report(Metric::GuestStallNs, time.as_ns());
    bench::report(Metric::FirstAttemptNs, flush.first_attempt.as_ns());
    bench::report(Metric::Timeouts, timeouts.into());
    bench::report(Metric::TimeoutSource, source.into());
    bench::report(Metric::WaitsAborted, waits_aborted.into());
    bench::report(Metric::Resubmissions, flush.resubmissions.into());
}
