//! What people and spreadsheets read, byte for byte. What is measured follows from the seeds alone, so that a
//! change here is a change of the simulation or of the format: look at it, and if it is meant, let
//! `GHOSTLINK_BLESS=1 cargo test -p vmm --lib snapshot` write it down.

use std::path::Path;

use devices::sim::{self, Catalog};
use iommu::event::Tracer;

use super::matrix::{Matrix, Selection};
use super::record::Record;
use super::{Summary, csv, table};

fn summary() -> Summary {
    let names = |names: &str| names.split(' ').map(str::to_owned).collect();
    let selection = Selection {
        policies: names("linux-7.0 bounded:100ms xen-4.15 quarantine:100ms"),
        faults: names("none silent deaf late"),
        workloads: names("lazy victim"),
        seeds: Some(2),
        ..Selection::default()
    };
    let matrix = Matrix::new(&Catalog::default(), &selection).unwrap();
    let [policies, faults, workloads] = matrix.names();
    let mut summary = Summary::new(policies, faults, workloads);
    for place in 0..matrix.len() {
        let spec = matrix.spec(place).unwrap();
        let result = sim::run(&spec, &Tracer::none()).unwrap();
        assert!(summary.add(&Record::new(&spec, result)));
    }
    summary
}

fn compare(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lab/snapshots").join(name);
    if std::env::var_os("GHOSTLINK_BLESS").is_some() {
        return std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, expected, "{} is not as it was", path.display());
}

#[test]
fn snapshot_of_the_table_and_of_the_cells() {
    let summary = summary();
    compare("table.txt", &(table::text(&summary, false) + "\n"));
    let mut cells = Vec::new();
    csv::write(&summary, &mut cells).unwrap();
    compare("cells.csv", &String::from_utf8(cells).unwrap());
}
