//! The processor time of simulations: the matrix of all policies and faults for each workload, and
//! machines of 1 to 4096 devices, and of 2 to 128 CPUs for each of two devices.
//!
//! `cargo run --release -p lab --example simulation_speed [-- WORKLOAD.. | devices | cpus | NUMBER..]`:
//! only these workloads, only the machines, or only machines of so many devices.

use iommu::event::Tracer;
use lab::sim::{Catalog, RunResult, RunSpec, Workload, run};

fn main() {
    let catalog = Catalog::default();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let sizes: Vec<u16> = wanted.iter().filter_map(|word| word.parse().ok()).collect();
    if !sizes.is_empty() {
        return devices(&catalog, &sizes);
    }
    println!("workload   runs  steps/run    µs/run  ns/step  recovered  stale  lock-ups");
    for workload in catalog.workloads.iter().filter(|workload| is_wanted(&workload.name)) {
        let (total, time) = matrix(&catalog, workload);
        println!(
            "{:10} {:5} {:9} {:9.1} {:8.0} {:10} {:6} {:9}",
            workload.name,
            total.runs,
            total.steps / total.runs,
            time as f64 / 1000.0 / total.runs as f64,
            time as f64 / total.steps as f64,
            total.recovered,
            total.stale_accesses,
            total.hard_lockups,
        );
    }
    if is_wanted("cpus") {
        cpus(&catalog, &[2, 8, 16, 64, 128]);
    }
    if is_wanted("devices") {
        devices(&catalog, &[1, 4, 16, 64, 256, 1024, 4096]);
    }
}

/// All policies against all faults, once each.
fn matrix(catalog: &Catalog, workload: &Workload) -> (RunResult, u64) {
    let (mut total, start) = (RunResult::default(), cpu_nanos());
    for policy in &catalog.policies {
        for fault in &catalog.faults {
            let spec = RunSpec::new(policy.clone(), fault.clone(), workload.clone(), 0);
            total.merge(&simulate(&spec));
        }
    }
    (total, cpu_nanos() - start)
}

/// Two devices with more and more CPUs each, healthy and with a device that is gone.
fn cpus(catalog: &Catalog, sizes: &[u16]) {
    println!("run                                        steps  steps/I/O    µs/run  ns/step");
    for id in ["linux/none/strict", "bounded:100ms/silent/strict", "quarantine:100ms/silent/strict"]
    {
        for cpus in sizes {
            let id = format!("{id}@{cpus}/serial/1");
            let spec = catalog.spec(&id.parse().expect("it has all parts")).expect("built in");
            let (mut total, start) = (RunResult::default(), cpu_nanos());
            while total.runs == 0 || cpu_nanos() - start < 100_000_000 {
                total.merge(&simulate(&spec));
            }
            let time = (cpu_nanos() - start) as f64;
            let waits = total.stuck.count() + total.innocent.count();
            println!(
                "{id:40} {:7} {:10.1} {:9.1} {:8.0}",
                total.steps / total.runs,
                total.steps as f64 / waits as f64,
                time / 1000.0 / total.runs as f64,
                time / total.steps as f64,
            );
        }
    }
}

/// A healthy machine, from small to large: a device for each CPU, 32 on a card.
fn devices(catalog: &Catalog, sizes: &[u16]) {
    println!("devices    steps  runs    µs/run  ns/step  peak MiB");
    for &devices in sizes {
        let mut workload = catalog.workload("wide").expect("it is built in");
        (workload.devices, workload.cpus, workload.functions) = (devices, devices, 32);
        let policy = "linux".parse().expect("it is built in");
        let fault = catalog.fault("none").expect("it is built in");
        let spec = RunSpec::new(policy, fault, workload, 1);
        let (mut total, start) = (RunResult::default(), cpu_nanos());
        while total.runs == 0 || cpu_nanos() - start < 300_000_000 {
            total.merge(&simulate(&spec));
        }
        let time = (cpu_nanos() - start) as f64;
        println!(
            "{devices:7} {:8} {:5} {:9.1} {:8.0} {:9}",
            total.steps / total.runs,
            total.runs,
            time / 1000.0 / total.runs as f64,
            time / total.steps as f64,
            peak_mib(),
        );
    }
}

fn simulate(spec: &RunSpec) -> RunResult {
    run(spec, &Tracer::none()).unwrap_or_else(|error| panic!("{}: {error}", spec.id()))
}

/// Time that this process has had a processor for, whatever else the machine does.
fn cpu_nanos() -> u64 {
    // Linux counts when it switches.
    std::thread::yield_now();
    let statistics = std::fs::read_to_string("/proc/self/schedstat").expect("Linux has it");
    let nanos = statistics.split(' ').next().and_then(|field| field.parse().ok());
    nanos.expect("the first field is a number")
}

/// The most memory that this process has had at once, so far.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("it is a number of kB") / 1024
}
