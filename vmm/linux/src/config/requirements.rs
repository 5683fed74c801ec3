//! The options that a kernel needs as a guest.

use super::KernelConfig;

/// Who needs an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Each Linux guest.
    Machine,
    /// A guest with more than one CPU.
    SeveralCpus,
    /// A guest with an initramfs.
    Initramfs,
    /// The scenario runner, which is the first program of the initramfs.
    Runner,
    /// Scenarios with one of these steps.
    Steps(&'static [&'static str]),
    /// These scenarios alone, which are skipped without it: distributions do not set it.
    Optional(&'static str),
    /// Another option of the table depends on it, in some versions of Linux. It is in the fragment, and
    /// is not checked.
    Prerequisite,
}

/// An option that a kernel needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// The option, without `CONFIG_`.
    pub option: &'static str,
    /// Who needs it.
    pub need: Need,
    /// The module that it makes if it is not built in, with `_`; `None` if it has to be built in.
    pub module: Option<&'static str>,
    /// What Linux does without it: the rest of a sentence whose subject is Linux.
    pub without: &'static str,
}

const fn row(option: &'static str, need: Need, without: &'static str) -> Requirement {
    Requirement { option, need, module: None, without }
}

const fn module(
    option: &'static str,
    module: &'static str,
    need: Need,
    without: &'static str,
) -> Requirement {
    Requirement { option, need, module: Some(module), without }
}

use Need::{Initramfs, Machine, Optional, Prerequisite, Runner, SeveralCpus, Steps};

/// All of them, in the order of the fragment. On top of `tinyconfig` they make a kernel that runs each
/// scenario.
pub const REQUIREMENTS: &[Requirement] = &[
    row("64BIT", Machine, "does not run on this machine"),
    row("SMP", SeveralCpus, "uses one CPU"),
    row("X86_X2APIC", Machine, "does not use interrupts with extended identifiers"),
    row("HYPERVISOR_GUEST", Prerequisite, "does not know that it is a guest"),
    row("PARAVIRT", Prerequisite, "does not know that it is a guest"),
    row("KVM_GUEST", Machine, "measures its clock instead of reading it from KVM"),
    row("HIGH_RES_TIMERS", Runner, "measures times in ticks of 4 or 10 ms"),
    row("ACPI", Machine, "finds neither remapping unit nor host bridge, and does not switch off"),
    row("RTC_CLASS", Prerequisite, "has no real-time clock"),
    row("BLK_DEV_INITRD", Initramfs, "does not unpack the initramfs"),
    row("BINFMT_ELF", Initramfs, "starts no program"),
    // Messages.
    row("PRINTK", Machine, "prints nothing"),
    row("PRINTK_TIME", Prerequisite, "prints no times"),
    row("BUG", Prerequisite, "prints no warnings"),
    row("TTY", Prerequisite, "has no console"),
    row("SERIAL_8250", Prerequisite, "has no driver for COM1"),
    row("SERIAL_8250_CONSOLE", Machine, "says nothing on its console"),
    row("EARLY_PRINTK", Prerequisite, "says nothing before its console is there"),
    row("KALLSYMS", Runner, "prints addresses instead of names in a backtrace"),
    // User space.
    row("MULTIUSER", Prerequisite, "has no users besides root"),
    row("FUTEX", Runner, "cannot run programs with threads"),
    row("EPOLL", Prerequisite, "has no epoll"),
    row("SHMEM", Prerequisite, "has no tmpfs"),
    row("POSIX_TIMERS", Prerequisite, "has no timers for programs"),
    row("FILE_LOCKING", Prerequisite, "has no file locks"),
    row("SYSCTL", Runner, "has no /proc/sys, where the runner sets the log level"),
    row("PROC_FS", Runner, "has no /proc, where the runner reads interrupts and the command line"),
    row("PROC_SYSCTL", Prerequisite, "has no settings in /proc/sys"),
    row("SYSFS", Runner, "has no /sys, where the runner finds devices"),
    row("TMPFS", Prerequisite, "has no tmpfs"),
    row("MEMFD_CREATE", Runner, "has no files in memory, of which the runner starts its programs"),
    row("DEVTMPFS", Runner, "has no /dev with disks in it"),
    row("DEVMEM", Prerequisite, "has no /dev/mem"),
    row("DEVPORT", Prerequisite, "has no /dev/port"),
    row(
        "X86_IOPL_IOPERM",
        Runner,
        "does not let the runner write to ports, by which it reports and ends the run",
    ),
    row("MAGIC_SYSRQ", Steps(&["reset"]), "has no /proc/sysrq-trigger"),
    // Ports, and the remapping unit.
    row("PCI", Machine, "finds no devices"),
    row("PCI_MMCONFIG", Machine, "finds neither ATS nor AER and DPC"),
    row("PCI_MSI", Machine, "has no interrupts of ports and disks"),
    row("PCIEPORTBUS", Machine, "has no drivers for ports"),
    row("HOTPLUG_PCI", Prerequisite, "has no hot-plug"),
    row("HOTPLUG_PCI_PCIE", Machine, "does not see devices come and go"),
    row("PCIEAER", Steps(&["ports"]), "does not handle errors of devices"),
    row("PCIE_DPC", Steps(&["ports"]), "does not handle a port that has contained an error"),
    row("IOMMU_SUPPORT", Prerequisite, "has no IOMMU drivers"),
    row("INTEL_IOMMU", Machine, "does not use the remapping unit"),
    row("INTEL_IOMMU_SVM", Steps(&["vtd:scalable"]), "may not use scalable mode"),
    row("IRQ_REMAP", Machine, "does not remap interrupts"),
    row("PCI_ATS", Prerequisite, "does not use ATS"),
    row("PCI_IOV", Steps(&["vfs"]), "enables no virtual functions"),
    // Disks.
    row("BLOCK", Prerequisite, "has no disks"),
    row("BLK_DEV", Prerequisite, "has no disks"),
    module("BLK_DEV_NVME", "nvme", Steps(&["nvme"]), "has no driver for the disks"),
    row("MSDOS_PARTITION", Steps(&["disk"]), "finds no partition on a disk"),
    // Devices in user space.
    module("VFIO", "vfio", Steps(&["vfio"]), "gives no device to user space"),
    row("VFIO_CONTAINER", Prerequisite, "gives no device to user space"),
    module("VFIO_IOMMU_TYPE1", "vfio_iommu_type1", Steps(&["vfio"]), "maps no memory for VFIO"),
    module("VFIO_PCI", "vfio_pci", Steps(&["vfio"]), "gives no PCI device to user space"),
    // A second kernel, and sleep.
    row("KEXEC_FILE", Steps(&["kdump", "kexec"]), "loads no second kernel"),
    row("CRASH_DUMP", Steps(&["kdump"]), "starts no second kernel after a panic"),
    row("RELOCATABLE", Prerequisite, "does not run as a second kernel"),
    row("SUSPEND", Prerequisite, "does not sleep"),
    row("PM_DEBUG", Steps(&["suspend"]), "does not suspend its devices alone"),
    row("PM_SLEEP_DEBUG", Prerequisite, "has no /sys/power/pm_test"),
    row("RTC_DRV_CMOS", Prerequisite, "sets no alarm"),
    // Detectors.
    row("DEBUG_FS", Prerequisite, "has no debugfs"),
    row("DEBUG_KERNEL", Prerequisite, "does not offer the detectors"),
    row("LOCKUP_DETECTOR", Prerequisite, "detects no lock-up"),
    row("SOFTLOCKUP_DETECTOR", Machine, "does not report a CPU that is stuck in the kernel"),
    row("DETECT_HUNG_TASK", Machine, "does not report a task that is stuck"),
    row("HARDLOCKUP_DETECTOR", Prerequisite, "does not report a CPU with interrupts off"),
    row("HARDLOCKUP_DETECTOR_PREFER_BUDDY", Prerequisite, "needs a PMU for that detector"),
    row(
        "HARDLOCKUP_DETECTOR_BUDDY",
        Optional("built-hardlockup-never"),
        "needs a PMU to report a CPU that is stuck with interrupts off",
    ),
    row("IOMMU_DEBUGFS", Prerequisite, "has no IOMMU files in debugfs"),
    row(
        "INTEL_IOMMU_DEBUGFS",
        Optional("built-debugfs"),
        "does not show the invalidation queue, and the latency of invalidations",
    ),
];

impl Requirement {
    /// Whether a kernel with this configuration has what is needed. `false` for an option that is not set,
    /// and for a module where it has to be built in.
    pub fn is_met(&self, config: &KernelConfig) -> bool {
        match config.value(self.option) {
            Some("y") => true,
            Some("m") => self.module.is_some(),
            _ => self.need == Prerequisite,
        }
    }

    /// Whether a scenario with these steps needs it, besides what each of them needs. A step is written as
    /// in the scenario's file: `vtd:scalable`, `?vfio:open`.
    pub fn is_for_steps(&self, steps: &[&str]) -> bool {
        let Steps(wanted) = self.need else { return false };
        let is_wanted = |step: &&str| {
            let step = step.trim_start_matches(['!', '?']);
            let begins = |wanted: &&str| {
                step.strip_prefix(*wanted)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            };
            wanted.iter().any(begins)
        };
        steps.iter().any(is_wanted)
    }

    /// The words that say who needs it, and what happens without it.
    pub fn purpose(&self) -> String {
        let without = self.without;
        match self.need {
            Machine | SeveralCpus | Initramfs | Runner => format!("without it Linux {without}"),
            Steps(steps) => format!("without it Linux {without}: step {}", steps.join(", ")),
            Optional(scenarios) => format!("without it Linux {without}: only for {scenarios}"),
            Prerequisite => format!("without it Linux {without}; other options depend on it"),
        }
    }
}

impl KernelConfig {
    /// The rows that the kernel does not meet, in the order of the table. [`Need::Optional`] ones are
    /// included.
    pub fn unmet(&self) -> impl Iterator<Item = &'static Requirement> {
        REQUIREMENTS.iter().filter(|row| !row.is_met(self))
    }

    /// The options that the kernel lacks for a scenario with these steps.
    pub fn unmet_by_scenario(&self, steps: &[&str]) -> Vec<&'static Requirement> {
        let applies = |row: &&Requirement| match row.need {
            Machine | SeveralCpus | Initramfs | Runner => true,
            Steps(_) => row.is_for_steps(steps),
            Optional(_) | Prerequisite => false,
        };
        self.unmet().filter(applies).collect()
    }

    /// The options that the kernel lacks for a machine, on one line.
    pub fn missing_options(
        &self,
        kernel: &str,
        has_several_cpus: bool,
        has_initramfs: bool,
    ) -> Option<String> {
        let applies = |row: &&Requirement| match row.need {
            Machine => true,
            SeveralCpus => has_several_cpus,
            Initramfs => has_initramfs,
            Runner | Steps(_) | Optional(_) | Prerequisite => false,
        };
        let missing = self.unmet().filter(applies);
        let missing: Vec<String> = missing
            .map(|row| format!("CONFIG_{} (without it Linux {})", row.option, row.without))
            .collect();
        let origin = self.origin();
        (!missing.is_empty())
            .then(|| format!("'{kernel}' has no {}, says {origin}", missing.join(", no ")))
    }
}

/// A fragment for `scripts/kconfig/merge_config.sh`: each row as a comment and an option.
pub fn fragment<'a>(rows: impl IntoIterator<Item = &'a Requirement>) -> String {
    let line = |row: &Requirement| {
        let purpose = row.purpose();
        // make reads `# CONFIG_X is not set` as a setting; no comment here has this form.
        format!("# {}{}\nCONFIG_{}=y\n", purpose[..1].to_uppercase(), &purpose[1..], row.option)
    };
    rows.into_iter().map(line).collect()
}
