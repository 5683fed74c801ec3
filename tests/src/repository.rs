//! The files of this repository, for tests of its rules.

use std::fs;
use std::path::{Path, PathBuf};

/// The top level of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The text files of the repository, by their paths from the root, with their texts.
///
/// # Panics
/// If a directory cannot be read, or most of the files are not there.
pub fn texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root().join(&directory)).expect("it is a directory") {
            let entry = entry.expect("it can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = directory.join(&name);
            if entry.file_type().expect("it has a type").is_dir() {
                let foreign = (name.starts_with('.') && name != ".ci")
                    || name.starts_with("target")
                    || name == "corpus";
                directories.extend((!foreign).then_some(path));
            } else if name != "Cargo.lock" && !name.starts_with("LICENSE") {
                let text = fs::read_to_string(root().join(&path));
                texts.extend(text.ok().map(|text| (path.to_string_lossy().into_owned(), text)));
            }
        }
    }
    assert!(texts.len() > 200, "this walk has missed files");
    texts
}
