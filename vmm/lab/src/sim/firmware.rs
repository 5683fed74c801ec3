//! The setup by firmware and drivers before the first I/O: it numbers buses, gives BARs their
//! addresses, and turns on bus mastering, ATS, and the ports' reports of a lost link.

use devices::Error;
use devices::endpoint::{AtsEndpoint, EndpointConfig};
use devices::pcie::caps::express::{HotPlug, PortType, Slot};
use devices::pcie::spec::header::Command;
use devices::pcie::spec::{aer, ats, dpc, express, msi, pasid};
use devices::pcie::{ConfigClient, Hierarchy};
use iommu::ats::Msi;
use iommu::event::Tracer;
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::slot_map::SlotMap;

/// The MSI of all ports.
const PORT_MSI: Msi = Msi { address: 0xfee0_0000, data: 0 };

/// Root ports with a slot below each, whose functions are in the order of the devices.
pub(super) fn hierarchy(
    slots: SlotMap,
    hot_plug: HotPlug,
    tracer: &Tracer,
) -> Result<Hierarchy, Error> {
    let mut hierarchy = Hierarchy::empty(tracer.clone());
    for slot in 0..slots.count() {
        let port_type = PortType::RootPort(Slot { number: slot as u8 + 1, hot_plug });
        let devfn = SlotMap::port(slot).devfn();
        let above = hierarchy.add_port(&format!("rp{slot}"), None, devfn, port_type)?;
        let devices = slots.devices_in(slot);
        for device in devices.clone() {
            let next =
                if device + 1 < devices.end { slots.function(device + 1).devfn() } else { 0 };
            let config = EndpointConfig {
                pri: false,
                is_multi_function: slots.has_ari(),
                next_function: slots.has_ari().then_some(next),
                ..EndpointConfig::default()
            };
            let function = AtsEndpoint::new(config, tracer.clone())?;
            hierarchy.add_function(Some(above), slots.function(device).devfn(), Box::new(function));
        }
    }
    Ok(hierarchy)
}

/// The offsets of the capabilities of ports and endpoints. All ports are alike, and all endpoints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    port_express: u16,
    port_msi: u16,
    port_aer: u16,
    port_dpc: u16,
    endpoint_express: u16,
    endpoint_ats: u16,
    endpoint_pasid: u16,
}

/// The state of a port's slot and link, as its registers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortState {
    /// DPC has been triggered.
    pub(super) contained: bool,
    /// The attention button was pressed.
    pub(super) button: bool,
    /// There is a card in the slot.
    pub(super) present: bool,
    /// The data link layer is active.
    pub(super) link_active: bool,
}

/// The driver of ports and functions: all of it goes through configuration space.
pub(super) struct Driver<'a> {
    pub(super) hierarchy: &'a mut Hierarchy,
    pub(super) slots: SlotMap,
    pub(super) now: Instant,
}

impl Driver<'_> {
    /// Programs all ports and endpoints, and returns where their capabilities are. Ports contain
    /// errors if `contains` is set. Errors that a port contains are not reported by AER too.
    pub(super) fn bring_up(&mut self, contains: bool) -> Layout {
        for slot in 0..self.slots.count() {
            let bus = slot as u8 + 1;
            let mut port = self.port(slot);
            port.set_buses(bus, bus);
            port.set_command(Command::MEMORY_AND_MASTER);
        }
        let layout = self.find();
        for slot in 0..self.slots.count() {
            self.enable_reports(slot, contains, &layout);
            for device in self.slots.devices_in(slot) {
                self.enable_device(device, true, &layout);
            }
        }
        layout
    }

    /// A device after reset: its BAR, memory, bus mastering, error messages, PASIDs, and ATS if the
    /// driver may use it.
    pub(super) fn enable_device(&mut self, device: u16, has_ats: bool, layout: &Layout) {
        let mut function = self.client(self.slots.function(device));
        function.set_bar0(SlotMap::bar(device) as u32);
        function.set_command(Command::MEMORY_AND_MASTER);
        let reported = express::REPORT_NON_FATAL | express::REPORT_FATAL;
        let reports = express::DeviceControl::new().with_error_reporting(reported);
        function.write(layout.endpoint_express + express::DEVICE_CONTROL, reports);
        // PASIDs before ATS: with ATS on that is undefined (PCIe 7.8.9.3).
        let pasids = pasid::PasidControl::new().with_enable(true);
        function.write(layout.endpoint_pasid + pasid::CONTROL, pasids);
        if has_ats {
            function.enable_ats(layout.endpoint_ats);
        }
    }

    /// Hot-plug events, containment and errors interrupt, and all functions can be reached.
    fn enable_reports(&mut self, slot: u16, contains: bool, layout: &Layout) {
        let has_ari = self.slots.has_ari();
        let mut port = self.port(slot);
        if has_ari {
            let forwarding = express::DeviceControl2::new().with_ari_forwarding(true);
            port.write(layout.port_express + express::DEVICE_CONTROL_2, forwarding);
        }
        port.enable_msi(layout.port_msi, PORT_MSI);
        port.write(layout.port_express + express::SLOT_CONTROL, slot_control());
        let fatal = express::DeviceControl::new().with_error_reporting(express::REPORT_FATAL);
        port.write(layout.port_express + express::DEVICE_CONTROL, fatal);
        let interrupts =
            aer::RootCommand::new().with_correctable(true).with_non_fatal(true).with_fatal(true);
        port.write(layout.port_aer + aer::ROOT_COMMAND, interrupts);
        if contains {
            let fatal = dpc::Control::new().with_trigger_enable(dpc::TRIGGER_FATAL);
            port.write(layout.port_dpc + dpc::CONTROL, fatal.with_interrupt_enable(true));
        }
    }

    /// Reads the state of the port above a slot, and clears its events, so that it interrupts
    /// again.
    pub(super) fn take_events(&mut self, slot: u16, layout: &Layout) -> PortState {
        let mut port = self.port(slot);
        let slot: express::SlotStatus = port.read(layout.port_express + express::SLOT_STATUS);
        let link: express::LinkStatus = port.read(layout.port_express + express::LINK_STATUS);
        let containment: dpc::Status = port.read(layout.port_dpc + dpc::STATUS);
        let errors: aer::RootStatus = port.read(layout.port_aer + aer::ROOT_STATUS);
        port.write(layout.port_express + express::SLOT_STATUS, slot);
        port.write(layout.port_aer + aer::ROOT_STATUS, errors);
        PortState {
            contained: containment.triggered(),
            button: slot.attention_button_pressed(),
            present: slot.presence_detect_state(),
            link_active: link.data_link_layer_active(),
        }
    }

    /// Lets a link train again that DPC has taken down.
    pub(super) fn end_containment(&mut self, slot: u16, layout: &Layout) {
        let events = dpc::Status::new().with_triggered(true).with_interrupt(true);
        self.port(slot).write(layout.port_dpc + dpc::STATUS, events);
    }

    /// Powers the slot down, so that its card can be pulled out.
    pub(super) fn power_down(&mut self, slot: u16, layout: &Layout) {
        let control = slot_control().with_power_indicator(express::INDICATOR_OFF);
        let control = control.with_power_off(true);
        self.port(slot).write(layout.port_express + express::SLOT_CONTROL, control);
    }

    /// Ports and endpoints have the capabilities that are looked for.
    fn find(&mut self) -> Layout {
        let mut port = self.port(0);
        let port_express = port.capability(express::ID).unwrap_or_default();
        let port_msi = port.capability(msi::ID).unwrap_or_default();
        let port_aer = port.extended_capability(aer::ID).unwrap_or_default();
        let port_dpc = port.extended_capability(dpc::ID).unwrap_or_default();
        let mut endpoint = self.client(self.slots.function(0));
        let endpoint_express = endpoint.capability(express::ID).unwrap_or_default();
        let endpoint_ats = endpoint.extended_capability(ats::ID).unwrap_or_default();
        let endpoint_pasid = endpoint.extended_capability(pasid::ID).unwrap_or_default();
        Layout {
            port_express,
            port_msi,
            port_aer,
            port_dpc,
            endpoint_express,
            endpoint_ats,
            endpoint_pasid,
        }
    }

    fn port(&mut self, slot: u16) -> ConfigClient<'_, Hierarchy> {
        self.client(SlotMap::port(slot))
    }

    fn client(&mut self, function: Bdf) -> ConfigClient<'_, Hierarchy> {
        ConfigClient::new(self.hierarchy, function, self.now)
    }
}

/// Attention button, presence, and data link layer state interrupt.
fn slot_control() -> express::SlotControl {
    express::SlotControl::new()
        .with_attention_button_pressed_enable(true)
        .with_presence_detect_changed_enable(true)
        .with_hot_plug_interrupt_enable(true)
        .with_data_link_layer_changed_enable(true)
}
