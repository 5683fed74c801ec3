//! Linux's intel-iommu driver, by release and path.
//!
//! A row with a path in its name describes invalidations on that path. Those on other paths in the
//! same run, such as the tear-down of a device while others unmap, behave as in the same kernel. A row
//! without a path is the whole kernel.

use super::*;

/// The wait itself. The other rows list the differences.
pub(super) const LINUX: Preset = Preset {
    name: "linux",
    takes_duration: false,
    in_tables: false,
    reproduces: "Linux 6.12.78 and 7.0 to 7.2 without any presence check, on every path: no bound of \
        its own, the unit's ITE ends the wait if it comes",
    source: "drivers/iommu/intel/dmar.c, qi_submit_sync and qi_check_fault (fe89277c9ceb, \
        80a9b50c0b9e)",
    path: PolicyPath::Any,
    precheck: Precheck::None,
    precheck_on: PrecheckOn::Every,
    deadline: Timeout::Never,
    other_deadline: None,
    on_timeout: OnTimeout::Report,
    on_ite: OnIte::Check,
    ite_marks: IteMarks::All,
    completion: Completion::Slot,
    slots: Slots::Batch,
    fenced_waits: false,
    lock: LockScope::Domain,
    watchdog: false,
    in_flight: None,
    suspects: Suspects::Every,
    reset_prepare: false,
    units: Units::Any,
};

pub(super) const LINUX_5_15_UNMAP: Preset = Preset {
    name: "linux-5.15-unmap",
    path: PolicyPath::Unmap,
    reproduces: "Linux 5.8 to 5.19 on the unmap path: as linux-6.8-unmap, with one lock for all \
        devices",
    source: "drivers/iommu/intel/iommu.c, iommu_flush_dev_iotlb under device_domain_lock; dmar.c as \
        of 8a1d82462540",
    lock: LockScope::Unit,
    ..LINUX_6_8
};

pub(super) const LINUX_6_8: Preset = Preset {
    name: "linux-6.8",
    reproduces: "Linux 6.0 to 6.8, before 4fc82cd907ac and 80a9b50c0b9e, on every path: no presence \
        check; after ITE everything is submitted again, for ever",
    source: "drivers/iommu/intel/dmar.c, qi_submit_sync and qi_check_fault as of 8a1d82462540",
    on_ite: OnIte::Resubmit,
    ite_marks: IteMarks::OddWalk,
    slots: Slots::Pair,
    ..LINUX
};

pub(super) const LINUX_6_8_UNMAP: Preset = Preset {
    name: "linux-6.8-unmap",
    in_tables: true,
    path: PolicyPath::Unmap,
    reproduces: "Linux 6.0 to 6.8 on the unmap path: IOTLB and Device-TLB with a wait each; after \
        ITE everything is submitted again, for ever",
    source: "drivers/iommu/intel/iommu.c, iommu_flush_dev_iotlb; dmar.c as of 8a1d82462540",
    ..LINUX_6_8
};

pub(super) const LINUX_6_8_TEARDOWN: Preset = Preset {
    name: "linux-6.8-teardown",
    in_tables: true,
    path: PolicyPath::Teardown,
    reproduces: "Linux 5.8 to 6.8 on the teardown path: no presence check; after ITE everything is \
        submitted again, for ever",
    source: "drivers/iommu/intel/pasid.c, devtlb_invalidation_with_pasid before 4fc82cd907ac",
    ..LINUX_6_8
};

pub(super) const LINUX_6_9: Preset = Preset {
    name: "linux-6.9",
    reproduces: "Linux 6.9 to 6.11 on every path: a device that hot-plug has marked as disconnected is \
        skipped on the teardown path (4fc82cd907ac); ITE for a device that is gone ends the wait of \
        the first waiter that sees it (80a9b50c0b9e)",
    source: "drivers/iommu/intel/pasid.c, devtlb_invalidation_with_pasid (4fc82cd907ac); dmar.c, \
        qi_check_fault (80a9b50c0b9e)",
    precheck: Precheck::Disconnected,
    precheck_on: PrecheckOn::Teardown,
    on_ite: OnIte::Check,
    ..LINUX_6_8
};

pub(super) const LINUX_6_9_UNMAP: Preset = Preset {
    name: "linux-6.9-unmap",
    in_tables: true,
    path: PolicyPath::Unmap,
    reproduces: "Linux 6.9 to 6.11 on the unmap path: no presence check; IOTLB and Device-TLB with a \
        wait each; ITE for a device that is gone ends the wait of the first waiter that sees it",
    source: "drivers/iommu/intel/cache.c, cache_tag_flush_range; dmar.c, qi_check_fault \
        (80a9b50c0b9e)",
    ..LINUX_6_9
};

pub(super) const LINUX_6_9_TEARDOWN: Preset = Preset {
    name: "linux-6.9-teardown",
    in_tables: true,
    path: PolicyPath::Teardown,
    reproduces: "Linux 6.9 to 6.11 on the teardown path, in scalable mode: a device that hot-plug has \
        marked as disconnected is skipped",
    source: "drivers/iommu/intel/pasid.c, devtlb_invalidation_with_pasid (4fc82cd907ac)",
    ..LINUX_6_9
};

pub(super) const LINUX_6_12: Preset = Preset {
    name: "linux-6.12",
    reproduces: "Linux 6.12.0 to 6.12.77 and 6.13 to 6.19 before fe89277c9ceb, on every path: an unmap \
        is a batch of three slots, so that the walk after ITE misses waits in even slots, or never \
        ends",
    source: "drivers/iommu/intel/cache.c, qi_batch_flush_descs; pasid.c (4fc82cd907ac); dmar.c, \
        qi_check_fault before fe89277c9ceb",
    slots: Slots::ByPath,
    ..LINUX_6_9
};

pub(super) const LINUX_6_12_UNMAP: Preset = Preset {
    name: "linux-6.12-unmap",
    in_tables: true,
    path: PolicyPath::Unmap,
    reproduces: "Linux 6.12.0 to 6.12.77 and 6.13 to 6.19 before fe89277c9ceb, on the unmap path: no \
        presence check; the walk after ITE misses waits in even slots, and never ends if IQT is odd",
    source: "drivers/iommu/intel/cache.c, qi_batch_flush_descs; dmar.c, qi_check_fault before \
        fe89277c9ceb",
    ..LINUX_6_12
};

pub(super) const LINUX_6_12_TEARDOWN: Preset = Preset {
    name: "linux-6.12-teardown",
    in_tables: true,
    path: PolicyPath::Teardown,
    reproduces: "Linux 6.12.0 to 6.12.74 and 6.13 to 6.19.5 on the teardown path, in scalable mode: a \
        device that hot-plug has marked as disconnected is skipped",
    source: "drivers/iommu/intel/pasid.c, devtlb_invalidation_with_pasid (4fc82cd907ac); dmar.c, \
        qi_check_fault before fe89277c9ceb",
    ..LINUX_6_12
};

pub(super) const LINUX_6_12_RESET: Preset = Preset {
    name: "linux-6.12-reset",
    path: PolicyPath::Reset,
    reproduces: "Linux 6.12.0 to 6.12.77 and 6.13 to 6.19 before fe89277c9ceb where a device is reset: \
        the remapping driver does not learn of the reset, and goes on invalidating",
    source: "drivers/pci/pci.c, pcie_flr before f5b16b802174; drivers/iommu/intel/dmar.c, \
        qi_check_fault before fe89277c9ceb",
    ..LINUX_6_12
};

pub(super) const LINUX_7_0_RC1: Preset = Preset {
    name: "linux-7.0-rc1",
    reproduces: "Linux 7.0-rc1, 6.12.75 to 6.12.77, 6.18.16 and 6.19.6, with 10e60d878139 and before \
        fe89277c9ceb, on every path: a device that does not answer a read is skipped on the teardown \
        path; the walk after ITE is that of linux-6.12",
    source: "drivers/iommu/intel/pasid.c, devtlb_invalidation_with_pasid (10e60d878139); dmar.c, \
        qi_check_fault before fe89277c9ceb",
    precheck: Precheck::Present,
    ..LINUX_6_12
};

pub(super) const LINUX_7_0: Preset = Preset {
    name: "linux-7.0",
    reproduces: "Linux 7.0 to 7.2 and 6.12.78 on every path: a device that does not answer a read is \
        skipped on the teardown path; all aborted waits are found",
    source: "drivers/iommu/intel/pasid.c, devtlb_invalidation_with_pasid (10e60d878139) and \
        __context_flush_dev_iotlb (42662d19839f); dmar.c, qi_check_fault (fe89277c9ceb)",
    ite_marks: IteMarks::All,
    ..LINUX_7_0_RC1
};

pub(super) const LINUX_7_0_UNMAP: Preset = Preset {
    name: "linux-7.0-unmap",
    in_tables: true,
    path: PolicyPath::Unmap,
    reproduces: "Linux 7.0 to 7.2 and 6.12.78 on the unmap path: no presence check; all aborted waits \
        are found",
    source: "drivers/iommu/intel/cache.c, cache_tag_flush_range and qi_batch_flush_descs; dmar.c, \
        qi_check_fault (fe89277c9ceb)",
    ..LINUX_7_0
};

pub(super) const LINUX_7_0_TEARDOWN: Preset = Preset {
    name: "linux-7.0-teardown",
    in_tables: true,
    path: PolicyPath::Teardown,
    reproduces: "Linux 7.0 to 7.2 and 6.12.78 on the teardown path: a device that does not answer a \
        read is skipped",
    source: "drivers/iommu/intel/pasid.c, devtlb_invalidation_with_pasid (10e60d878139) and \
        __context_flush_dev_iotlb (42662d19839f)",
    ..LINUX_7_0
};

pub(super) const LINUX_7_0_RESET: Preset = Preset {
    name: "linux-7.0-reset",
    path: PolicyPath::Reset,
    reproduces: "Linux 7.0 to 7.2 where a device is reset: before that its domain gets no further \
        invalidation for it, and its entry is torn down as at a detach, with the same check; \
        afterwards it is attached again, also if the reset has failed",
    source: "drivers/iommu/iommu.c, pci_dev_reset_iommu_prepare and pci_dev_reset_iommu_done \
        (c279e83953d9, f5b16b802174; nested: 0d5fd7a9323c); drivers/iommu/intel/iommu.c, \
        device_block_translation; pasid.c",
    reset_prepare: true,
    ..LINUX_7_0
};

pub(super) const LINUX_IQE: Preset = Preset {
    name: "linux-iqe",
    reproduces: "Linux with 754d07b940c4, which handles IQE in every slot of a submission: as \
        linux-7.0-unmap here, since no descriptor of this driver is invalid",
    source: "drivers/iommu/intel/dmar.c, qi_check_fault (754d07b940c4, known by its title only)",
    in_tables: false,
    ..LINUX_7_0_UNMAP
};
