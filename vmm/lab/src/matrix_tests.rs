//! Tests which runs a selection names.

use super::*;
use crate::seeds::Round;
use crate::shard::Shard;

/// All runs of a matrix with a fixed number of seeds.
fn ids(matrix: &Matrix) -> Vec<RunId> {
    let round = Round::first(matrix.seeds, matrix.cells_with_runs(), Shard::WHOLE);
    let places = (0..round.runs()).map(|nth| round.run(nth).unwrap());
    places.map(|place| matrix.id(place).unwrap()).collect()
}

fn selection(policies: &[&str], seeds: u64) -> Selection {
    let policies = policies.iter().map(|name| (*name).to_owned()).collect();
    Selection { policies, seeds: Some(seeds), ..Selection::default() }
}

#[test]
fn runs_are_in_the_order_of_their_rows_and_each_is_there_once() {
    let catalog = Catalog::default();
    let matrix = Matrix::new(&catalog, &selection(&["linux", "amd"], 3)).unwrap();
    let ids: Vec<RunId> = ids(&matrix);
    // amd exists with no unit that is parallel.
    let machines = 2 * (WORKLOADS.len() + 2) + 1;
    assert_eq!(ids.len(), machines * catalog.faults.len() * 3);
    assert_eq!(matrix.id(Place { cell: matrix.cells(), seed: 0 }), None);
    let first: Vec<u64> = ids.iter().take(4).map(|id| id.seed).collect();
    assert_eq!(first, [0, 1, 2, 0]);
    assert_eq!((&*ids[0].policy, &*ids[ids.len() - 1].policy), ("linux", "amd"));
    let different: std::collections::HashSet<&RunId> = ids.iter().collect();
    assert_eq!(different.len(), ids.len());
}

#[test]
fn units_and_cpus_for_each_device_are_axes() {
    let own = UnitRow {
        name: "impatient".into(),
        ict: Some("1s".parse().unwrap()),
        ..UnitRow::default()
    };
    let mut catalog = Catalog::default();
    catalog.units.push(own);
    let selection = Selection {
        faults: vec!["silent".into()],
        workloads: vec!["strict".into(), "lazy".into()],
        units: vec!["parallel".into(), "impatient".into()],
        cpus_per_device: vec![2, 16],
        ict: Some("3s".parse().unwrap()),
        ..selection(&["linux"], 1)
    };
    let matrix = Matrix::new(&catalog, &selection).unwrap();
    let ids: Vec<String> = ids(&matrix).iter().map(RunId::to_string).collect();
    assert_eq!(ids.len(), 8);
    assert_eq!(ids[0], "linux/silent/strict@2/parallel/0");
    assert_eq!(ids[3], "linux/silent/strict@16/impatient/0");
    let spec = |cell| matrix.spec(Place { cell, seed: 0 }).unwrap();
    assert_eq!((spec(0).workload.cpus, spec(3).workload.cpus), (4, 32));
    let icts = [0, 3].map(|place| spec(place).unit.ict.to_string());
    assert_eq!(icts, ["3s", "1s"], "a row's own time-out precedes the one of the comparison");
    // A name alone says the same.
    let id = ids[3].parse().unwrap();
    assert_eq!(matrix.machine.spec(&catalog, &id).unwrap(), spec(3));
}

#[test]
fn impossible_axes_are_refused_with_the_value() {
    let refused = |workload: &str, units: &[&str], cpus: &[u16]| {
        let selection = Selection {
            workloads: vec![workload.to_owned()],
            units: units.iter().map(|name| (*name).to_owned()).collect(),
            cpus_per_device: cpus.to_vec(),
            ..selection(&["linux"], 1)
        };
        Matrix::new(&Catalog::default(), &selection).unwrap_err().to_string()
    };
    assert!(refused("strict", &["serail"], &[]).contains("did you mean 'serial'?"));
    assert!(refused("strict", &["serial", "serial"], &[]).contains("'serial' is named twice"));
    assert!(refused("strict", &[], &[0]).contains("0 CPUs"));
    assert!(refused("strict", &[], &[2, 2]).contains("2 CPUs"));
    assert!(refused("strict@4", &[], &[2]).contains("'strict@4'"));
    for number in ["0", "-1", "many", "", "70000"] {
        let error = refused(&format!("strict@{number}"), &[], &[]);
        assert!(error.contains(&format!("'{number}'")) && error.contains("strict@16"));
    }
    assert!(refused("stritc@4", &[], &[]).contains("did you mean 'strict'?"));
}

#[test]
fn names_that_are_none_are_refused_with_one_that_may_be_meant() {
    let refused = |names: &[&str], seeds| {
        Matrix::new(&Catalog::default(), &selection(names, seeds)).unwrap_err().to_string()
    };
    let error = refused(&["linus"], 1);
    assert!(error.contains("'linus'") && error.contains("did you mean 'linux'?"), "{error}");
    assert!(refused(&["amd", "amd"], 1).contains("'amd' is named twice"));
    assert!(refused(&["amd"], 0).contains("0 seeds"));
    // The cost grows with the CPUs: more of them, and each cell gets fewer seeds.
    let precision = |cpus: &[u16]| {
        let selection = Selection { cpus_per_device: cpus.to_vec(), ..Selection::default() };
        Matrix::new(&Catalog::default(), &selection).unwrap().seeds
    };
    assert_ne!(precision(&[2]), precision(&[64]));
    // A preset with a duration of one's own is as good as a row.
    let matrix = Matrix::new(&Catalog::default(), &selection(&["bounded:7ms"], 1)).unwrap();
    assert_eq!(matrix.policies[0].name, "bounded:7ms");
}

#[test]
fn a_policy_is_not_run_with_a_unit_or_on_a_path_that_it_does_not_describe() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let select = |policies: &[&str], workloads: &[&str], units: &[&str]| Selection {
        policies: names(policies),
        faults: names(&["none"]),
        workloads: names(workloads),
        units: names(units),
        seeds: Some(1),
        ..Selection::default()
    };
    let runs = |selection: &Selection| -> Result<Vec<String>, String> {
        let matrix = Matrix::new(&Catalog::default(), selection).map_err(|e| e.to_string())?;
        Ok(ids(&matrix).iter().map(RunId::to_string).collect::<Vec<_>>())
    };
    let has = |runs: &[String], run: &str| runs.iter().any(|other| other.starts_with(run));
    let usual = runs(&select(&[], &[], &[])).unwrap();
    assert!(has(&usual, "linux-7.0-unmap/none/strict/"), "{usual:?}");
    assert!(has(&usual, "linux-7.0-unmap/none/lazy/"));
    assert!(!has(&usual, "linux-7.0-unmap/none/teardown/"));
    assert!(has(&usual, "linux-7.0-teardown/none/teardown/"));
    assert!(!has(&usual, "linux-7.0-teardown/none/strict/"));
    // One axis at a time.
    for run in ["strict/parallel/", "strict/blocking/", "strict@16/serial/"] {
        assert!(has(&usual, &format!("linux-7.0-unmap/none/{run}")), "{run}");
    }
    for run in ["lazy/parallel/", "lazy/blocking/", "strict@16/parallel/"] {
        assert!(!has(&usual, &format!("linux-7.0-unmap/none/{run}")), "{run}");
    }
    let chosen = runs(&select(&[], &["strict"], &[])).unwrap();
    assert!(!has(&chosen, "linux-7.0-unmap/none/strict/parallel/"));
    let chosen = runs(&select(&[], &[], &["serial", "parallel"])).unwrap();
    assert!(has(&chosen, "linux-7.0-unmap/none/lazy/parallel/"));
    assert!(!has(&chosen, "linux-7.0-unmap/none/strict@16/"));
    assert!(has(&usual, "amd/none/strict/serial/"));
    let parallel = runs(&select(&[], &[], &["parallel"])).unwrap();
    assert!(!has(&parallel, "amd/") && has(&parallel, "vt-d-sequence:100ms/"));
    // What was named on both sides is run.
    let asked = runs(&select(&["amd"], &["strict"], &["parallel"])).unwrap();
    assert_eq!(asked, ["amd/none/strict/parallel/0"]);
    let asked = runs(&select(&["linux-7.0-teardown"], &["strict"], &[])).unwrap();
    assert_eq!(asked, ["linux-7.0-teardown/none/strict/serial/0"]);
    let refused = runs(&select(&["linux-7.0-reset"], &[], &[])).unwrap_err();
    assert!(refused.contains("'linux-7.0-reset' describes the path reset"), "{refused}");
}
