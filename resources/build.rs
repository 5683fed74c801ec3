//! Builds the bare-metal guest in `guest/`, and passes the path of the ELF file to the crate.
//!
//! The guest is a package of its own (other target, own lock file), so this runs a second cargo.
//! That cargo must not see the settings of the outer build: flags of a sanitizer or of the host's
//! processor do not fit a freestanding program.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "x86_64-unknown-none";

/// The sources of the guest, relative to this package.
const SOURCES: [&str; 6] = [
    "guest/src",
    "guest/Cargo.toml",
    "guest/Cargo.lock",
    "guest/build.rs",
    "guest/link.ld",
    "guest/.cargo/config.toml",
];

fn main() -> ExitCode {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    match build() {
        Ok(elf) => {
            println!("cargo::rustc-env=GHOSTLINK_GUEST={}", elf.display());
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("resources: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<PathBuf, String> {
    require_target()?;
    let source = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("guest");
    let output = PathBuf::from(variable("OUT_DIR")?).join("guest");
    let status = nested(&variable("CARGO")?, &source)
        .args(["build", "--release", "--locked", "--offline", "--target", TARGET, "--target-dir"])
        .arg(&output)
        .status()
        .map_err(|error| format!("cannot start cargo for the guest: {error}"))?;
    if !status.success() {
        return Err(format!("building the guest in {} failed: {status}", source.display()));
    }
    Ok(output.join(TARGET).join("release").join("guest"))
}

/// Adds the target by rustup if it is missing. rustup installs it with the toolchain of
/// rust-toolchain.toml, but not if that toolchain was installed before, or with
/// `RUSTUP_AUTO_INSTALL=0`. The error replaces rustc's "can't find crate for `core`".
fn require_target() -> Result<(), String> {
    if has_target()? {
        return Ok(());
    }
    println!("cargo::warning=the Rust target {TARGET} is missing: installing it by rustup");
    // Without rustup this fails, too, and the error below has the advice.
    let _ = Command::new("rustup").args(["target", "add", TARGET]).status();
    if has_target()? {
        return Ok(());
    }
    Err(format!("the Rust target {TARGET} is missing: run `rustup target add {TARGET}`"))
}

fn has_target() -> Result<bool, String> {
    let output = Command::new(variable("RUSTC")?)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| format!("cannot start rustc: {error}"))?;
    let directory = String::from_utf8_lossy(&output.stdout);
    Ok(Path::new(directory.trim()).is_dir())
}

/// A command without the variables by which the outer cargo configures compilers. Cargo's home, its
/// jobserver and its proxy stay.
fn nested(program: &str, directory: &Path) -> Command {
    const KEPT: [&str; 3] = ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_HTTP_PROXY"];
    let mut command = Command::new(program);
    command.current_dir(directory);
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let configures_build = text == "TARGET"
            || ["CARGO_", "RUSTFLAGS", "RUSTDOC", "RUSTC", "LLVM_"]
                .iter()
                .any(|prefix| text.starts_with(prefix));
        if configures_build && !KEPT.contains(&text) {
            command.env_remove(&name);
        }
    }
    command
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("environment variable {name}: {error}"))
}
