//! Scenario files that are wrong, and verdicts on what a run has shown.

use std::fs;
use std::path::Path;

use iommu::event::{Event, TimedEvent, UnitRole};
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::file::Scenario;
use super::judge::Observed;
use crate::host::HostChoice;

const HEAD: &str = "title = 't'\nabout = 'a'\npolicy = 'linux'\n";
const DEVICE: &str = "[[device]]\ntype = 'root-port'\nid = 'rp0'\n";

fn parse(body: &str, tables: &str) -> Result<Scenario, String> {
    let text = format!("{HEAD}{body}\n{DEVICE}{tables}");
    Scenario::parse(&text)
        .map_err(|(at, reason)| format!("{}: {reason}", lab::text::position(&text, at)))
}

#[test]
fn mistakes_are_told_with_position_and_remedy() {
    for (body, tables, place, remedy) in [
        ("steps = ['a b']", "", "line 4, column 9", "wait:3"),
        ("steps = ['!']", "", "line 4, column 9", "wait:3"),
        ("steps = []\ncpu = 3", "", "line 5, column 1", "unknown field `cpu`"),
        ("steps = []\nhost = 'direct'", "", "line 3, column 10", "choose the host 'forwarded'"),
        ("steps = []\nhost = 'metal'", "", "line 5, column 8", "`direct` or `forwarded`"),
        ("steps = []\nmemory = '5'", "", "line 5, column 10", "256M"),
        ("steps = []\ntime_limit = '5'", "", "line 5, column 14", "'5'"),
        ("steps = []", "[[device]]\ntype = 'nvme'\nbus = 'rp7'\n", "line 8, column 1", "rp7"),
        ("steps = []", "[[fault]]\nmode = 'silent'\n", "line 8, column 1", "when"),
        ("steps = []", "[[expect]]\nthat = 'x'\n", "line 8, column 1", "one of console, absent"),
        (
            "steps = []",
            "[[expect]]\nthat = 'x'\nconsole = '('\n",
            "line 10, column 11",
            "open group",
        ),
        (
            "steps = []",
            "[[expect]]\nthat = 'x'\nvalue = 'y'\nat_least = 0\n",
            "line 8, column 1",
            "at_least = 0 holds for every value",
        ),
        (
            "steps = []",
            "[[expect]]\nthat = 'x'\nvalue = 'y'\nat_least = 3\nat_most = 2\n",
            "line 8, column 1",
            "above at_most",
        ),
        (
            "steps = []",
            "[[expect]]\nthat = 'x'\nconsole = 'y'\nat_most = 2\n",
            "line 8, column 1",
            "take at_least",
        ),
        (
            "steps = []",
            "[[expect]]\nthat = 'x'\nabsent = 'y'\nfixed = true\n",
            "line 1, column 1",
            "no [fix]",
        ),
    ] {
        let error = parse(body, tables).unwrap_err();
        assert!(error.starts_with(place) && error.contains(remedy), "{body} {tables}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

const CONSOLE: &str = "\
[    1.0] ghostlink: kernel 6.1.0-56-amd64 #1 SMP Debian 6.1.192-2 (2026-11-01), 2 CPUs\r
[    2.0] ghostlink: ok 1 nvme\r
[    3.0] ghostlink: # quoted: BUG\r
[    4.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\r
[    5.0] ghostlink: stall_cpu0_ms=3120\r
[    6.0] ghostlink: remove_ms=never\r
[    7.0] ghostlink: not ok 2 remove\r
";

/// Whether each expectation was met.
fn verdicts(steps: &str, expectations: &str) -> Vec<bool> {
    let scenario = parse(&format!("steps = {steps}"), expectations).unwrap();
    let function = Bdf::new(1, 0, 0);
    let events = [true, true, false].map(|present| TimedEvent {
        at: Instant::START,
        segment: 0,
        event: Event::PresenceChecked { function, present },
    });
    let link = TimedEvent {
        at: Instant::START,
        segment: 0,
        event: Event::WaitCompleted { unit: UnitRole::Guest, status_address: None },
    };
    let events: Vec<TimedEvent> = events.into_iter().chain([link]).collect();
    Observed::new(CONSOLE, &events).judge(&scenario).iter().map(|verdict| verdict.ok).collect()
}

#[test]
fn steps_succeed_or_fail_as_they_should() {
    assert_eq!(verdicts("['nvme', '!remove']", ""), [true, true]);
    assert_eq!(verdicts("['!nvme', 'remove']", ""), [false, false]);
    assert_eq!(verdicts("['nvme', '?remove', 'never_said']", ""), [true, false]);
}

#[test]
fn expectations_are_held_against_console_figures_and_events() {
    for (expectation, met) in [
        ("console = 'rcu_preempt detected'", true),
        ("console = 'BUG'", false),
        ("absent = 'BUG'", true),
        ("absent = 'detected stalls'", false),
        ("value = 'stall_cpu0_ms'\nat_least = 3000\nat_most = 3500", true),
        ("value = 'stall_cpu0_ms'\nat_most = 100", false),
        ("value = 'remove_ms'\nat_least = 100", true),
        ("value = 'remove_ms'\nat_most = 100", false),
        ("value = 'nobody_said'\nat_most = 100", false),
        ("event = 'presence_checked'", true),
        ("event = 'presence_checked'\nat_most = 2", false),
        ("event = 'presence_checked'\nwith = { present = true }\nat_least = 2\nat_most = 2", true),
        ("event = 'presence_checked'\nwith = { function = '01:00.0' }\nat_least = 3", true),
        ("event = 'presence_checked'\nwith = { function = '02:00.0' }\nat_most = 0", true),
        ("event = 'wait_completed'\nwith = { unit = 'host' }", false),
    ] {
        let table = format!("[[expect]]\nthat = 'x'\n{expectation}\n");
        assert_eq!(verdicts("[]", &table), [met], "{expectation}");
    }
}

#[test]
fn expectations_can_be_for_some_kernels_only() {
    for (kernels, count) in [("['6.1']", 1), ("['6.12']", 0), ("['6.12', '6.1.0-56']", 1)] {
        let table = format!("[[expect]]\nthat = 'x'\nabsent = 'y'\nkernels = {kernels}\n");
        assert_eq!(verdicts("[]", &table).len(), count, "{kernels}");
    }
}

#[test]
fn expectations_can_be_for_kernels_with_a_fix_or_without() {
    for (releases, of_fixed, count) in [
        ("['6.1.100']", true, 1),
        ("['6.1.100']", false, 0),
        ("['6.12.78', '7.0']", true, 0),
        ("['6.12.78', '7.0']", false, 1),
    ] {
        let table = format!(
            "[fix]\ncommit = 'c'\nsubject = 's'\nreleases = {releases}\n\
             [[expect]]\nthat = 'x'\nabsent = 'y'\nfixed = {of_fixed}\n"
        );
        assert_eq!(verdicts("[]", &table).len(), count, "{releases} {of_fixed}");
    }
}

#[test]
fn the_repository_s_scenarios_are_right_and_the_runner_knows_their_steps() {
    let resources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../resources"));
    let runner = fs::read_to_string(resources.join("linux/init")).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(resources.join("scenarios")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        count += 1;
        let scenario = Scenario::read(&path).unwrap_or_else(|error| panic!("{error}"));
        super::root_complex(&scenario, &path).unwrap_or_else(|error| panic!("{error}"));
        // Each file says whether the guest is above a host. The names of the others say it.
        let host = format!("\nhost = \"{}\"\n", scenario.below.kind());
        assert!(fs::read_to_string(&path).unwrap().contains(&host), "{}", path.display());
        let name = path.file_stem().unwrap().to_string_lossy();
        let is_direct = name.split('-').any(|word| word == "direct");
        assert_eq!(scenario.below == HostChoice::Direct, is_direct, "{}", path.display());
        for step in &scenario.steps {
            let name = step.words.split(':').next().unwrap();
            let known = runner.contains(&format!("\nstep_{name}() {{"));
            assert!(known, "{}: the runner has no step '{name}'", path.display());
        }
    }
    assert!(count > 0, "there are no scenarios");
}

#[test]
fn stale_accesses_fail_a_scenario_that_allows_fewer_and_so_does_dma_that_was_not_judged() {
    use devices::stale::StaleCounts;
    let none = StaleCounts::default();
    let one = StaleCounts { stale_accesses: 1, ..none };
    let unknown = StaleCounts { not_judged: 1, ..none };
    let lost = StaleCounts { not_followed: 1, ..none };
    let harmless = StaleCounts { harmless: 1, ..none };
    for (most, found, ok) in [
        (0, none, true),
        (0, one, false),
        (1, one, true),
        (0, harmless, true),
        (0, unknown, false),
        (5, lost, false),
    ] {
        let verdict = super::judge_stale(most, &found);
        assert_eq!((verdict.ok, verdict.evidence), (ok, vec![found.to_string()]));
    }
    let scenario = parse("steps = []\nstale_accesses = 0", "").unwrap();
    assert_eq!(scenario.stale_accesses, Some(0));
    assert_eq!(parse("steps = []", "").unwrap().stale_accesses, None);
    let error = parse("steps = []\nstale_accesses = -1", "").unwrap_err();
    assert!(error.starts_with("line 5"), "{error}");
}
