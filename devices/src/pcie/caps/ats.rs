//! Address Translation Services (`PCIe 10.5.1`).

use bitfield_struct::bitfield;

use crate::Error;
use crate::pcie::config::{ConfigSpace, Register, register_layout};
use crate::pcie::header::ConfigBuilder;

const ID: u16 = 0x000f;
const VERSION: u8 = 1;
const LENGTH: u16 = 8;
const CAPABILITY: u16 = 4;
const CONTROL: u16 = 6;

/// ATS Capability.
#[bitfield(u16)]
struct Capability {
    /// Invalidate Requests that the function can take at once; 0 stands for 32.
    #[bits(5)]
    invalidate_queue_depth: u8,
    /// Untranslated addresses in requests are page aligned.
    page_aligned_request: bool,
    /// Invalidate Requests may set Global Invalidate.
    global_invalidate: bool,
    #[bits(9)]
    __: u16,
}

/// ATS Control.
#[bitfield(u16)]
struct Control {
    /// Smallest Translation Unit: log2 of the pages in the smallest range asked for.
    #[bits(5)]
    smallest_translation_unit: u8,
    #[bits(10)]
    __: u16,
    enable: bool,
}

register_layout!(Capability: u16, Control: u16);

/// The ATS capability of a function.
#[derive(Debug, Clone, Copy)]
pub struct Ats {
    at: u16,
}

impl Ats {
    /// Declares it: 32 outstanding Invalidate Requests, page-aligned requests, Global Invalidate.
    /// For a virtual function the physical one's Smallest Translation Unit counts, its own is 0.
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

    /// Whether software has turned ATS on.
    pub fn is_enabled(self, config: &ConfigSpace) -> bool {
        config.get::<Control>(self.at + CONTROL).enable()
    }
}
