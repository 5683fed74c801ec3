//! Scenario files that are wrong, and verdicts on what a run has shown.

use devices::stale::StaleCounts;
use iommu::event::{Event, EventSink, TimedEvent, UnitRole};
use iommu::ids::Bdf;
use iommu::time::Instant;
use vmm::Exit;

use crate::fix::Assume;
use crate::host::HostChoice;
use crate::judge::judge_stale;
use crate::tally::Tally;
use crate::{Observation, RunResult, Scenario, Status};

const HEAD: &str = "title = 't'\nabout = 'a'\npolicy = 'linux'\n";
const DEVICE: &str = "[[device]]\ntype = 'root-port'\nid = 'rp0'\n";

fn parse(body: &str, tables: &str) -> Result<Scenario, String> {
    let text = format!("{HEAD}{body}\n{DEVICE}{tables}");
    Scenario::parse("t", &text)
        .map_err(|(at, reason)| format!("{}: {reason}", lab::text::position(&text, at)))
}

#[test]
fn mistakes_are_told_with_position_and_remedy() {
    for (body, tables, place, remedy) in [
        ("steps = ['a b']", "", "line 4, column 9", "'a b' is not a step"),
        ("steps = ['!']", "", "line 4, column 9", "the steps are"),
        ("steps = ['nvme', 'unbnd']", "", "line 4, column 9", "did you mean unbind?"),
        ("steps = ['wait:soon']", "", "line 4, column 9", "write wait:SECONDS"),
        ("steps = []\ncpu = 3", "", "line 5, column 1", "unknown field `cpu`"),
        ("steps = []\nhost = 'direct'", "", "line 3, column 10", "choose the host 'forwarded'"),
        ("steps = []\nhost = 'metal'", "", "line 5, column 8", "`direct` or `forwarded`"),
        ("steps = []\nmemory = '5'", "", "line 5, column 10", "256M"),
        ("steps = []\ntime_limit = '5'", "", "line 5, column 14", "'5'"),
        ("steps = []", "[[device]]\ntype = 'nvme'\nbus = 'rp7'\n", "line 8, column 1", "rp7"),
        ("steps = []", "[[fault]]\nmode = 'silent'\n", "line 8, column 1", "when"),
        ("steps = []\n[unit]\nictt = 1", "", "line 5, column 1", "did you mean `ict`?"),
        (
            "steps = []",
            "[[fault]]\nat = '1s'\nport = 'rp7'\nmode = 'silent'\n",
            "line 8, column 1",
            "there is no port 'rp7'; there are rp0",
        ),
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
            "line 8, column 1",
            "no [fix]",
        ),
    ] {
        let error = parse(body, tables).unwrap_err();
        assert!(error.starts_with(place) && error.contains(remedy), "{body} {tables}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

const CONSOLE: &str = "\
[    1.0] ghostlink: kernel 6.1.0-56-amd64 #1 SMP Debian 6.1.192-2 (2026-11-01), 2 CPUs
[    2.0] ghostlink: ok 1 nvme
[    3.0] ghostlink: # quoted: BUG
[    4.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[    5.0] ghostlink: stall_cpu0_ms=3120
[    6.0] ghostlink: remove_ms=never
[    7.0] ghostlink: not ok 2 remove
";

/// The result of a run with that console and some events.
fn result(steps: &str, tables: &str, console: &str, assume: Assume) -> RunResult {
    let scenario = parse(&format!("steps = {steps}"), tables).unwrap();
    let tally = Tally::new(&scenario.expect, None);
    let function = Bdf::new(1, 0, 0);
    let events = [true, true, false].map(|present| Event::PresenceChecked { function, present });
    let wait = Event::WaitCompleted { unit: UnitRole::Guest, status_address: None };
    for event in events.into_iter().chain([wait]) {
        tally.record(TimedEvent { at: Instant::START, segment: 0, event });
    }
    let observation = Observation {
        console: console.lines().map(str::to_owned).collect(),
        counts: tally.counts(),
        stale: StaleCounts::default(),
        exit: Exit::DebugExit(0),
        seconds: 1.0,
    };
    observation.judge(&scenario, "vmlinuz", assume)
}

/// Whether each expectation was met, without that of the end.
fn verdicts(steps: &str, tables: &str) -> Vec<bool> {
    let result = result(steps, tables, CONSOLE, Assume::Auto);
    result.verdicts.iter().skip(1).map(|verdict| verdict.status == Status::Ok).collect()
}

#[test]
fn steps_succeed_or_fail_as_they_should() {
    assert_eq!(verdicts("['nvme', '!remove']", ""), [true, true]);
    assert_eq!(verdicts("['!nvme', 'remove']", ""), [false, false]);
    assert_eq!(verdicts("['nvme', '?remove', 'alive']", ""), [true, false]);
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
fn the_scenarios_are_right_and_say_what_is_below_the_guest() {
    for scenario in Scenario::all().unwrap_or_else(|error| panic!("{error}")) {
        let name = &scenario.name;
        let (_, text) = resources::SCENARIOS.iter().find(|(other, _)| other == name).unwrap();
        // Each file says whether the guest is above a host. The names of the others say it.
        assert!(text.contains(&format!("\nhost = \"{}\"\n", scenario.host.kind())), "{name}");
        let is_direct = name.split('-').any(|word| word == "direct");
        assert_eq!(scenario.host == HostChoice::Direct, is_direct, "{name}");
    }
}

#[test]
fn stale_accesses_fail_a_scenario_that_allows_fewer_and_so_does_dma_that_was_not_judged() {
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
        let verdict = judge_stale(most, &found);
        assert_eq!((verdict.status == Status::Ok, verdict.evidence), (ok, found.to_string()));
    }
    let scenario = parse("steps = []\nstale_accesses = 0", "").unwrap();
    assert_eq!(scenario.stale_accesses, Some(0));
    assert_eq!(parse("steps = []", "").unwrap().stale_accesses, None);
    let error = parse("steps = []\nstale_accesses = -1", "").unwrap_err();
    assert!(error.starts_with("line 5"), "{error}");
}
