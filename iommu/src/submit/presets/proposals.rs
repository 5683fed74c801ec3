//! Proposals for VT-d, and variants of them for comparison.

use super::linux::LINUX;
use super::*;

pub(super) const PASS_THROUGH: Preset = Preset {
    name: "pass-through",
    in_tables: true,
    reproduces: "a VMM that hands each ITE of the host's unit to the guest, whether the device \
        answers or not",
    source: "none: what a guest sees whose unit is the physical one, with the host's unit behind it",
    on_ite: OnIte::Report,
    ..LINUX
};

/// A wait of 100 ms, or of a duration that the user gives.
pub(super) const BOUNDED: Preset = Preset {
    name: "bounded",
    takes_duration: true,
    in_tables: true,
    reproduces: "the bounded wait proposed for VT-d in 2026, without a fence",
    source: "linux-iommu, 2026-03-06: a maintainer would not object to a bound without a fence, as \
        other drivers have it; the same mail says that without a way to lift fences devices get \
        stuck",
    deadline: HUNDRED_MS,
    ..LINUX
};

pub(super) const BOUNDED_WATCHDOG: Preset = Preset {
    name: "bounded+watchdog",
    reproduces: "a time-out as long as PCIe's, and a loop that resets the watchdog meanwhile",
    source: "linux-pci, 2026-02-10: time-out plus watchdog_hardlockup_touch_cpu in qi_submit_sync",
    deadline: seconds(90),
    watchdog: true,
    ..BOUNDED
};

pub(super) const PRESENT_BOUNDED: Preset = Preset {
    name: "present+bounded",
    reproduces: "a presence check before every submission, in front of a bounded wait; Linux has the \
        check on the teardown path only, and no bound",
    source: "none: the check of 10e60d878139 on every path, with the bound of 'bounded'",
    precheck: Precheck::Present,
    ..BOUNDED
};

pub(super) const QUARANTINE: Preset = Preset {
    name: "quarantine",
    reproduces: "the fence proposed for VT-d in 2026: block the function in the unit, go on when the \
        unit has done so",
    source: "linux-iommu, 2026-03-06: a flush without a positive answer must fence translated \
        requests, and the time-out must not reach callers; the objection in the same thread: a \
        fence that nothing lifts leaves the device unusable",
    on_timeout: OnTimeout::Quarantine,
    on_ite: OnIte::Quarantine,
    completion: Completion::Leak,
    ..BOUNDED
};

pub(super) const QUARANTINE_POSTED: Preset = Preset {
    name: "quarantine-posted",
    reproduces: "the same fence, but callers go on before the unit has executed it",
    source: "none: 'quarantine' without the wait for the fence",
    on_timeout: OnTimeout::QuarantinePosted,
    ..QUARANTINE
};

pub(super) const BOUNDED_IN_FLIGHT: Preset = Preset {
    name: "bounded+in-flight",
    reproduces: "the bound with back pressure: at most four invalidations of a function in the ring, \
        and none to one that has timed out",
    source: "none: the objection of linux-iommu, 2026-03-10, that a device fills the queue without \
        back pressure",
    in_flight: FOUR,
    ..BOUNDED
};

pub(super) const QUARANTINE_IN_FLIGHT: Preset = Preset {
    name: "quarantine+in-flight",
    reproduces: "the fence with back pressure",
    source: "none: 'quarantine' with the limit of 'bounded+in-flight'",
    in_flight: FOUR,
    ..QUARANTINE
};

/// A fence at the port above a function. It acts against the function whose wait the unit stands at.
pub(super) const BUS_MASTER_OFF: Preset = Preset {
    name: "bus-master-off",
    reproduces: "a fence outside the queue: Bus Master Enable is cleared at the port above the device",
    source: "none: PCIe 7.5.1.1.3",
    on_timeout: OnTimeout::Port(PortFence::BusMasterOff),
    on_ite: OnIte::Quarantine,
    completion: Completion::Numbered,
    in_flight: FOUR,
    suspects: Suspects::Oldest,
    ..BOUNDED
};

pub(super) const BLOCK_TRANSLATION: Preset = Preset {
    name: "block-translation",
    reproduces: "a fence outside the queue: ACS Translation Blocking at the port above the device",
    source: "none: PCIe 6.12.1.1; Linux sets the bit at enumeration only",
    on_timeout: OnTimeout::Port(PortFence::BlockTranslation),
    ..BUS_MASTER_OFF
};

pub(super) const LINK_DISABLE: Preset = Preset {
    name: "link-disable",
    reproduces: "a fence outside the queue: Link Disable at the port above the device",
    source: "none: PCIe 7.5.3.7",
    on_timeout: OnTimeout::Port(PortFence::LinkDisable),
    ..BUS_MASTER_OFF
};

pub(super) const DPC: Preset = Preset {
    name: "dpc",
    reproduces: "a fence outside the queue: Downstream Port Containment that software triggers",
    source: "none: PCIe 6.2.11; linux-pci, 2022-11, proposed the trigger as a method of reset",
    on_timeout: OnTimeout::Port(PortFence::Dpc),
    ..BUS_MASTER_OFF
};

pub(super) const RECOVER: Preset = Preset {
    name: "recover",
    reproduces: "recovery by a worker, proposed for SMMUv3: callers go on, the worker turns bus mastering \
        and ATS off in the device and resets it",
    source: "linux-iommu, 2026-03-05: 'Recover ATC invalidate timeouts' v1, not merged",
    on_timeout: OnTimeout::Recover,
    completion: Completion::Numbered,
    ..BOUNDED
};

pub(super) const LATE_REMOVAL: Preset = Preset {
    name: "late-removal",
    reproduces: "simulated removal: after the time-out the device is treated as removed",
    source: "linux-pci, 2026-02-10: late simulated removal as a 90 % solution",
    precheck: Precheck::Disconnected,
    on_timeout: OnTimeout::Remove,
    ..BOUNDED
};

pub(super) const FLR: Preset = Preset {
    name: "flr",
    reproduces: "a Function Level Reset, which empties the ATC, before the wait fails",
    source: "PCIe 6.6.2; linux-pci, 2026-02-10: reduce time-outs by coordinating them with FLR",
    on_timeout: OnTimeout::Reset,
    completion: Completion::Leak,
    ..BOUNDED
};

pub(super) const PCIE_60S: Preset = Preset {
    name: "pcie-60s",
    in_tables: true,
    reproduces: "a wait as long as PCIe allows a function to answer: one minute",
    source: "PCIe 10.3.1",
    deadline: seconds(60),
    ..LINUX
};

pub(super) const PCIE_90S: Preset = Preset {
    name: "pcie-90s",
    reproduces: "a wait as long as PCIe allows a function to answer: one minute plus half of it",
    deadline: seconds(90),
    ..PCIE_60S
};

pub(super) const PCIE_120S: Preset = Preset {
    name: "pcie-120s",
    reproduces: "a wait of two minutes, longer than any function may take",
    deadline: seconds(120),
    ..PCIE_60S
};
