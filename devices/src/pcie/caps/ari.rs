//! Alternative Routing-ID Interpretation (`PCIe 6.13`, `PCIe 7.8.8`): behind a link there is one device,
//! so that its number can be part of the function's.

use bitfield_struct::bitfield;

use crate::Error;
use crate::pcie::config::{Register, register_layout};
use crate::pcie::header::ConfigBuilder;

const ID: u16 = 0x000e;
const VERSION: u8 = 1;
const LENGTH: u16 = 8;
const CAPABILITY: u16 = 4;

/// ARI Capability.
#[bitfield(u16)]
struct Capability {
    __: u8,
    /// The function with the next number, 0 in the last.
    next_function: u8,
}

register_layout!(Capability: u16);

/// Declares it. Software has nothing to turn on here: function groups do not exist, and
/// whether function numbers from 8 up are reached is up to the port above.
///
/// # Errors
/// [`Error::CapabilitySpace`] if it does not fit.
pub fn add(builder: &mut ConfigBuilder, next_function: u8) -> Result<(), Error> {
    let at = builder.extended_capability(ID, VERSION, LENGTH)?;
    let capability = Capability::new().with_next_function(next_function);
    builder.declare(at + CAPABILITY, Register::new(capability));
    Ok(())
}
