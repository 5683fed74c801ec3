//! Alternative Routing-ID Interpretation (`PCIe 6.13`, `PCIe 7.8.8`): behind a link there is one device,
//! so that its number can be part of the function's.

use crate::Error;
use crate::pcie::config::Register;
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::ari::*;

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
