//! KTAP, JUnit, table, comparison and exit status of made-up results.

use scenario::{Behavior, Detected, Outcome, Reading, RunResult, Scenario, Status, Verdict};

use super::diff::{Side, diff};
use super::report::{Kernel, Results};
use super::{NOT_JUDGED, junit, ktap, status, table};
use crate::FAILURE;

fn result(kernel: &str, scenario: &str, outcome: Outcome) -> RunResult {
    let scenario = Scenario::builtin(scenario).expect("it is built in").expect("it is right");
    let mut result = RunResult::without_run(&scenario, kernel, outcome);
    if matches!(result.outcome, Outcome::Pass | Outcome::Fail) {
        let status = if result.outcome == Outcome::Pass { Status::Ok } else { Status::Failed };
        let verdict = |status, that: &str| Verdict {
            status,
            that: that.to_owned(),
            evidence: vec!["[    1.000000] evidence".to_owned()],
        };
        result.verdicts = vec![verdict(Status::Ok, "nvme"), verdict(status, "the #1 thing")];
        result.behavior = Some(Behavior::Lives);
        result.exit = "debug exit 0".to_owned();
        result.release = Some("6.12.117".to_owned());
        result.seconds = 61.5;
        result.last_lines = vec!["[    9.000000] the last line".to_owned()];
    }
    result
}

fn results(all: Vec<RunResult>) -> Results {
    let mut results = Results::new(Vec::new());
    for result in &all {
        if !results.kernels.iter().any(|kernel| kernel.name == result.kernel) {
            results.kernels.push(Kernel {
                name: result.kernel.clone(),
                release: "6.12.117".to_owned(),
                image: "/boot/vmlinuz".to_owned(),
            });
        }
    }
    results.results = all;
    results
}

#[test]
fn ktap_has_a_subtest_for_each_kernel_and_scenario() {
    let skip = Outcome::Skip("no\nlspci".to_owned());
    let broken = Outcome::NotJudged("no init # here".to_owned());
    let text = [
        ktap::head(1),
        ktap::kernel_head("mine", 3),
        ktap::scenario(1, &result("mine", "boot-legacy", Outcome::Fail)),
        ktap::scenario(2, &result("mine", "lspci", skip)),
        ktap::scenario(3, &result("mine", "safe-strict-never", broken)),
        ktap::kernel_end(1, "mine", false),
    ]
    .concat();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().starts_with("# ")).collect();
    assert_eq!(
        lines,
        [
            "KTAP version 1",
            "1..1",
            "  KTAP version 1",
            "  1..3",
            "    KTAP version 1",
            "    1..2",
            "    ok 1 nvme",
            "    not ok 2 the no. 1 thing",
            "  not ok 1 boot-legacy",
            "  ok 2 lspci # SKIP no lspci",
            "  not ok 3 safe-strict-never # ERROR no init # here",
            "not ok 1 mine",
        ]
    );
    assert!(text.contains("    # [    1.000000] evidence\n"));
    assert!(text.contains("    # | [    9.000000] the last line\n"), "a failure has them");
    assert_eq!(ktap::bail_out("no\nKVM"), "Bail out! no KVM\n");
}

#[test]
fn junit_has_a_case_for_each_scenario_and_no_invalid_character() {
    let mut failed = result("a", "boot-legacy", Outcome::Fail);
    failed.last_lines = vec!["\u{1b}[31m<&>\u{0}".to_owned()];
    failed.seconds = f64::NAN;
    let all = vec![
        failed,
        result("a", "lspci", Outcome::Skip("no".to_owned())),
        result("b", "lspci", Outcome::NotJudged("no host".to_owned())),
        result("b", "boot-legacy", Outcome::Pass),
    ];
    let text = junit::document(&results(all)).unwrap();
    for expected in [
        r#"<testsuite name="a" tests="2" disabled="1" errors="0" failures="1">"#,
        r#"<testsuite name="b" tests="2" disabled="0" errors="1" failures="0">"#,
        r#"<failure message="1 of 2 expectations" type="not as expected">"#,
        r#"<error message="no host" type="not judged"/>"#,
        r#"time="61.500""#,
        "&lt;&amp;&gt;",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains(['\u{1b}', '\u{0}']));
}

#[test]
fn the_status_is_for_a_bisection() {
    let broken = || Outcome::NotJudged("no host".to_owned());
    let skipped = || Outcome::Skip("not for it".to_owned());
    for (outcomes, expected) in [
        (vec![Outcome::Pass, Outcome::Pass], 0),
        (vec![Outcome::Pass, skipped()], 0),
        (vec![Outcome::Pass, Outcome::Fail], FAILURE),
        (vec![broken(), Outcome::Fail], FAILURE),
        (vec![Outcome::Pass, broken()], NOT_JUDGED),
        (vec![skipped()], NOT_JUDGED),
        (vec![], NOT_JUDGED),
    ] {
        let all = outcomes.iter().map(|outcome| result("a", "lspci", outcome.clone())).collect();
        assert_eq!(status(&results(all)), expected, "{outcomes:?}");
    }
}

#[test]
fn behaviour_alone_can_be_judged() {
    let broken = Outcome::NotJudged("no host".to_owned());
    for (behavior, outcome, expected) in [
        (Some(Behavior::Lives), Outcome::Fail, "pass"),
        (Some(Behavior::LocksUp), Outcome::Pass, "FAIL"),
        (Some(Behavior::Panics), Outcome::Fail, "not judged"),
        (Some(Behavior::NoEnd), Outcome::Fail, "not judged"),
        (None, broken.clone(), "not judged"),
        (Some(Behavior::Lives), broken, "not judged"),
    ] {
        let mut run = result("a", "lspci", outcome);
        run.behavior = behavior;
        let judged = run.judged_by_behavior(Behavior::Lives);
        assert_eq!(judged.outcome.word(), expected, "{behavior:?}");
    }
}

fn before_and_after() -> [Results; 2] {
    let mut old = result("before", "batch-strict-bounded", Outcome::Fail);
    old.behavior = Some(Behavior::LocksUp);
    old.detected = Some(Detected { detector: "rcu".to_owned(), line: "rcu: stalls".to_owned() });
    old.values.insert("stall_cpu0_ms".to_owned(), Reading::Number(21_430));
    old.values.insert("stall_cpu1_ms".to_owned(), Reading::Number(30));
    old.ite = 1;
    old.last_lines = (0..10).map(|line| format!("{line} {}", "x".repeat(200))).collect();
    old.verdicts[1].that = "long ".repeat(60);
    let mut new = result("after", "batch-strict-bounded", Outcome::Pass);
    new.ite = 34;
    let same = |kernel| result(kernel, "lspci", Outcome::Pass);
    let only = result("after", "boot-legacy", Outcome::Pass);
    [results(vec![same("before"), old]), results(vec![same("after"), new, only])]
}

#[test]
fn a_comparison_fits_in_a_mail_and_has_what_has_changed() {
    let [before, after] = before_and_after();
    let path = std::path::Path::new("x");
    let sides = [Side::of_file(&before, path).unwrap(), Side::of_file(&after, path).unwrap()];
    let text = diff(sides);
    assert!(text.lines().all(|line| line.chars().count() <= 78), "{text}");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.lines().map(words).collect::<Vec<_>>().join("\n") + "\n";
    for expected in [
        "before 6.12.117 (before)\nafter 6.12.117 (after)\n",
        "\nbatch-strict-bounded\nresult FAIL pass\nkernel lock-up lives\n",
        "\nlock-up detector rcu -\nlongest stall 21.4 s -\nITE in the guest 1 34\n",
        "\nnot met: long long",
        "\n| 9 xxx",
        "\n1 changed, 1 as before\n1 only on one side:\nboot-legacy\n",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    let same = diff([sides[0], sides[0]]);
    assert!(same.ends_with("\n0 changed, 2 as before\n"), "{same}");
}

#[test]
fn a_table_has_a_column_for_each_kernel() {
    let [before, after] = before_and_after();
    let mut both = results([before.results, after.results].concat());
    both.results.push(result("before", "boot-legacy", Outcome::Skip("no".to_owned())));
    let text = table::table(&both);
    let row = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
    let row = |name: &str| row(name).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(row("Scenario"), "| Scenario | before | after |");
    assert_eq!(
        row("batch-"),
        "| `batch-strict-bounded` | lock-up, 21.4 s, 1 ITE **(not as expected)** | lives, 34 ITE |"
    );
    assert_eq!(row("boot-legacy"), "| `boot-legacy` | skipped | lives |");
    assert!(Side::both(&both).is_some());
}
