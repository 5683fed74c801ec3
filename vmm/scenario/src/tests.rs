//! Scenario files that are wrong, and verdicts on what a run has shown.

use devices::pcie::link::Obeys;
use devices::stale::StaleCounts;
use iommu::event::{Event, EventSink, TimedEvent, UnitRole};
use iommu::ids::Bdf;
use iommu::time::Instant;
use vmm::Exit;

use crate::fix::Assume;
use crate::host::HostChoice;
use crate::judge::judge_stale;
use crate::observation::message_of;
use crate::tally::Tally;
use crate::{Behavior, Observation, Outcome, Reading, RunResult, Scenario, Status};

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

#[test]
fn what_does_not_exist_or_cannot_fail_is_refused() {
    let fix = "[fix]\ncommit = 'c'\nsubject = 's'\nreleases = ['7.0']\n";
    for (steps, tables, remedy) in [
        (
            "['nvme']",
            "event = 'invalidation_timout'\nat_most = 0",
            "did you mean 'invalidation_timeout'?",
        ),
        ("['nvme']", "event = 'xyz'\nat_most = 0", "the events are descriptor_fetched, "),
        ("['nvme']", "event = 'cpu_blocked'\nat_most = 0", "is one of a simulation"),
        ("['nvme']", "event = 'fault_injected'", "there is no [[fault]]"),
        (
            "['nvme']",
            "event = 'wait_completed'\nwith = { units = 'guest' }",
            "did you mean 'unit'?",
        ),
        (
            "['nvme']",
            "event = 'wait_completed'\nwith = { x = 'guest' }",
            "it has status_address, unit",
        ),
        ("['nvme']", "event = 'wait_completed'\nwith = { unit = 'hots' }", "did you mean 'host'?"),
        ("['nvme']", "event = 'wait_completed'\nwith = { unit = 1 }", "it is such as \"guest\""),
        (
            "['nvme']",
            "event = 'lost'\nwith = { what = 'dmaa' }\nat_most = 0",
            "did you mean 'dma'?",
        ),
        (
            "['nvme']",
            "event = 'lost'\nwith = { port = '00:17.0' }\nat_most = 0",
            "on bus 0 there are 00:",
        ),
        (
            "['nvme']",
            "event = 'lost'\nwith = { port = 'rp0' }\nat_most = 0",
            "it is such as 01:00.0",
        ),
        ("['nvme']", "event = 'lost'\nwith = { segment = 0 }\nat_most = 0", "from 1 up"),
        ("['nvme']", "value = 'stall_cpu0_ms'\nat_most = 1", "or any other"),
        ("['beat', 'stall']", "value = 'stall_cpu0'\nat_most = 1", "did you mean 'stall_cpu0_ms'?"),
        (
            "['beat', 'stall']",
            "value = 'stall_cpu2_ms'\nat_most = 1",
            "did you mean 'stall_cpu0_ms'?",
        ),
        ("['vfio:close']", "value = 'remove_ms'\nat_most = 1", "they print vfio_close_ms"),
        ("['nvme']", "console = '.*'", "matches every line"),
        ("['nvme']", "absent = 'x*'", "matches every line"),
        ("['until:qi.submit']", "console = 'qi.submit'", "matches the command line"),
        ("['nvme']", "console = 'x'\nkernels = ['6,12']", "write 7.0 or 6.12.78"),
    ] {
        let table = format!("[[expect]]\nthat = 'it'\n{tables}\n");
        let error = parse(&format!("steps = {steps}"), &table).unwrap_err();
        assert!(error.starts_with("line 8, column 1: 'it': "), "{tables}: {error}");
        assert!(error.contains(remedy) && !error.contains('\n'), "{tables}: {error}");
    }
    let error = parse("steps = []", fix).unwrap_err();
    assert!(error.starts_with("line 8, column 1: no expectation depends"), "{error}");
    for (mark, trigger, remedy) in [
        ("dorp", "serial:/mark drop/", "did you mean dorp?"),
        ("x", "serial:/ghostlink: mark drop/", "no step is mark:drop; add the step"),
        ("x", "serial:/.*/", "matches every line"),
    ] {
        let fault = format!("[[fault]]\non = '{trigger}'\nmode = 'silent'\n");
        let error = parse(&format!("steps = ['mark:{mark}']"), &fault).unwrap_err();
        assert!(error.starts_with("line 8, column 1: ") && error.contains(remedy), "{error}");
    }
    let many = vec!["'alive'"; steps::MAX_STEPS + 1].join(", ");
    let error = parse(&format!("steps = [{many}]"), "").unwrap_err();
    assert!(error.contains("32 steps, and Linux passes on 31"), "{error}");
}

#[test]
fn a_machine_without_host_has_no_events_of_one() {
    let head = HEAD.replace("policy = 'linux'", "host = 'direct'");
    for (event, remedy) in [
        ("event = 'verdict'\nat_most = 0", "there is none: host = 'direct'"),
        ("event = 'invalidation_timeout'\nwith = { unit = 'host' }\nat_most = 0", "no host unit"),
    ] {
        let text = format!("{head}steps = []\n{DEVICE}[[expect]]\nthat = 'it'\n{event}\n");
        let (_, error) = Scenario::parse("t", &text).unwrap_err();
        assert!(error.contains(remedy), "{error}");
    }
}

const CONSOLE: &str = "\
[    0.000000] Linux version 6.1.0-56-amd64 (gcc) #1 SMP Debian 6.1.192-2 (2026-11-01)
[    1.000000] ghostlink: kernel 6.1.0-56-amd64 #1 SMP Debian 6.1.192-2 (2026-11-01), 2 CPUs
[    2.000000] ghostlink: ok 1 nvme
[    3.000000] ghostlink: # quoted: BUG
[    4.000000] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[    5.000000] ghostlink: stall_cpu0_ms=3120
[    6.000000] ghostlink: remove_ms=never
[    7.000000] ghostlink: not ok 2 remove
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
    let (runner, kernel): (Vec<&str>, Vec<&str>) =
        console.lines().partition(|line| message_of(line).is_some());
    let observation = Observation {
        console: kernel.into_iter().map(str::to_owned).collect(),
        messages: runner.into_iter().filter_map(message_of).collect(),
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

/// A scenario whose fault has never begun has shown nothing.
#[test]
fn a_fault_that_never_begins_fails_the_scenario() {
    let fault = "[[fault]]\nat = '1s'\nmode = 'silent'\n";
    let result = result("['nvme']", fault, CONSOLE, Assume::Auto);
    let verdict = &result.verdicts[1];
    assert_eq!(verdict.that, "the fault at=1s,mode=silent begins");
    assert_eq!((verdict.status, &result.outcome), (Status::Failed, &Outcome::Fail));
}

#[test]
fn a_skipped_step_is_neither_met_nor_failed() {
    let console = format!("{CONSOLE}[    8.000000] ghostlink: skip 1 debugfs no such file\n");
    let result = result("['debugfs']", "", &console, Assume::Auto);
    assert_eq!(result.verdicts[1].status, Status::Skipped);
    assert_eq!((result.count(Status::Skipped), result.count(Status::Failed)), (1, 0));
}

#[test]
fn a_kernel_that_does_not_reach_its_runner_is_not_judged() {
    let result = result("['nvme']", "", "[    1.000000] Kernel panic: no init\n", Assume::Auto);
    let Outcome::NotJudged(reason) = result.outcome else { panic!("{:?}", result.outcome) };
    assert!(reason.contains("Kernel panic: no init"), "{reason}");
}

const SIDES: &str = "\
[fix]
commit = 'c'
subject = 's'
releases = ['6.1.200', '7.0']
[[expect]]
that = 'with'
fixed = true
value = 'stall_cpu0_ms'
at_most = 1000
[[expect]]
that = 'without'
fixed = false
value = 'stall_cpu0_ms'
at_least = 3000
";

/// 6.1.192 is before the fix, 6.1.200 has it.
#[test]
fn behaviour_shows_a_backport_and_a_regression_fails() {
    for (release, stall, assume, judged, outcome) in [
        ("192", 3120, Assume::Auto, "without", Outcome::Pass),
        ("192", 20, Assume::Auto, "with", Outcome::Pass),
        ("192", 2000, Assume::Auto, "without", Outcome::Fail),
        ("192", 20, Assume::NotFixed, "without", Outcome::Fail),
        ("192", 3120, Assume::Fixed, "with", Outcome::Fail),
        ("200", 20, Assume::Auto, "with", Outcome::Pass),
        ("200", 3120, Assume::Auto, "with", Outcome::Fail),
        ("200", 3120, Assume::NotFixed, "without", Outcome::Pass),
    ] {
        let console = CONSOLE.replace("6.1.192", &format!("6.1.{release}"));
        let console = console.replace("3120", &stall.to_string());
        let result = result("['nvme', 'beat', '?stall']", SIDES, &console, assume);
        let verdict = result.verdicts.last().unwrap();
        let case = format!("6.1.{release}, {stall} ms, {assume:?}");
        assert_eq!(verdict.that, judged, "{case}");
        // The step `beat` has no result in this console.
        let failed = result.count(Status::Failed) - 1;
        assert_eq!(failed > 0, outcome == Outcome::Fail, "{case}");
        let fix = result.fix.unwrap();
        assert_eq!(fix.by_release, Some(release == "200"), "{case}");
        assert_eq!(
            fix.by_behavior,
            [Some(true), None, Some(false)][match stall {
                20 => 0,
                2000 => 1,
                _ => 2,
            }]
        );
    }
}

#[test]
fn what_the_kernel_did_is_told_whatever_was_expected() {
    let result = result("['?nvme']", "", CONSOLE, Assume::Auto);
    assert_eq!(result.behavior, Some(Behavior::LocksUp));
    assert_eq!(result.detected.as_ref().map(|it| it.detector.as_str()), Some("rcu"));
    assert_eq!(result.stalls(), [Some(Reading::Number(3120))]);
    assert_eq!(result.values["remove_ms"], Reading::Never);
    assert_eq!(result.release.as_deref(), Some("6.1.0-56-amd64"));
    let last = result.last_lines.last().unwrap();
    assert!(last.ends_with("rcu_preempt detected stalls on CPUs/tasks:"), "{last}");
    let json = serde_json::to_string(&result).unwrap();
    assert_eq!(serde_json::from_str::<RunResult>(&json).unwrap(), result);
}

/// A detector may be off, or silent.
#[test]
fn a_cpu_that_is_stuck_for_20_s_has_locked_up() {
    let console = |stall: &str| {
        let console = CONSOLE.replace("rcu_preempt detected stalls", "nothing");
        console.replace("stall_cpu0_ms=3120", &format!("stall_cpu0_ms={stall}"))
    };
    for (stall, behavior) in
        [("19999", Behavior::Lives), ("20000", Behavior::LocksUp), ("never", Behavior::LocksUp)]
    {
        let result = result("['?nvme']", "", &console(stall), Assume::Auto);
        assert_eq!((result.behavior, result.detected), (Some(behavior), None), "{stall}");
    }
}

/// What is logged while the console is silent comes by the runner.
#[test]
fn lines_that_only_the_runner_has_passed_on_count() {
    let console = format!(
        "{CONSOLE}[    9.000000] ghostlink: log 3 4.500000 watchdog: BUG: soft lockup\n\
         [    9.000000] ghostlink: log 3 4.000000 rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n"
    );
    let table = "[[expect]]\nthat = 'x'\nconsole = 'BUG: soft'\n";
    let result = result("['?nvme']", table, &console, Assume::Auto);
    assert_eq!(result.verdicts[1].evidence, ["[    4.500000] watchdog: BUG: soft lockup"]);
    assert_eq!(result.last_lines.len(), 3, "no line comes twice: {:?}", result.last_lines);
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
        ("value = 'unbind_ms'\nat_most = 100", false),
        ("event = 'presence_checked'", true),
        ("event = 'presence_checked'\nat_most = 2", false),
        ("event = 'presence_checked'\nwith = { present = true }\nat_least = 2\nat_most = 2", true),
        ("event = 'presence_checked'\nwith = { function = '01:00.0' }\nat_least = 3", true),
        ("event = 'presence_checked'\nwith = { function = '02:00.0' }\nat_most = 0", true),
        ("event = 'wait_completed'\nwith = { unit = 'host' }", false),
    ] {
        let table = format!("[[expect]]\nthat = 'x'\n{expectation}\n");
        assert_eq!(verdicts("['?stall', '?remove', '?unbind']", &table), [met], "{expectation}");
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
        let is_direct = name.split('-').any(|word| ["direct", "zombie"].contains(&word));
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
        assert_eq!((verdict.status == Status::Ok, verdict.evidence), (ok, vec![found.to_string()]));
    }
    let scenario = parse("steps = []\nstale_accesses = 0", "").unwrap();
    assert_eq!(scenario.stale_accesses, Some(0));
    assert_eq!(parse("steps = []", "").unwrap().stale_accesses, None);
    let error = parse("steps = []\nstale_accesses = -1", "").unwrap_err();
    assert!(error.starts_with("line 5"), "{error}");
}

#[test]
fn a_scenario_says_when_its_devices_obey() {
    let obeys = |text: &str| Ok::<_, String>(parse(text, "")?.root_complex.obeys);
    assert_eq!(obeys("steps = []"), Ok(Obeys::AtAnswer));
    assert_eq!(obeys("steps = []\nobeys = 'at-once'"), Ok(Obeys::AtOnce));
    let error = obeys("steps = []\nobeys = 'never'").unwrap_err();
    assert!(error.contains("never") && error.contains("at-once"), "{error}");
}
