//! Device Serial Number (`PCIe 7.9.3`): by it, software sees that a card was replaced by another.

use crate::Error;
use crate::pcie::config::Register;
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::dsn::*;

/// Declares the capability.
///
/// # Errors
/// [`Error::CapabilitySpace`] if it does not fit.
pub fn add(builder: &mut ConfigBuilder, serial: u64) -> Result<(), Error> {
    let at = builder.extended_capability(ID, VERSION, LENGTH)?;
    builder.declare(at + LOWER, Register::new(serial as u32));
    builder.declare(at + UPPER, Register::new((serial >> 32) as u32));
    Ok(())
}
