//! Address Translation Services (`PCIe 10.5.1`).

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register};
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::ats::*;

/// The features of a function's ATC in its ATS capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtsFeatures {
    /// Invalidate Requests that the function can take at once, 1 to [`Self::MAX_QUEUE_DEPTH`].
    pub queue_depth: u8,
    /// Translation Requests have page-aligned addresses. Linux needs that for PASIDs.
    pub page_aligned: bool,
}

impl AtsFeatures {
    /// The deepest queue of Invalidate Requests: a function has as many ITags.
    pub const MAX_QUEUE_DEPTH: u8 = 32;
}

impl Default for AtsFeatures {
    fn default() -> Self {
        Self { queue_depth: Self::MAX_QUEUE_DEPTH, page_aligned: true }
    }
}

/// The ATS capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct Ats {
    at: u16,
}

impl Ats {
    /// Declares the capability, with Global Invalidate. Invalidate Queue Depth and Smallest
    /// Translation Unit of a virtual function are 0: those of its physical function apply.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if it does not fit.
    pub fn add(
        builder: &mut ConfigBuilder,
        features: AtsFeatures,
        is_virtual: bool,
    ) -> Result<Self, Error> {
        let at = builder.extended_capability(ID, VERSION, LENGTH)?;
        // 0 stands for 32.
        let depth =
            if is_virtual { 0 } else { features.queue_depth % AtsFeatures::MAX_QUEUE_DEPTH };
        let capability = Capability::new()
            .with_invalidate_queue_depth(depth)
            .with_page_aligned_request(features.page_aligned)
            .with_global_invalidate(true);
        let unit = if is_virtual { 0 } else { 0x1f };
        let writable = Control::new().with_smallest_translation_unit(unit).with_enable(true);
        builder.declare(at + CAPABILITY, Register::new(capability));
        builder.declare(at + CONTROL, Register::new(Control::new()).writable(writable));
        Ok(Self { at })
    }

    /// Smallest Translation Unit: log2 of the pages in the smallest range of a Translation Request or
    /// an Invalidate Request.
    pub fn smallest_translation_unit(self, config: &ConfigSpace) -> u8 {
        config.get::<Control>(self.at + CONTROL).smallest_translation_unit()
    }

    /// Whether software has enabled ATS.
    pub fn is_enabled(self, config: &ConfigSpace) -> bool {
        config.get::<Control>(self.at + CONTROL).enable()
    }
}
