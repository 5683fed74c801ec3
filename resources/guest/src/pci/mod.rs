//! PCI: configuration space, and enumeration of functions.

pub mod config;
pub mod enumerate;

use core::fmt;

/// Bus, device and function: a function's address, and its requester id on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bdf(pub u16);

impl Bdf {
    /// Function 0 of a device.
    pub const fn new(bus: u8, device: u8) -> Self {
        Self((bus as u16) << 8 | (device as u16) << 3)
    }

    /// The bus number.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Device and function number, as one index.
    pub const fn devfn(self) -> u8 {
        self.0 as u8
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bus, device) = (self.bus(), self.devfn() >> 3);
        write!(f, "{bus:02x}:{device:02x}.{:x}", self.devfn() & 7)
    }
}
