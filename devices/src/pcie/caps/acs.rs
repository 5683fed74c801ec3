//! Access Control Services (`PCIe 6.12`, `PCIe 7.7.11`) of root ports, of switches' downstream
//! ports, and of functions that share a device with others.
//!
//! This hierarchy has no peer-to-peer traffic: all requests from below go to the remapping unit. It
//! behaves as with P2P Request Redirect, P2P Completion Redirect and Upstream Forwarding, whether
//! they are enabled or not. The port checks Source Validation and Translation Blocking.

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::acs::*;

/// The ACS capability of a port.
#[derive(Debug, Clone, Copy)]
pub struct Acs {
    at: u16,
}

impl Acs {
    /// Declares the capability.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(builder: &mut ConfigBuilder) -> Result<Self, Error> {
        let at = builder.extended_capability(ID, VERSION, LENGTH)?;
        let all = AcsBits::new()
            .with_source_validation(true)
            .with_translation_blocking(true)
            .with_request_redirect(true)
            .with_completion_redirect(true)
            .with_upstream_forwarding(true);
        builder.declare(at + CAPABILITY, Register::new(all));
        builder.declare(at + CONTROL, Register::new(AcsBits::new()).writable(all));
        Ok(Self { at })
    }

    /// Declares the capability of a function of a multi-function device. It has nothing to enable:
    /// it says that the functions have no peer-to-peer traffic with one another (`PCIe 6.12.1.2`).
    /// Without it, software must assume the opposite.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add_to_function(builder: &mut ConfigBuilder) -> Result<(), Error> {
        builder.extended_capability(ID, VERSION, LENGTH).map(|_| ())
    }

    /// ACS Control.
    pub fn control(self, config: &ConfigSpace) -> AcsBits {
        config.get(self.at + CONTROL)
    }
}
