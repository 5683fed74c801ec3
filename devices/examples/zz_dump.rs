use devices::sim::{Catalog, RunSpec, run};
use iommu::event::Tracer;
fn main() {
    let catalog = Catalog::default();
    for ordering in [iommu::unit::Ordering::Serial, iommu::unit::Ordering::Parallel] {
        for workload in catalog.workloads.iter().filter(|w| w.name != "wide" && w.name != "ari") {
            for policy in &catalog.policies {
                for fault in catalog.faults.iter().take(18) {
                    for seed in 0..2 {
                        let mut spec =
                            RunSpec::new(policy.clone(), fault.clone(), workload.clone(), seed);
                        spec.unit.ordering = ordering;
                        let r = run(&spec, &Tracer::none()).unwrap();
                        println!("{} {}", spec.id(), serde_json::to_string(&r).unwrap());
                    }
                }
            }
        }
    }
}
