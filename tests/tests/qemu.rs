//! The built-in guest under QEMU, with an independent model of the remapping unit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tests::{Need, wanted};

/// The exit status of isa-debug-exit for the value 0.
const PASSED: i32 = 1;

/// Runs the built-in guest with this command line, and a unit with these options.
fn run(cmdline: &str, unit: &str) {
    if !wanted(Need::Qemu) {
        return;
    }
    let name = std::thread::current().name().unwrap_or("guest").to_owned();
    let image = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&image, resources::GUEST).expect("the directory for tests is writable");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../resources/guest/run-qemu");
    let Output { status, stdout, stderr } = Command::new(script)
        .arg(cmdline)
        .env("IMAGE", &image)
        .env("UNIT", unit)
        .stdin(Stdio::null())
        .output()
        .expect("the script can be started");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(PASSED), "{status}\n{stdout}\n{stderr}");
    fs::remove_file(&image).expect("it is still there");
}

#[test]
fn drop_runs_as_far_as_qemu_has_the_devices() {
    run("test=drop", "");
}

#[test]
fn selftest_passes_in_front_of_a_legacy_unit() {
    run("test=selftest", "");
}

#[test]
fn selftest_passes_in_front_of_a_scalable_unit() {
    run("test=selftest", "x-scalable-mode=on");
}
