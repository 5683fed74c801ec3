//! Where devices are.
//!
//! ```text
//!   bus 0 -+- root port rp0 === card 0: bus 1 -+- function 0: device 0
//!          |                                   +- function 1: device 1 ..  (ARI from two functions on)
//!          +- root port rp1 === card 1: bus 2 -+- ..
//! ```

use std::ops::Range;

use devices::endpoint::regs;
use iommu::ids::Bdf;

use super::Workload;

/// Cards that there can be: one for each bus number that is left.
pub(super) const MAX_CARDS: u16 = 240;
/// Functions of a card with ARI (`PCIe 6.13`).
pub(super) const MAX_FUNCTIONS: u16 = 256;
/// Devices that there can be.
pub(super) const MAX_DEVICES: u16 = 4096;

/// Device n is function n modulo `functions` of card n divided by it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    devices: u16,
    functions: u16,
}

impl Places {
    pub(super) fn new(workload: &Workload) -> Self {
        Self { devices: workload.devices, functions: workload.functions }
    }

    pub(super) fn devices(self) -> u16 {
        self.devices
    }

    pub(super) fn cards(self) -> u16 {
        self.devices.div_ceil(self.functions)
    }

    /// Whether a card has more than one function.
    pub(super) fn has_ari(self) -> bool {
        self.functions > 1
    }

    /// The card that a device is on. What happens to its link happens to all devices there.
    pub(super) fn card(self, device: u16) -> u16 {
        device / self.functions
    }

    /// The devices on a card.
    pub(super) fn devices_on(self, card: u16) -> Range<u16> {
        let end = (card + 1).saturating_mul(self.functions).min(self.devices);
        card * self.functions..end
    }

    /// The function that a device is.
    pub(super) fn function(self, device: u16) -> Bdf {
        Bdf::from_bits(((self.card(device) + 1) << 8) | (device % self.functions))
    }

    /// Which device is at this place, if there is one.
    pub(super) fn device(self, function: Bdf) -> Option<u16> {
        let card = u16::from(function.bus()).checked_sub(1)?;
        let device = card.checked_mul(self.functions)? + u16::from(function.devfn());
        let is_there = u16::from(function.devfn()) < self.functions && device < self.devices;
        is_there.then_some(device)
    }

    /// The root port above a card.
    pub(super) fn port(card: u16) -> Bdf {
        Bdf::from_bits(8 + card)
    }

    /// Which card is below the root port at `id`.
    pub(super) fn card_below(id: Bdf) -> u16 {
        id.into_bits() - 8
    }

    /// Where the registers of a device are.
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
            let places = Places { devices, functions };
            let mut found: Vec<u16> =
                (0..places.cards()).flat_map(|card| places.devices_on(card)).collect();
            assert_eq!(found, (0..devices).collect::<Vec<_>>());
            found = found.into_iter().filter_map(|n| places.device(places.function(n))).collect();
            assert_eq!(found, (0..devices).collect::<Vec<_>>());
            assert_eq!(places.device(Bdf::new(0, 0, 0)), None);
            assert_eq!(places.device(places.function(devices)), None);
        }
    }
}
