//! The way down: which function a request or a message is for, and whether it gets there.

use iommu::event::Lost;
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::{Hierarchy, PortNode};
use crate::pcie::Function;

/// Who answers a configuration request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    HostBridge,
    /// A port, by its index.
    Port(usize),
    /// A function, by its index.
    Function(usize),
}

impl Hierarchy {
    /// Who answers a request to `function`'s configuration space, if it gets there.
    pub(super) fn route_config(
        &mut self,
        function: Bdf,
        kind: Lost,
        now: Instant,
    ) -> Option<Target> {
        if function == Bdf::new(0, 0, 0) {
            return Some(Target::HostBridge);
        }
        let above = self.bus_owner(function.bus())?;
        // On the other buses that a port leads to there are at most virtual functions.
        let is_its_bus = self.secondary_bus(above) == function.bus();
        if let Some(port) = above
            && is_its_bus
            && !self.ports[port].accepts_device(function)
        {
            return None;
        }
        if !self.reaches(above, kind, now) {
            return None;
        }
        let below = self.index.below(above);
        let mut ports = below.ports.iter().filter(|_| is_its_bus);
        if let Some(port) = ports.find(|port| self.ports[**port].devfn == function.devfn()) {
            return Some(Target::Port(*port));
        }
        let is_virtual =
            |index: &&usize| self.functions[**index].function.virtual_function(function).is_some();
        let found = self.function_at(above, function);
        found.or_else(|| below.functions.iter().find(is_virtual).copied()).map(Target::Function)
    }

    /// The function that is at this place below `above`: no virtual one.
    pub(super) fn function_at(&self, above: Option<usize>, id: Bdf) -> Option<usize> {
        let found = self.index.below(above).function(id.devfn());
        found.filter(|_| self.secondary_bus(above) == id.bus())
    }

    /// Whether others share a device with `target`. Below a link there is one device.
    pub(super) fn is_multi_function(&self, target: Target) -> bool {
        let (above, devfn) = match target {
            Target::HostBridge => return false,
            Target::Port(index) => (self.ports[index].above, self.ports[index].devfn),
            Target::Function(index) => (self.functions[index].above, self.functions[index].devfn),
        };
        let is_below_link = above.is_some_and(|port| self.ports[port].link.is_some());
        let below = self.index.below(above);
        let ports = below.ports.iter().map(|port| self.ports[*port].devfn);
        let functions = below.functions.iter().map(|index| self.functions[*index].devfn);
        let shares = |other: &u8| is_below_link || other >> 3 == devfn >> 3;
        ports.chain(functions).filter(shares).nth(1).is_some()
    }

    /// The function with a BAR at `address`, if a request to it gets there.
    pub(super) fn route_memory(
        &mut self,
        address: u64,
        length: usize,
        kind: Lost,
        now: Instant,
    ) -> Option<usize> {
        let mut above = None;
        while let Some(port) = self.child(above, |node| node.port.owns_memory(address, length)) {
            above = Some(port);
        }
        if !self.reaches(above, kind, now) {
            return None;
        }
        let mut functions = self.functions.iter();
        functions.position(|node| node.above == above && node.function.claims(address, length))
    }

    /// The functions on `bus`, if a message to it gets there. Whom it means is up to them.
    pub(super) fn route_message(
        &mut self,
        bus: u8,
        kind: Lost,
        now: Instant,
    ) -> impl Iterator<Item = &mut dyn Function> {
        let above = self.bus_owner(bus).filter(|above| self.reaches(*above, kind, now));
        let nodes = self.functions.iter_mut().filter(move |node| Some(node.above) == above);
        nodes.map(|node| &mut *node.function as &mut dyn Function)
    }

    /// The port that leads to `bus`, with `None` inside for bus 0: `bus` is its secondary bus, or
    /// one that it owns beyond the device at the end of its link. Each step leads deeper into the
    /// tree, so that no numbering makes this go round.
    pub(super) fn bus_owner(&self, bus: u8) -> Option<Option<usize>> {
        self.index.owner(bus, || self.find_bus_owner(bus))
    }

    fn find_bus_owner(&self, bus: u8) -> Option<Option<usize>> {
        let mut above = None;
        while self.secondary_bus(above) != bus {
            match self.child(above, |node| node.port.owns_bus(bus)) {
                Some(port) => above = Some(port),
                None => return above.filter(|port| self.ports[*port].link.is_some()).map(Some),
            }
        }
        Some(above)
    }

    fn secondary_bus(&self, above: Option<usize>) -> u8 {
        above.map_or(0, |port| self.ports[port].port.secondary_bus())
    }

    /// The first port directly below `above` that `takes` what is routed.
    fn child(&self, above: Option<usize>, takes: impl Fn(&PortNode) -> bool) -> Option<usize> {
        self.index.below(above).ports.iter().copied().find(|port| takes(&self.ports[*port]))
    }

    /// Whether a TLP from the root complex gets to the bus below `above`: all links in between
    /// carry it. The uppermost that does not is the one that loses it.
    pub(super) fn reaches(&self, above: Option<usize>, kind: Lost, now: Instant) -> bool {
        let Some(port) = above else { return true };
        let node = &self.ports[port];
        self.reaches(node.above, kind, now)
            && node.link.as_ref().is_none_or(|link| link.carries(kind, now))
    }
}

impl PortNode {
    /// Whether a request to `function` on the secondary bus goes down the link: there is only
    /// device 0 (`PCIe 7.3.1`), and the port itself says so unless it forwards ARI. A switch's own
    /// bus has all of them.
    fn accepts_device(&self, function: Bdf) -> bool {
        self.link.is_none() || function.device() == 0 || self.port.forwards_ari()
    }
}
