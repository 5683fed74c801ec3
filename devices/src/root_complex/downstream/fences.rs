//! Fences at ports, as the host's driver sets them up and ends them: by writes to the configuration
//! space of the port above a function.

use std::ops::RangeInclusive;

use iommu::ids::Bdf;
use iommu::submit::PortFence;
use iommu::time::Instant;

use crate::pcie::spec::{acs, dpc, express, header};
use crate::pcie::{ConfigClient, Hierarchy};

/// Sets up `fence` at the port above `function`. Returns the buses below that port; `None` if there is
/// no such port, or it does not have the capability.
pub(super) fn set_up(
    hierarchy: &mut Hierarchy,
    function: Bdf,
    fence: PortFence,
    now: Instant,
) -> Option<RangeInclusive<u8>> {
    let (port, buses) = hierarchy.port_above(function)?;
    let mut port = ConfigClient::new(hierarchy, port, now);
    match fence {
        PortFence::BlockTranslation => {
            let at = port.extended_capability(acs::ID)?;
            let has = port.read::<acs::AcsBits>(at + acs::CAPABILITY).translation_blocking();
            let control = port.read::<acs::AcsBits>(at + acs::CONTROL);
            port.write(at + acs::CONTROL, control.with_translation_blocking(true));
            has.then_some(buses)
        }
        PortFence::BusMasterOff => {
            let command = port.read::<header::Command>(header::COMMAND);
            port.set_command(command.with_bus_master(false));
            Some(buses)
        }
        PortFence::LinkDisable => {
            let at = port.capability(express::ID)? + express::LINK_CONTROL;
            let control = port.read::<express::LinkControl>(at);
            port.write(at, control.with_link_disable(true));
            Some(buses)
        }
        PortFence::Dpc => {
            let at = port.extended_capability(dpc::ID)?;
            let has = port.read::<dpc::Capability>(at + dpc::CAPABILITY).software_trigger();
            let control = port.read::<dpc::Control>(at + dpc::CONTROL);
            // The trigger has no effect while DPC is off (PCIe 7.9.14.3).
            let enable = match control.trigger_enable() {
                0 => dpc::TRIGGER_FATAL,
                enable => enable,
            };
            let control = control.with_trigger_enable(enable).with_software_trigger(true);
            port.write(at + dpc::CONTROL, control);
            has.then_some(buses)
        }
    }
}

/// Ends `fence` at the port above `function`.
pub(super) fn end(hierarchy: &mut Hierarchy, function: Bdf, fence: PortFence, now: Instant) {
    let Some((port, _)) = hierarchy.port_above(function) else { return };
    let mut port = ConfigClient::new(hierarchy, port, now);
    match fence {
        PortFence::BlockTranslation => {
            let Some(at) = port.extended_capability(acs::ID) else { return };
            let control = port.read::<acs::AcsBits>(at + acs::CONTROL);
            port.write(at + acs::CONTROL, control.with_translation_blocking(false));
        }
        PortFence::BusMasterOff => {
            let command = port.read::<header::Command>(header::COMMAND);
            port.set_command(command.with_bus_master(true));
        }
        PortFence::LinkDisable => {
            let Some(at) = port.capability(express::ID) else { return };
            let at = at + express::LINK_CONTROL;
            let control = port.read::<express::LinkControl>(at);
            port.write(at, control.with_link_disable(false));
        }
        PortFence::Dpc => {
            let Some(at) = port.extended_capability(dpc::ID) else { return };
            port.write(at + dpc::STATUS, dpc::Status::new().with_triggered(true));
        }
    }
}
