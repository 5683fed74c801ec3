//! What the host side does to functions and sees of them, past the guest: it reads their vendor IDs,
//! resets them, and notices when they are reset, which ends a quarantine.
//!
//! ```text
//!   configuration write: Initiate FLR                           -\
//!   bus reset, slot power, Link Disable, DPC, a card pulled out -+-> HostSide::handle_reset
//!   a link that came back unnoticed by its port -----------------> nothing: the quarantine stays
//! ```

use iommu::ids::Bdf;
use iommu::submit::FunctionAccess;
use iommu::time::Instant;

use super::Downstream;
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

/// What the host's drivers know of functions beyond what the hierarchy answers, and what they do
/// after a reset.
pub(crate) trait Drivers {
    /// The answer to a read of the vendor ID of `function`.
    fn is_present(&mut self, hierarchy: &mut Hierarchy, function: Bdf, now: Instant) -> bool {
        hierarchy.is_present(function, now)
    }

    /// Whether the hot-plug driver has marked `function` as disconnected.
    fn is_disconnected(&self, hierarchy: &Hierarchy, function: Bdf) -> bool {
        hierarchy.is_disconnected(function)
    }

    /// The host has initiated an FLR of `function`: its driver may set it up again.
    fn set_up(&mut self, _hierarchy: &mut Hierarchy, _function: Bdf, _now: Instant) {}
}

/// Drivers that know what the hierarchy says. A guest sets up its functions itself.
#[derive(Debug)]
pub(crate) struct NoDrivers;

impl Drivers for NoDrivers {}

/// The host's access to functions.
#[derive(Debug)]
pub(crate) struct Functions<'a, D> {
    pub(crate) hierarchy: &'a mut Hierarchy,
    pub(crate) drivers: &'a mut D,
    pub(crate) now: Instant,
}

impl<D: Drivers> Functions<'_, D> {
    fn byte(&mut self, function: Bdf, offset: u16) -> u8 {
        let mut byte = [0; 1];
        self.hierarchy.config_read(function, offset, &mut byte, self.now);
        byte[0]
    }

    /// Where the upper byte of Device Control is, if the function answers and has one.
    pub(crate) fn device_control_high(&mut self, function: Bdf) -> Option<u16> {
        if !self.hierarchy.is_present(function, self.now) || self.byte(function, STATUS) & 0x10 == 0
        {
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

impl<D: Drivers> FunctionAccess for Functions<'_, D> {
    fn is_present(&mut self, function: Bdf) -> bool {
        self.drivers.is_present(self.hierarchy, function, self.now)
    }

    fn is_disconnected(&self, function: Bdf) -> bool {
        self.drivers.is_disconnected(self.hierarchy, function)
    }

    fn reset(&mut self, function: Bdf, now: Instant) {
        if let Some(control) = self.device_control_high(function) {
            let value = self.byte(function, control) | INITIATE_RESET;
            self.hierarchy.config_write(function, control, &[value], now);
        }
        self.drivers.set_up(self.hierarchy, function, now);
    }
}

impl<D: Drivers> Downstream<D> {
    /// A configuration write from above. If it initiates an FLR of a function in quarantine, that
    /// ends the quarantine.
    pub(crate) fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant) {
        let is_reset = self.host.is_isolated(function)
            && self.host(now).1.initiates_reset(function, offset, data);
        self.hierarchy.config_write(function, offset, data, now);
        if is_reset {
            self.handle_reset(function, now);
        }
    }

    /// A driver of the host resets a function.
    pub(crate) fn reset(&mut self, function: Bdf, now: Instant) {
        self.host(now).1.reset(function, now);
        self.handle_reset(function, now);
    }

    /// Tells the host of resets of whole buses. Returns whether there were any.
    pub(crate) fn forward_resets(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(buses) = self.hierarchy.poll_reset() {
            any = true;
            let held: Vec<Bdf> = self.host.isolated().collect();
            for function in held.into_iter().filter(|function| buses.contains(&function.bus())) {
                self.handle_reset(function, now);
            }
        }
        any
    }

    /// The host learns of a reset.
    fn handle_reset(&mut self, function: Bdf, now: Instant) {
        let (host, mut functions) = self.host(now);
        host.handle_reset(function, &mut functions, now);
    }
}
