//! Slots, devices and functions by number.
//!
//! ```text
//!   bus 0 -+- root port rp0 === slot 0: bus 1 -+- function 0: device 0
//!          |                                   +- function 1: device 1 ..  (ARI from two functions on)
//!          +- root port rp1 === slot 1: bus 2 -+- ..
//! ```

use std::ops::Range;

use devices::endpoint::regs;
use iommu::ids::Bdf;

use super::Workload;

/// Slots that there can be: one for each bus number that is left.
pub(super) const MAX_SLOTS: u16 = 240;
/// Functions of the card in a slot, with ARI (`PCIe 6.13`).
pub(super) const MAX_FUNCTIONS: u16 = 256;
/// Devices that there can be.
pub(super) const MAX_DEVICES: u16 = 4096;

/// Device n is function n modulo `functions` of slot n divided by it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotMap {
    devices: u16,
    functions: u16,
}

impl SlotMap {
    pub(super) fn new(workload: &Workload) -> Self {
        Self { devices: workload.devices, functions: workload.functions }
    }

    pub(super) fn devices(self) -> u16 {
        self.devices
    }

    pub(super) fn count(self) -> u16 {
        self.devices.div_ceil(self.functions)
    }

    /// Whether cards have more than one function.
    pub(super) fn has_ari(self) -> bool {
        self.functions > 1
    }

    /// The slot of a device. A fault of its link is a fault of all devices there.
    pub(super) fn slot(self, device: u16) -> u16 {
        device / self.functions
    }

    /// The devices in a slot.
    pub(super) fn devices_in(self, slot: u16) -> Range<u16> {
        let end = (slot + 1).saturating_mul(self.functions).min(self.devices);
        slot * self.functions..end
    }

    /// The function that a device is.
    pub(super) fn function(self, device: u16) -> Bdf {
        Bdf::from_bits(((self.slot(device) + 1) << 8) | (device % self.functions))
    }

    /// The number of the device whose id is `function`, if there is one.
    pub(super) fn device(self, function: Bdf) -> Option<u16> {
        let slot = u16::from(function.bus()).checked_sub(1)?;
        let device = slot.checked_mul(self.functions)? + u16::from(function.devfn());
        let is_there = u16::from(function.devfn()) < self.functions && device < self.devices;
        is_there.then_some(device)
    }

    /// The root port above a slot.
    pub(super) fn port(slot: u16) -> Bdf {
        Bdf::from_bits(8 + slot)
    }

    /// The slot below the root port at `id`.
    pub(super) fn slot_below(id: Bdf) -> u16 {
        id.into_bits() - 8
    }

    /// The address of a device's registers.
    pub(super) fn bar(device: u16) -> u64 {
        0xc000_0000 + u64::from(device) * u64::from(regs::SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_a_place_of_its_own_and_is_found_there() {
        for (devices, functions) in [(1, 1), (240, 1), (5, 2), (4096, 32), (300, 256), (4096, 18)] {
            let slots = SlotMap { devices, functions };
            let mut found: Vec<u16> =
                (0..slots.count()).flat_map(|slot| slots.devices_in(slot)).collect();
            assert_eq!(found, (0..devices).collect::<Vec<_>>());
            found = found.into_iter().filter_map(|n| slots.device(slots.function(n))).collect();
            assert_eq!(found, (0..devices).collect::<Vec<_>>());
            assert_eq!(slots.device(Bdf::new(0, 0, 0)), None);
            assert_eq!(slots.device(slots.function(devices)), None);
        }
    }
}
