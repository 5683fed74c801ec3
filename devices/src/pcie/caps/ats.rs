//! Address Translation Services (`PCIe 10.5.1`).

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::ats::*;

/// The ATS capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct Ats {
    at: u16,
}

impl Ats {
    /// Declares the capability: 32 outstanding Invalidate Requests, page-aligned requests, Global
    /// Invalidate. The Smallest Translation Unit of a virtual function is 0: that of its physical
    /// function applies.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(builder: &mut ConfigBuilder, is_virtual: bool) -> Result<Self, Error> {
        let at = builder.extended_capability(ID, VERSION, LENGTH)?;
        let capability =
            Capability::new().with_page_aligned_request(true).with_global_invalidate(true);
        let unit = if is_virtual { 0 } else { 0x1f };
        let writable = Control::new().with_smallest_translation_unit(unit).with_enable(true);
        builder.declare(at + CAPABILITY, Register::new(capability));
        builder.declare(at + CONTROL, Register::new(Control::new()).writable(writable));
        Ok(Self { at })
    }

    /// Whether software has enabled ATS.
    pub fn is_enabled(self, config: &ConfigSpace) -> bool {
        config.get::<Control>(self.at + CONTROL).enable()
    }
}
