//! Rules of this repository that a machine can check.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::process::Command;

use serde_json::Value;
use tests::repository::{root, texts};

/// Every Rust file of the repository, by its path from the root, with its text.
fn sources() -> Vec<(String, String)> {
    let mut sources = texts();
    sources.retain(|(path, _)| path.ends_with(".rs"));
    assert!(sources.len() > 100, "this walk has missed sources");
    sources
}

/// The dependencies that a package of the workspace may have: packages of the workspace to build
/// it, and to test it. `never` lists packages that it must not reach, not even through others.
struct Place {
    name: &'static str,
    builds_on: &'static [&'static str],
    tested_with: &'static [&'static str],
    never: &'static [&'static str],
}

const KVM: &[&str] = &["kvm-bindings", "kvm-ioctls"];
const TERMINAL: &[&str] = &["clap", "comfy-table", "console", "indicatif", "plotters", "toml"];

const PLACES: &[Place] = &[
    Place { name: "iommu", builds_on: &[], tested_with: &[], never: KVM },
    Place { name: "devices", builds_on: &["iommu"], tested_with: &[], never: KVM },
    Place { name: "resources", builds_on: &[], tested_with: &[], never: &[] },
    Place { name: "steps", builds_on: &[], tested_with: &[], never: &[] },
    Place { name: "vmm", builds_on: &["devices", "iommu"], tested_with: &[], never: TERMINAL },
    Place {
        name: "lab",
        builds_on: &["devices", "iommu"],
        tested_with: &[],
        never: &["clap", "indicatif", "kvm-bindings", "kvm-ioctls"],
    },
    Place { name: "linux", builds_on: &[], tested_with: &[], never: TERMINAL },
    Place {
        name: "scenario",
        builds_on: &["devices", "iommu", "lab", "linux", "resources", "steps", "vmm"],
        tested_with: &[],
        never: &["clap", "indicatif"],
    },
    Place {
        name: "testhost",
        builds_on: &["linux", "resources", "steps", "vmm"],
        tested_with: &[],
        never: TERMINAL,
    },
    Place {
        name: "ghostlink",
        builds_on: &[
            "devices",
            "iommu",
            "lab",
            "linux",
            "resources",
            "scenario",
            "testhost",
            "vmm",
        ],
        tested_with: &["tests"],
        never: &[],
    },
    Place {
        name: "tests",
        builds_on: &["devices", "iommu", "resources", "vmm"],
        tested_with: &[],
        never: TERMINAL,
    },
];

/// An arrow of the resolved graph.
struct Dependency {
    /// The identifier of the package that is depended on.
    id: String,
    /// Whether only tests, examples and benches need it.
    for_tests: bool,
}

/// The dependencies of every package, by identifiers, as cargo has resolved them.
struct Graph {
    names: HashMap<String, String>,
    dependencies: HashMap<String, Vec<Dependency>>,
    /// The packages of the workspace.
    ours: Vec<String>,
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

impl Graph {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--offline", "--locked"])
            // Packages for other systems may never have been downloaded.
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(root())
            .output()
            .expect("cargo can be started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo metadata: {errors}");
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
        let packages = list(&metadata["packages"]).iter();
        let nodes = list(&metadata["resolve"]["nodes"]).iter();
        Self {
            names: packages.map(|package| (text(&package["id"]), text(&package["name"]))).collect(),
            dependencies: nodes.map(|node| (text(&node["id"]), dependencies(node))).collect(),
            ours: list(&metadata["workspace_members"]).iter().map(text).collect(),
        }
    }

    fn name(&self, id: &str) -> &str {
        &self.names[id]
    }

    /// The names of all packages that are compiled to build the package `id`.
    fn reached(&self, id: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            let built = self.dependencies[id].iter().filter(|dependency| !dependency.for_tests);
            left.extend(built.map(|it| it.id.as_str()).filter(|id| reached.insert(self.name(id))));
        }
        reached
    }
}

/// The dependencies of a node of the graph.
fn dependencies(node: &Value) -> Vec<Dependency> {
    let dependency = |value: &Value| Dependency {
        id: text(&value["pkg"]),
        for_tests: list(&value["dep_kinds"]).iter().all(|kind| kind["kind"] == "dev"),
    };
    list(&node["deps"]).iter().map(dependency).collect()
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let graph = Graph::read();
    let mut names: Vec<&str> = graph.ours.iter().map(|id| graph.name(id)).collect();
    names.sort_unstable();
    let mut known: Vec<&str> = PLACES.iter().map(|place| place.name).collect();
    known.sort_unstable();
    assert_eq!(names, known, "each package of the workspace has a row in PLACES");
    for id in &graph.ours {
        let name = graph.name(id);
        let place = PLACES.iter().find(|place| place.name == name).expect("it has a row");
        for dependency in &graph.dependencies[id] {
            let other = graph.name(&dependency.id);
            let allowed = place.builds_on.contains(&other)
                || dependency.for_tests && place.tested_with.contains(&other);
            assert!(allowed || !known.contains(&other), "{name} depends on {other}");
        }
    }
}

#[test]
fn libraries_do_not_reach_what_only_the_program_needs() {
    let graph = Graph::read();
    for id in &graph.ours {
        let name = graph.name(id);
        let reached = graph.reached(id);
        let alone = ["resources", "steps"].contains(&name);
        assert!(alone || reached.contains("thiserror"), "{name}: {reached:?}");
        let place = PLACES.iter().find(|place| place.name == name).expect("it has a row");
        let wrong: Vec<_> = place.never.iter().filter(|never| reached.contains(**never)).collect();
        assert!(wrong.is_empty(), "{name} reaches {wrong:?}");
    }
}

#[test]
fn no_file_is_longer_than_one_can_read() {
    const LINES: usize = 500;
    let long: Vec<(String, usize)> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES)
        .collect();
    assert!(long.is_empty(), "more than {LINES} lines: {long:?}");
}

#[test]
fn unsafe_code_is_where_it_is_said_to_be() {
    let allowing: BTreeSet<String> = sources()
        .into_iter()
        .filter(|(path, _)| ["vmm/", "resources/runner/"].iter().any(|it| path.starts_with(it)))
        .filter(|(_, text)| text.contains("allow(unsafe_code)"))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(
        allowing,
        BTreeSet::from(
            [
                "resources/runner/src/bin/testhost.rs",
                "resources/runner/src/sys.rs",
                "vmm/src/kvm/raw.rs",
                "vmm/src/sys.rs",
            ]
            .map(String::from)
        )
    );
    for path in [
        "iommu/src/lib.rs",
        "devices/src/lib.rs",
        "tests/src/lib.rs",
        "resources/steps/src/lib.rs",
        "vmm/lab/src/lib.rs",
        "vmm/testhost/src/lib.rs",
        "vmm/linux/src/lib.rs",
        "vmm/scenario/src/lib.rs",
        "vmm/cli/src/main.rs",
    ] {
        let text = fs::read_to_string(root().join(path)).expect("the root of a crate");
        assert!(text.contains("\n#![forbid(unsafe_code)]\n"), "{path} does not forbid unsafe code");
    }
}
