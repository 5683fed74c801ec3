//! The table of `docs/validation.md`: a row for each host, and a column for each fault.

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use super::command::verdict;
use super::{Agreement, Observation, Pair};

/// For each unit and number of CPUs a table. Each cell has the verdict for the caller, and the stalls in
/// milliseconds: under KVM, and simulated. `!` is behind a pair that does not agree.
pub(super) fn grids(rows: &[(Pair, Agreement)]) -> Vec<String> {
    let machines = distinct(rows, |pair| (pair.ordering.to_string(), pair.cpus));
    let faults = distinct(rows, |pair| (pair.fault, pair.when));
    let hosts = distinct(rows, name);
    let grid = |(ordering, cpus): &(String, u8)| {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        let columns = faults.iter().map(|(fault, when)| format!("{fault}/{}", when.name()));
        table.set_header([format!("{ordering}, CPUs {cpus}")].into_iter().chain(columns));
        for host in &hosts {
            let mut row = vec![host.clone()];
            for fault in &faults {
                let found = rows.iter().find(|(pair, _)| {
                    pair.ordering.to_string() == *ordering
                        && pair.cpus == *cpus
                        && (pair.fault, pair.when) == *fault
                        && name(pair) == *host
                });
                row.push(found.map_or("n/a".to_owned(), |(_, agreement)| cell(agreement)));
            }
            if row.iter().skip(1).any(|cell| cell != "n/a") {
                table.add_row(row);
            }
        }
        table.to_string()
    };
    machines.iter().map(grid).collect()
}

fn name(pair: &Pair) -> String {
    pair.host.policy().unwrap_or_else(|| pair.host.kind()).to_owned()
}

/// The different values, in the order in which they come.
fn distinct<T: PartialEq>(rows: &[(Pair, Agreement)], value: impl Fn(&Pair) -> T) -> Vec<T> {
    let mut all = Vec::new();
    for (pair, _) in rows {
        let value = value(pair);
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

fn cell(agreement: &Agreement) -> String {
    let Agreement { kvm, simulated, .. } = agreement;
    let mark = if agreement.agrees() { "" } else { " !" };
    let outcome = |side: &Observation| {
        let another = if side.false_completion { " (another's)" } else { "" };
        format!("{}{another}", verdict(side.verdict))
    };
    let outcome = match (outcome(kvm), outcome(simulated)) {
        (kvm, simulated) if kvm == simulated => kvm,
        (kvm, simulated) => format!("{kvm} against {simulated}"),
    };
    let millis = |side: &Observation| side.stall.as_millis();
    let stalls = match (kvm.verdict, simulated.verdict) {
        (None, None) => String::new(),
        _ => format!(" {}, {}", millis(kvm), millis(simulated)),
    };
    let crowd = match (kvm.crowd, simulated.crowd) {
        (Some(kvm), Some(simulated)) if kvm.ended && simulated.ended => {
            format!("; others {}, {}", kvm.stall.as_millis(), simulated.stall.as_millis())
        }
        _ => String::new(),
    };
    format!("{outcome}{stalls}{crowd}{mark}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use iommu::unit::Ordering;

    use super::*;
    use crate::validate::agreement::Limits;
    use crate::validate::observe::passed_deadline;

    #[test]
    fn each_machine_has_a_table_with_the_pairs_that_there_are() {
        let pair = |policy: &str, fault, cpus, ordering| {
            let healthy = Pair::healthy(policy.parse().unwrap());
            Pair { fault, cpus, ordering, ..healthy }
        };
        let compare = |kvm| {
            Agreement::new(
                passed_deadline(kvm),
                passed_deadline(100),
                Limits::new(Duration::from_micros(10)),
            )
        };
        let rows = [
            (pair("amd", "silent", 1, Ordering::Serial), compare(101)),
            (pair("bounded:100ms", "early", 1, Ordering::Serial), compare(200)),
            (pair("bounded:100ms", "early", 4, Ordering::Parallel), compare(102)),
        ];
        let grids = grids(&rows);
        assert_eq!(grids.len(), 2);
        let lines: Vec<&str> = grids[0].lines().collect();
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        assert_eq!(cells(lines[0]), ["serial, CPUs 1", "silent/before", "early/before"]);
        assert_eq!(cells(lines[2]), ["amd", "deadline passed 101, 100", "n/a"]);
        assert_eq!(cells(lines[3]), ["bounded:100ms", "n/a", "deadline passed 200, 100 !"]);
        assert!(grids[1].contains("parallel, CPUs 4") && !grids[1].contains("amd"), "{}", grids[1]);
    }
}
