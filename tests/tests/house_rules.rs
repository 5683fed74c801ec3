//! Rules of this repository that a machine can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every Rust file of the repository, by its path from the root, with its text.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root().join(&directory)).expect("it is a directory") {
            let entry = entry.expect("it can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = directory.join(&name);
            if entry.file_type().expect("it has one").is_dir() {
                let foreign = name.starts_with('.') || name.starts_with("target");
                directories.extend((!foreign).then_some(path));
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(root().join(&path)).expect("sources are text");
                sources.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    assert!(sources.len() > 100, "this walk has missed something");
    sources
}

/// The packages of the workspace, as cargo describes them.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    metadata["packages"].as_array().expect("a workspace has packages").clone()
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    for package in packages() {
        let allowed: &[&str] = match package["name"].as_str() {
            Some("iommu" | "resources") => &[],
            Some("devices") => &["iommu"],
            Some("vmm") => &["devices", "iommu", "resources"],
            Some("tests") => &["devices", "iommu", "resources", "vmm"],
            name => panic!("{name:?} has no place in the order of crates yet"),
        };
        for dependency in package["dependencies"].as_array().expect("a list") {
            let name = dependency["name"].as_str().expect("a name");
            let ours = !dependency["path"].is_null();
            assert!(!ours || allowed.contains(&name), "{} depends on {name}", package["name"]);
        }
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
        .filter(|(path, text)| path.starts_with("vmm/") && text.contains("allow(unsafe_code)"))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(
        allowing,
        BTreeSet::from(["vmm/src/kvm/raw.rs", "vmm/src/sys.rs"].map(String::from))
    );
    for name in ["iommu", "devices", "tests"] {
        let text = fs::read_to_string(root().join(name).join("src/lib.rs")).expect("a library");
        assert!(text.contains("\n#![forbid(unsafe_code)]\n"), "{name} does not forbid unsafe code");
    }
}
