//! What firmware and drivers do before the first I/O: numbers buses, gives BARs their addresses,
//! turns on bus mastering, ATS, and what reports that a link is gone.
//!
//! Device n is an endpoint at `(n + 1):00.0` behind the root port `rp<n>` at the n-th place on bus 0 from
//! 01.0 on.

use iommu::event::Tracer;
use iommu::ids::Bdf;
use iommu::time::Instant;

use crate::Error;
use crate::endpoint::{AtsEndpoint, EndpointConfig, regs};
use crate::pcie::Hierarchy;
use crate::pcie::caps::express::{HotPlug, PortType, Slot};

/// Devices that there can be: one for each bus number that is left.
pub(super) const MAX_DEVICES: u16 = 240;

const COMMAND: u16 = 0x04;
const BAR0: u16 = 0x10;
const SECONDARY_BUS: u16 = 0x19;
const SUBORDINATE_BUS: u16 = 0x1a;
const CAPABILITIES: u16 = 0x34;
/// Command: memory space and bus master.
const MEMORY_AND_MASTER: u16 = 0b110;

const ID_MSI: u8 = 0x05;
const ID_EXPRESS: u8 = 0x10;
const ID_AER: u16 = 0x0001;
const ID_ATS: u16 = 0x000f;
const ID_DPC: u16 = 0x001d;

/// The function's own place on its bus.
pub(super) fn endpoint(device: u16) -> Bdf {
    Bdf::new(device as u8 + 1, 0, 0)
}

/// Which device is at this place.
pub(super) fn device_at(function: Bdf) -> u16 {
    u16::from(function.bus()).wrapping_sub(1)
}

fn port(device: u16) -> Bdf {
    Bdf::from_bits(8 + device)
}

/// Which device is behind the port at `id`.
pub(super) fn device_below(id: Bdf) -> u16 {
    id.into_bits() - 8
}

/// Where the registers of a device are.
pub(super) fn bar(device: u16) -> u64 {
    0xc000_0000 + u64::from(device) * u64::from(regs::SIZE)
}

/// Root ports with an endpoint behind each.
pub(super) fn hierarchy(
    devices: u16,
    hot_plug: HotPlug,
    tracer: &Tracer,
) -> Result<Hierarchy, Error> {
    let mut hierarchy = Hierarchy::empty(tracer.clone());
    let config = EndpointConfig { pri: false, ..EndpointConfig::default() };
    for device in 0..devices {
        let slot = Slot { number: device as u8 + 1, hot_plug };
        let place = port(device).devfn();
        let above =
            hierarchy.add_port(&format!("rp{device}"), None, place, PortType::RootPort(slot))?;
        let function = AtsEndpoint::new(config, tracer.clone())?;
        hierarchy.add_function(Some(above), 0, Box::new(function));
    }
    Ok(hierarchy)
}

/// Where the capabilities of ports and endpoints are: all ports are alike, and all endpoints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    port_express: u16,
    port_msi: u16,
    port_aer: u16,
    port_dpc: u16,
    endpoint_ats: u16,
}

/// The driver of ports and functions: all of it goes through configuration space.
pub(super) struct Driver<'a> {
    pub(super) hierarchy: &'a mut Hierarchy,
    pub(super) now: Instant,
}

impl Driver<'_> {
    /// Programs everything, and says where things are.
    pub(super) fn bring_up(&mut self, devices: u16) -> Layout {
        for device in 0..devices {
            let bus = device as u8 + 1;
            self.write(port(device), SECONDARY_BUS, &[bus]);
            self.write(port(device), SUBORDINATE_BUS, &[bus]);
            self.write(port(device), COMMAND, &MEMORY_AND_MASTER.to_le_bytes());
        }
        let layout = self.find();
        for device in 0..devices {
            self.enable_reports(device, &layout);
            self.enable_device(device, &layout);
        }
        layout
    }

    /// A device after reset: its BAR, memory, bus mastering, ATS.
    pub(super) fn enable_device(&mut self, device: u16, layout: &Layout) {
        let id = endpoint(device);
        self.write(id, BAR0, &(bar(device) as u32).to_le_bytes());
        self.write(id, COMMAND, &MEMORY_AND_MASTER.to_le_bytes());
        self.write(id, layout.endpoint_ats + 6, &0x8000_u16.to_le_bytes());
    }

    /// Hot-plug events, containment and errors interrupt.
    fn enable_reports(&mut self, device: u16, layout: &Layout) {
        let id = port(device);
        self.write(id, layout.port_msi + 4, &0xfee0_0000_u32.to_le_bytes());
        self.write(id, layout.port_msi + 2, &1_u16.to_le_bytes());
        // Slot Control: attention button, presence, hot-plug interrupt, data link layer state.
        self.write(id, layout.port_express + 0x18, &0x1029_u16.to_le_bytes());
        // Device Control: fatal errors are reported; Root Error Command: and interrupt.
        self.write(id, layout.port_express + 0x08, &0x0004_u16.to_le_bytes());
        self.write(id, layout.port_aer + 0x2c, &0b111_u32.to_le_bytes());
        // DPC Control: triggered by fatal errors, with an interrupt.
        self.write(id, layout.port_dpc + 6, &0b1001_u16.to_le_bytes());
    }

    fn find(&mut self) -> Layout {
        let (port, endpoint) = (port(0), endpoint(0));
        Layout {
            port_express: self.capability(port, ID_EXPRESS),
            port_msi: self.capability(port, ID_MSI),
            port_aer: self.extended(port, ID_AER),
            port_dpc: self.extended(port, ID_DPC),
            endpoint_ats: self.extended(endpoint, ID_ATS),
        }
    }

    /// Walks the capability list. The functions are our own, and have what is looked for.
    fn capability(&mut self, id: Bdf, wanted: u8) -> u16 {
        let [mut at] = self.read::<1>(id, CAPABILITIES);
        loop {
            let [found, next] = self.read::<2>(id, at.into());
            if found == wanted || next == 0 {
                return at.into();
            }
            at = next;
        }
    }

    fn extended(&mut self, id: Bdf, wanted: u16) -> u16 {
        let mut at = 0x100;
        loop {
            let header = u32::from_le_bytes(self.read(id, at));
            let next = (header >> 20) as u16;
            if header as u16 == wanted || next == 0 {
                return at;
            }
            at = next;
        }
    }

    fn read<const N: usize>(&mut self, id: Bdf, offset: u16) -> [u8; N] {
        let mut data = [0; N];
        self.hierarchy.config_read(id, offset, &mut data, self.now);
        data
    }

    fn write(&mut self, id: Bdf, offset: u16, data: &[u8]) {
        self.hierarchy.config_write(id, offset, data, self.now);
    }
}
