//! Process address space ids (`PCIe 7.8.9`): 20 bits, with Execute and Privileged Mode.

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::pasid::*;

/// Bits of a PASID.
const WIDTH: u8 = 20;

/// The PASID capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct Pasid {
    at: u16,
}

impl Pasid {
    /// Declares the capability.
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

    /// PASID Control.
    pub fn control(self, config: &ConfigSpace) -> PasidControl {
        config.get(self.at + CONTROL)
    }
}
