//! PCI Power Management (`PCIe 7.5.2`): D0 and D3hot, no PME.

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::power::*;

/// Version 3 of the interface, no D1, no D2, no PME.
const VERSION: u16 = 3;

/// The Power Management capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct PowerManagement {
    at: u16,
}

impl PowerManagement {
    /// Declares the capability.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(builder: &mut ConfigBuilder) -> Result<Self, Error> {
        let at = builder.capability(ID, LENGTH)?;
        let control = Control::new().with_no_soft_reset(true);
        builder.declare(at + CAPABILITIES, Register::new(VERSION));
        builder.declare(
            at + CONTROL,
            Register::new(control).writable(Control::new().with_power_state(3)),
        );
        Ok(Self { at })
    }

    /// Whether the function is in D0.
    pub fn is_on(self, config: &ConfigSpace) -> bool {
        config.get::<Control>(self.at + CONTROL).power_state() == 0
    }
}
