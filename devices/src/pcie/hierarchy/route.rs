//! Requests and messages from the root complex: which function is the target, and whether the links
//! on the path are up.

use std::ops::RangeInclusive;

use iommu::event::{DropReason, Event, Lost};
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::{Hierarchy, PortNode};
use crate::pcie::Function;

/// The completer of a configuration request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    HostBridge,
    /// A port, by its index.
    Port(usize),
    /// A function, by its index.
    Function(usize),
}

impl Hierarchy {
    /// The completer of a configuration request to `function`, if the request reaches it.
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
        // Other buses that a port leads to have only virtual functions.
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
        let mut ports = self.index.below(above).ports.iter().filter(|_| is_its_bus);
        if let Some(port) = ports.find(|port| self.ports[**port].devfn == function.devfn()) {
            return Some(Target::Port(*port));
        }
        self.function_or_physical(above, function).map(Target::Function)
    }

    /// The function `id` on a bus below `above`; for a virtual function, its physical one.
    pub(super) fn function_or_physical(&self, above: Option<usize>, id: Bdf) -> Option<usize> {
        let is_virtual =
            |index: &&usize| self.functions[**index].function.virtual_function(id).is_some();
        let mut below = self.index.below(above).functions.iter();
        self.function_at(above, id).or_else(|| below.find(is_virtual).copied())
    }

    /// Whether the function `id` takes or sends a TLP of the kind `kind` at `now`. `index` is that of
    /// the function, or of its physical one. Emits [`Event::Dropped`] if it does not.
    pub(super) fn is_awake(&self, index: usize, id: Bdf, kind: Lost, now: Instant) -> bool {
        let physical = self.functions[index].function.as_ref();
        let core = physical.virtual_function(id).unwrap_or(physical).core();
        if core.is_on() {
            return true;
        }
        let reason =
            if core.ready_at.is_some() { DropReason::NotReady } else { DropReason::Sleeping };
        self.tracer.emit(now, || Event::Dropped { function: id, what: kind, reason });
        false
    }

    /// The function `id` on the secondary bus of `above`, but no virtual function.
    pub(super) fn function_at(&self, above: Option<usize>, id: Bdf) -> Option<usize> {
        let found = self.index.below(above).function(id.devfn());
        found.filter(|_| self.secondary_bus(above) == id.bus())
    }

    /// Whether `target` belongs to a multi-function device. A link leads to one device.
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

    /// The function with a BAR at `address`, if a request reaches it.
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

    /// The functions on `bus`, if a message reaches it. Each of them compares the destination.
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

    /// The port that leads to `bus`, `Some(None)` for bus 0. The port owns `bus`, and no port below
    /// it does. Each step leads deeper into the tree, so the search ends for each numbering.
    pub(super) fn bus_owner(&self, bus: u8) -> Option<Option<usize>> {
        self.index.owner(bus, || self.find_bus_owner(bus))
    }

    /// The device and function number of the root port that leads to `bus`.
    pub fn root_port(&self, bus: u8) -> Option<u8> {
        let port = self.child(None, |node| node.port.owns_bus(bus))?;
        Some(self.ports[port].devfn)
    }

    /// The port at the upper end of the link above `function`, and the buses below that port.
    pub fn port_above(&self, function: Bdf) -> Option<(Bdf, RangeInclusive<u8>)> {
        let above = self.bus_owner(function.bus())??;
        let mut ports = std::iter::successors(Some(above), |port| self.ports[*port].above);
        let node = &self.ports[ports.find(|port| self.ports[*port].link.is_some())?];
        Some((node.port.id(), node.port.buses()))
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

    /// The first port directly below `above` that `takes` the request.
    fn child(&self, above: Option<usize>, takes: impl Fn(&PortNode) -> bool) -> Option<usize> {
        self.index.below(above).ports.iter().copied().find(|port| takes(&self.ports[*port]))
    }

    /// Whether a TLP from the root complex reaches the bus below `above`. The uppermost link that
    /// is down loses it, and so does a port in D3hot if it is a configuration request.
    pub(super) fn reaches(&self, above: Option<usize>, kind: Lost, now: Instant) -> bool {
        let Some(port) = above else { return true };
        let node = &self.ports[port];
        self.reaches(node.above, kind, now)
            && self.forwards(node, kind, now)
            && node.link.as_ref().is_none_or(|link| link.carries(kind, now))
    }

    /// Whether the port forwards a TLP from above by its power state. It claims no memory in D3hot.
    fn forwards(&self, node: &PortNode, kind: Lost, now: Instant) -> bool {
        let is_config = matches!(kind, Lost::ConfigRead | Lost::ConfigWrite);
        if !is_config || node.port.is_on() {
            return true;
        }
        let (function, reason) = (node.port.id(), DropReason::Sleeping);
        self.tracer.emit(now, || Event::Dropped { function, what: kind, reason });
        false
    }
}

impl PortNode {
    /// Whether a request to `function` on the secondary bus goes down the link. A link leads to
    /// device 0 only (`PCIe 7.3.1`), unless the port forwards ARI. A switch's own bus has all
    /// devices.
    fn accepts_device(&self, function: Bdf) -> bool {
        self.link.is_none() || function.device() == 0 || self.port.forwards_ari()
    }
}
