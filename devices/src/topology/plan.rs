//! Assigns addresses and slots, and puts ports and functions in an order in which they can be
//! built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::platform::Platform;
use super::{
    Address, DeviceSpec, FIRST_INTEGRATED, MAX_DEPTH, RootPort, Satc, Switch, TopologyError,
};
use crate::endpoint::EndpointConfig;
use crate::nvme::NvmeFeatures;
use crate::pcie::caps::express::{PortType, Slot};
use crate::pcie::header::Ids;
use crate::pcie::readiness::Readiness;

/// A port or a function to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A port, with the index of the port above it, whether functions below may use ATS, and whether
    /// users can reach its slot.
    Port {
        name: String,
        above: Option<usize>,
        devfn: u8,
        port_type: PortType,
        ats: bool,
        external: bool,
        ids: Ids,
    },
    /// A function, with the index of the port above it, the times in which it becomes ready, and its
    /// entry in SATC structures.
    Function {
        above: Option<usize>,
        devfn: u8,
        kind: FunctionKind,
        readiness: Readiness,
        satc: Satc,
        ids: Ids,
    },
}

/// The kind of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FunctionKind {
    AtsEndpoint(EndpointConfig),
    Nvme { serial: String, namespaces: Vec<Medium>, features: NvmeFeatures },
    Edu,
    IommuTestdev,
}

/// The storage of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Medium {
    Memory { mib: u16 },
    File(PathBuf),
}

/// A port that has its address.
pub(super) struct Port {
    pub(super) name: String,
    /// It has a link: a function or a switch can be below it.
    is_bus: bool,
    pub(super) ats: bool,
    external: bool,
    /// Switches on the path to it.
    depth: usize,
}

/// The index of the entry at each address, by the port above and the device and function number.
type Places = BTreeMap<(Option<usize>, Address), usize>;

pub(super) struct Plan<'a> {
    pub(super) devices: &'a [DeviceSpec],
    pub(super) steps: Vec<Step>,
    pub(super) ports: Vec<Port>,
    pub(super) places: Places,
    slots: BTreeSet<u8>,
    /// Buses of virtual functions, beside those of ports.
    pub(super) virtual_buses: usize,
    /// Buses below bus 0 that there can be.
    pub(super) max_buses: usize,
}

/// The steps that build `devices`, which may have so many buses below bus 0, and what firmware reports
/// besides.
pub(super) fn plan(
    devices: &[DeviceSpec],
    max_buses: usize,
) -> Result<(Vec<Step>, Platform), TopologyError> {
    let (steps, ports) = (Vec::new(), Vec::new());
    let (places, slots) = (Places::new(), BTreeSet::new());
    let mut plan = Plan { devices, steps, ports, places, slots, virtual_buses: 0, max_buses };
    plan.reserve()?;
    plan.add_root_ports()?;
    plan.add_switches()?;
    plan.add_endpoints()?;
    plan.add_disks()?;
    plan.add_integrated()?;
    plan.check_functions_0()?;
    let platform = plan.platform()?;
    Ok((plan.steps, platform))
}

impl Plan<'_> {
    pub(super) fn error(&self, index: usize, reason: String) -> TopologyError {
        TopologyError { index, device: self.devices[index].to_string(), reason }
    }

    /// Reserves the addresses on bus 0 and the slots that entries specify, before defaults are
    /// assigned.
    fn reserve(&mut self) -> Result<(), TopologyError> {
        for (index, device) in self.devices.iter().enumerate() {
            let (addr, slot) = match device {
                DeviceSpec::RootPort(port) => (port.addr, port.slot),
                DeviceSpec::Edu(device) | DeviceSpec::IommuTestdev(device) => (device.addr, None),
                _ => (None, None),
            };
            if let Some(addr) = addr {
                if addr.devfn() >> 3 == 0 {
                    let reason = format!("{addr} on bus 0 is the host bridge's device");
                    return Err(self.error(index, reason));
                }
                self.place(index, None, addr)?;
            }
            if let Some(slot) = slot
                && !self.slots.insert(slot)
            {
                return Err(self.error(index, format!("there is a slot {slot} already")));
            }
        }
        Ok(())
    }

    /// Assigns an address to an entry. It must be free.
    pub(super) fn place(
        &mut self,
        index: usize,
        above: Option<usize>,
        addr: Address,
    ) -> Result<(), TopologyError> {
        match self.places.insert((above, addr), index) {
            None => Ok(()),
            Some(other) => {
                let bus = above.map_or("on bus 0".to_owned(), |port| {
                    format!("below '{}'", self.ports[port].name)
                });
                let other = &self.devices[other];
                Err(self.error(index, format!("{addr} {bus} is taken by {other}")))
            }
        }
    }

    /// The address of an entry on bus 0: `addr`, which is reserved, or the next free device.
    fn place_on_bus_0(
        &mut self,
        index: usize,
        addr: Option<Address>,
        first: u8,
    ) -> Result<Address, TopologyError> {
        if let Some(addr) = addr {
            return Ok(addr);
        }
        let is_free = |device: &u8| {
            let functions = (None, Address::new(*device, 0))..=(None, Address::new(*device, 7));
            self.places.range(functions).next().is_none()
        };
        let device = (first..32)
            .find(is_free)
            .ok_or_else(|| self.error(index, "there is no free device number left".to_owned()))?;
        let addr = Address::new(device, 0);
        self.place(index, None, addr)?;
        Ok(addr)
    }

    /// The next free slot number from `first` up.
    fn next_slot(&mut self, index: usize, first: u8) -> Result<u8, TopologyError> {
        let free = (first.max(1)..=u8::MAX).find(|slot| !self.slots.contains(slot));
        let slot =
            free.ok_or_else(|| self.error(index, "there is no free slot number left".to_owned()))?;
        self.slots.insert(slot);
        Ok(slot)
    }

    fn add_root_ports(&mut self) -> Result<(), TopologyError> {
        for (index, device) in self.devices.iter().enumerate() {
            if let DeviceSpec::RootPort(port) = device {
                self.add_root_port(index, port)?;
            }
        }
        Ok(())
    }

    fn add_root_port(&mut self, index: usize, port: &RootPort) -> Result<(), TopologyError> {
        let addr = self.place_on_bus_0(index, port.addr, 1)?;
        let number = match port.slot {
            Some(slot) => slot,
            None => self.next_slot(index, addr.devfn() >> 3)?,
        };
        let port_type = PortType::RootPort(Slot { number, hot_plug: port.hotplug });
        let RootPort { ats, external, .. } = *port;
        let planned = Port { name: port.id.clone(), is_bus: true, ats, external, depth: 0 };
        self.add_port(index, planned, None, addr, port_type).map(|_| ())
    }

    fn add_port(
        &mut self,
        index: usize,
        port: Port,
        above: Option<usize>,
        addr: Address,
        port_type: PortType,
    ) -> Result<usize, TopologyError> {
        // Each port leads to a bus of its own.
        if self.ports.len() == self.max_buses {
            return Err(self.error(index, "there are no bus numbers left for it".to_owned()));
        }
        let (name, devfn) = (port.name.clone(), addr.devfn());
        let Port { ats, external, .. } = port;
        let ids = self.devices[index].ids();
        self.steps.push(Step::Port { name, above, devfn, port_type, ats, external, ids });
        self.ports.push(port);
        Ok(self.ports.len() - 1)
    }

    /// Adds switches whose port above exists, until none is left, or the rest is below no root
    /// port.
    fn add_switches(&mut self) -> Result<(), TopologyError> {
        let switches = self.devices.iter().enumerate().filter_map(|(index, device)| match device {
            DeviceSpec::Switch(switch) => Some((index, switch)),
            _ => None,
        });
        let mut left: Vec<(usize, &Switch)> = switches.collect();
        while !left.is_empty() {
            let is_there = |(_, switch): &(usize, &Switch)| self.find_port(&switch.bus).is_some();
            let (ready, rest): (Vec<_>, Vec<_>) = left.iter().copied().partition(is_there);
            if ready.is_empty() {
                let (index, switch) = left[0];
                return Err(self.no_bus(index, &switch.bus));
            }
            for (index, switch) in ready {
                self.add_switch(index, switch)?;
            }
            left = rest;
        }
        Ok(())
    }

    fn add_switch(&mut self, index: usize, switch: &Switch) -> Result<(), TopologyError> {
        let above = self.bus(index, &switch.bus)?;
        self.place(index, Some(above), Address::default())?;
        let (ats, depth) = (self.ports[above].ats, self.ports[above].depth + 1);
        if depth > MAX_DEPTH {
            let reason = format!("there can be {MAX_DEPTH} switches below one another");
            return Err(self.error(index, reason));
        }
        let upper = Port { name: switch.id.clone(), is_bus: false, ats, external: false, depth };
        let addr = Address::default();
        let upper = self.add_port(index, upper, Some(above), addr, PortType::UpstreamPort)?;
        for device in 0..switch.ports {
            let slot = Slot { number: self.next_slot(index, 1)?, hot_plug: switch.hotplug };
            let name = format!("{}.{device}", switch.id);
            let lower = Port { name, is_bus: true, ats, external: false, depth };
            let port_type = PortType::DownstreamPort(slot);
            self.add_port(index, lower, Some(upper), Address::new(device, 0), port_type)?;
        }
        Ok(())
    }

    fn find_port(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.name == name)
    }

    /// The port `name`, if it has a link.
    pub(super) fn bus(&self, index: usize, name: &str) -> Result<usize, TopologyError> {
        let port = self.find_port(name).ok_or_else(|| self.no_bus(index, name))?;
        if !self.ports[port].is_bus {
            let reason = format!("'{name}' is a switch; name one of its ports, such as {name}.0");
            return Err(self.error(index, reason));
        }
        Ok(port)
    }

    fn no_bus(&self, index: usize, name: &str) -> TopologyError {
        let is_switch_port = self.devices.iter().any(|device| match device {
            DeviceSpec::Switch(switch) => {
                let lower = |device| name == format!("{}.{device}", switch.id);
                name == switch.id || (0..switch.ports).any(lower)
            }
            _ => false,
        });
        let reason = if is_switch_port {
            format!("'{name}' is not below any root port: these switches go round in a circle")
        } else if let Some(other) = self.devices.iter().find(|device| device.id() == Some(name)) {
            format!("{other} is no port")
        } else {
            let known = self.ports.iter().filter(|port| port.is_bus);
            let known: Vec<&str> = known.map(|port| port.name.as_str()).collect();
            match known[..] {
                [] => format!("there is no port '{name}'; add a root-port with id={name}"),
                _ => format!("there is no port '{name}'; there are {}", known.join(", ")),
            }
        };
        self.error(index, reason)
    }

    fn add_integrated(&mut self) -> Result<(), TopologyError> {
        for (index, device) in self.devices.iter().enumerate() {
            let (spec, kind) = match device {
                DeviceSpec::Edu(spec) => (spec, FunctionKind::Edu),
                DeviceSpec::IommuTestdev(spec) => (spec, FunctionKind::IommuTestdev),
                _ => continue,
            };
            let addr = self.place_on_bus_0(index, spec.addr, FIRST_INTEGRATED)?;
            let (devfn, satc, ids) = (addr.devfn(), spec.satc, device.ids());
            let readiness = Readiness::default();
            self.steps.push(Step::Function { above: None, devfn, kind, readiness, satc, ids });
        }
        Ok(())
    }

    /// Each device must have function 0: software looks for no other function without it. Below a
    /// link there is one device only.
    fn check_functions_0(&self) -> Result<(), TopologyError> {
        for ((above, addr), index) in &self.places {
            let device = if above.is_none() { addr.devfn() >> 3 } else { 0 };
            let first = Address::new(device, 0);
            if !self.places.contains_key(&(*above, first)) {
                let reason = format!("it is function {addr}, and there is no function {first}");
                return Err(self.error(*index, reason));
            }
        }
        Ok(())
    }
}
