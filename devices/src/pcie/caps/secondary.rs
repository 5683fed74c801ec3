//! Secondary PCI Express (`PCIe 7.7.3`): the equalization of the lanes of a link of 8 GT/s. Each end of
//! such a link has it, and of a device with several functions function 0.

use crate::Error;
use crate::pcie::caps::express::WIDTH;
use crate::pcie::config::Register;
use crate::pcie::header::ConfigBuilder;
use crate::pcie::spec::secondary::*;

/// The preset that the lanes have been trained with: P7.
const PRESET: u8 = 7;
/// The receiver hint: -8 dB.
const HINT: u8 = 2;

/// Declares the capability. The port above a link can have it equalized.
///
/// # Errors
/// [`Error::CapabilitySpace`] if it does not fit.
pub fn add(builder: &mut ConfigBuilder, is_above_link: bool) -> Result<(), Error> {
    let lanes = u16::from(WIDTH);
    let at = builder.extended_capability(ID, VERSION, LENGTH + 2 * lanes)?;
    let control = LinkControl3::new()
        .with_perform_equalization(is_above_link)
        .with_interrupt_enable(is_above_link);
    builder.declare(at + LINK_CONTROL_3, Register::new(LinkControl3::new()).writable(control));
    let errors = (1_u32 << lanes) - 1;
    let status = Register::new(0_u32).clearable(errors).sticky(errors);
    builder.declare(at + LANE_ERROR_STATUS, status);
    let presets = LaneEqualization::new().with_upstream_preset(PRESET).with_upstream_hint(HINT);
    let presets = match is_above_link {
        true => presets.with_downstream_preset(PRESET).with_downstream_hint(HINT),
        false => presets,
    };
    for lane in 0..lanes {
        builder.declare(at + LANE_EQUALIZATION + 2 * lane, Register::new(presets));
    }
    Ok(())
}
