//! PCI Power Management (`PCIe 7.5.2`): D0 and D3hot, no PME.

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::power::*;

/// Version 3 of the interface, no D1, no D2, no PME.
const VERSION: u16 = 3;

/// Immediate Readiness on Return to D0, in Power Management Capabilities.
const IMMEDIATE_READINESS: u16 = 1 << 4;

/// The power states of a function that it enters by its capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// Fully on.
    D0,
    /// Asleep, with main power on (`PCIe 5.3.1.4.1`).
    D3hot,
}

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

    /// Declares Immediate Readiness on Return to D0.
    pub fn is_ready_at_once(self, builder: &mut ConfigBuilder) {
        builder.declare(self.at + CAPABILITIES, Register::new(VERSION | IMMEDIATE_READINESS));
    }

    /// The offset and the value of the write by which software puts the function into `state`.
    pub fn control(self, config: &ConfigSpace, state: PowerState) -> (u16, [u8; 2]) {
        let power_state = match state {
            PowerState::D0 => 0,
            PowerState::D3hot => 3,
        };
        let control = config.get::<Control>(self.at + CONTROL).with_power_state(power_state);
        (self.at + CONTROL, control.into_bits().to_le_bytes())
    }

    /// Whether the function is in D0.
    pub fn is_on(self, config: &ConfigSpace) -> bool {
        config.get::<Control>(self.at + CONTROL).power_state() == 0
    }
}
