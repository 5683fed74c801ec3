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

/// The comparison that README.md and `docs/policies.md` quote.
fn documented(unit: &str) -> Summary {
    summary(&Selection {
        faults: names("none silent surprise ignore-invalidate slow:50ms late flap:keep"),
        workloads: names("strict teardown"),
        seeds: Some(1),
        units: names(unit),
        ..Selection::default()
    })
}

#[test]
fn readme_shows_rows_of_what_the_program_prints() {
    let table = table::text(&documented("serial"), false);
    let readme = include_str!("../../../README.md");
    let block = readme.split("```").find(|block| block.contains("| live | safe |")).unwrap();
    let known = |line: &str| table.lines().any(|other| other == line);
    let unknown: Vec<_> = block.trim().lines().filter(|line| !known(line)).collect();
    assert!(unknown.is_empty(), "{unknown:#?} is not in\n{table}");
}

#[test]
fn policies_md_has_the_longest_waits() {
    let text = include_str!("../../../docs/policies.md");
    let (serial, parallel) = text.split_once("completes waits out of order** the same").unwrap();
    for (unit, text) in [("serial", serial), ("parallel", parallel)] {
        let summary = documented(unit);
        let rows: Vec<_> = (0..summary.policies.len()).map(|at| waits(&summary, at)).collect();
        let quoted = |line: &&str| line.starts_with("| `") && line.matches('|').count() == 9;
        let header = |line: &&str| line.contains("`none`");
        for line in text.lines().filter(quoted).filter(|line| !header(line)) {
            assert!(rows.iter().any(|row| row == line), "'{line}' is none of {rows:#?}");
        }
    }
}

/// A policy's row there: the longest wait of any caller under each fault.
fn waits(summary: &Summary, policy: usize) -> String {
    let mut row = format!("| `{}` |", summary.policies[policy]);
    for fault in 0..summary.faults.len() {
        let totals = summary.fault(policy, fault);
        let seconds = totals.sum.stuck.max().max(totals.sum.innocent.max()).as_secs_f64();
        row += &match seconds {
            _ if totals.lost_runs > 0 => " never".to_owned(),
            10.0.. => format!(" {seconds:.0} s"),
            1.0.. => format!(" {seconds:.1} s"),
            0.001.. => format!(" {:.0} ms", seconds * 1e3),
            _ => format!(" {:.0} µs", seconds * 1e6),
        };
        row += if totals.is_safe() { " |" } else { " **!** |" };
    }
    row
}
