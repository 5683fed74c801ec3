//! How fast simulations run: the matrix of all policies and faults, run by run, and machines of
//! 1 to 240 devices. `cargo run --release -p devices --example simulation_speed`

use std::time::{Duration, Instant};

use devices::sim::{Catalog, RunResult, RunSpec, run};
use iommu::event::Tracer;

fn main() {
    let catalog = Catalog::default();
    let seeds: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    println!("workload   runs  steps/run    µs/run  ns/step   recovered  stale  lock-ups");
    for workload in &catalog.workloads {
        let (mut total, start) = (RunResult::default(), Instant::now());
        for policy in &catalog.policies {
            for fault in &catalog.faults {
                for seed in 0..seeds {
                    let spec = RunSpec::new(policy.clone(), fault.clone(), workload.clone(), seed);
                    total.merge(&simulate(&spec));
                }
            }
        }
        let time = start.elapsed();
        println!(
            "{:10} {:5} {:9} {:9.1} {:8.0} {:11} {:6} {:9}",
            workload.name,
            total.runs,
            total.steps / total.runs,
            micros(time) / total.runs as f64,
            micros(time) * 1000.0 / total.steps as f64,
            total.recovered,
            total.stale_accesses,
            total.hard_lockups,
        );
    }
    println!("devices    steps    µs/run  ns/step");
    let wide = catalog.workload("wide").expect("it is built in");
    for devices in [1, 2, 4, 16, 64, 128, 240] {
        let mut workload = wide.clone();
        (workload.devices, workload.cpus) = (devices, devices);
        let policy = "linux".parse().expect("it is built in");
        let fault = catalog.fault("none").expect("it is built in").clone();
        let spec = RunSpec::new(policy, fault, workload, 1);
        let start = Instant::now();
        let result = simulate(&spec);
        let time = micros(start.elapsed());
        let per_step = time * 1000.0 / result.steps as f64;
        println!("{devices:7} {:8} {time:9.1} {per_step:8.0}", result.steps);
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn simulate(spec: &RunSpec) -> RunResult {
    run(spec, &Tracer::none()).unwrap_or_else(|error| panic!("{}: {error}", spec.id()))
}
