//! Other systems and other remapping units, as far as a VT-d unit can stand for theirs.

use super::linux::LINUX;
use super::proposals::BOUNDED;
use super::*;

/// A unit whose synchronization command covers all commands in front of it, and is executed again
/// after an error. Nothing sends the lost invalidation again.
const IN_ORDER: Preset = Preset {
    in_tables: true,
    on_ite: OnIte::RepeatWait,
    completion: Completion::Sequence,
    units: Units::InOrder,
    ..LINUX
};

pub(super) const AMD: Preset = Preset {
    name: "amd",
    reproduces: "Linux's AMD driver since d2a0cac10597 (7.0; 6.6.128, 6.12.75, 6.18.16, 6.19.6): 100 \
        ms for COMPLETION_WAIT, one word with a rising number, own or later; the result is ignored",
    source: "drivers/iommu/amd/iommu.c, wait_on_sem and iommu_completion_wait (d2a0cac10597); the \
        unit gives up after 1 s (1456e9d2c467), so use --ict 1s; the return without a wait that \
        1e75a8255f11 mends is not reproduced",
    deadline: HUNDRED_MS,
    ..IN_ORDER
};

pub(super) const AMD_6_6: Preset = Preset {
    name: "amd-6.6",
    reproduces: "Linux's AMD driver before d2a0cac10597: the same, with the unit's lock held over the \
        wait, so that the number is always the waiter's own",
    source: "drivers/iommu/amd/iommu.c, wait_on_sem and iommu_completion_wait before d2a0cac10597; \
        use --ict 1s",
    lock: LockScope::Unit,
    ..AMD
};

pub(super) const SMMUV3: Preset = Preset {
    name: "smmuv3",
    reproduces: "Linux's SMMUv3 driver: CMD_SYNC is polled for one second without a lock; after \
        CERROR_ATC_INV_SYNC the unit executes CMD_SYNC again, and the caller is told success",
    source: "drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c, __arm_smmu_cmdq_skip_err and \
        ARM_SMMU_POLL_TIMEOUT_US, as of 0468be89b3fa",
    deadline: seconds(1),
    lock: LockScope::None,
    ..IN_ORDER
};

pub(super) const SMMUV3_QUARANTINE: Preset = Preset {
    name: "smmuv3-quarantine",
    reproduces: "the quarantine designed for SMMUv3 in 2026, not merged: one second, then ATS is \
        blocked for the device until it is reset",
    source: "linux-iommu, 2026-03-17 (v2) to 2026-09-23 (v6), 'Quarantine device upon ATC \
        invalidation timeout'; the search for the device in a batch is not reproduced",
    on_timeout: OnTimeout::Quarantine,
    on_ite: OnIte::Quarantine,
    ..SMMUV3
};

pub(super) const RISCV: Preset = Preset {
    name: "riscv",
    reproduces: "Linux's RISC-V driver, as if it sent ATS.INVAL, which it does not yet: 90 s for \
        IOFENCE.C without a lock; after cmd_to the unit executes IOFENCE.C again",
    source: "drivers/iommu/riscv/iommu.c, riscv_iommu_cmd_sync and RISCV_IOMMU_IOTINVAL_TIMEOUT; \
        RISC-V IOMMU 6.15: with cmd_to, cqh is that of IOFENCE.C. Since b2e5684558ed (7.1; 6.18 and \
        7.0 of 2026-05) waiters return as soon as they see cmd_to, with the same result",
    deadline: seconds(90),
    lock: LockScope::None,
    ..IN_ORDER
};

pub(super) const RISCV_ATS_BROKEN: Preset = Preset {
    name: "riscv-ats-broken",
    reproduces: "the proposal for RISC-V of 2026-06: after a time-out ATS is turned off in the device \
        for good, and its invalidations are skipped; no fence",
    source: "linux-riscv, 2026-06-25 (RFC), known in part; the device is taken from ITESID, as \
        RISC-V's unit does not name it",
    on_timeout: OnTimeout::DisableAts,
    on_ite: OnIte::DisableAts,
    ..RISCV
};

pub(super) const XEN_4_15: Preset = Preset {
    name: "xen-4.15",
    reproduces: "Xen before XSA-373 (up to 4.15.0, 4.14.2, 4.13.3): a wait each with FN, 1 s for \
        Device-TLBs and 1 ms for all else; then ATS is off, the device hidden, and its domain \
        crashed; the CPU's next wait uses the same status word",
    source: "xen/drivers/passthrough/vtd/qinval.c, queue_invalidate_wait and \
        dev_invalidate_iotlb_timeout, before 7c893abc4e",
    deadline: seconds(1),
    other_deadline: Some(Timeout::After(Duration::from_millis(1))),
    on_timeout: OnTimeout::Crash,
    ..XEN
};

pub(super) const XEN: Preset = Preset {
    name: "xen",
    in_tables: true,
    reproduces: "Xen since XSA-373: a wait each with FN, for ever, with warnings in the log; ITE is \
        ignored",
    source: "xen/drivers/passthrough/vtd/qinval.c, invalidate_sync, since 7c893abc4e",
    on_ite: OnIte::Ignore,
    completion: Completion::Cpu,
    slots: Slots::Pair,
    fenced_waits: true,
    lock: LockScope::None,
    ..LINUX
};

pub(super) const VT_D_SEQUENCE: Preset = Preset {
    name: "vt-d-sequence",
    reproduces: "a warning to those who copy AMD's loop to VT-d: a bound, and one word with a rising \
        number, where a wait with FN clear covers only the descriptors up to the previous wait",
    source: "none in Linux; FreeBSD, sys/x86/iommu/intel_qi.c, has such a word (0fc959752673), and \
        sends no Device-TLB invalidations",
    completion: Completion::Sequence,
    ..BOUNDED
};
