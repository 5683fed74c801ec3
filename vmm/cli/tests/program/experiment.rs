//! `ghostlink experiment`, and the pages in docs/results that it has written.

use std::fs;
use std::path::{Path, PathBuf};

use vmm_sys_util::tempdir::TempDir;

use crate::cli::ghostlink;

/// Experiments that take a second without optimization. The others are repeated by
/// `ghostlink experiment all --out docs/results`.
const QUICK: [&str; 3] = ["irqs", "itesid", "zombie"];

fn documented() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/results")
}

#[test]
fn the_list_and_the_pages_name_the_same_experiments() {
    let list = ghostlink(&["experiment"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let results = fs::read_to_string(documented().join("../results.md")).unwrap();
    let mut names = Vec::new();
    for line in list.lines() {
        let (name, about) = line.split_once(' ').unwrap();
        let page = fs::read_to_string(documented().join(format!("{name}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {name}: {}\n", about.trim())), "{page}");
        assert!(results.contains(&format!("](results/{name}.md)")), "{name} is not in results.md");
        names.push(name.to_owned());
    }
    let pages = fs::read_dir(documented()).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<String> = pages
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    pages.sort();
    assert_eq!(names, pages);
}

#[test]
fn quick_experiments_write_the_pages_that_are_there() {
    for name in QUICK {
        let directory = TempDir::new().unwrap();
        let out = directory.as_path().to_str().unwrap();
        let run =
            ghostlink(&["experiment", name, "--format", "none", "--out", out]).output().unwrap();
        assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
        let there = fs::read_to_string(documented().join(format!("{name}.md"))).unwrap();
        let now = fs::read_to_string(directory.as_path().join(format!("{name}.md"))).unwrap();
        assert_eq!(now, there, "repeat it: ghostlink experiment {name} --out docs/results");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_on_one_line_with_its_place() {
    let directory = TempDir::new().unwrap();
    let path = directory.as_path().join("mine.toml");
    let good = "about = \"a\"\npolicies = [\"bounded\"]\nfaults = [\"none\"]\nworkloads = [\"strict\"]\n\
                units = [\"serial\"]\nshow = [\"longest\"]\nseeds = 1\n";
    for (more, expected) in [
        ("[[axis]]\nname = \"deadline\"\nvalues = []\n", "has no values"),
        ("[[axis]]\nname = \"in_flight\"\nvalues = [0]\n", "in_flight"),
        (
            "[[axis]]\nname = \"mode\"\nvalues = [\"before=completion:20,mode=slow:pareto:1ms:1\"]\n",
            "line 10",
        ),
        ("policy = 1\n", "line 8"),
    ] {
        fs::write(&path, format!("{good}{more}")).unwrap();
        let run = ghostlink(&["experiment", "--file", path.to_str().unwrap()]).output().unwrap();
        let message = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.contains("mine.toml") && message.contains(expected), "{message}");
    }
    let impossible = good.replace("bounded", "amd").replace("serial", "parallel");
    fs::write(&path, impossible).unwrap();
    let run = ghostlink(&["experiment", "--file", path.to_str().unwrap()]).output().unwrap();
    let message = String::from_utf8(run.stderr).unwrap();
    assert!(message.contains("exists on any of these units"), "{message}");
}
