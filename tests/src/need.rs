//! The requirements of a test on the machine that it runs on. A test fails, with one line that says
//! so, if the machine lacks it. The environment can ask to skip such tests; `tests/run` counts
//! skipped tests.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A requirement of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// `/dev/kvm`, with the permission to open it. `GHOSTLINK_NO_KVM=1` skips.
    Kvm,
    /// `qemu-system-x86_64`, see [`qemu`]. `GHOSTLINK_NO_QEMU=1` skips.
    Qemu,
    /// The QEMU of the comparison, see [`judge`]. `GHOSTLINK_NO_QEMU=1` skips.
    Judge,
    /// A headless Chromium, see [`browser`]. `GHOSTLINK_NO_BROWSER=1` skips.
    Browser,
    /// QEMU and Debian's kernel for `ghostlink testhost`, which gets them by itself.
    /// `GHOSTLINK_NO_LINUX=1` skips.
    TestHost,
}

impl Need {
    const fn variable(self) -> &'static str {
        match self {
            Self::Kvm => "GHOSTLINK_NO_KVM",
            Self::Qemu | Self::Judge => "GHOSTLINK_NO_QEMU",
            Self::Browser => "GHOSTLINK_NO_BROWSER",
            Self::TestHost => "GHOSTLINK_NO_LINUX",
        }
    }

    /// A message about the missing device or program, and how to get it; `None` if it is there.
    fn missing(self) -> Option<String> {
        match self {
            Self::Kvm => {
                let error = File::options().read(true).write(true).open("/dev/kvm").err()?;
                Some(format!("cannot open /dev/kvm ({error})"))
            }
            Self::Qemu | Self::Judge => {
                let program = if self == Self::Judge { judging_qemu() } else { qemu() };
                (!is_found(&program)).then(|| {
                    let program = Path::new(&program).display();
                    format!("there is no {program}: 'resources/packages qemu' unpacks QEMU")
                })
            }
            Self::TestHost => None,
            Self::Browser => (!is_found(&browser())).then(|| {
                let program = browser();
                let program = Path::new(&program).display();
                format!("there is no {program}: 'resources/packages browser' unpacks Chromium")
            }),
        }
    }
}

/// Whether there is such a program: a path, or a name of one that is installed.
fn is_found(program: &OsString) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Joining an absolute path gives that path.
    env::split_paths(&path).any(|entry| entry.join(program).is_file())
}

/// A headless Chromium: `GHOSTLINK_BROWSER`, which `tests/run` sets, the one in the cache, or the
/// installed one.
pub fn browser() -> OsString {
    const NAME: &str = "chromium-headless-shell";
    let cached = || cached(&format!("{NAME}-complete/run/{NAME}"));
    env::var_os("GHOSTLINK_BROWSER")
        .or_else(|| cached().map(PathBuf::into_os_string))
        .unwrap_or_else(|| NAME.into())
}

/// QEMU's program: `GHOSTLINK_QEMU`, which `tests/run` sets, or the installed one.
pub fn qemu() -> OsString {
    env::var_os("GHOSTLINK_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into())
}

/// The QEMU that our remapping unit is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    /// Its program.
    pub program: OsString,
    /// Its release.
    pub release: Release,
}

/// The releases of QEMU that the comparison is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// 7.2: no first stage, no synchronous device, other fault reasons in scalable mode.
    Seven,
    /// 11, and what comes after it.
    Eleven,
}

/// The judge: `GHOSTLINK_JUDGE`, which `tests/run` sets, or QEMU 11 in the cache, or [`qemu`].
///
/// # Panics
///
/// If that program does not start, or is of another release.
pub fn judge() -> &'static Judge {
    static JUDGE: OnceLock<Judge> = OnceLock::new();
    JUDGE.get_or_init(|| {
        let program = judging_qemu();
        let output = Command::new(&program).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("cannot run {program:?}: {error}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split("version ").nth(1).and_then(|rest| rest.split(' ').next());
        let major = version.and_then(|version| version.split('.').next()?.parse().ok());
        let release = match major {
            Some(7) => Release::Seven,
            Some(11..) => Release::Eleven,
            _ => panic!(
                "the comparison is written for QEMU 7.2 and for 11, and {program:?} is {}: set \
                 GHOSTLINK_JUDGE to the program that 'resources/packages qemu 11' prints",
                version.unwrap_or("of no version")
            ),
        };
        Judge { program, release }
    })
}

fn judging_qemu() -> OsString {
    env::var_os("GHOSTLINK_JUDGE")
        .or_else(|| cached_qemu().map(PathBuf::into_os_string))
        .unwrap_or_else(qemu)
}

/// The place of QEMU 11 in the cache, if `resources/packages qemu 11` has unpacked it.
fn cached_qemu() -> Option<PathBuf> {
    cached("qemu-system-x86-complete-trixie-backports/run/qemu-system-x86_64")
}

/// The place of a program that `resources/packages` has unpacked into the cache.
fn cached(program: &str) -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("ghostlink").join(program)).filter(|program| program.is_file())
}

/// The directory that the environment names by `variable`, for things that no script can get. `None`
/// skips the calling test, which then says so.
pub fn directory(variable: &str) -> Option<PathBuf> {
    let directory = env::var_os(variable).filter(|value| !value.is_empty());
    if directory.is_none() {
        report_skipped(&format!("{variable} is not set"));
    }
    directory.map(PathBuf::from)
}

/// Prints the line by which `tests/run` counts the calling test as skipped.
fn report_skipped(reason: &str) {
    let test = std::thread::current();
    let name = test.name().unwrap_or("?");
    // The test harness hides the output of `print` and its kind. One write keeps the line whole.
    let line = format!("skipped: {name} ({reason})\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Whether the calling test runs; `false` if the environment skips it.
///
/// # Panics
///
/// If the requirement is missing, by which the test fails.
pub fn wanted(need: Need) -> bool {
    let variable = need.variable();
    if env::var_os(variable).is_some_and(|value| value == "1") {
        report_skipped(&format!("{variable}=1"));
        return false;
    }
    if let Some(reason) = need.missing() {
        panic!("{reason}; {variable}=1 skips the tests that need it");
    }
    true
}
