//! Steps after which this kernel does not run any more, if they succeed.

use std::fs;
use std::time::Duration;

use rustix::system::{RebootCommand, reboot};
use steps::{MachineReset, Quantity};

use super::{Failure, Runner, Taken, require};
use crate::boot::exists;
use crate::second_kernel;

/// The time in which a machine ends. Linux shuts devices down before.
const ENDS: Duration = Duration::from_secs(60);

/// The number of steps that were done before this kernel was started.
pub(super) fn steps_before() -> u32 {
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    second_kernel::steps_before(&cmdline)
}

impl Runner {
    pub(super) fn kdump(&mut self) -> Taken {
        needs_kexec("/sys/kernel/kexec_crash_loaded")?;
        second_kernel::load_for_panic()?;
        let loaded = fs::read_to_string("/sys/kernel/kexec_crash_loaded")?;
        require(loaded.trim() == "1", "the kernel is not loaded")
    }

    pub(super) fn kexec(&mut self, number: u32, rest: &[String]) -> Taken {
        needs_kexec("/sys/kernel/kexec_loaded")?;
        second_kernel::load(number, rest)?;
        self.ends("kexec", RebootCommand::Kexec)
    }

    pub(super) fn reset_machine(&mut self, kind: MachineReset) -> Taken {
        let key = match kind {
            MachineReset::Reboot => return self.ends("reboot", RebootCommand::Restart),
            MachineReset::Sysrq => "b",
            MachineReset::Panic => "c",
        };
        self.pass_log_on();
        self.on_last_cpu(ENDS, |_| {
            fs::write("/proc/sysrq-trigger", key).map_err(|error| error.to_string())
        })?;
        self.pause(ENDS);
        Err("the machine still runs".into())
    }

    pub(super) fn power_off(&mut self) -> Taken {
        self.ends("poweroff", RebootCommand::PowerOff)
    }

    /// Calls reboot(2) in a process. Returns only if it does not end the machine in time.
    fn ends(&mut self, name: &str, command: RebootCommand) -> Taken {
        self.pass_log_on();
        let done = self.in_process(self.last_cpu(), ENDS, move |_| {
            reboot(command).map_err(|error| format!("reboot(2): {error}"))
        })?;
        if let Some(done) = done {
            done.result?;
        }
        self.value(&format!("{name}_ms"), Quantity::Never);
        Err(format!("the machine still runs after {} s", ENDS.as_secs()).into())
    }
}

fn needs_kexec(file: &str) -> Taken {
    if exists(file) {
        return Ok(());
    }
    Err(Failure::Skip("the kernel has no kexec (KEXEC_FILE)".to_owned()))
}
