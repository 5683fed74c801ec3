//! Device Serial Number (`PCIe 7.9.3`): tells a card from another that has taken its place.

use crate::Error;
use crate::pcie::config::Register;
use crate::pcie::header::ConfigBuilder;

const ID: u16 = 0x0003;
const VERSION: u8 = 1;
const LENGTH: u16 = 12;
const LOWER: u16 = 4;
const UPPER: u16 = 8;

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
