//! Identify data structures (`NVMe 5.15.2`): offsets of the fields that are not zero.

/// Bytes in each structure.
pub(crate) const SIZE: usize = 4096;

/// Controller or Namespace Structure (CNS): which structure Identify returns.
pub(crate) mod cns {
    pub(crate) const NAMESPACE: u8 = 0;
    pub(crate) const CONTROLLER: u8 = 1;
    pub(crate) const ACTIVE_NAMESPACES: u8 = 2;
    pub(crate) const NAMESPACE_DESCRIPTORS: u8 = 3;
    pub(crate) const PRIMARY_CAPABILITIES: u8 = 0x14;
    pub(crate) const SECONDARY_CONTROLLERS: u8 = 0x15;
}

/// Identify Controller.
pub(crate) mod controller {
    /// PCI Vendor ID.
    pub(crate) const VID: usize = 0;
    /// PCI Subsystem Vendor ID.
    pub(crate) const SSVID: usize = 2;
    /// Serial Number: [`SN_LENGTH`] characters.
    pub(crate) const SN: usize = 4;
    pub(crate) const SN_LENGTH: usize = 20;
    /// Model Number: [`MN_LENGTH`] characters.
    pub(crate) const MN: usize = 24;
    pub(crate) const MN_LENGTH: usize = 40;
    /// Firmware Revision: eight characters.
    pub(crate) const FR: usize = 64;
    /// Controller Multi-Path I/O and Namespace Sharing Capabilities.
    pub(crate) const CMIC: usize = 76;
    /// Maximum Data Transfer Size: log2, in pages.
    pub(crate) const MDTS: usize = 77;
    /// Controller ID.
    pub(crate) const CNTLID: usize = 78;
    /// Version.
    pub(crate) const VER: usize = 80;
    /// Controller Type.
    pub(crate) const CNTRLTYPE: usize = 111;
    /// Abort Command Limit, less one.
    pub(crate) const ACL: usize = 258;
    /// Asynchronous Event Request Limit, less one.
    pub(crate) const AERL: usize = 259;
    /// Firmware Updates.
    pub(crate) const FRMW: usize = 260;
    /// Log Page Attributes.
    pub(crate) const LPA: usize = 261;
    /// Error Log Page Entries, less one.
    pub(crate) const ELPE: usize = 262;
    /// Warning Composite Temperature Threshold, in kelvin.
    pub(crate) const WCTEMP: usize = 266;
    /// Critical Composite Temperature Threshold, in kelvin.
    pub(crate) const CCTEMP: usize = 268;
    /// Submission Queue Entry Size: log2, required and maximum.
    pub(crate) const SQES: usize = 512;
    /// Completion Queue Entry Size: log2, required and maximum.
    pub(crate) const CQES: usize = 513;
    /// Number of Namespaces.
    pub(crate) const NN: usize = 516;
    /// Optional NVM Command Support.
    pub(crate) const ONCS: usize = 520;
    /// Volatile Write Cache.
    pub(crate) const VWC: usize = 525;
    /// SGL Support.
    pub(crate) const SGLS: usize = 536;
    /// NVM Subsystem NVMe Qualified Name.
    pub(crate) const SUBNQN: usize = 768;
    /// Power State 0 Descriptor; its first field is the maximum power, in 10 mW.
    pub(crate) const PSD0: usize = 2048;

    /// CMIC: the subsystem can have several controllers.
    pub(crate) const SEVERAL_CONTROLLERS: u8 = 1 << 1;
    /// CMIC: the controller is a virtual function.
    pub(crate) const VIRTUAL_FUNCTION: u8 = 1 << 2;
    /// CNTRLTYPE: an I/O controller.
    pub(crate) const IO_CONTROLLER: u8 = 1;
    /// FRMW: one slot, read-only.
    pub(crate) const ONE_READ_ONLY_SLOT: u8 = 1 << 1 | 1;
    /// LPA: Get Log Page takes an offset.
    pub(crate) const LOG_PAGE_OFFSET: u8 = 1 << 2;
    /// ONCS: Compare.
    pub(crate) const COMPARE: u16 = 1 << 0;
    /// ONCS: Write Zeroes.
    pub(crate) const WRITE_ZEROES: u16 = 1 << 3;
    /// VWC: there is a cache, and Flush takes the namespace id that means all.
    pub(crate) const CACHE_AND_FLUSH_ALL: u8 = 0b11 << 1 | 1;
    /// SGLS: supported, without a requirement on alignment.
    pub(crate) const SGL_ANY_ALIGNMENT: u32 = 1;
}

/// Identify Namespace.
pub(crate) mod namespace {
    /// Namespace Size, in blocks.
    pub(crate) const NSZE: usize = 0;
    /// Namespace Capacity, in blocks.
    pub(crate) const NCAP: usize = 8;
    /// Namespace Utilization, in blocks.
    pub(crate) const NUSE: usize = 16;
    /// Namespace Multi-path I/O and Namespace Sharing Capabilities.
    pub(crate) const NMIC: usize = 30;
    /// IEEE Extended Unique Identifier.
    pub(crate) const EUI64: usize = 120;
    /// LBA Data Size of LBA format 0: log2, in bytes.
    pub(crate) const LBADS0: usize = 130;

    /// NMIC: several controllers have the namespace.
    pub(crate) const SHARED: u8 = 1;
}

/// Primary Controller Capabilities. Controller Resource Types (CRT) is 0: no queues and interrupts
/// can be moved from one controller to another. The fields about them are then 0, too.
pub(crate) mod primary {
    /// Controller ID.
    pub(crate) const CNTLID: usize = 0;
}

/// Secondary Controller List: the number of entries, and from `ENTRIES` on the entries.
pub(crate) mod secondary {
    /// Number of entries.
    pub(crate) const NUMBER: usize = 0;
    /// The first entry.
    pub(crate) const ENTRIES: usize = 32;
    /// Bytes in an entry.
    pub(crate) const ENTRY_SIZE: usize = 32;
    /// Entries at the most.
    pub(crate) const MAX_ENTRIES: usize = 127;

    /// In an entry: Secondary Controller Identifier.
    pub(crate) const SCID: usize = 0;
    /// In an entry: Primary Controller Identifier.
    pub(crate) const PCID: usize = 2;
    /// In an entry: Secondary Controller State.
    pub(crate) const SCS: usize = 4;
    /// In an entry: Virtual Function Number, from 1 up.
    pub(crate) const VFN: usize = 8;

    /// SCS: online.
    pub(crate) const ONLINE: u8 = 1;
}

/// Namespace Identification Descriptor.
pub(crate) mod descriptor {
    /// Type.
    pub(crate) const NIDT: usize = 0;
    /// Length of the identifier, in bytes.
    pub(crate) const NIDL: usize = 1;
    /// The identifier.
    pub(crate) const NID: usize = 4;

    /// NIDT: an EUI-64, of eight bytes.
    pub(crate) const EUI64: u8 = 1;
}
