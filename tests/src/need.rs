//! The requirements of a test on the machine that it runs on. A test fails, with one line that says
//! so, if the machine lacks it. The environment can ask to skip such tests; `tests/run` counts
//! skipped tests.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// A requirement of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// `/dev/kvm`, with the permission to open it. `GHOSTLINK_NO_KVM=1` skips.
    Kvm,
    /// `qemu-system-x86_64`, see [`qemu`]. `GHOSTLINK_NO_QEMU=1` skips.
    Qemu,
}

impl Need {
    const fn variable(self) -> &'static str {
        match self {
            Self::Kvm => "GHOSTLINK_NO_KVM",
            Self::Qemu => "GHOSTLINK_NO_QEMU",
        }
    }

    /// A message about the missing device or program, and how to get it; `None` if it is there.
    fn missing(self) -> Option<String> {
        match self {
            Self::Kvm => {
                let error = File::options().read(true).write(true).open("/dev/kvm").err()?;
                Some(format!("cannot open /dev/kvm ({error})"))
            }
            Self::Qemu => {
                let path = env::var_os("PATH").unwrap_or_default();
                let program = qemu();
                // Joining an absolute path gives that path.
                let found = env::split_paths(&path).any(|entry| entry.join(&program).is_file());
                (!found).then(|| {
                    let program = Path::new(&program).display();
                    format!("there is no {program}: 'resources/packages qemu' unpacks QEMU")
                })
            }
        }
    }
}

/// QEMU's program: `GHOSTLINK_QEMU`, which `tests/run` sets, or the installed one.
pub fn qemu() -> OsString {
    env::var_os("GHOSTLINK_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into())
}

/// Whether the calling test runs; `false` if the environment skips it.
///
/// # Panics
///
/// If the requirement is missing, by which the test fails.
pub fn wanted(need: Need) -> bool {
    let variable = need.variable();
    if env::var_os(variable).is_some_and(|value| value == "1") {
        let test = std::thread::current();
        let name = test.name().unwrap_or("?");
        // The test harness hides the output of `print` and its kind. One write keeps the line
        // whole.
        let line = format!("skipped: {name} ({variable}=1)\n");
        let _ = io::stderr().write_all(line.as_bytes());
        return false;
    }
    if let Some(reason) = need.missing() {
        panic!("{reason}; {variable}=1 skips the tests that need it");
    }
    true
}
