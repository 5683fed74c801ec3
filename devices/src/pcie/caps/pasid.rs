//! Process address space ids (`PCIe 7.8.9`): 20 bits, with Execute and Privileged Mode.

use bitfield_struct::bitfield;

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register, register_layout};
use crate::pcie::header::ConfigBuilder;

const ID: u16 = 0x001b;
const VERSION: u8 = 1;
const LENGTH: u16 = 8;
const CAPABILITY: u16 = 4;
const CONTROL: u16 = 6;

/// Bits of a PASID.
const WIDTH: u8 = 20;

/// PASID Capability.
#[bitfield(u16)]
struct Capability {
    __: bool,
    execute: bool,
    privileged: bool,
    #[bits(5)]
    __: u8,
    #[bits(5)]
    width: u8,
    #[bits(3)]
    __: u8,
}

/// PASID Control.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PasidControl {
    /// Requests may have a PASID prefix.
    pub enable: bool,
    /// And ask for execute permission.
    pub execute: bool,
    /// And say that they are privileged.
    pub privileged: bool,
    #[bits(13)]
    __: u16,
}

register_layout!(Capability: u16, PasidControl: u16);

/// The PASID capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct Pasid {
    at: u16,
}

impl Pasid {
    /// Declares it.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(builder: &mut ConfigBuilder) -> Result<Self, Error> {
        let at = builder.extended_capability(ID, VERSION, LENGTH)?;
        let capability =
            Capability::new().with_execute(true).with_privileged(true).with_width(WIDTH);
        let all = PasidControl::new().with_enable(true).with_execute(true).with_privileged(true);
        builder.declare(at + CAPABILITY, Register::new(capability));
        builder.declare(at + CONTROL, Register::new(PasidControl::new()).writable(all));
        Ok(Self { at })
    }

    /// What software has turned on.
    pub fn control(self, config: &ConfigSpace) -> PasidControl {
        config.get(self.at + CONTROL)
    }
}
