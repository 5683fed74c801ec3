//! Building a hierarchy: ports and functions are added one by one.

use iommu::event::Tracer;
use iommu::ids::Bdf;

use super::{FunctionNode, Hierarchy, PortNode};
use crate::Error;
use crate::fault::PortInfo;
use crate::pcie::Function;
use crate::pcie::caps::express::PortType;
use crate::pcie::header::Ids;
use crate::pcie::host_bridge::HostBridge;
use crate::pcie::link::Link;
use crate::pcie::port::Port;
use crate::pcie::readiness::Readiness;

impl Hierarchy {
    /// A host bridge and nothing else.
    pub fn empty(tracer: Tracer) -> Self {
        Self {
            host_bridge: HostBridge::default(),
            ports: Vec::new(),
            functions: Vec::new(),
            index: Default::default(),
            messages: Default::default(),
            delayed: Default::default(),
            late: 0,
            pending: Default::default(),
            obeys: Default::default(),
            owed: Default::default(),
            recoveries: Vec::new(),
            resets: Default::default(),
            returns: Vec::new(),
            contained: None,
            hot_plug: Default::default(),
            tracer,
        }
    }

    /// Adds the port `name` at `devfn` on the bus below the port `above`, and returns its index. An
    /// upstream port makes a switch; its downstream ports are added below it.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if its capabilities do not fit.
    pub fn add_port(
        &mut self,
        name: &str,
        above: Option<usize>,
        devfn: u8,
        port_type: PortType,
    ) -> Result<usize, Error> {
        let id = Bdf::new(0, devfn >> 3, devfn & 7);
        let port = Port::new(id, port_type)?;
        let has_link = port_type != PortType::UpstreamPort;
        let seed = self.ports.len() as u64;
        let link = has_link.then(|| Link::new(id, seed, self.tracer.clone()));
        let name = name.to_owned();
        let (in_reset, is_removal_pending) = (false, false);
        self.index.add_port(above, self.ports.len());
        self.ports.push(PortNode { name, port, devfn, above, link, in_reset, is_removal_pending });
        Ok(self.ports.len() - 1)
    }

    /// Replaces the ids of the port with this index, if there is one.
    pub fn set_port_ids(&mut self, port: usize, ids: Ids) {
        if let Some(node) = self.ports.get_mut(port) {
            node.port.set_ids(ids);
        }
    }

    /// Adds `function` at `devfn` on the bus below the port `above`, or on bus 0. The address must
    /// be free. The function is always ready at once.
    pub fn add_function(&mut self, above: Option<usize>, devfn: u8, function: Box<dyn Function>) {
        self.add_slow_function(above, devfn, function, Readiness::default());
    }

    /// As [`Self::add_function`], with the times in which the function becomes ready.
    pub fn add_slow_function(
        &mut self,
        above: Option<usize>,
        devfn: u8,
        function: Box<dyn Function>,
        readiness: Readiness,
    ) {
        self.index.add_function(above, devfn, self.functions.len());
        let slow_reset = None;
        self.functions.push(FunctionNode { function, devfn, above, readiness, slow_reset });
    }

    /// Seeds the random decisions of the links.
    pub fn seed(&mut self, seed: u64) {
        for (index, link) in self.ports.iter_mut().filter_map(|node| node.link.as_mut()).enumerate()
        {
            link.seed(seed.wrapping_add(index as u64));
        }
    }

    /// The number of ports.
    pub fn port_count(&self) -> usize {
        self.ports.len()
    }

    /// The index of the port `name`.
    pub fn port_index(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|node| node.name == name)
    }

    /// The properties of the ports that a schedule of faults needs, in the order of their indices.
    pub fn port_infos(&self) -> Vec<PortInfo> {
        let info = |node: &PortNode| PortInfo {
            name: node.name.clone(),
            has_link: node.link.is_some(),
            has_button: node.port.has_button(),
        };
        self.ports.iter().map(info).collect()
    }
}
