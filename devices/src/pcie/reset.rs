//! Resets that software initiates: Function Level Reset (`PCIe 6.6.2`) and Secondary Bus Reset
//! (`PCIe 7.5.1.3.13`).

use super::client::{ConfigAccess, ConfigClient};
use super::spec::express::{self, DEVICE_CONTROL, DeviceControl};
use super::spec::header::{BRIDGE_CONTROL, BridgeControl};

/// How much a reset resets, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reset {
    /// Function Level Reset (`PCIe 6.6.2`): of one function; its link is not affected.
    Function,
    /// Hot Reset, which a link that was down implies (`PCIe 6.6.1`): sticky bits keep their values.
    Hot,
    /// Power was off: no bit keeps its value.
    Cold,
}

impl<A: ConfigAccess + ?Sized> ConfigClient<'_, A> {
    /// Initiates a Function Level Reset. Returns whether the function answers and has a PCI Express
    /// capability.
    pub fn initiate_flr(&mut self) -> bool {
        let Some(control) = self.device_control() else { return false };
        let value = self.read::<DeviceControl>(control).with_initiate_reset(true);
        self.write(control, value);
        true
    }

    /// Whether a write of `data` at `offset` initiates a Function Level Reset of a function that
    /// answers.
    pub fn initiates_flr(&mut self, offset: u16, data: &[u8]) -> bool {
        let Some(control) = self.device_control() else { return false };
        // The bit is in the upper byte, and the write may be of that byte alone.
        let [_, initiate] =
            DeviceControl::new().with_initiate_reset(true).into_bits().to_le_bytes();
        let upper = (control + 1).checked_sub(offset).and_then(|at| data.get(usize::from(at)));
        upper.is_some_and(|byte| byte & initiate != 0)
    }

    /// Sets Secondary Bus Reset of a port, and clears it: everything below is reset.
    pub fn reset_secondary_bus(&mut self) {
        let control = self.read::<BridgeControl>(BRIDGE_CONTROL);
        for reset in [true, false] {
            self.write(BRIDGE_CONTROL, control.with_secondary_bus_reset(reset));
        }
    }

    /// The offset of Device Control, if the function answers and has one.
    fn device_control(&mut self) -> Option<u16> {
        Some(self.capability(express::ID)? + DEVICE_CONTROL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Machine;

    #[test]
    fn a_write_of_each_width_that_sets_the_bit_initiates_a_function_level_reset() {
        let mut machine = Machine::enumerated();
        let mut function = machine.function(Machine::endpoint(0));
        let control = function.capability(express::ID).unwrap() + DEVICE_CONTROL;
        assert!(function.initiates_flr(control, &[0, 0x80]));
        assert!(function.initiates_flr(control, &[0, 0x80, 0, 0]));
        assert!(function.initiates_flr(control + 1, &[0x80]));
        assert!(!function.initiates_flr(control, &[0x80]));
        assert!(!function.initiates_flr(control, &[0x80, 0x7f]));
        assert!(!function.initiates_flr(control + 2, &[0x80, 0x80]));
        machine.drop_link(0);
        let mut function = machine.function(Machine::endpoint(0));
        assert!(!function.initiates_flr(control, &[0, 0x80]), "the function does not answer");
        assert!(!function.initiate_flr());
    }
}
