//! The configuration of a root complex.

use std::time::Duration;

use iommu::event::UnitRole;
use iommu::ids::Bdf;
use iommu::submit::Policy;
use iommu::time::Timeout;
use iommu::unit::{StickyRegisters, UnitConfig};

use super::IO_APIC_ID;
use crate::Error;
use crate::chipset::map::Range;
use crate::fault::Fault;
use crate::pcie::link::Obeys;
use crate::topology::Topology;

/// What carries out the Device-TLB invalidations of the guest's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// The guest's unit itself, as on bare metal: it is the physical unit. Its Invalidate Requests
    /// go to the links, and it has its own Invalidation Completion Time-out, ITE and ICE.
    Direct,
    /// A host below the guest, as under a VMM: each Invalidate Request of the guest's unit goes to
    /// the host's driver, and the driver's verdict comes back as completion or as ITE.
    Forwarded {
        /// The physical unit, which the host's driver programs.
        unit: UnitConfig,
        /// The driver's policy for invalidations that take too long.
        policy: Policy,
    },
}

/// The configuration of a root complex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootComplexConfig {
    /// The unit that the guest sees, for all functions that no other unit has.
    pub guest_unit: UnitConfig,
    /// The settings of the topology's further units ([`Topology::units`]), by their names. Those that
    /// are not here are as `guest_unit`.
    pub unit_settings: Vec<(String, UnitConfig)>,
    /// The host below it, if there is one.
    pub host: Host,
    /// The ports and functions.
    pub topology: Topology,
    /// The requester id of the I/O APIC's interrupts, which remapping validates; without one there
    /// is nothing to validate, as in QEMU.
    pub io_apic: Option<Bdf>,
    /// The faults, each with its trigger.
    pub faults: Vec<Fault>,
    /// When ATCs drop what an Invalidate Request names.
    pub obeys: Obeys,
    /// How long after a port's hot-plug interrupt the handler of the host's driver runs.
    pub hot_plug: Duration,
    /// An [`Oracle`](crate::stale::Oracle) watches each of the guest's units. It allocates, and walks tables at each DMA.
    pub oracle: bool,
    /// The registers of the guest's units that have outlasted a reset of the machine, in the order of
    /// [`Self::units`]. After power-on there are none.
    pub sticky: Vec<StickyRegisters>,
}

impl RootComplexConfig {
    /// The default of [`Self::hot_plug`].
    pub const HOT_PLUG: Duration = Duration::from_millis(5);

    /// A machine without a host, as bare metal: `unit` is the only unit. It has two root ports, each
    /// with an ATS test endpoint behind it.
    pub fn direct(unit: UnitConfig) -> Self {
        Self {
            guest_unit: UnitConfig { role: UnitRole::Guest, ..unit },
            unit_settings: Vec::new(),
            host: Host::Direct,
            topology: Topology::simple(2, 0),
            io_apic: Some(IO_APIC_ID),
            faults: Vec::new(),
            obeys: Obeys::default(),
            hot_plug: Self::HOT_PLUG,
            oracle: false,
            sticky: Vec::new(),
        }
    }

    /// A guest above a host, whose driver has `policy`: both units are as `unit`. Only the physical
    /// one has a time-out: for the guest's unit the host's verdict takes the place of a time-out.
    /// The rest is as in [`Self::direct`].
    pub fn forwarded(policy: Policy, unit: UnitConfig) -> Self {
        // The host's driver writes no PFSID.
        let physical = UnitConfig { role: UnitRole::Host, device_tlb_throttle: false, ..unit };
        Self {
            host: Host::Forwarded { unit: physical, policy },
            ..Self::direct(UnitConfig { ict: Timeout::Never, ..unit })
        }
    }

    /// The settings of all units that the guest sees: of the one with `INCLUDE_PCI_ALL`, and of those
    /// of [`Topology::units`].
    pub fn units(&self) -> Vec<UnitConfig> {
        let settings = |name: &str| {
            let found = self.unit_settings.iter().rev().find(|(other, _)| other == name);
            let unit = found.map_or(self.guest_unit, |(_, unit)| *unit);
            let ict = match self.host {
                Host::Direct => unit.ict,
                Host::Forwarded { .. } => Timeout::Never,
            };
            UnitConfig { role: UnitRole::Guest, ict, ..unit }
        };
        let further = self.topology.units().iter().map(|unit| settings(&unit.id));
        std::iter::once(self.guest_unit).chain(further).collect()
    }

    /// Checks that `ram`, the pieces of memory in ascending order, is within what the units can
    /// address, that reserved memory regions are in it, and that settings are of units that exist.
    ///
    /// # Errors
    /// [`Error::AddressWidth`], [`Error::ReservedMemory`] and [`Error::NoUnit`].
    pub fn check(&self, ram: &[Range]) -> Result<(), Error> {
        let end = ram.last().map_or(0, |range| range.end());
        let mut units = self.units();
        if let Host::Forwarded { unit, .. } = self.host {
            units.push(unit);
        }
        let narrow = units.iter().find(|unit| end > 1 << unit.host_address_width);
        if let Some(UnitConfig { host_address_width: width, .. }) = narrow {
            return Err(Error::AddressWidth { end, width: *width });
        }
        let is_unit = |name: &str| self.topology.units().iter().any(|unit| unit.id == name);
        if let Some((name, _)) = self.unit_settings.iter().find(|(name, _)| !is_unit(name)) {
            return Err(Error::NoUnit { name: name.clone() });
        }
        self.topology.reserved_memory().iter().try_for_each(|region| region.check(ram))
    }
}
