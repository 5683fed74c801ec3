//! What init has to do before the steps, and at the end.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::CWD;
use rustix::mount::{MountFlags, mount};
use rustix::process::Pid;

use crate::child;

/// Set in the environment once the runner is on its CPU.
const PINNED: &str = "GHOSTLINK_PINNED";

/// The number of CPUs that are online.
pub(crate) fn cpus() -> usize {
    std::fs::read_to_string("/proc/cpuinfo")
        .unwrap_or_default()
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count()
        .max(1)
}

/// Mounts the kernel's file systems, and moves this process to the last CPU.
///
/// It starts its program there again: its memory has then never been used on another CPU, and
/// changes of its mappings interrupt none. A CPU that is stuck would not answer.
pub(crate) fn prepare(arguments: &[String]) {
    if std::env::var_os(PINNED).is_some() {
        return;
    }
    for (kind, target) in [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("debugfs", "/sys/kernel/debug"),
    ] {
        let _ = rustix::fs::mkdirat(CWD, target, 0o755.into());
        // debugfs is not in every kernel; without one of the others the first step says what fails.
        let _ = mount(kind, target, kind, MountFlags::empty(), None);
    }
    let last = cpus() - 1;
    let _ = child::pin(last);
    pin_rcu(last);
    let error = Command::new("/proc/self/exe").args(arguments).env(PINNED, "1").exec();
    eprintln!("runner: cannot start again: {error}");
}

/// Moves RCU's grace-period thread to the last CPU. On a stuck CPU it would begin no grace period, and
/// without one the stall detector does not report CPU 0.
fn pin_rcu(cpu: usize) {
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let Ok(id) = process.file_name().to_string_lossy().parse() else { continue };
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        if ["rcu_preempt", "rcu_sched"].contains(&name.trim_end())
            && let Some(process) = Pid::from_raw(id)
        {
            let _ = child::pin_other(process, cpu);
        }
    }
}

/// Whether a file exists. Also of a symbolic link without target.
pub(crate) fn exists(path: impl AsRef<Path>) -> bool {
    !matches!(path.as_ref().symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound)
}

/// The machine should have ended. The first process must not end: the kernel would panic.
pub(crate) fn end() -> ! {
    let _ = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
