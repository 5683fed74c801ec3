//! What is where on the guest's two buses. The only place that speaks `vm-device`: each type here
//! puts a thin coat over a model that knows nothing of buses.
//!
//! What nobody answers reads as all ones, and writes to it vanish.

mod fw_cfg;
mod machine;
mod pci;

use std::sync::Arc;

use vm_device::bus::{MmioAddress, MmioRange, PioAddress, PioRange};
use vm_device::device_manager::{IoManager, MmioManager, PioManager};
use vm_device::{DeviceMmio, DevicePio};

use crate::Error;
use crate::layout::{self, Range, port};

pub(crate) use fw_cfg::FwCfgPorts;
pub(crate) use machine::{BenchPorts, DebugExit, Keyboard, PowerControl, SleepControl};
pub(crate) use pci::{Ecam, PciPorts, PciWindow, UnitPage};

use crate::interrupts::Interrupts;
use crate::uart::Uart;

/// Port I/O and memory-mapped I/O. Does not change once it is built, and so needs no lock.
pub(crate) struct Bus(IoManager);

/// Everything that is on the buses.
pub(crate) struct Parts {
    pub(crate) uart: Arc<Uart>,
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) ecam: Ecam,
    pub(crate) pci_window: PciWindow,
    pub(crate) pci_ports: PciPorts,
    pub(crate) unit: UnitPage,
    pub(crate) bench: BenchPorts,
    pub(crate) debug_exit: DebugExit,
    pub(crate) keyboard: Keyboard,
    pub(crate) power: PowerControl,
    pub(crate) sleep: SleepControl,
    pub(crate) fw_cfg: FwCfgPorts,
}

impl Bus {
    pub(crate) fn new(parts: Parts) -> Result<Self, Error> {
        let mut bus = Self(IoManager::new());
        bus.port(port::COM1, 8, UartPorts(parts.uart))?;
        bus.port(port::PCI, 8, parts.pci_ports)?;
        bus.port(port::BENCH, port::BENCH_SIZE, parts.bench)?;
        bus.port(port::DEBUG_EXIT, 4, parts.debug_exit)?;
        bus.port(port::KEYBOARD, 1, parts.keyboard)?;
        bus.port(port::POWER, 2, parts.power)?;
        bus.port(port::SLEEP_CONTROL, 2, parts.sleep)?;
        bus.port(port::FW_CFG, 2, parts.fw_cfg)?;
        bus.memory(layout::ECAM, parts.ecam)?;
        bus.memory(layout::PCI_MEMORY, parts.pci_window)?;
        bus.memory(layout::UNIT, parts.unit)?;
        bus.memory(layout::IO_APIC, IoApicPage(parts.interrupts))?;
        Ok(bus)
    }

    fn port<D>(&mut self, first: u16, count: u16, device: D) -> Result<(), Error>
    where
        D: DevicePio + Send + Sync + 'static,
    {
        PioRange::new(PioAddress(first), count)
            .and_then(|range| self.0.register_pio(range, Arc::new(device)))
            .map_err(conflict)
    }

    fn memory<D>(&mut self, range: Range, device: D) -> Result<(), Error>
    where
        D: DeviceMmio + Send + Sync + 'static,
    {
        MmioRange::new(MmioAddress(range.start), range.size)
            .and_then(|range| self.0.register_mmio(range, Arc::new(device)))
            .map_err(conflict)
    }

    pub(crate) fn port_read(&self, port: u16, data: &mut [u8]) {
        if self.0.pio_read(PioAddress(port), data).is_err() {
            data.fill(0xff);
        }
    }

    pub(crate) fn port_write(&self, port: u16, data: &[u8]) {
        // An error means that nobody is there.
        let _ = self.0.pio_write(PioAddress(port), data);
    }

    pub(crate) fn memory_read(&self, address: u64, data: &mut [u8]) {
        if self.0.mmio_read(MmioAddress(address), data).is_err() {
            data.fill(0xff);
        }
    }

    pub(crate) fn memory_write(&self, address: u64, data: &[u8]) {
        // An error means that nobody is there.
        let _ = self.0.mmio_write(MmioAddress(address), data);
    }
}

fn conflict(error: vm_device::bus::Error) -> Error {
    Error::Host { action: "lay the devices out on the bus", source: std::io::Error::other(error) }
}

/// COM1's eight ports.
struct UartPorts(Arc<Uart>);

impl DevicePio for UartPorts {
    fn pio_read(&self, _: PioAddress, offset: u16, data: &mut [u8]) {
        self.0.read(offset as u8, data);
    }

    fn pio_write(&self, _: PioAddress, offset: u16, data: &[u8]) {
        self.0.write(offset as u8, data);
    }
}

/// The I/O APIC's page.
struct IoApicPage(Arc<Interrupts>);

impl DeviceMmio for IoApicPage {
    fn mmio_read(&self, _: MmioAddress, offset: u64, data: &mut [u8]) {
        self.0.read(offset, data);
    }

    fn mmio_write(&self, _: MmioAddress, offset: u64, data: &[u8]) {
        self.0.write(offset, data);
    }
}
