//! An experiment from its file to its table, and the mistakes in files.

use super::*;
use crate::text::position;

const GOOD: &str = r#"
about = "a test"
policies = ["bounded:1ms"]
faults = ["ignore-invalidate"]
workloads = ["victim"]
units = ["serial", "parallel"]
seeds = 2
show = ["longest", "properties"]
across = "unit"
figure = { x = "deadline", show = ["longest", "stale", "safe"] }

[[axis]]
name = "deadline"
values = ["1ms", "100ms", "1s"]
"#;

fn jobs(jobs: usize) -> NonZeroUsize {
    NonZeroUsize::new(jobs).unwrap()
}

fn outputs(text: &str, threads: usize) -> (String, String, Option<String>) {
    let experiment = Experiment::parse("test", text, None).unwrap();
    let results = experiment.run(jobs(threads), |_| (), || false).unwrap().unwrap();
    (results.markdown(), results.csv(), results.svg())
}

#[test]
fn an_axis_changes_what_it_names_and_the_table_says_so() {
    let (table, csv, svg) = outputs(GOOD, 2);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "| deadline | unit serial | unit parallel |");
    assert!(lines[2].starts_with("| `1ms` | 1.0 ms, L-"), "{table}");
    assert!(lines[4].starts_with("| `1s` | 1.00 s, L"), "{table}");
    assert_eq!(csv.lines().count(), 1 + 6);
    assert!(csv.starts_with("policy,fault,workload,unit,deadline,runs,properties,"), "{csv}");
    let svg = svg.unwrap();
    assert_eq!(svg.matches("\nparallel\n").count(), 3, "a curve on each panel");
}

#[test]
fn a_page_has_the_finding_the_command_and_lines_that_fit() {
    let text = GOOD.replace("seeds = 2", "finding = \"Later, not safer.\"\nseeds = 2");
    let experiment = Experiment::parse("test", &text, None).unwrap();
    let page = experiment.run(jobs(2), |_| (), || false).unwrap().unwrap().page();
    for part in
        ["# test: a test\n", "\nLater, not safer.\n", "\nghostlink experiment test\n", "(test.svg)"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    let long = page.lines().filter(|line| !line.starts_with('|') && line.chars().count() > 100);
    assert_eq!(long.count(), 0, "{page}");
}

#[test]
fn threads_do_not_show() {
    assert_eq!(outputs(GOOD, 1), outputs(GOOD, 3));
}

#[test]
fn devices_and_cpus_are_axes_of_their_own() {
    let text = GOOD.replace("name = \"deadline\"", "name = \"cpus\"");
    let text = text.replace("values = [\"1ms\", \"100ms\", \"1s\"]", "values = [1, 3]");
    let text = text.replace("x = \"deadline\"", "x = \"cpus\"")
        + "[[axis]]\nname = \"devices\"\nvalues = [2, 300]\n"
        + "[[axis]]\nname = \"workload.functions\"\nvalues = [32]\n";
    let experiment = Experiment::parse("test", &text, None).unwrap();
    let sizes: Vec<(u16, u16)> = experiment.specs[..4]
        .iter()
        .map(|(_, spec)| (spec.workload.devices, spec.workload.cpus))
        .collect();
    assert_eq!(sizes, [(2, 2), (300, 300), (2, 6), (300, 900)]);
}

#[test]
fn mistakes_have_a_position_and_advice() {
    for (from, to, line, expected) in [
        ("values = [\"1ms\", \"100ms\", \"1s\"]", "values = []", 13, "has no values"),
        ("\"1ms\", \"100ms\"", "\"soon\"", 14, "'soon'"),
        ("\"1ms\", \"100ms\"", "\"1s\"", 14, "twice"),
        ("name = \"deadline\"", "name = \"dedline\"", 10, "'deadline' is not varied here"),
        ("policies = [\"bounded:1ms\"]", "policies = [\"linus\"]", 3, "did you mean 'linux'?"),
        ("policies = [\"bounded:1ms\"]", "policies = []", 1, "name at least one policy"),
        ("units = [\"serial\", ", "units = [\"cereal\", ", 6, "'cereal'"),
        ("seeds = 2", "seeds = 0", 7, "at least 1"),
        ("\"longest\", \"properties\"", "\"longst\"", 8, "did you mean 'longest'?"),
        ("across = \"unit\"", "across = \"units\"", 9, "name one of policy, fault"),
        ("seeds = 2", "sedes = 2", 7, "did you mean `seeds`?"),
    ] {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "{from}");
        let (byte, reason) = Experiment::parse("test", &text, None).unwrap_err();
        let place = position(&text, byte);
        assert!(place.starts_with(&format!("line {line},")), "{to}: {place}: {reason}");
        assert!(reason.contains(expected) && !reason.contains('\n'), "{to}: {reason}");
    }
}

#[test]
fn what_no_machine_can_be_is_refused_before_anything_runs() {
    let axis = |name: &str, values: &str| {
        format!("{GOOD}[[axis]]\nname = \"{name}\"\nvalues = {values}\n")
    };
    for (name, values, expected) in [
        ("cpus", "[0]", "from 1 on"),
        ("cpus", "[4000]", "1 to 4096 CPUs"),
        ("cpus", "[\"two\"]", "from 1 on"),
        ("devices", "[300]", "240 cards"),
        ("unit.itc", "[\"1s\"]", "did you mean 'unit.ict'?"),
        ("unit.ict", "[1]", "no value of 'unit.ict'"),
        ("costs.poll", "[\"never\"]", "never"),
        ("fault.fault", "[\"at=1s,mode=quiet\"]", "quiet"),
    ] {
        let (_, reason) = Experiment::parse("test", &axis(name, values), None).unwrap_err();
        assert!(reason.contains(expected) && !reason.contains('\n'), "{name}: {reason}");
    }
}
