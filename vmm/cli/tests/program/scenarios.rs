//! `ghostlink test`: its command line, and what it does before a kernel boots.

use std::fs;
use std::process::Output;

use vmm_sys_util::tempdir::TempDir;

use crate::cli::ghostlink;

fn run(arguments: &[&str]) -> Output {
    ghostlink(&[&["test"], arguments].concat()).output().unwrap()
}

#[test]
fn it_lists_scenarios_by_names_and_patterns() {
    let output = run(&["--list", "silent-strict-*", "lspci"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines().all(|line| line.starts_with("silent-strict-") || line.starts_with("lspci "))
    );
    assert!(text.lines().any(|line| line.starts_with("silent-strict-never  ")));
    let all = String::from_utf8(run(&["--list"]).stdout).unwrap();
    assert_eq!(all.lines().count(), resources::SCENARIOS.len());
}

#[test]
fn what_cannot_be_used_is_refused_on_one_line() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.as_path().join(name).display().to_string();
    fs::write(path("no-results.json"), "{}").unwrap();
    fs::write(path("text"), "no kernel").unwrap();
    let wrong = "title = 't'\nabout = 'a'\nsteps = ['nvme']\n[[device]]\ntype = 'root-port'\nid = 'rp0'\n\
                 [[expect]]\nthat = 'it'\nevent = 'invalidation_timeou'\nat_most = 0\n";
    fs::write(path("wrong.toml"), wrong).unwrap();
    for (arguments, expected) in [
        (vec!["silent-strict-nevr".to_owned()], "did you mean 'silent-strict-never'?"),
        (vec!["nothing-*".to_owned()], "no scenario is 'nothing-*'"),
        (vec!["lspci".to_owned()], "which kernel? Add --kernel"),
        (vec!["lspci".into(), "--kernel".into(), path("text")], "--kernel "),
        (vec!["lspci".into(), "--kernel".into(), path("missing")], "--kernel "),
        (vec![path("wrong.toml")], "line 7, column 1: 'it': 'invalidation_timeou' is not an event"),
        (vec![path("missing.toml")], "give a TOML file with a scenario"),
        (vec!["--diff".into(), path("no-results.json"), path("x")], "has no results of"),
        (vec!["--diff".into(), path("x"), path("y")], "give a file that 'ghostlink test --json'"),
        (vec!["--fixed=maybe".to_owned()], "'maybe' is none of yes, no, auto"),
        (vec!["--jobs=0".to_owned()], "'0'"),
        (vec!["--events".to_owned()], "--logs"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = run(&arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
