//! `ghostlink compare`, `merge` and `explain`: what is promised of results, whatever happens to the
//! process that makes them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use vmm_sys_util::tempdir::TempDir;

use crate::cli::ghostlink;

/// A comparison that is done in no time, but for its seeds.
const SMALL: &[&str] = &[
    "--policies",
    "linux-7.0,xen-4.15,quarantine:100ms",
    "--faults",
    "none,silent,no-completion",
    "--workloads",
    "victim",
    "--format",
    "none",
];
const RUNS: usize = 3 * 3 * 2;

fn output(arguments: &[&str]) -> Output {
    ghostlink(arguments).output().unwrap()
}

/// The command line of a comparison with two seeds.
fn small<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["compare", "--seeds", "2"], SMALL, options].concat()
}

/// Runs a comparison that must succeed.
fn compare(options: &[&str]) {
    let output = output(&small(options));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The message of a command that must fail, on one line.
fn complaint(arguments: &[&str]) -> String {
    let output = output(arguments);
    assert_ne!(output.status.code(), Some(0), "{arguments:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.as_path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

/// Every file of a directory, by name.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (files(one), files(other));
    let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&one), names(&other));
    for ((name, one), (_, other)) in one.iter().zip(&other) {
        assert!(one == other, "{name} differs");
    }
}

/// Makes the results of one process without interruption, and returns their directory.
fn reference(place: &Place) -> PathBuf {
    compare(&["--jobs", "1", "--out", &place.text("reference")]);
    place.path("reference")
}

#[test]
fn each_run_is_a_line_and_its_name_replays_it() {
    let place = Place::new();
    let directory = reference(&place);
    let names: Vec<String> = files(&directory).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["cells.csv", "plan.json", "report.html", "results.jsonl"]);
    let lines = fs::read_to_string(directory.join("results.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), RUNS);
    let run: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(run["run"], "linux-7.0/none/victim/serial/0");
    assert_eq!((&run["policy"], &run["seed"]), (&"linux-7.0".into(), &0.into()));
    assert!(run["result"]["innocent"]["max"].is_u64(), "{run}");
    let cells = fs::read_to_string(directory.join("cells.csv")).unwrap();
    assert_eq!(cells.lines().count(), 1 + 3 * 3);
    let columns = cells.lines().next().unwrap().split(',').count();
    assert!(cells.lines().all(|line| line.split(',').count() == columns), "{cells}");
}

#[test]
fn threads_do_not_show_in_the_result() {
    let place = Place::new();
    let directory = reference(&place);
    compare(&["--jobs", "4", "--out", &place.text("threads")]);
    assert_same(&directory, &place.path("threads"));
}

#[test]
fn shards_of_several_machines_become_what_one_would_have_made() {
    let place = Place::new();
    let directory = reference(&place);
    for part in ["1", "2", "3", "4"] {
        compare(&["--shard", &format!("{part}/4"), "--out", &place.text(part)]);
    }
    let [a, b, c, d] = ["3", "1", "4", "2"].map(|part| place.text(part));
    let whole = place.text("whole");
    let merged = output(&["merge", &a, &b, &c, &d, "--out", &whole, "--format", "none"]);
    assert_eq!(merged.status.code(), Some(0), "{}", String::from_utf8_lossy(&merged.stderr));
    assert_same(&directory, &place.path("whole"));

    let error = complaint(&["merge", &a, &b, &d, "--out", &place.text("missing")]);
    assert!(error.contains("the part 4/4 is missing"), "{error}");
    let error = complaint(&["merge", &a, &b, &b, &d, "--out", &place.text("twice")]);
    assert!(error.contains("both the part 1/4"), "{error}");
    let other = place.text("other");
    let three = [&["compare", "--seeds", "3", "--shard", "4/4", "--out", &other], SMALL].concat();
    assert_eq!(output(&three).status.code(), Some(0));
    let error = complaint(&["merge", &a, &b, &other, &d, "--out", &whole]);
    assert!(error.contains("does not belong") && error.contains("seeds"), "{error}");
}

/// The recipe of docs/scaling.md, as it stands there.
#[test]
fn the_recipe_with_xargs_works() {
    let place = Place::new();
    let directory = reference(&place);
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/scaling.md");
    let docs = fs::read_to_string(docs).unwrap();
    let recipe = docs.split("```sh xargs\n").nth(1).expect("the recipe is marked in the page");
    let recipe = recipe.split("```").next().unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_ghostlink")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-ec", recipe]).current_dir(place.0.as_path()).env("PATH", path);
    shell.env("OPTIONS", small(&[])[1..].join(" "));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_same(&directory, &place.path("whole"));
}

#[test]
fn an_interrupted_comparison_goes_on_and_nothing_shows_of_it() {
    let place = Place::new();
    // Long enough that the signal comes first.
    let broken = place.text("broken");
    let many = ["--seeds", "2000", "--out", &broken];
    let arguments = [&["compare"], SMALL, &many].concat();
    let mut child = ghostlink(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    let part = place.path("broken").join("results.jsonl.part");
    while !fs::metadata(&part).is_ok_and(|file| file.len() > 0) {
        std::thread::yield_now();
        assert_eq!(child.try_wait().unwrap(), None, "it has ended before it was interrupted");
    }
    let kill = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("--resume continues"), "{said}");
    let text = fs::read_to_string(&part).unwrap();
    assert!(text.ends_with('\n'));
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[test]
fn half_a_file_goes_on_to_the_same_bytes() {
    let place = Place::new();
    let directory = reference(&place);
    let broken = place.path("broken");
    fs::create_dir(&broken).unwrap();
    fs::copy(directory.join("plan.json"), broken.join("plan.json")).unwrap();
    let results = fs::read(directory.join("results.jsonl")).unwrap();
    // In the middle of a line.
    fs::write(broken.join("results.jsonl.part"), &results[..results.len() / 2]).unwrap();
    let error = complaint(&small(&["--out", &place.text("broken")]));
    assert!(error.contains("--resume"), "{error}");
    compare(&["--resume", "--out", &place.text("broken")]);
    assert_same(&directory, &broken);
    let broken = place.text("broken");
    let three = ["compare", "--seeds", "3", "--resume", "--out", &broken];
    let error = complaint(&[&three, SMALL].concat());
    assert!(error.contains("another comparison"), "{error}");
}

#[test]
fn a_full_disk_keeps_what_was_finished() {
    let place = Place::new();
    let directory = reference(&place);
    let program = env!("CARGO_BIN_EXE_ghostlink");
    let options = small(&[])[1..].join(" ");
    // A limit on the size of files, in blocks of 512 bytes: the next write fails as on a full disk.
    let script = format!(
        "trap '' XFSZ; ulimit -f 12; exec {program} compare {options} --out {}",
        place.text("full")
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("results.jsonl.part") && said.contains("--resume"), "{said}");
    compare(&["--resume", "--out", &place.text("full")]);
    assert_same(&directory, &place.path("full"));
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_before_anything_runs() {
    for directory in ["/proc/results", "/dev/null/results"] {
        let error = complaint(&small(&["--out", directory]));
        assert!(error.contains(directory) && error.contains("may write"), "{error}");
    }
    let error = complaint(&small(&["--resume"]));
    assert!(error.contains("--out"), "{error}");
}

#[test]
fn the_report_is_whole_and_needs_nothing_else() {
    let place = Place::new();
    let page = fs::read_to_string(reference(&place).join("report.html")).unwrap();
    // The only address is the name of SVG's vocabulary.
    let page = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for foreign in ["http:", "https:", "<script", "<link", "url(", "@import", "src="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    well_formed(&page);
    for there in
        ["prefers-color-scheme:dark", "ghostlink compare --policies linux-7.0,xen-4.15", "<svg"]
    {
        assert!(page.contains(there), "{there}");
    }
    for policy in ["linux-7.0", "xen-4.15", "quarantine:100ms"] {
        assert!(page.contains(&format!("ghostlink explain {policy}/")), "{policy}");
    }
}

/// Every element is closed, in order.
fn well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag has an end");
        let name = tag.split([' ', '\n', '/']).find(|word| !word.is_empty()).unwrap_or_default();
        if tag.starts_with('!') || tag.ends_with('/') || name == "meta" {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn a_run_is_told_step_by_step_and_drawn() {
    let place = Place::new();
    let (trace, events) = (place.text("trace.json"), place.text("events.jsonl"));
    let run = "linux-7.0/no-completion/victim/serial/0";
    let output = output(&["explain", run, "--all", "--trace", &trace, "--events", &events]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let story = String::from_utf8(output.stdout).unwrap();
    assert!(story.starts_with(run), "{story}");
    // Ten lines say it all, before the steps.
    let summary: Vec<&str> = story.lines().take_while(|line| !line.contains("THE FAULT")).collect();
    for line in ["promised", "outcome", "NOT LIVE", "longest wait", "lock-ups", "at the end"] {
        assert!(summary.iter().any(|other| other.contains(line)), "{line}: {story}");
    }
    assert!(summary.len() < 20, "{story}");
    for step in ["THE FAULT", "FSTS.ITE", "HARD LOCK-UP", "more, up to"] {
        assert!(story.contains(step), "{step}: {story}");
    }
    let trace: Value = serde_json::from_str(&fs::read_to_string(&trace).unwrap()).unwrap();
    let trace = trace["traceEvents"].as_array().unwrap();
    let process = |name: &str| trace.iter().any(|event| event["args"]["name"] == name);
    assert!(process("CPU 0") && process("queue slots") && process("requests"));
    assert!(trace.iter().all(|event| event["ph"] != "X" || event["dur"].as_f64() >= Some(0.0)));
    let events = fs::read_to_string(&events).unwrap();
    assert!(events.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));

    let error = complaint(&["explain", "linus/no-completion/victim/0"]);
    assert!(error.contains("did you mean 'linux'?"), "{error}");
    let error = complaint(&["explain", "linux"]);
    assert!(error.contains("policy/fault/workload/unit/seed"), "{error}");
}

#[test]
fn rows_of_a_users_own_are_compared_and_explained() {
    let place = Place::new();
    let rows =
        "[[fault]]\nname = \"mine\"\nabout = \"\"\nfault = \"after=requests:3,mode=silent\"\n";
    fs::write(place.path("rows.toml"), rows).unwrap();
    let (file, out) = (place.text("rows.toml"), place.text("out"));
    let mine = [
        &["compare", "--matrix", &file, "--policies", "linux", "--faults", "mine"][..],
        &["--workloads", "victim", "--seeds", "1", "--out", &out],
    ]
    .concat();
    assert_eq!(output(&mine).status.code(), Some(0));
    // The directory knows the rows, the file may be gone.
    fs::write(place.path("rows.toml"), rows.replace("about", "abuot")).unwrap();
    let story = output(&["explain", "linux/mine/victim/0", "--from", &out]);
    assert_eq!(story.status.code(), Some(0), "{}", String::from_utf8_lossy(&story.stderr));
    let error = complaint(&mine);
    assert!(error.contains("line 3, column 1") && error.contains("`about`?"), "{error}");
}
