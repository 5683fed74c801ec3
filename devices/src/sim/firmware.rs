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
const ID_PASID: u16 = 0x001b;
const ID_DPC: u16 = 0x001d;

/// Slot Control: attention button, presence, hot-plug interrupt, data link layer state.
const SLOT_ENABLES: u16 = 0x1029;
/// And powered down, with the power indicator off.
const SLOT_OFF: u16 = SLOT_ENABLES | 0x0700;

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
    endpoint_pasid: u16,
}

/// What a port says of its slot and link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortState {
    /// DPC has been triggered.
    pub(super) contained: bool,
    /// The attention button was pressed.
    pub(super) button: bool,
    /// There is a card.
    pub(super) present: bool,
    /// The data link layer is active.
    pub(super) link_active: bool,
}

/// The driver of ports and functions: all of it goes through configuration space.
pub(super) struct Driver<'a> {
    pub(super) hierarchy: &'a mut Hierarchy,
    pub(super) now: Instant,
}

impl Driver<'_> {
    /// Programs everything, and says where things are. Ports contain errors if `contains` says so;
    /// what they contain they do not report by AER too.
    pub(super) fn bring_up(&mut self, devices: u16, contains: bool) -> Layout {
        for device in 0..devices {
            let bus = device as u8 + 1;
            self.write(port(device), SECONDARY_BUS, &[bus]);
            self.write(port(device), SUBORDINATE_BUS, &[bus]);
            self.write(port(device), COMMAND, &MEMORY_AND_MASTER.to_le_bytes());
        }
        let layout = self.find();
        for device in 0..devices {
            self.enable_reports(device, contains, &layout);
            self.enable_device(device, &layout);
        }
        layout
    }

    /// A device after reset: its BAR, memory, bus mastering, PASIDs, ATS.
    pub(super) fn enable_device(&mut self, device: u16, layout: &Layout) {
        let id = endpoint(device);
        self.write(id, BAR0, &(bar(device) as u32).to_le_bytes());
        self.write(id, COMMAND, &MEMORY_AND_MASTER.to_le_bytes());
        // PASIDs before ATS: with ATS on that is undefined (PCIe 7.8.9.3).
        self.write(id, layout.endpoint_pasid + 6, &1_u16.to_le_bytes());
        self.write(id, layout.endpoint_ats + 6, &0x8000_u16.to_le_bytes());
    }

    /// Hot-plug events, containment and errors interrupt.
    fn enable_reports(&mut self, device: u16, contains: bool, layout: &Layout) {
        let id = port(device);
        self.write(id, layout.port_msi + 4, &0xfee0_0000_u32.to_le_bytes());
        self.write(id, layout.port_msi + 2, &1_u16.to_le_bytes());
        self.write(id, layout.port_express + 0x18, &SLOT_ENABLES.to_le_bytes());
        // Device Control: fatal errors are reported; Root Error Command: and interrupt.
        self.write(id, layout.port_express + 0x08, &0x0004_u16.to_le_bytes());
        self.write(id, layout.port_aer + 0x2c, &0b111_u32.to_le_bytes());
        // DPC Control: triggered by fatal errors, with an interrupt.
        if contains {
            self.write(id, layout.port_dpc + 6, &0b1001_u16.to_le_bytes());
        }
    }

    /// What the port above a device says, which is cleared, so that it interrupts again.
    pub(super) fn take_events(&mut self, device: u16, layout: &Layout) -> PortState {
        let id = port(device);
        let mut word = |offset: u16| u16::from_le_bytes(self.read(id, offset));
        let slot = word(layout.port_express + 0x1a);
        let link = word(layout.port_express + 0x12);
        let containment = word(layout.port_dpc + 8);
        let errors: [u8; 4] = self.read(id, layout.port_aer + 0x30);
        self.write(id, layout.port_express + 0x1a, &slot.to_le_bytes());
        self.write(id, layout.port_aer + 0x30, &errors);
        PortState {
            contained: containment & 1 != 0,
            button: slot & 1 != 0,
            present: slot & 1 << 6 != 0,
            link_active: link & 1 << 13 != 0,
        }
    }

    /// Lets a link train again that DPC has taken down.
    pub(super) fn end_containment(&mut self, device: u16, layout: &Layout) {
        // Trigger Status and Interrupt Status.
        self.write(port(device), layout.port_dpc + 8, &0b1001_u16.to_le_bytes());
    }

    /// Powers the slot down, so that the card can be pulled out.
    pub(super) fn power_down(&mut self, device: u16, layout: &Layout) {
        self.write(port(device), layout.port_express + 0x18, &SLOT_OFF.to_le_bytes());
    }

    fn find(&mut self) -> Layout {
        let (port, endpoint) = (port(0), endpoint(0));
        Layout {
            port_express: self.capability(port, ID_EXPRESS),
            port_msi: self.capability(port, ID_MSI),
            port_aer: self.extended(port, ID_AER),
            port_dpc: self.extended(port, ID_DPC),
            endpoint_ats: self.extended(endpoint, ID_ATS),
            endpoint_pasid: self.extended(endpoint, ID_PASID),
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
