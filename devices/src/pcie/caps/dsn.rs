//! Device Serial Number (`PCIe 7.9.3`): tells a card from another that has taken its place.

use crate::Error;
use crate::pcie::config::Register;
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::dsn::*;

/// Declares it.
///
/// # Errors
/// [`Error::CapabilitySpace`] if it does not fit.
pub fn add(builder: &mut ConfigBuilder, serial: u64) -> Result<(), Error> {
    let at = builder.extended_capability(ID, VERSION, LENGTH)?;
    builder.declare(at + LOWER, Register::new(serial as u32));
    builder.declare(at + UPPER, Register::new((serial >> 32) as u32));
    Ok(())
}
