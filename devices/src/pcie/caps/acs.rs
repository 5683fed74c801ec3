//! Access Control Services (`PCIe 6.12`, `PCIe 7.7.11`) of root ports, of switches' downstream ports,
//! and of functions that share a device with others.
//!
//! There is no peer-to-peer road in this hierarchy: whatever comes up a link goes to the remapping
//! unit. P2P Request Redirect, P2P Completion Redirect and Upstream Forwarding thus hold whether or
//! not they are on. Source Validation and Translation Blocking are checked by the port.

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
    /// Declares it.
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

    /// Declares that of a function which shares a device with others: there is nothing to turn on,
    /// because it reaches them by way of the root complex only (`PCIe 6.12.1.2`). Without it
    /// software has to assume the opposite.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add_to_function(builder: &mut ConfigBuilder) -> Result<(), Error> {
        builder.extended_capability(ID, VERSION, LENGTH).map(|_| ())
    }

    /// What software has turned on.
    pub fn control(self, config: &ConfigSpace) -> AcsBits {
        config.get(self.at + CONTROL)
    }
}
