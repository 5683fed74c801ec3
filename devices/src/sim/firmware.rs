//! What firmware and drivers do before the first I/O: numbers buses, gives BARs their addresses,
//! turns on bus mastering, ATS, and what reports that a link is gone.

use iommu::event::Tracer;
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::places::Places;
use crate::Error;
use crate::endpoint::{AtsEndpoint, EndpointConfig};
use crate::pcie::Hierarchy;
use crate::pcie::caps::express::{HotPlug, PortType, Slot};

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
/// Device Control 2.
const ARI_FORWARDING: u16 = 1 << 5;
/// Slot Control: and powered down, with the power indicator off.
const SLOT_OFF: u16 = SLOT_ENABLES | 0x0700;

/// Root ports with a card behind each, whose functions are in the order of the devices.
pub(super) fn hierarchy(
    places: Places,
    hot_plug: HotPlug,
    tracer: &Tracer,
) -> Result<Hierarchy, Error> {
    let mut hierarchy = Hierarchy::empty(tracer.clone());
    for card in 0..places.cards() {
        let slot = Slot { number: card as u8 + 1, hot_plug };
        let place = Places::port(card).devfn();
        let above =
            hierarchy.add_port(&format!("rp{card}"), None, place, PortType::RootPort(slot))?;
        let devices = places.devices_on(card);
        for device in devices.clone() {
            let next =
                if device + 1 < devices.end { places.function(device + 1).devfn() } else { 0 };
            let config = EndpointConfig {
                pri: false,
                is_multi_function: places.has_ari(),
                next_function: places.has_ari().then_some(next),
                ..EndpointConfig::default()
            };
            let function = AtsEndpoint::new(config, tracer.clone())?;
            hierarchy.add_function(
                Some(above),
                places.function(device).devfn(),
                Box::new(function),
            );
        }
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
    pub(super) places: Places,
    pub(super) now: Instant,
}

impl Driver<'_> {
    /// Programs everything, and says where things are. Ports contain errors if `contains` says so;
    /// what they contain they do not report by AER too.
    pub(super) fn bring_up(&mut self, contains: bool) -> Layout {
        for card in 0..self.places.cards() {
            let (port, bus) = (Places::port(card), card as u8 + 1);
            self.write(port, SECONDARY_BUS, &[bus]);
            self.write(port, SUBORDINATE_BUS, &[bus]);
            self.write(port, COMMAND, &MEMORY_AND_MASTER.to_le_bytes());
        }
        let layout = self.find();
        for card in 0..self.places.cards() {
            self.enable_reports(card, contains, &layout);
            for device in self.places.devices_on(card) {
                self.enable_device(device, &layout);
            }
        }
        layout
    }

    /// A device after reset: its BAR, memory, bus mastering, PASIDs, ATS.
    pub(super) fn enable_device(&mut self, device: u16, layout: &Layout) {
        let id = self.places.function(device);
        self.write(id, BAR0, &(Places::bar(device) as u32).to_le_bytes());
        self.write(id, COMMAND, &MEMORY_AND_MASTER.to_le_bytes());
        // PASIDs before ATS: with ATS on that is undefined (PCIe 7.8.9.3).
        self.write(id, layout.endpoint_pasid + 6, &1_u16.to_le_bytes());
        self.write(id, layout.endpoint_ats + 6, &0x8000_u16.to_le_bytes());
    }

    /// Hot-plug events, containment and errors interrupt, and all functions can be reached.
    fn enable_reports(&mut self, card: u16, contains: bool, layout: &Layout) {
        let id = Places::port(card);
        if self.places.has_ari() {
            self.write(id, layout.port_express + 0x28, &ARI_FORWARDING.to_le_bytes());
        }
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

    /// What the port above a card says, which is cleared, so that it interrupts again.
    pub(super) fn take_events(&mut self, card: u16, layout: &Layout) -> PortState {
        let id = Places::port(card);
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
    pub(super) fn end_containment(&mut self, card: u16, layout: &Layout) {
        // Trigger Status and Interrupt Status.
        self.write(Places::port(card), layout.port_dpc + 8, &0b1001_u16.to_le_bytes());
    }

    /// Powers the slot down, so that the card can be pulled out.
    pub(super) fn power_down(&mut self, card: u16, layout: &Layout) {
        self.write(Places::port(card), layout.port_express + 0x18, &SLOT_OFF.to_le_bytes());
    }

    fn find(&mut self) -> Layout {
        let (port, endpoint) = (Places::port(0), self.places.function(0));
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
