//! Alternative Routing-ID Interpretation (`PCIe 6.13`, `PCIe 7.8.8`): a link leads to one device,
//! so the bits of the device number can be part of the function number.

use crate::Error;
use crate::pcie::config::Register;
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::ari::*;

/// Declares the capability. It has nothing to enable: function groups are not supported, and the
/// port above decides whether function numbers from 8 up are reached.
///
/// # Errors
/// [`Error::CapabilitySpace`] if it does not fit.
pub fn add(builder: &mut ConfigBuilder, next_function: u8) -> Result<(), Error> {
    let at = builder.extended_capability(ID, VERSION, LENGTH)?;
    let capability = Capability::new().with_next_function(next_function);
    builder.declare(at + CAPABILITY, Register::new(capability));
    Ok(())
}
