//! Configuration headers (`PCIe 7.5.1`): type 0 of an endpoint, type 1 of a port.

use bitfield_struct::bitfield;

use crate::pcie::config::register_layout;

/// Vendor ID.
pub const VENDOR_ID: u16 = 0x00;
/// Device ID.
pub const DEVICE_ID: u16 = 0x02;
/// Command.
pub const COMMAND: u16 = 0x04;
/// Status.
pub const STATUS: u16 = 0x06;
/// Revision ID, with the three bytes of Class Code above it.
pub const REVISION_AND_CLASS: u16 = 0x08;
/// Cache Line Size.
pub const CACHE_LINE_SIZE: u16 = 0x0c;
/// Header Type.
pub const HEADER_TYPE: u16 = 0x0e;
/// The first Base Address Register.
pub const BAR0: u16 = 0x10;
/// Subsystem Vendor ID, in a type 0 header.
pub const SUBSYSTEM_VENDOR_ID: u16 = 0x2c;
/// Subsystem ID, in a type 0 header.
pub const SUBSYSTEM_ID: u16 = 0x2e;
/// Capabilities Pointer.
pub const CAPABILITIES_POINTER: u16 = 0x34;
/// Interrupt Line: software notes here to which interrupt controller input INTA leads.
pub const INTERRUPT_LINE: u16 = 0x3c;
/// Interrupt Pin.
pub const INTERRUPT_PIN: u16 = 0x3d;

/// Primary Bus Number, in a type 1 header.
pub const PRIMARY_BUS: u16 = 0x18;
/// Secondary Bus Number.
pub const SECONDARY_BUS: u16 = 0x19;
/// Subordinate Bus Number.
pub const SUBORDINATE_BUS: u16 = 0x1a;
/// Secondary Status.
pub const SECONDARY_STATUS: u16 = 0x1e;
/// Memory Base.
pub const MEMORY_BASE: u16 = 0x20;
/// Memory Limit.
pub const MEMORY_LIMIT: u16 = 0x22;
/// Prefetchable Memory Base.
pub const PREFETCHABLE_BASE: u16 = 0x24;
/// Prefetchable Memory Limit.
pub const PREFETCHABLE_LIMIT: u16 = 0x26;
/// Prefetchable Base Upper 32 Bits.
pub const PREFETCHABLE_BASE_UPPER: u16 = 0x28;
/// Prefetchable Limit Upper 32 Bits.
pub const PREFETCHABLE_LIMIT_UPPER: u16 = 0x2c;
/// Bridge Control.
pub const BRIDGE_CONTROL: u16 = 0x3e;

/// The lowest offset that a capability can have.
pub const FIRST_CAPABILITY: u16 = 0x40;
/// Where the list of extended capabilities begins.
pub const FIRST_EXTENDED: u16 = 0x100;

/// The Header Type of a port, without [`MULTI_FUNCTION`].
pub const TYPE_1: u8 = 1;
/// Header Type: the Multi-Function Device bit.
pub const MULTI_FUNCTION: u8 = 1 << 7;

/// The bits of a memory base or limit that are address: 31:20, one MiB apart.
pub const WINDOW_ADDRESS: u16 = 0xfff0;
/// The low bits of a prefetchable base or limit: 64-bit addresses.
pub const WINDOW_64_BIT: u16 = 1;

/// The Command register (`PCIe 7.5.1.1.3`).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct Command {
    /// The function answers in I/O space.
    pub io_space: bool,
    /// The function answers in memory space.
    pub memory_space: bool,
    /// The function may send requests; a port may forward those from below.
    pub bus_master: bool,
    #[bits(3)]
    __: u8,
    /// Poisoned TLPs are reported.
    pub parity_error_response: bool,
    __: bool,
    /// Errors are reported to the root complex.
    pub serr_enable: bool,
    __: bool,
    /// INTx is off.
    pub interrupt_disable: bool,
    #[bits(5)]
    __: u8,
}

impl Command {
    /// Memory Space Enable and Bus Master Enable.
    pub const MEMORY_AND_MASTER: Self = Self::new().with_memory_space(true).with_bus_master(true);
}

/// The Status register, and the Secondary Status of a port (`PCIe 7.5.1.1.4`).
#[bitfield(u16)]
pub struct Status {
    /// The function is ready to answer right after a reset.
    pub immediate_readiness: bool,
    #[bits(3)]
    __: u8,
    /// The function has a list of capabilities.
    pub capabilities_list: bool,
    #[bits(3)]
    __: u8,
    /// Master Data Parity Error.
    pub master_data_parity_error: bool,
    #[bits(2)]
    __: u8,
    /// Signaled Target Abort up to Detected Parity Error.
    #[bits(5)]
    pub errors: u8,
}

impl Status {
    /// All error bits, which software clears by writing ones.
    pub const ERRORS: Self = Self::new().with_master_data_parity_error(true).with_errors(0x1f);
}

/// Bridge Control, of a port (`PCIe 7.5.1.3.13`).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct BridgeControl {
    /// Poisoned TLPs are reported.
    pub parity_error_response: bool,
    /// Error messages from below are forwarded.
    pub serr_enable: bool,
    #[bits(4)]
    __: u8,
    /// Holds everything below in reset while it is set.
    pub secondary_bus_reset: bool,
    #[bits(9)]
    __: u16,
}

/// The first double word of an extended capability (`PCIe 7.6.3`).
#[bitfield(u32)]
pub struct ExtendedHeader {
    /// Capability id.
    pub id: u16,
    /// Version of the capability.
    #[bits(4)]
    pub version: u8,
    /// Offset of the next extended capability, 0 in the last.
    #[bits(12)]
    pub next: u16,
}

register_layout!(Command: u16, Status: u16, BridgeControl: u16, ExtendedHeader: u32);
