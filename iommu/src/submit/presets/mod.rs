//! The policies with a name, and the system that each reproduces. Only the handling of time-outs is
//! reproduced: all policies drive the same VT-d unit.

mod linux;
mod proposals;
mod systems;

use std::num::NonZeroU16;
use std::time::Duration;

use super::fields::{
    Completion, IteMarks, LockScope, OnIte, OnTimeout, PolicyPath, Precheck, PrecheckOn, Slots,
    Suspects, Units,
};
use super::policy::Policy;
use super::port_fences::PortFence;
use crate::time::Timeout;

/// A policy with a name, its system, and its source.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// The name on the command line and in files.
    pub name: &'static str,
    /// Whether `name:<t>` sets the deadline.
    pub takes_duration: bool,
    /// Whether it is a row of tables if the user has selected no policies.
    pub in_tables: bool,
    /// The system and version that it reproduces.
    pub reproduces: &'static str,
    /// Where the behavior is documented: file, function and commits, or list and date.
    pub source: &'static str,
    path: PolicyPath,
    precheck: Precheck,
    precheck_on: PrecheckOn,
    deadline: Timeout,
    other_deadline: Option<Timeout>,
    on_timeout: OnTimeout,
    on_ite: OnIte,
    ite_marks: IteMarks,
    completion: Completion,
    slots: Slots,
    fenced_waits: bool,
    lock: LockScope,
    watchdog: bool,
    in_flight: Option<NonZeroU16>,
    suspects: Suspects,
    reset_prepare: bool,
    units: Units,
}

const HUNDRED_MS: Timeout = Timeout::After(Duration::from_millis(100));

const FOUR: Option<NonZeroU16> = NonZeroU16::new(4);

const fn seconds(seconds: u64) -> Timeout {
    Timeout::After(Duration::from_secs(seconds))
}

/// All policies with a name.
pub const PRESETS: &[Preset] = &[
    linux::LINUX,
    linux::LINUX_5_15_UNMAP,
    linux::LINUX_6_8,
    linux::LINUX_6_8_UNMAP,
    linux::LINUX_6_8_TEARDOWN,
    linux::LINUX_6_9,
    linux::LINUX_6_9_UNMAP,
    linux::LINUX_6_9_TEARDOWN,
    linux::LINUX_6_12,
    linux::LINUX_6_12_UNMAP,
    linux::LINUX_6_12_TEARDOWN,
    linux::LINUX_6_12_RESET,
    linux::LINUX_7_0_RC1,
    linux::LINUX_7_0,
    linux::LINUX_7_0_UNMAP,
    linux::LINUX_7_0_TEARDOWN,
    linux::LINUX_7_0_RESET,
    linux::LINUX_IQE,
    proposals::PASS_THROUGH,
    proposals::BOUNDED,
    proposals::BOUNDED_WATCHDOG,
    proposals::PRESENT_BOUNDED,
    proposals::QUARANTINE,
    proposals::QUARANTINE_POSTED,
    proposals::BOUNDED_IN_FLIGHT,
    proposals::QUARANTINE_IN_FLIGHT,
    proposals::BLOCK_TRANSLATION,
    proposals::BUS_MASTER_OFF,
    proposals::LINK_DISABLE,
    proposals::DPC,
    proposals::RECOVER,
    proposals::LATE_REMOVAL,
    proposals::FLR,
    proposals::PCIE_60S,
    proposals::PCIE_90S,
    proposals::PCIE_120S,
    systems::AMD,
    systems::AMD_6_6,
    systems::SMMUV3,
    systems::SMMUV3_QUARANTINE,
    systems::RISCV,
    systems::RISCV_ATS_BROKEN,
    systems::XEN_4_15,
    systems::XEN,
    systems::VT_D_SEQUENCE,
];

impl Preset {
    /// The preset `name`, without a duration.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

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
            path: self.path,
            precheck: self.precheck,
            precheck_on: self.precheck_on,
            deadline: self.deadline,
            other_deadline: self.other_deadline,
            on_timeout: self.on_timeout,
            on_ite: self.on_ite,
            ite_marks: self.ite_marks,
            completion: self.completion,
            slots: self.slots,
            fenced_waits: self.fenced_waits,
            lock: self.lock,
            watchdog: self.watchdog,
            in_flight: self.in_flight,
            suspects: self.suspects,
            reset_prepare: self.reset_prepare,
            units: self.units,
        }
    }
}

/// The usages of all presets, for messages.
pub(super) fn names() -> String {
    PRESETS.iter().map(Preset::usage).collect::<Vec<_>>().join(", ")
}
