//! The policies that have a name, each with what it reproduces.

use std::time::Duration;

use super::policy::{Completion, OnTimeout, Policy, Precheck};
use crate::time::Timeout;

/// A policy with a name, and what stands behind it.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// What the command line calls it.
    pub name: &'static str,
    /// Whether `name:<t>` sets the deadline.
    pub takes_duration: bool,
    /// The system and version that it reproduces.
    pub reproduces: &'static str,
    /// Where that is written.
    pub source: &'static str,
    precheck: Precheck,
    deadline: Timeout,
    on_timeout: OnTimeout,
    completion: Completion,
    watchdog: bool,
}

const HUNDRED_MS: Timeout = Timeout::After(Duration::from_millis(100));

/// All of them.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "linux",
        takes_duration: false,
        reproduces: "Linux 6.12 on the unmap path: no bound of its own, the unit's ITE ends the wait if it comes",
        source: "drivers/iommu/intel/dmar.c, qi_submit_sync",
        precheck: Precheck::None,
        deadline: Timeout::Never,
        on_timeout: OnTimeout::Report,
        completion: Completion::Slot,
        watchdog: false,
    },
    Preset {
        name: "bounded",
        takes_duration: true,
        reproduces: "the bounded wait proposed for VT-d in 2026, without a fence",
        source: "linux-iommu, 2026-03: 'bounded timeout without fence is a good first step'",
        precheck: Precheck::None,
        deadline: HUNDRED_MS,
        on_timeout: OnTimeout::Report,
        completion: Completion::Slot,
        watchdog: false,
    },
    Preset {
        name: "amd",
        takes_duration: false,
        reproduces: "Linux's AMD driver: 100 ms, one semaphore with a rising number",
        source: "drivers/iommu/amd/iommu.c, wait_on_sem",
        precheck: Precheck::None,
        deadline: HUNDRED_MS,
        on_timeout: OnTimeout::Report,
        completion: Completion::Sequence,
        watchdog: false,
    },
    Preset {
        name: "present+bounded",
        takes_duration: true,
        reproduces: "Linux 6.12's presence check (commits 10e60d878139, 42662d19839f) in front of a bounded wait",
        source: "drivers/iommu/intel/pasid.c, devtlb_invalidation_with_pasid",
        precheck: Precheck::Present,
        deadline: HUNDRED_MS,
        on_timeout: OnTimeout::Report,
        completion: Completion::Slot,
        watchdog: false,
    },
];

impl Preset {
    /// How its name is written, with `:<t>` where it takes a duration.
    pub fn usage(&self) -> String {
        format!("{}{}", self.name, if self.takes_duration { ":<t>" } else { "" })
    }

    /// The policy itself.
    pub fn policy(&self) -> Policy {
        let name = match self.deadline {
            Timeout::After(_) if self.takes_duration => format!("{}:{}", self.name, self.deadline),
            _ => self.name.to_owned(),
        };
        Policy {
            name,
            precheck: self.precheck,
            deadline: self.deadline,
            on_timeout: self.on_timeout,
            completion: self.completion,
            watchdog: self.watchdog,
        }
    }
}

/// All usages, for a person to read.
pub(super) fn names() -> String {
    PRESETS.iter().map(Preset::usage).collect::<Vec<_>>().join(", ")
}
