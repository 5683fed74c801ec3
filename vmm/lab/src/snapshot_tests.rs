//! Snapshots of the table and of the CSV file, and the rows that the documentation quotes. Results depend
//! on the seeds alone, so that a difference is a change of the simulation or of the format. If it is meant, let
//! `GHOSTLINK_BLESS=1 cargo test -p lab snapshot` write it down.

use std::path::Path;

use crate::sim::{self, Catalog};
use iommu::event::Tracer;

use super::matrix::{Matrix, Selection};
use super::record::Record;
use super::seeds::Round;
use super::shard::Shard;
use super::{Summary, csv, table};

fn names(names: &str) -> Vec<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

fn summary(selection: &Selection) -> Summary {
    let matrix = Matrix::new(&Catalog::default(), selection).unwrap();
    let mut summary = Summary::new(&matrix);
    let round = Round::first(matrix.seeds, matrix.cells_with_runs(), Shard::WHOLE);
    for place in (0..round.runs()).filter_map(|nth| round.run(nth)) {
        let spec = matrix.spec(place).unwrap();
        let result = sim::run(&spec, &Tracer::none()).unwrap();
        assert!(summary.add(&Record::new(&spec, result)));
    }
    summary
}

fn compare(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/snapshots").join(name);
    if std::env::var_os("GHOSTLINK_BLESS").is_some() {
        return std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, expected, "{} is not as it was", path.display());
}

#[test]
fn snapshot_of_the_table_and_of_the_cells() {
    let summary = summary(&Selection {
        policies: names("linux-7.0 bounded:100ms xen-4.15 quarantine:100ms"),
        faults: names("none silent ignore-invalidate late"),
        workloads: names("lazy victim"),
        seeds: Some(2),
        ..Selection::default()
    });
    compare("table.txt", &table::text(&summary, false));
    let mut cells = Vec::new();
    csv::write(&summary, &mut cells).unwrap();
    compare("cells.csv", &String::from_utf8(cells).unwrap());
}

/// The comparison that README.md shows.
#[test]
fn readme_shows_what_the_program_prints() {
    let summary = summary(&Selection {
        policies: names(
            "linux-6.12-unmap linux-7.0-unmap bounded:100ms quarantine:100ms \
             block-translation:100ms late-removal:100ms flr:100ms amd riscv-ats-broken xen-4.15",
        ),
        workloads: names("strict"),
        seeds: Some(2),
        ..Selection::default()
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once("```\nstrict on unit").expect("a table is in README.md");
    let (_, after) = rest.split_once("```").unwrap();
    let expected = format!("{before}```\n{}```{after}", table::text(&summary, false));
    if std::env::var_os("GHOSTLINK_BLESS").is_some() {
        return std::fs::write(&path, expected).unwrap();
    }
    assert_eq!(readme, expected, "README.md is not as the program prints it");
}
