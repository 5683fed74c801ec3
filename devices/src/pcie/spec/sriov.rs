//! Single Root I/O Virtualization (`PCIe 9.3.3`).

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Capability id.
pub const ID: u16 = 0x0010;
/// Version of the capability.
pub const VERSION: u8 = 1;
/// Bytes in the capability.
pub const LENGTH: u16 = 0x40;
/// SR-IOV Control.
pub const CONTROL: u16 = 0x08;
/// InitialVFs.
pub const INITIAL_VFS: u16 = 0x0c;
/// TotalVFs.
pub const TOTAL_VFS: u16 = 0x0e;
/// NumVFs.
pub const NUM_VFS: u16 = 0x10;
/// Function Dependency Link.
pub const DEPENDENCY_LINK: u16 = 0x12;
/// First VF Offset.
pub const FIRST_OFFSET: u16 = 0x14;
/// VF Stride.
pub const STRIDE: u16 = 0x16;
/// VF Device ID.
pub const VF_DEVICE_ID: u16 = 0x1a;
/// Supported Page Sizes.
pub const SUPPORTED_PAGE_SIZES: u16 = 0x1c;
/// System Page Size.
pub const SYSTEM_PAGE_SIZE: u16 = 0x20;
/// VF BAR 0.
pub const VF_BAR0: u16 = 0x24;

/// SR-IOV Control.
#[bitfield(u16)]
pub struct Control {
    pub vf_enable: bool,
    #[bits(2)]
    __: u8,
    pub vf_memory_space: bool,
    /// The port above forwards function numbers from 8 up.
    pub ari_capable_hierarchy: bool,
    #[bits(11)]
    __: u16,
}

register_layout!(Control: u16);
