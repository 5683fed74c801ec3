//! Configuration space, by ECAM where the machine has it, else by the ports 0xcf8 and 0xcfc, which
//! reach only the first 256 bytes.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::machine::mmio::Mmio;
use crate::machine::ports::{in8, in16, in32, out8, out16, out32};
use crate::pci::Bdf;

/// Registers in the header.
pub mod register {
    #![allow(missing_docs, reason = "the names are the specification's")]
    pub const ID: u16 = 0x00;
    pub const COMMAND: u16 = 0x04;
    pub const CLASS: u16 = 0x08;
    pub const HEADER_TYPE: u16 = 0x0e;
    pub const BAR0: u16 = 0x10;
    pub const BUS_NUMBERS: u16 = 0x18;
    pub const MEMORY_WINDOW: u16 = 0x20;
    pub const CAPABILITIES: u16 = 0x34;
}

/// Command register: the function answers memory requests.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command register: the function may issue requests.
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;

/// Message signalled interrupts.
pub const CAPABILITY_MSI: u8 = 0x05;
/// PCI Express.
pub const CAPABILITY_EXPRESS: u8 = 0x10;
/// Extended capability: Advanced Error Reporting.
pub const EXTENDED_AER: u16 = 0x01;
/// Extended capability: Downstream Port Containment.
pub const EXTENDED_DPC: u16 = 0x1d;
/// Extended capability: Address Translation Services.
pub const EXTENDED_ATS: u16 = 0x0f;
/// Extended capability: Page Request Interface.
pub const EXTENDED_PRI: u16 = 0x13;
/// Extended capability: process address space ids.
pub const EXTENDED_PASID: u16 = 0x1b;

const ECAM_BASE: u64 = 0xb000_0000;
const ECAM_SIZE: u64 = 256 << 20;
const ADDRESS_PORT: u16 = 0xcf8;
const DATA_PORT: u16 = 0xcfc;
const PORT_SPACE: u16 = 0x100;

static USE_ECAM: AtomicBool = AtomicBool::new(false);

/// Chooses ECAM if it has the same host bridge as the ports.
pub fn init() {
    let host_bridge = Bdf::new(0, 0);
    let found = ecam_read32(host_bridge, register::ID);
    let answers = found != u32::MAX && found == ports_read32(host_bridge, register::ID);
    USE_ECAM.store(answers, Ordering::Relaxed);
}

/// Whether ECAM is in use.
pub fn uses_ecam() -> bool {
    USE_ECAM.load(Ordering::Relaxed)
}

fn ecam(function: Bdf) -> Mmio {
    let window = Mmio::new(ECAM_BASE, ECAM_SIZE).expect("the window lies in the hole");
    let base = window.base() + (u64::from(function.0) << 12);
    Mmio::new(base, 0x1000).expect("every function has its page in the window")
}

/// Reads by ECAM, also if it is not in use.
pub fn ecam_read32(function: Bdf, offset: u16) -> u32 {
    ecam(function).read32(offset.into())
}

/// Reads by the ports, also if ECAM is in use.
pub fn ports_read32(function: Bdf, offset: u16) -> u32 {
    select(function, offset);
    in32(DATA_PORT)
}

fn select(function: Bdf, offset: u16) {
    const ENABLE: u32 = 1 << 31;
    out32(ADDRESS_PORT, ENABLE | u32::from(function.0) << 8 | u32::from(offset & 0xfc));
}

/// Reads an aligned dword.
pub fn read32(function: Bdf, offset: u16) -> u32 {
    match (uses_ecam(), offset < PORT_SPACE) {
        (true, _) => ecam_read32(function, offset),
        (false, true) => ports_read32(function, offset),
        (false, false) => u32::MAX,
    }
}

/// Reads an aligned word.
pub fn read16(function: Bdf, offset: u16) -> u16 {
    match (uses_ecam(), offset < PORT_SPACE) {
        (true, _) => ecam(function).read16(offset.into()),
        (false, true) => {
            select(function, offset);
            in16(DATA_PORT + (offset & 2))
        }
        (false, false) => u16::MAX,
    }
}

/// Reads a byte.
pub fn read8(function: Bdf, offset: u16) -> u8 {
    match (uses_ecam(), offset < PORT_SPACE) {
        (true, _) => ecam(function).read8(offset.into()),
        (false, true) => {
            select(function, offset);
            in8(DATA_PORT + (offset & 3))
        }
        (false, false) => u8::MAX,
    }
}

/// Writes an aligned dword.
pub fn write32(function: Bdf, offset: u16, value: u32) {
    if uses_ecam() {
        ecam(function).write32(offset.into(), value);
    } else if offset < PORT_SPACE {
        select(function, offset);
        out32(DATA_PORT, value);
    }
}

/// Writes an aligned word.
pub fn write16(function: Bdf, offset: u16, value: u16) {
    if uses_ecam() {
        ecam(function).write16(offset.into(), value);
    } else if offset < PORT_SPACE {
        select(function, offset);
        out16(DATA_PORT + (offset & 2), value);
    }
}

/// Writes a byte.
pub fn write8(function: Bdf, offset: u16, value: u8) {
    if uses_ecam() {
        ecam(function).write8(offset.into(), value);
    } else if offset < PORT_SPACE {
        select(function, offset);
        out8(DATA_PORT + (offset & 3), value);
    }
}

/// Sets bits of the command register.
pub fn enable(function: Bdf, command: u16) {
    let old = read16(function, register::COMMAND);
    write16(function, register::COMMAND, old | command);
}

/// Whether a function is present, by Linux's test of the ids: four values mean that it is not.
pub fn is_present(function: Bdf) -> bool {
    !matches!(read32(function, register::ID), 0 | 0xffff | 0xffff_0000 | u32::MAX)
}

/// The offset of the capability `id`. The walk ends after 48 capabilities, as a list may have a
/// loop.
pub fn capability(function: Bdf, id: u8) -> Option<u16> {
    const MAX_CAPABILITIES: usize = 48;
    let mut offset = u16::from(read8(function, register::CAPABILITIES) & 0xfc);
    for _ in 0..MAX_CAPABILITIES {
        if offset == 0 {
            break;
        }
        let [found, next] = read16(function, offset).to_le_bytes();
        if found == id {
            return Some(offset);
        }
        offset = u16::from(next & 0xfc);
    }
    None
}

/// The offset of the extended capability `id`. The walk ends after 64 capabilities.
pub fn extended_capability(function: Bdf, id: u16) -> Option<u16> {
    const FIRST: u16 = 0x100;
    const MAX_CAPABILITIES: usize = 64;
    let mut offset = FIRST;
    for _ in 0..MAX_CAPABILITIES {
        if offset < FIRST {
            break;
        }
        let header = read32(function, offset);
        if header == 0 || header == u32::MAX {
            break;
        }
        if header as u16 == id {
            return Some(offset);
        }
        offset = (header >> 20) as u16 & 0xffc;
    }
    None
}
