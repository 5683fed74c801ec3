//! The configuration of a root complex.

use std::time::Duration;

use iommu::event::UnitRole;
use iommu::ids::Bdf;
use iommu::submit::Policy;
use iommu::time::Timeout;
use iommu::unit::{StickyRegisters, UnitConfig};

use super::IO_APIC_ID;
use crate::Error;
use crate::chipset::map::{self, Range};
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

/// The root complex of one PCI segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentConfig {
    /// The number of the segment.
    pub number: u16,
    /// The index of its first unit among those of the machine, which is the one with
    /// `INCLUDE_PCI_ALL`. The others follow.
    pub first_unit: usize,
    /// Its configuration.
    pub config: RootComplexConfig,
}

impl SegmentConfig {
    /// The register page of its unit with this index, from 0.
    pub fn unit(&self, index: usize) -> Range {
        map::unit(self.first_unit + index)
    }
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

    /// The settings of all units of segment 0 that the guest sees: of the one with `INCLUDE_PCI_ALL`, and of those
    /// of [`Topology::units`].
    pub fn units(&self) -> Vec<UnitConfig> {
        let further = self.topology.units().iter().map(|unit| self.settings(&unit.id));
        std::iter::once(self.guest_unit).chain(further).collect()
    }

    /// The settings of the unit with that name.
    fn settings(&self, name: &str) -> UnitConfig {
        let found = self.unit_settings.iter().rev().find(|(other, _)| other == name);
        let unit = found.map_or(self.guest_unit, |(_, unit)| *unit);
        let ict = match self.host {
            Host::Direct => unit.ict,
            Host::Forwarded { .. } => Timeout::Never,
        };
        UnitConfig { role: UnitRole::Guest, ict, ..unit }
    }

    /// The root complexes of the machine: that of segment 0, and those of the further segments in
    /// ascending order. Nothing but the machine's memory joins them.
    pub fn segments(&self) -> Vec<SegmentConfig> {
        let mut first_unit = 0;
        let mut all = Vec::new();
        let first = (0, self.guest_unit, self.topology.without_segments());
        let further = self.topology.segments().iter().map(|segment| {
            (segment.number, self.settings(&segment.unit), segment.topology.clone())
        });
        for (number, guest_unit, topology) in std::iter::once(first).chain(further) {
            // Settings of unknown units stay with segment 0, which refuses them.
            let is_own = |(name, _): &&(String, UnitConfig)| match number {
                0 => !self.is_further_unit(name),
                _ => topology.has_unit(name),
            };
            let unit_settings = self.unit_settings.iter().filter(is_own).cloned().collect();
            let units = 1 + topology.units().len();
            let sticky = self.sticky.iter().skip(first_unit).take(units).cloned().collect();
            let faults = self.faults_of(&topology, number == 0);
            let config = Self {
                guest_unit,
                unit_settings,
                host: self.host.clone(),
                topology,
                faults,
                sticky,
                io_apic: self.io_apic,
                obeys: self.obeys,
                hot_plug: self.hot_plug,
                oracle: self.oracle,
            };
            all.push(SegmentConfig { number, first_unit, config });
            first_unit += units;
        }
        all
    }

    /// Whether a unit of a segment besides segment 0 has that name.
    fn is_further_unit(&self, name: &str) -> bool {
        let segments = self.topology.segments();
        segments.iter().any(|segment| segment.unit == name || segment.topology.has_unit(name))
    }

    /// The faults of ports in `topology`, which is a segment of the machine. Those that name no port
    /// are of the first one; without any, the first segment has them.
    fn faults_of(&self, topology: &Topology, is_first: bool) -> Vec<Fault> {
        if self.topology.segments().is_empty() {
            return self.faults.clone();
        }
        let ports = topology.port_infos();
        let all = self.topology.port_infos();
        let is_there = |name: &str| ports.iter().any(|port| port.name == name);
        let is_own = |fault: &&Fault| {
            let name = fault.port.as_deref().or(all.first().map(|port| &port.name[..]));
            let known = name.filter(|name| all.iter().any(|port| port.name == *name));
            known.map_or(is_first, is_there)
        };
        self.faults.iter().filter(is_own).cloned().collect()
    }

    /// Checks that `ram`, the pieces of memory in ascending order, is within what the units can
    /// address, that reserved memory regions are in it, and that settings are of units that exist.
    ///
    /// # Errors
    /// [`Error::AddressWidth`], [`Error::ReservedMemory`] and [`Error::NoUnit`].
    pub fn check(&self, ram: &[Range]) -> Result<(), Error> {
        let end = ram.last().map_or(0, |range| range.end());
        let segments = self.segments();
        let mut units: Vec<UnitConfig> =
            segments.iter().flat_map(|segment| segment.config.units()).collect();
        if let Host::Forwarded { unit, .. } = self.host {
            units.push(unit);
        }
        let narrow = units.iter().find(|unit| end > 1 << unit.host_address_width);
        if let Some(UnitConfig { host_address_width: width, .. }) = narrow {
            return Err(Error::AddressWidth { end, width: *width });
        }
        let is_unit = |name: &str| self.topology.has_unit(name) || self.is_further_unit(name);
        if let Some((name, _)) = self.unit_settings.iter().find(|(name, _)| !is_unit(name)) {
            return Err(Error::NoUnit { name: name.clone() });
        }
        self.topology.reserved_memory().iter().try_for_each(|region| region.check(ram))
    }
}
