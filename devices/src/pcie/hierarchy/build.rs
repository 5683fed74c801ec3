//! How a hierarchy is put together.

use iommu::event::Tracer;
use iommu::ids::Bdf;

use super::{FunctionNode, Hierarchy, MAX_PORTS, PortNode};
use crate::Error;
use crate::endpoint::AtsEndpoint;
use crate::fault::PortInfo;
use crate::link::Link;
use crate::pcie::Function;
use crate::pcie::caps::express::{HotPlug, PortType, Slot};
use crate::pcie::host_bridge::HostBridge;
use crate::pcie::port::Port;

impl Hierarchy {
    /// A host bridge and nothing else.
    pub fn empty(tracer: Tracer) -> Self {
        Self {
            host_bridge: HostBridge::default(),
            ports: Vec::new(),
            functions: Vec::new(),
            messages: Default::default(),
            delayed: Vec::new(),
            returns: Vec::new(),
            tracer,
        }
    }

    /// A hierarchy with `ports` root ports, 1 to [`MAX_PORTS`], with an ATS test endpoint behind
    /// each.
    ///
    /// # Errors
    /// [`Error::PortCount`] if there are too few or too many.
    pub fn new(ports: u8, tracer: Tracer) -> Result<Self, Error> {
        if !(1..=MAX_PORTS).contains(&ports) {
            return Err(Error::PortCount { ports, max: MAX_PORTS });
        }
        let mut hierarchy = Self::empty(tracer.clone());
        for device in 1..=ports {
            let slot = Slot { number: device, hot_plug: HotPlug::Surprise };
            let port = hierarchy.add_root_port(device, slot)?;
            hierarchy.add_function(Some(port), 0, Box::new(AtsEndpoint::new(tracer.clone())?));
        }
        Ok(hierarchy)
    }

    /// Adds a root port at `device` on bus 0, and returns its index.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if its capabilities do not fit.
    pub fn add_root_port(&mut self, device: u8, slot: Slot) -> Result<usize, Error> {
        self.add_port(None, device << 3, PortType::RootPort(slot))
    }

    /// Adds a port at `devfn` on the bus below the port `above`, and returns its index. An upstream
    /// port makes a switch; its downstream ports are added below it.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if its capabilities do not fit.
    pub fn add_port(
        &mut self,
        above: Option<usize>,
        devfn: u8,
        port_type: PortType,
    ) -> Result<usize, Error> {
        let id = Bdf::new(0, devfn >> 3, devfn & 7);
        let port = Port::new(id, port_type)?;
        let has_link = port_type != PortType::UpstreamPort;
        let seed = self.ports.len() as u64;
        let link = has_link.then(|| Link::new(id, seed, self.tracer.clone()));
        let (in_reset, is_awaited) = (false, false);
        self.ports.push(PortNode { port, devfn, above, link, in_reset, is_awaited });
        Ok(self.ports.len() - 1)
    }

    /// Puts `function` at `devfn` on the bus below the port `above`, or on bus 0, where nobody else
    /// is.
    pub fn add_function(&mut self, above: Option<usize>, devfn: u8, function: Box<dyn Function>) {
        self.functions.push(FunctionNode { function, devfn, above });
    }

    /// How many ports there are.
    pub fn port_count(&self) -> usize {
        self.ports.len()
    }

    /// What a schedule of faults must know of the ports, in the order of their indices.
    pub fn port_infos(&self) -> Vec<PortInfo> {
        let info = |(index, node): (usize, &PortNode)| PortInfo {
            name: format!("rp{index}"),
            has_button: node.port.has_button(),
        };
        self.ports.iter().enumerate().map(info).collect()
    }
}
