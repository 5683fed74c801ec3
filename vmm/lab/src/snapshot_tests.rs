//! Snapshots of the table and of the CSV file, and the rows that the documentation quotes. Results depend
//! on the seeds alone, so that a difference is a change of the simulation or of the format. If it is meant, let
//! `GHOSTLINK_BLESS=1 cargo test -p lab snapshot` write it down.

use std::path::Path;

use crate::sim::{self, Catalog};
use iommu::event::Tracer;

use super::matrix::{Matrix, Selection};
use super::record::Record;
use super::{Summary, csv, table};

fn names(names: &str) -> Vec<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

fn summary(selection: &Selection) -> Summary {
    let matrix = Matrix::new(&Catalog::default(), selection).unwrap();
    let mut summary = Summary::new(matrix.names());
    for place in 0..matrix.len() {
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
    compare("table.txt", &(table::text(&summary, false) + "\n"));
    let mut cells = Vec::new();
    csv::write(&summary, &mut cells).unwrap();
    compare("cells.csv", &String::from_utf8(cells).unwrap());
}

/// The comparison that README.md quotes.
fn documented() -> Summary {
    summary(&Selection {
        faults: names("none silent surprise ignore-invalidate slow:50ms late flap:keep"),
        workloads: names("strict teardown"),
        seeds: Some(1),
        ..Selection::default()
    })
}

#[test]
fn readme_shows_rows_of_what_the_program_prints() {
    let table = table::text(&documented(), false);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let block = readme.split("```").find(|block| block.contains("| live | safe |")).unwrap();
    if std::env::var_os("GHOSTLINK_BLESS").is_some() {
        let first = |line: &str| line.split('|').nth(1).map(|cell| cell.trim().to_owned());
        let row = |line: &str| {
            let same = table.lines().find(|other| first(other) == first(line));
            same.unwrap_or(line).to_owned()
        };
        let rows: Vec<String> = block.trim_matches('\n').lines().map(row).collect();
        let rows = rows
            .join("\n")
            .replace(block.trim().lines().nth(1).unwrap(), table.lines().nth(1).unwrap());
        return std::fs::write(&path, readme.replace(block.trim_matches('\n'), &rows)).unwrap();
    }
    let known = |line: &str| table.lines().any(|other| other == line);
    let unknown: Vec<_> = block.trim().lines().filter(|line| !known(line)).collect();
    assert!(unknown.is_empty(), "{unknown:#?} is not in\n{table}");
}
