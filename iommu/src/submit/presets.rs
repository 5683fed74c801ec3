//! The policies with a name, and the system that each reproduces. Only the handling of time-outs is
//! reproduced: all policies drive the same VT-d unit.

use std::num::NonZeroU16;
use std::time::Duration;

use super::fields::{Completion, IteMarks, OnIte, OnTimeout, Precheck, Suspects};
use super::policy::Policy;
use crate::time::Timeout;

/// A policy with a name, its system, and its source.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// The name on the command line and in files.
    pub name: &'static str,
    /// Whether `name:<t>` sets the deadline.
    pub takes_duration: bool,
    /// The system and version that it reproduces.
    pub reproduces: &'static str,
    /// Where the behavior is documented.
    pub source: &'static str,
    precheck: Precheck,
    deadline: Timeout,
    on_timeout: OnTimeout,
    on_ite: OnIte,
    ite_marks: IteMarks,
    completion: Completion,
    watchdog: bool,
    in_flight: Option<NonZeroU16>,
    suspects: Suspects,
}

const HUNDRED_MS: Timeout = Timeout::After(Duration::from_millis(100));

const FOUR: Option<NonZeroU16> = NonZeroU16::new(4);

const fn seconds(seconds: u64) -> Timeout {
    Timeout::After(Duration::from_secs(seconds))
}

/// Linux on the unmap path. The other rows list the differences.
const LINUX: Preset = Preset {
    name: "linux",
    takes_duration: false,
    reproduces: "Linux 6.12 on the unmap path: no bound of its own, the unit's ITE ends the wait if it comes",
    source: "drivers/iommu/intel/dmar.c, qi_submit_sync and qi_check_fault",
    precheck: Precheck::None,
    deadline: Timeout::Never,
    on_timeout: OnTimeout::Report,
    on_ite: OnIte::Check,
    ite_marks: IteMarks::All,
    completion: Completion::Slot,
    watchdog: false,
    in_flight: None,
    suspects: Suspects::Every,
};

/// A wait of 100 ms, or of a duration that the user gives.
const BOUNDED: Preset = Preset {
    name: "bounded",
    takes_duration: true,
    reproduces: "the bounded wait proposed for VT-d in 2026, without a fence",
    source: "linux-iommu, 2026-03: 'bounded timeout without fence is a good first step'",
    deadline: HUNDRED_MS,
    ..LINUX
};

/// All policies with a name.
pub const PRESETS: &[Preset] = &[
    LINUX,
    Preset {
        name: "linux-6.8",
        reproduces: "Linux 5.8 to 6.8, before 4fc82cd907ac and 80a9b50c0b9e: after ITE everything is submitted again, and aborted waits in even slots are not found",
        source: "drivers/iommu/intel/dmar.c as of 8a1d82462540",
        on_ite: OnIte::Resubmit,
        ite_marks: IteMarks::Odd,
        ..LINUX
    },
    Preset {
        name: "linux-6.9",
        reproduces: "Linux 6.9 to 6.19 on the teardown path: a device that hot-plug has marked as disconnected is skipped (4fc82cd907ac), ITE for a device that is gone ends the wait (80a9b50c0b9e)",
        source: "drivers/iommu/intel/pasid.c, devtlb_invalidation_with_pasid; dmar.c, qi_check_fault",
        precheck: Precheck::Disconnected,
        ite_marks: IteMarks::Odd,
        ..LINUX
    },
    Preset {
        name: "linux-7.0-rc1",
        reproduces: "Linux with 10e60d878139 and 42662d19839f, before fe89277c9ceb, on the teardown path: a device that does not answer a read is skipped, aborted waits in even slots are not found",
        source: "drivers/iommu/intel/pasid.c, pci_device_is_present",
        precheck: Precheck::Present,
        ite_marks: IteMarks::Odd,
        ..LINUX
    },
    Preset {
        name: "linux-7.0",
        reproduces: "Linux 7.0 and 6.12.117 on the teardown path: with the presence check, and all aborted waits are found (fe89277c9ceb)",
        source: "drivers/iommu/intel/pasid.c, drivers/iommu/intel/dmar.c",
        precheck: Precheck::Present,
        ..LINUX
    },
    Preset {
        name: "pass-through",
        reproduces: "a VMM that hands each ITE of the host's unit to the guest, whether the device answers or not",
        source: "none: what a guest sees whose unit is the physical one, with the host's unit behind it",
        on_ite: OnIte::Report,
        ..LINUX
    },
    BOUNDED,
    Preset {
        name: "bounded+watchdog",
        reproduces: "a time-out as long as PCIe's, and a loop that resets the watchdog meanwhile",
        source: "linux-pci, 2026-02-10: time-out plus watchdog_hardlockup_touch_cpu in qi_submit_sync",
        deadline: seconds(90),
        watchdog: true,
        ..BOUNDED
    },
    Preset {
        name: "present+bounded",
        reproduces: "Linux's presence check (commits 10e60d878139, 42662d19839f) in front of a bounded wait",
        source: "drivers/iommu/intel/pasid.c, devtlb_invalidation_with_pasid",
        precheck: Precheck::Present,
        ..BOUNDED
    },
    Preset {
        name: "quarantine",
        reproduces: "the fence proposed for VT-d in 2026: block the function in the unit, go on when the unit has done so",
        source: "linux-iommu, 2026-03-06: a flush without a positive answer must fence translated requests",
        on_timeout: OnTimeout::Quarantine,
        on_ite: OnIte::Quarantine,
        completion: Completion::Leak,
        ..BOUNDED
    },
    Preset {
        name: "quarantine-posted",
        reproduces: "the same fence, but callers go on before the unit has executed it",
        source: "none: 'quarantine' without the wait for the fence",
        on_timeout: OnTimeout::QuarantinePosted,
        on_ite: OnIte::Quarantine,
        completion: Completion::Leak,
        ..BOUNDED
    },
    Preset {
        name: "bounded+in-flight",
        reproduces: "the bound with back pressure: at most four invalidations of a function in the ring, and none to one that has timed out",
        source: "none: the objection of linux-iommu, 2026-03-10, that a device fills the queue without back pressure",
        in_flight: FOUR,
        ..BOUNDED
    },
    Preset {
        name: "quarantine+in-flight",
        reproduces: "the fence with back pressure",
        source: "none: 'quarantine' with the limit of 'bounded+in-flight'",
        on_timeout: OnTimeout::Quarantine,
        on_ite: OnIte::Quarantine,
        completion: Completion::Leak,
        in_flight: FOUR,
        ..BOUNDED
    },
    Preset {
        name: "late-removal",
        reproduces: "simulated removal: after the time-out the device is treated as removed",
        source: "linux-pci, 2026-02-10: late simulated removal as a 90 % solution",
        precheck: Precheck::Disconnected,
        on_timeout: OnTimeout::Remove,
        ..BOUNDED
    },
    Preset {
        name: "flr",
        reproduces: "a Function Level Reset, which empties the ATC, before the wait fails",
        source: "PCIe 6.6.2; linux-pci, 2026-02-10: reduce time-outs by coordinating them with FLR",
        on_timeout: OnTimeout::Reset,
        completion: Completion::Leak,
        ..BOUNDED
    },
    Preset {
        name: "pcie-60s",
        takes_duration: false,
        reproduces: "a wait as long as PCIe allows a function to answer: one minute",
        source: "PCIe 10.3.1",
        deadline: seconds(60),
        ..LINUX
    },
    Preset {
        name: "pcie-90s",
        takes_duration: false,
        reproduces: "a wait as long as PCIe allows a function to answer: one minute plus half of it",
        source: "PCIe 10.3.1",
        deadline: seconds(90),
        ..LINUX
    },
    Preset {
        name: "pcie-120s",
        takes_duration: false,
        reproduces: "a wait of two minutes, longer than any function may take",
        source: "PCIe 10.3.1",
        deadline: seconds(120),
        ..LINUX
    },
    Preset {
        name: "amd",
        reproduces: "Linux's AMD driver: 100 ms, one semaphore with a rising number",
        source: "drivers/iommu/amd/iommu.c, wait_on_sem",
        deadline: HUNDRED_MS,
        completion: Completion::Sequence,
        ..LINUX
    },
    Preset {
        name: "smmuv3",
        reproduces: "Linux's SMMUv3 driver: CMD_SYNC is polled for one second, then a line in the log",
        source: "drivers/iommu/arm/arm-smmu-v3, ARM_SMMU_POLL_TIMEOUT_US",
        deadline: seconds(1),
        completion: Completion::Sequence,
        ..LINUX
    },
    Preset {
        name: "smmuv3-quarantine",
        reproduces: "the quarantine designed for SMMUv3 in 2026: one second, then ATS is blocked for the device until it is reset",
        source: "linux-iommu, 2026-03 to 2026-09: 'Quarantine device upon ATC invalidation timeout'",
        deadline: seconds(1),
        on_timeout: OnTimeout::Quarantine,
        on_ite: OnIte::Quarantine,
        completion: Completion::Sequence,
        ..LINUX
    },
    Preset {
        name: "riscv",
        reproduces: "Linux's RISC-V driver: 90 s for IOFENCE.C; a time-out of the queue is logged and cleared",
        source: "drivers/iommu/riscv/iommu.c, RISCV_IOMMU_IOTINVAL_TIMEOUT",
        deadline: seconds(90),
        on_ite: OnIte::Clear,
        completion: Completion::Sequence,
        ..LINUX
    },
    Preset {
        name: "xen-4.15",
        reproduces: "Xen before XSA-373: one second, then the same status word for the CPU's next wait",
        source: "xen/drivers/passthrough/vtd/qinval.c before 7c893abc4e, iommu_dev_iotlb_timeout",
        deadline: seconds(1),
        on_ite: OnIte::Ignore,
        completion: Completion::Cpu,
        ..LINUX
    },
    Preset {
        name: "xen",
        reproduces: "Xen since XSA-373: for ever, with warnings in the log; ITE is ignored",
        source: "xen/drivers/passthrough/vtd/qinval.c since 7c893abc4e",
        on_ite: OnIte::Ignore,
        completion: Completion::Cpu,
        ..LINUX
    },
];

impl Preset {
    /// The name, with `:<t>` if the preset takes a duration.
    pub fn usage(&self) -> String {
        format!("{}{}", self.name, if self.takes_duration { ":<t>" } else { "" })
    }

    /// The policy with the default deadline.
    pub fn policy(&self) -> Policy {
        let name = match self.deadline {
            Timeout::After(_) if self.takes_duration => {
                format!("{}:{}", self.name, self.deadline.to_string().replace(' ', ""))
            }
            _ => self.name.to_owned(),
        };
        Policy {
            name,
            precheck: self.precheck,
            deadline: self.deadline,
            on_timeout: self.on_timeout,
            on_ite: self.on_ite,
            ite_marks: self.ite_marks,
            completion: self.completion,
            watchdog: self.watchdog,
            in_flight: self.in_flight,
            suspects: self.suspects,
        }
    }
}

/// The usages of all presets, for messages.
pub(super) fn names() -> String {
    PRESETS.iter().map(Preset::usage).collect::<Vec<_>>().join(", ")
}
