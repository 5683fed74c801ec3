//! Builds the bare-metal guest in `guest/` and the first processes of Linux guests and of the test
//! host in `runner/`, and passes the paths of the ELF files to the crate.
//!
//! They are packages of their own (other targets, own lock files), so this runs a second cargo.
//! That cargo must not see the settings of the outer build: flags of a sanitizer or of the host's
//! processor do not fit these programs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// A package that is built for another target.
struct Package {
    /// Its directory, relative to this package.
    directory: &'static str,
    target: &'static str,
    /// What the target is for.
    purpose: &'static str,
    /// What it is built from, relative to its directory.
    sources: &'static [&'static str],
    /// Its programs, and the variables that name their files to the crate.
    programs: &'static [(&'static str, &'static str)],
}

const PACKAGES: [Package; 2] = [
    Package {
        directory: "guest",
        target: "x86_64-unknown-none",
        purpose: "the bare-metal guest",
        sources: &["src", "Cargo.toml", "Cargo.lock", "build.rs", "link.ld", ".cargo/config.toml"],
        programs: &[("guest", "GHOSTLINK_GUEST")],
    },
    Package {
        directory: "runner",
        target: "x86_64-unknown-linux-musl",
        purpose: "the first processes of Linux guests and of the test host",
        sources: &["src", "Cargo.toml", "Cargo.lock", "../steps/src", "../steps/Cargo.toml"],
        programs: &[("runner", "GHOSTLINK_RUNNER"), ("testhost", "GHOSTLINK_TEST_HOST_INIT")],
    },
];

fn main() -> ExitCode {
    for package in &PACKAGES {
        for source in package.sources {
            println!("cargo::rerun-if-changed={}/{source}", package.directory);
        }
        match package.build() {
            Ok(directory) => {
                for (program, variable) in package.programs {
                    println!("cargo::rustc-env={variable}={}", directory.join(program).display());
                }
            }
            Err(reason) => {
                eprintln!("resources: {reason}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

impl Package {
    /// Builds the package; returns the directory of its programs.
    fn build(&self) -> Result<PathBuf, String> {
        require_target(self.target, self.purpose)?;
        let source = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join(self.directory);
        let output = PathBuf::from(variable("OUT_DIR")?).join(self.directory);
        let status = nested(&variable("CARGO")?, &source)
            .args(["build", "--release", "--locked", "--target", self.target, "--target-dir"])
            .arg(&output)
            .status()
            .map_err(|error| format!("cannot start cargo for {}: {error}", self.purpose))?;
        if !status.success() {
            return Err(format!(
                "building {} in {} failed: {status}",
                self.purpose,
                source.display()
            ));
        }
        Ok(output.join(self.target).join("release"))
    }
}

/// Adds the target by rustup if it is missing. rustup installs it with the toolchain of
/// rust-toolchain.toml, but not if that toolchain was installed before, or with
/// `RUSTUP_AUTO_INSTALL=0`. The error replaces rustc's "can't find crate for `core`".
fn require_target(target: &str, purpose: &str) -> Result<(), String> {
    if has_target(target)? {
        return Ok(());
    }
    println!("cargo::warning=the Rust target {target} is missing: installing it by rustup");
    // Without rustup this fails, too, and the error below has the advice.
    let _ = Command::new("rustup").args(["target", "add", target]).status();
    if has_target(target)? {
        return Ok(());
    }
    Err(format!(
        "the Rust target {target} is missing, for {purpose}: run `rustup target add {target}`"
    ))
}

fn has_target(target: &str) -> Result<bool, String> {
    let output = Command::new(variable("RUSTC")?)
        .args(["--print", "target-libdir", "--target", target])
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
