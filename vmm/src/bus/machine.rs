//! The ports that end a run, and those by which a guest talks to the bench.

use std::sync::{Arc, Mutex, PoisonError};

use devices::bench::{Bench, Request};
use iommu::event::{Event, Tracer};
use vm_device::DevicePio;
use vm_device::bus::PioAddress;

use crate::clock::Clock;
use crate::exit::{Ending, Exit};
use crate::fabric::Fabric;
use crate::layout::SLEEP_TYPE_OFF;

/// Port 0xf4: any write ends the run with its value, as QEMU's isa-debug-exit does.
pub(crate) struct DebugExit {
    pub(crate) ending: Arc<Ending>,
    pub(crate) clock: Clock,
    pub(crate) tracer: Tracer,
}

impl DevicePio for DebugExit {
    fn pio_read(&self, _: PioAddress, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn pio_write(&self, _: PioAddress, _: u16, data: &[u8]) {
        let value = data.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        self.tracer.emit(self.clock.now(), || Event::GuestExit { value });
        self.ending.end(Ok(Exit::DebugExit(value)));
    }
}

/// Port 0x64: the keyboard controller, of which only the line to the CPU's reset pin is there.
pub(crate) struct Keyboard(pub(crate) Arc<Ending>);

impl Keyboard {
    const PULSE_RESET: u8 = 0xfe;
}

impl DevicePio for Keyboard {
    fn pio_read(&self, _: PioAddress, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn pio_write(&self, _: PioAddress, _: u16, data: &[u8]) {
        if data == [Self::PULSE_RESET] {
            self.0.end(Ok(Exit::Reset));
        }
    }
}

/// Port 0x604: PM1a control, of which only SLP_EN is there; whatever the sleep type, it switches
/// the machine off.
pub(crate) struct PowerControl(pub(crate) Arc<Ending>);

impl PowerControl {
    const SLEEP_ENABLE: u16 = 1 << 13;
}

impl DevicePio for PowerControl {
    fn pio_read(&self, _: PioAddress, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn pio_write(&self, _: PioAddress, _: u16, data: &[u8]) {
        let Ok(value) = <[u8; 2]>::try_from(data) else { return };
        if u16::from_le_bytes(value) & Self::SLEEP_ENABLE != 0 {
            self.0.end(Ok(Exit::PowerOff));
        }
    }
}

/// Ports 0x600 and 0x601: sleep control and sleep status of hardware-reduced ACPI (`ACPI 4.8.3.7`).
/// Only the sleep type of `_S5` does something.
pub(crate) struct SleepControl(pub(crate) Arc<Ending>);

impl SleepControl {
    const SLEEP_ENABLE: u8 = 1 << 5;
}

impl DevicePio for SleepControl {
    fn pio_read(&self, _: PioAddress, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn pio_write(&self, _: PioAddress, offset: u16, data: &[u8]) {
        if let (0, [value]) = (offset, data)
            && *value == Self::SLEEP_ENABLE | SLEEP_TYPE_OFF << 2
        {
            self.0.end(Ok(Exit::PowerOff));
        }
    }
}

/// Ports 0x5e0 to 0x5f3: how a guest talks to the bench.
pub(crate) struct BenchPorts {
    /// No other lock is taken while this one is held.
    pub(crate) bench: Mutex<Bench>,
    pub(crate) fabric: Arc<Fabric>,
    pub(crate) clock: Clock,
    pub(crate) tracer: Tracer,
}

impl DevicePio for BenchPorts {
    fn pio_read(&self, _: PioAddress, offset: u16, data: &mut [u8]) {
        self.bench.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data);
    }

    fn pio_write(&self, _: PioAddress, offset: u16, data: &[u8]) {
        let request = self.bench.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data);
        match request {
            Some(Request::Doorbell { value }) => {
                self.tracer.emit(self.clock.now(), || Event::Doorbell { value });
                self.fabric.with(|root_complex, now| root_complex.doorbell(now));
            }
            Some(Request::Report { metric, value }) => {
                self.tracer.emit(self.clock.now(), || Event::GuestReport { metric, value });
            }
            None => {}
        }
    }
}
