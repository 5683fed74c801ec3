//! The whole hierarchy, routed as the guest has programmed it.
//!
//! ```text
//!   bus 0 -+- 00:00.0 host bridge
//!          +- function (integrated: no link)
//!          +- port (root) === link === function
//!          +- port (root) === link === port (upstream) -+- port (downstream) === link === function
//!                                    the switch's own bus +- port (downstream) === link
//! ```
//!
//! The tree is two lists: ports and functions, each of which knows the port above it, and an index
//! of who is below whom, so that nothing is looked for among all of them. Whatever goes down or up
//! follows those from one end to the other, and every link on the way may swallow it. Configuration
//! requests and messages go by bus number, memory requests by the ports' windows and the functions'
//! BARs. Where a guest programs overlaps or loops, the first port takes what matches, and nothing
//! is ever routed twice: such a guest harms only itself. Requests of one function to another's BAR
//! go up to the root complex, as with ACS redirection.

mod build;
mod faults;
mod index;
mod messages;
mod route;
mod uplink;

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use iommu::ats::{InvalidateRequest, PageGroupResponse};
use iommu::event::{Lost, Tracer};
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::header;
use super::host_bridge::{EcamWindow, HostBridge};
use super::port::Port;
use super::{ConfigAccess, Function, Upstream, UpstreamMessage};
use crate::fault::Effect;
use crate::link::Link;
use index::Index;
use messages::Delayed;
use route::Target;
use uplink::Uplink;

/// A host bridge, ports with their links, and functions.
#[derive(Debug)]
pub struct Hierarchy {
    host_bridge: HostBridge,
    ports: Vec<PortNode>,
    functions: Vec<FunctionNode>,
    index: Index,
    messages: VecDeque<UpstreamMessage>,
    /// Invalidate Completions of functions that answer late, by when they go on, and by their
    /// number.
    delayed: BTreeMap<(Instant, u64), Delayed>,
    /// How many have been late.
    late: u64,
    /// The buses that have been reset, by something that the host learns of.
    resets: VecDeque<RangeInclusive<u8>>,
    /// The faults that end by themselves: when, at which port, and what they did.
    returns: Vec<(Instant, usize, Effect)>,
    tracer: Tracer,
}

/// A port in the tree.
#[derive(Debug)]
struct PortNode {
    /// How the user calls it.
    name: String,
    port: Port,
    /// Where it sits on the bus that it is on.
    devfn: u8,
    /// The port whose secondary bus that is, `None` on bus 0.
    above: Option<usize>,
    /// What leads to its secondary bus; an upstream port has none, that bus is inside of the
    /// switch.
    link: Option<Link>,
    /// Secondary Bus Reset as it was last seen.
    in_reset: bool,
    /// The attention button was pressed: the card is pulled out when software says that it may be.
    is_awaited: bool,
}

/// A function in the tree.
#[derive(Debug)]
struct FunctionNode {
    function: Box<dyn Function>,
    devfn: u8,
    above: Option<usize>,
}

impl Hierarchy {
    /// Where software has put ECAM, if it has.
    pub fn ecam(&self) -> Option<EcamWindow> {
        self.host_bridge.ecam()
    }

    /// The device numbers on bus 0 that assert INTA, a bit for each.
    pub fn inta(&self) -> u32 {
        let integrated = self.functions.iter().filter(|node| node.above.is_none());
        let asserting = integrated.filter(|node| node.function.asserts_inta());
        asserting.fold(0, |bits, node| bits | 1 << (node.devfn >> 3))
    }

    /// Reads `data.len()` bytes of configuration space. All ones where there is no function, where
    /// a link is down, and for an access that crosses a double word.
    pub fn config_read(&mut self, function: Bdf, offset: u16, data: &mut [u8], now: Instant) {
        data.fill(0xff);
        let Some(target) = self.route_config(function, Lost::ConfigRead, now) else { return };
        match target {
            Target::HostBridge => self.host_bridge.config().read(offset, data),
            Target::Port(index) => self.ports[index].port.config().read(offset, data),
            Target::Function(index) => {
                let physical = self.functions[index].function.as_ref();
                if let Some(found) = physical.virtual_function(function) {
                    return found.config_read(offset, data);
                }
                physical.config_read(offset, data);
            }
        }
        if self.is_multi_function(target) {
            header::show_multi_function(offset, data);
        }
    }

    /// Writes `data` to configuration space; nothing happens where [`Self::config_read`] gives all
    /// ones.
    pub fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant) {
        match self.route_config(function, Lost::ConfigWrite, now) {
            Some(Target::HostBridge) => self.host_bridge.config_write(offset, data),
            Some(Target::Port(index)) => {
                self.ports[index].port.config_write(function, offset, data);
                self.index.forget_buses();
                self.follow_requests(index, now);
                self.collect_messages_around(index, now);
            }
            Some(Target::Function(index)) => {
                self.functions[index].function.config_write(function, offset, data, now);
                self.collect_messages_of(index, now);
            }
            None => {}
        }
    }

    /// Reads `data.len()` bytes of the PCI memory window; all ones where nothing answers.
    pub fn memory_read(
        &mut self,
        address: u64,
        data: &mut [u8],
        upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        data.fill(0xff);
        if let Some(index) = self.route_memory(address, data.len(), Lost::MemoryRead, now) {
            let (function, mut upstream) = self.function(index, upstream);
            function.memory_read(address, data, &mut upstream, now);
            self.collect_messages(now);
        }
    }

    /// Writes `data` into the PCI memory window. DMA that this starts has been done when it
    /// returns.
    pub fn memory_write(
        &mut self,
        address: u64,
        data: &[u8],
        upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        if let Some(index) = self.route_memory(address, data.len(), Lost::MemoryWrite, now) {
            let (function, mut upstream) = self.function(index, upstream);
            function.memory_write(address, data, &mut upstream, now);
            self.collect_messages(now);
        }
    }

    /// Sends an Invalidate Request down: posted, so that nothing says whether it arrived. The
    /// answer is there after [`Self::collect_messages`].
    pub fn invalidate_request(&mut self, request: InvalidateRequest, now: Instant) {
        let Some(above) = self.bus_owner(request.destination.bus()) else { return };
        let link = above.and_then(|port| self.ports[port].link.as_ref());
        let is_ignored = link.is_some_and(Link::ignores_invalidate);
        if !self.reaches(above, Lost::InvalidateRequest, now) || is_ignored {
            return;
        }
        if let Some(index) = self.function_at(above, request.destination) {
            return self.functions[index].function.invalidate_request(request, now);
        }
        for index in &self.index.below(above).functions {
            self.functions[*index].function.invalidate_request(request, now);
        }
    }

    /// Sends a PRG Response down: posted too.
    pub fn page_group_response(&mut self, response: PageGroupResponse, now: Instant) {
        let lost = Lost::PageGroupResponse;
        for function in self.route_message(response.destination.bus(), lost, now) {
            function.page_group_response(response);
        }
    }

    /// Whether the ATC of the function with index `index` holds something that `request` would
    /// drop.
    pub fn caches(&self, index: usize, request: &InvalidateRequest) -> bool {
        self.functions.get(index).is_some_and(|node| node.function.caches(request))
    }

    /// When [`Self::handle_timeout`] must be called next, `None` if nothing is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let functions = self.functions.iter().filter_map(|node| node.function.poll_timeout());
        functions.chain(self.poll_link_timeout()).min()
    }

    /// As [`Self::poll_timeout`], for a hierarchy whose functions have nothing that repeats: it
    /// does not ask them.
    pub fn poll_link_timeout(&self) -> Option<Instant> {
        let delayed = self.delayed.first_key_value().map(|((due, _), _)| *due);
        Instant::earliest([delayed, self.next_return()])
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, upstream: &mut dyn Upstream, now: Instant) {
        for index in 0..self.functions.len() {
            let (function, mut upstream) = self.function(index, upstream);
            function.handle_timeout(&mut upstream, now);
        }
        self.handle_link_timeout(now);
        self.collect_messages(now);
    }

    /// As [`Self::handle_timeout`], for what [`Self::poll_link_timeout`] asks for.
    pub fn handle_link_timeout(&mut self, now: Instant) {
        self.bring_back(now);
        self.release_delayed(now);
    }

    /// The next message that came up, `None` when there are no more.
    pub fn poll_message(&mut self) -> Option<UpstreamMessage> {
        self.messages.pop_front()
    }

    /// Takes the oldest reset of everything on a range of buses that the host's software learns of:
    /// it has asked for it, or its hot-plug driver was told that the link was down.
    pub fn poll_reset(&mut self) -> Option<RangeInclusive<u8>> {
        self.resets.pop_front()
    }

    /// Lets the function with index `index`, in the order in which they were added, do what
    /// `action` says: on its own account, and whatever its link does.
    pub fn drive<R>(
        &mut self,
        index: usize,
        upstream: &mut dyn Upstream,
        action: impl FnOnce(&mut dyn Function, &mut dyn Upstream) -> R,
    ) -> Option<R> {
        if index >= self.functions.len() {
            return None;
        }
        let (function, mut upstream) = self.function(index, upstream);
        Some(action(function, &mut upstream))
    }

    /// A function and its way up.
    fn function<'a>(
        &'a mut self,
        index: usize,
        upstream: &'a mut dyn Upstream,
    ) -> (&'a mut dyn Function, Uplink<'a>) {
        let Self { ports, functions, .. } = self;
        let node = &mut functions[index];
        (node.function.as_mut(), Uplink { ports, above: node.above, upstream })
    }
}

impl ConfigAccess for Hierarchy {
    fn config_read(&mut self, function: Bdf, offset: u16, data: &mut [u8], now: Instant) {
        self.config_read(function, offset, data, now);
    }

    fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant) {
        self.config_write(function, offset, data, now);
    }
}

#[cfg(test)]
impl Hierarchy {
    /// Gives the function with index `index` a command of 8 bytes at 0, as nobody can through a
    /// link that is down.
    pub(crate) fn command(
        &mut self,
        index: usize,
        command: u32,
        upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        use crate::endpoint::regs;
        let bar = crate::testkit::Machine::bar(index as u8);
        self.drive(index, upstream, |function, upstream| {
            let mut write = |register: u64, data: &[u8]| {
                function.memory_write(bar + register, data, upstream, now);
            };
            write(regs::IOVA, &0_u64.to_le_bytes());
            write(regs::LENGTH, &8_u32.to_le_bytes());
            write(regs::COMMAND, &command.to_le_bytes());
        });
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod index_tests;

#[cfg(test)]
mod mask_tests;

#[cfg(test)]
mod topology_tests;
