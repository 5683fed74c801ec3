//! Configuration headers: type 0 for endpoints, type 1 for ports, and BARs (`PCIe 7.5.1`).

use super::config::{ConfigSpace, Register};
use super::spec::header::*;
use crate::Error;

/// The identification registers of a function.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// Vendor ID, and Subsystem Vendor ID.
    pub vendor: u16,
    /// Device ID, and Subsystem ID.
    pub device: u16,
    /// Class code, 24 bits: class, subclass, programming interface.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
}

/// Ids that take the place of those in an [`Identity`]: software's drivers and quirks go by them.
/// `None` leaves an id as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ids {
    /// Vendor ID.
    pub vendor: Option<u16>,
    /// Device ID.
    pub device: Option<u16>,
    /// Subsystem Vendor ID of an endpoint; `vendor` if there is none.
    pub subsystem_vendor: Option<u16>,
    /// Subsystem ID of an endpoint; `device` if there is none.
    pub subsystem: Option<u16>,
    /// Revision ID.
    pub revision: Option<u8>,
}

impl Ids {
    /// Replaces the registers in a header of this type. Vendor and device of a virtual function go on
    /// reading all ones (`PCIe 9.3.4.1.1`).
    pub(crate) fn replace(self, config: &mut ConfigSpace, header: HeaderType) {
        let is_virtual = config.get::<u16>(VENDOR_ID) == u16::MAX;
        let mut declare = |offset, id: Option<u16>| {
            if let Some(id) = id {
                config.declare(offset, Register::new(id));
            }
        };
        if !is_virtual {
            declare(VENDOR_ID, self.vendor);
            declare(DEVICE_ID, self.device);
        }
        if header == HeaderType::Endpoint {
            declare(SUBSYSTEM_VENDOR_ID, self.subsystem_vendor.or(self.vendor));
            declare(SUBSYSTEM_ID, self.subsystem.or(self.device));
        }
        if let Some(revision) = self.revision {
            config.declare(REVISION_AND_CLASS, Register::new(revision));
        }
    }
}

/// The type of a configuration header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderType {
    /// Type 0, of an endpoint.
    Endpoint = 0,
    /// Type 1, of a port.
    Bridge = 1,
}

/// Builds a configuration space: the header first, then capabilities, each linked to the one
/// before.
#[derive(Debug)]
pub struct ConfigBuilder {
    space: ConfigSpace,
    next: u16,
    /// The offset of the byte that points to the next capability.
    pointer: u16,
    next_extended: u16,
    /// The last extended capability, whose header points to the next one.
    last_extended: Option<u16>,
    is_virtual: bool,
}

/// The bits of Command that software can set in a function without I/O space.
const COMMANDS: Command = Command::new()
    .with_memory_space(true)
    .with_bus_master(true)
    .with_parity_error_response(true)
    .with_serr_enable(true)
    .with_interrupt_disable(true);

impl ConfigBuilder {
    /// A space with the registers of the header type, but for BARs and those of a bridge.
    pub fn new(identity: Identity, header: HeaderType) -> Self {
        let mut builder = Self {
            space: ConfigSpace::empty(),
            next: FIRST_CAPABILITY,
            pointer: CAPABILITIES_POINTER,
            next_extended: FIRST_EXTENDED,
            last_extended: None,
            is_virtual: false,
        };
        let class = identity.class << 8 | u32::from(identity.revision);
        builder.declare(VENDOR_ID, Register::new(identity.vendor));
        builder.declare(DEVICE_ID, Register::new(identity.device));
        builder.declare(COMMAND, Register::new(Command::new()).writable(COMMANDS));
        builder.declare(STATUS, Register::new(Status::new()).clearable(Status::ERRORS));
        builder.declare(REVISION_AND_CLASS, Register::new(class));
        builder.declare(CACHE_LINE_SIZE, Register::new(0_u8).writable(0xff));
        builder.declare(HEADER_TYPE, Register::new(header as u8));
        builder.declare(INTERRUPT_LINE, Register::new(0_u8).writable(0xff));
        if header == HeaderType::Endpoint {
            builder.declare(SUBSYSTEM_VENDOR_ID, Register::new(identity.vendor));
            builder.declare(SUBSYSTEM_ID, Register::new(identity.device));
        }
        builder
    }

    /// The space of a virtual function (`PCIe 9.3.4`): its ids read all ones, it has no BARs, and
    /// bus mastering is all that software can enable in Command.
    pub fn new_virtual(identity: Identity) -> Self {
        let mut builder = Self::new(identity, HeaderType::Endpoint);
        let command = Command::new().with_bus_master(true);
        builder.declare(VENDOR_ID, Register::new(u16::MAX));
        builder.declare(DEVICE_ID, Register::new(u16::MAX));
        builder.declare(COMMAND, Register::new(Command::new()).writable(command));
        builder.declare(CACHE_LINE_SIZE, Register::new(0_u8));
        builder.declare(INTERRUPT_LINE, Register::new(0_u8));
        Self { is_virtual: true, ..builder }
    }

    /// Whether the function is a virtual one.
    pub fn is_virtual(&self) -> bool {
        self.is_virtual
    }

    /// Declares the register at `offset`.
    pub fn declare<T: super::config::Layout>(&mut self, offset: u16, register: Register<T>) {
        self.space.declare(offset, register);
    }

    /// Declares BAR `index` as 32-bit, non-prefetchable memory of `size` bytes, a power of two
    /// from 16 up.
    pub fn memory_bar(&mut self, index: u8, size: u32) -> Bar {
        let at = BAR0 + 4 * u16::from(index);
        // Software finds the size by the address bits that read 0 (`PCIe 7.5.1.2.1`).
        self.declare(at, Register::new(0_u32).writable(size.wrapping_neg()));
        Bar { at, size, is_64_bit: false }
    }

    /// Declares BAR `index`, and the next one, as 64-bit memory of `size` bytes, a power of two
    /// from 16 up. A read of `prefetchable` memory has no side effects.
    pub fn memory_bar_64(&mut self, index: u8, size: u32, prefetchable: bool) -> Bar {
        const IS_64_BIT: u32 = 0b100;
        const PREFETCHABLE: u32 = 0b1000;
        let bar = self.memory_bar(index, size);
        let kind = IS_64_BIT | if prefetchable { PREFETCHABLE } else { 0 };
        let register = Register::new(kind).writable(size.wrapping_neg());
        self.declare(bar.at, register);
        self.declare(bar.at + 4, Register::new(0_u32).writable(u32::MAX));
        Bar { is_64_bit: true, ..bar }
    }

    /// Lets software set I/O Space Enable, although the function decodes no ports (`PCIe 7.5.1.1.3`
    /// lets a function without I/O space hard-wire it to 0). QEMU's functions all have the bit, and
    /// its tests check that it can be set.
    pub fn has_io_space_enable(&mut self) {
        let command = COMMANDS.with_io_space(true);
        self.declare(COMMAND, Register::new(Command::new()).writable(command));
    }

    /// Declares Immediate Readiness. The function has capabilities, and all of them are added.
    pub fn is_ready_at_once(&mut self) {
        let status = Status::new().with_capabilities_list(true).with_immediate_readiness(true);
        self.declare(STATUS, Register::new(status).clearable(Status::ERRORS));
    }

    /// Declares that the function uses INTA.
    pub fn uses_inta(&mut self) {
        self.declare(INTERRUPT_PIN, Register::new(1_u8));
    }

    /// Reserves `length` bytes for the capability `id`, and links it. Returns its offset.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit below 0x100.
    pub fn capability(&mut self, id: u8, length: u16) -> Result<u16, Error> {
        let at = self.next;
        self.next = reserve(at, length, FIRST_EXTENDED, id.into())?;
        self.declare(self.pointer, Register::new(at as u8));
        self.declare(at, Register::new(id));
        self.pointer = at + 1;
        let status = Status::new().with_capabilities_list(true);
        self.declare(STATUS, Register::new(status).clearable(Status::ERRORS));
        Ok(at)
    }

    /// Reserves `length` bytes for the extended capability `id`, and links it. Returns its offset.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit below 0x1000.
    pub fn extended_capability(&mut self, id: u16, version: u8, length: u16) -> Result<u16, Error> {
        let at = self.next_extended;
        self.next_extended = reserve(at, length, super::config::CONFIG_SPACE_SIZE, id)?;
        let header = ExtendedHeader::new().with_id(id).with_version(version);
        self.declare(at, Register::new(header));
        if let Some(last) = self.last_extended.replace(at) {
            let header = self.space.get::<ExtendedHeader>(last).with_next(at);
            self.declare(last, Register::new(header));
        }
        Ok(at)
    }

    /// The finished space.
    pub fn build(self) -> ConfigSpace {
        self.space
    }
}

/// The offset of the next capability, if `length` bytes at `at` fit below `end`.
fn reserve(at: u16, length: u16, end: u16, id: u16) -> Result<u16, Error> {
    let left = end.saturating_sub(at);
    if length > left {
        return Err(Error::CapabilitySpace { id, length, left });
    }
    Ok((at + length).next_multiple_of(4))
}

/// A memory BAR of a function.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    at: u16,
    size: u32,
    is_64_bit: bool,
}

impl Bar {
    /// The offset in this BAR of an access of `length` bytes at `address`, if all of it lies
    /// inside.
    pub fn offset(self, config: &ConfigSpace, address: u64, length: usize) -> Option<u64> {
        let upper = if self.is_64_bit { config.get::<u32>(self.at + 4) } else { 0 };
        let lower = config.get::<u32>(self.at) & self.size.wrapping_neg();
        let base = u64::from(upper) << 32 | u64::from(lower);
        offset(base, self.size.into(), address, length)
    }
}

/// The offset in `size` bytes at `base` of an access of `length` bytes at `address`, if all of it
/// lies inside.
pub fn offset(base: u64, size: u64, address: u64, length: usize) -> Option<u64> {
    let offset = address.checked_sub(base)?;
    let end = offset.checked_add(u64::try_from(length).ok()?)?;
    (end <= size).then_some(offset)
}

/// Sets the Multi-Function Device bit in data that was read at `offset`.
pub fn show_multi_function(offset: u16, data: &mut [u8]) {
    let header_type = HEADER_TYPE.checked_sub(offset).map(usize::from);
    if let Some(byte) = header_type.and_then(|at| data.get_mut(at)) {
        *byte |= MULTI_FUNCTION;
    }
}

/// The Command register.
pub fn command(config: &ConfigSpace) -> Command {
    config.get(COMMAND)
}
