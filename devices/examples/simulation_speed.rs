//! What simulations cost in processor time: the matrix of all policies and faults for each workload,
//! and machines of 1 to 240 devices.
//!
//! `cargo run --release -p devices --example simulation_speed [-- WORKLOAD..]`

use devices::sim::{Catalog, RunResult, RunSpec, Workload, run};
use iommu::event::Tracer;

fn main() {
    let catalog = Catalog::default();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
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
    if is_wanted("devices") {
        devices(&catalog);
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

/// A healthy machine, from small to large.
fn devices(catalog: &Catalog) {
    println!("devices    steps    µs/run  ns/step");
    for devices in [1, 2, 4, 16, 64, 128, 240] {
        let mut workload = catalog.workload("wide").expect("it is built in").clone();
        (workload.devices, workload.cpus) = (devices, devices);
        let policy = "linux".parse().expect("it is built in");
        let fault = catalog.fault("none").expect("it is built in").clone();
        let spec = RunSpec::new(policy, fault, workload, 1);
        let start = cpu_nanos();
        let result = simulate(&spec);
        let time = cpu_nanos() - start;
        let (micros, per_step) = (time as f64 / 1000.0, time as f64 / result.steps as f64);
        println!("{devices:7} {:8} {micros:9.1} {per_step:8.0}", result.steps);
    }
}

fn simulate(spec: &RunSpec) -> RunResult {
    run(spec, &Tracer::none()).unwrap_or_else(|error| panic!("{}: {error}", spec.id()))
}

/// Time that this process has had a processor for, whatever else the machine does.
fn cpu_nanos() -> u64 {
    let statistics = std::fs::read_to_string("/proc/self/schedstat").expect("Linux has it");
    let nanos = statistics.split(' ').next().and_then(|field| field.parse().ok());
    nanos.expect("the first field is a number")
}
