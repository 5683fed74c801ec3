//! What the host side does to functions and sees of them, past the guest: it reads their vendor IDs,
//! resets them, and notices when they are reset, which ends a quarantine.
//!
//! ```text
//!   guest's configuration write: Initiate FLR                   -\
//!   bus reset, slot power, Link Disable, DPC, a card pulled out -+-> HostSide::handle_reset
//!   a link that came back although nobody was told it had gone  ---> nothing: the quarantine stays
//! ```

use iommu::ids::Bdf;
use iommu::submit::FunctionAccess;
use iommu::time::Instant;

use super::RootComplex;
use crate::pcie::Hierarchy;

/// Status, of which bit 4 says that there are capabilities (`PCIe 7.5.1.1.4`).
const STATUS: u16 = 0x06;
/// Where the list of capabilities begins (`PCIe 7.5.1.1.11`).
const CAPABILITIES: u16 = 0x34;
/// The PCI Express capability (`PCIe 7.5.3`).
const EXPRESS: u8 = 0x10;
/// The upper byte of Device Control in it, and Initiate Function Level Reset there.
const CONTROL_HIGH: u16 = 0x09;
const INITIATE_RESET: u8 = 0x80;

/// The host's way to the functions' configuration space.
pub(crate) struct Functions<'a> {
    pub(crate) hierarchy: &'a mut Hierarchy,
    pub(crate) now: Instant,
}

impl Functions<'_> {
    fn byte(&mut self, function: Bdf, offset: u16) -> u8 {
        let mut byte = [0; 1];
        self.hierarchy.config_read(function, offset, &mut byte, self.now);
        byte[0]
    }

    /// Where the upper byte of Device Control is, if the function answers and has one.
    fn device_control_high(&mut self, function: Bdf) -> Option<u16> {
        if !self.is_present(function) || self.byte(function, STATUS) & 0x10 == 0 {
            return None;
        }
        let mut at = self.byte(function, CAPABILITIES) & !3;
        // There is room for 48 capabilities, whatever the pointers say.
        for _ in 0..48 {
            if at < 0x40 {
                return None;
            }
            if self.byte(function, at.into()) == EXPRESS {
                return Some(u16::from(at) + CONTROL_HIGH);
            }
            at = self.byte(function, u16::from(at) + 1) & !3;
        }
        None
    }

    /// Whether a configuration write initiates an FLR of a function that answers.
    fn initiates_reset(&mut self, function: Bdf, offset: u16, data: &[u8]) -> bool {
        let Some(control) = self.device_control_high(function) else { return false };
        let byte = control.checked_sub(offset).and_then(|at| data.get(usize::from(at)));
        byte.is_some_and(|byte| byte & INITIATE_RESET != 0)
    }
}

impl FunctionAccess for Functions<'_> {
    fn is_present(&mut self, function: Bdf) -> bool {
        self.hierarchy.is_present(function, self.now)
    }

    fn is_disconnected(&self, function: Bdf) -> bool {
        self.hierarchy.is_disconnected(function)
    }

    fn reset(&mut self, function: Bdf, now: Instant) {
        if let Some(control) = self.device_control_high(function) {
            let value = self.byte(function, control) | INITIATE_RESET;
            self.hierarchy.config_write(function, control, &[value], now);
        }
    }
}

impl RootComplex {
    /// Whether a configuration write of the guest resets a function that the host keeps from using
    /// what it holds.
    pub(super) fn ends_quarantine(
        &mut self,
        function: Bdf,
        offset: u16,
        data: &[u8],
        now: Instant,
    ) -> bool {
        self.host.is_isolated(function)
            && Functions { hierarchy: &mut self.hierarchy, now }
                .initiates_reset(function, offset, data)
    }

    /// The host learns of a reset.
    pub(super) fn function_reset(&mut self, function: Bdf, now: Instant) {
        let mut functions = Functions { hierarchy: &mut self.hierarchy, now };
        self.host.handle_reset(function, &mut functions, now);
    }

    /// The host learns of resets of whole buses.
    pub(super) fn forward_resets(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(buses) = self.hierarchy.poll_reset() {
            any = true;
            let held: Vec<Bdf> = self.host.isolated().collect();
            for function in held.into_iter().filter(|function| buses.contains(&function.bus())) {
                self.function_reset(function, now);
            }
        }
        any
    }
}

#[cfg(test)]
mod tests;
