//! The guest's two buses, by `vm-device`: they bring accesses to the chipset, which decodes them. A read
//! that nothing answers gives all ones, and such a write is lost.

use std::sync::Arc;

use devices::chipset::map;
use vm_device::bus::{MmioAddress, MmioRange, PioAddress, PioRange};
use vm_device::device_manager::{IoManager, MmioManager, PioManager};

use crate::Error;
use crate::machine::SharedMachine;

/// Bytes that guests can address. RAM is among them: KVM answers for that itself.
const ADDRESS_SPACE: u64 = 1 << 52;

/// Port I/O and memory-mapped I/O. Does not change once it is built, and so needs no lock.
pub(crate) struct Bus(IoManager);

impl Bus {
    /// The buses of `machine`. All memory is the chipset's, since software moves ECAM.
    pub(crate) fn new(machine: &Arc<SharedMachine>) -> Result<Self, Error> {
        let mut bus = IoManager::new();
        for (first, count) in map::ports() {
            PioRange::new(PioAddress(first), count)
                .and_then(|range| bus.register_pio(range, machine.clone()))
                .map_err(conflict)?;
        }
        MmioRange::new(MmioAddress(0), ADDRESS_SPACE)
            .and_then(|range| bus.register_mmio(range, machine.clone()))
            .map_err(conflict)?;
        Ok(Self(bus))
    }

    pub(crate) fn port_read(&self, port: u16, data: &mut [u8]) {
        if self.0.pio_read(PioAddress(port), data).is_err() {
            data.fill(0xff);
        }
    }

    pub(crate) fn port_write(&self, port: u16, data: &[u8]) {
        // An error means that nothing is there.
        let _ = self.0.pio_write(PioAddress(port), data);
    }

    pub(crate) fn memory_read(&self, address: u64, data: &mut [u8]) {
        if self.0.mmio_read(MmioAddress(address), data).is_err() {
            data.fill(0xff);
        }
    }

    pub(crate) fn memory_write(&self, address: u64, data: &[u8]) {
        // An error means that nothing is there.
        let _ = self.0.mmio_write(MmioAddress(address), data);
    }
}

fn conflict(error: vm_device::bus::Error) -> Error {
    Error::Host { action: "lay the devices out on the bus", source: std::io::Error::other(error) }
}
