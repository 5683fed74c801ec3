//! The ways to the root complex: ECAM, configuration ports, BARs, the remapping unit's page.

use std::sync::{Arc, Mutex, PoisonError};

use devices::config_ports::ConfigPorts;
use iommu::ids::Bdf;
use vm_device::bus::{MmioAddress, PioAddress};
use vm_device::{DeviceMmio, DevicePio};

use crate::exit::{Ending, Exit};
use crate::fabric::Fabric;
use crate::layout::{self, port};

/// Configuration space as memory (`PCIe 7.2.2`).
pub(crate) struct Ecam(pub(crate) Arc<Fabric>);

/// Which function's register is at `offset` of ECAM.
fn decode_ecam(offset: u64) -> (Bdf, u16) {
    (Bdf::from_bits((offset >> 12) as u16), (offset & 0xfff) as u16)
}

impl DeviceMmio for Ecam {
    fn mmio_read(&self, _: MmioAddress, offset: u64, data: &mut [u8]) {
        let (function, register) = decode_ecam(offset);
        self.0.with(|complex, now| complex.config_read(function, register, data, now));
    }

    fn mmio_write(&self, _: MmioAddress, offset: u64, data: &[u8]) {
        let (function, register) = decode_ecam(offset);
        self.0.with(|complex, now| complex.config_write(function, register, data, now));
    }
}

/// The PCI memory window.
pub(crate) struct PciWindow(pub(crate) Arc<Fabric>);

impl DeviceMmio for PciWindow {
    fn mmio_read(&self, base: MmioAddress, offset: u64, data: &mut [u8]) {
        self.0.with(|complex, now| complex.memory_read(base.0 + offset, data, now));
    }

    fn mmio_write(&self, base: MmioAddress, offset: u64, data: &[u8]) {
        self.0.with(|complex, now| complex.memory_write(base.0 + offset, data, now));
    }
}

/// The remapping unit's register page.
pub(crate) struct UnitPage(pub(crate) Arc<Fabric>);

impl DeviceMmio for UnitPage {
    fn mmio_read(&self, _: MmioAddress, offset: u64, data: &mut [u8]) {
        self.0.with(|complex, _| complex.unit_read(offset, data));
    }

    fn mmio_write(&self, _: MmioAddress, offset: u64, data: &[u8]) {
        self.0.with(|complex, now| complex.unit_write(offset, data, now));
    }
}

/// Ports 0xcf8 to 0xcff: configuration mechanism #1, with the reset control register, one byte,
/// inside of its address port.
pub(crate) struct PciPorts {
    /// No other lock is taken while this one is held.
    latch: Mutex<ConfigPorts>,
    fabric: Arc<Fabric>,
    ending: Arc<Ending>,
}

impl PciPorts {
    /// Reset control: reset the CPUs.
    const RESET_CPU: u8 = 1 << 2;

    pub(crate) fn new(fabric: Arc<Fabric>, ending: Arc<Ending>) -> Self {
        Self { latch: Mutex::new(ConfigPorts::new()), fabric, ending }
    }
}

impl DevicePio for PciPorts {
    fn pio_read(&self, base: PioAddress, offset: u16, data: &mut [u8]) {
        let port = base.0 + offset;
        if let (port::RESET, [byte]) = (port, &mut *data) {
            *byte = 0;
            return;
        }
        let target = self.latch.lock().unwrap_or_else(PoisonError::into_inner).read(port, data);
        if let Some(target) = target {
            self.fabric.with(|complex, now| {
                complex.config_read(target.function, target.offset, data, now);
            });
        }
    }

    fn pio_write(&self, base: PioAddress, offset: u16, data: &[u8]) {
        let port = base.0 + offset;
        if let (port::RESET, [value]) = (port, data) {
            if value & Self::RESET_CPU != 0 {
                self.ending.end(Ok(Exit::Reset));
            }
            return;
        }
        let target = self.latch.lock().unwrap_or_else(PoisonError::into_inner).write(port, data);
        if let Some(target) = target {
            self.fabric.with(|complex, now| {
                complex.config_write(target.function, target.offset, data, now);
            });
        }
    }
}

const _: () = assert!(layout::ECAM.size >> 12 == 1 << 16, "ECAM has all functions of all buses");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecam_addresses_name_function_and_register() {
        assert_eq!(decode_ecam(0), (Bdf::new(0, 0, 0), 0));
        assert_eq!(decode_ecam(0x0010_8104), (Bdf::new(1, 1, 0), 0x104));
        assert_eq!(decode_ecam(layout::ECAM.size - 1), (Bdf::new(255, 31, 7), 0xfff));
    }
}
