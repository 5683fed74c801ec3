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
//! The tree is two lists, ports and functions. Each node knows the port above it, and an index has
//! the nodes below each port. A request passes each link between the root complex and the function,
//! and is lost at the first one that is down.
//!
//! Configuration requests and messages are routed by bus number, memory requests by the windows of
//! ports and the BARs of functions. If the guest programs overlaps or loops, the first port that
//! matches takes the request, and no request is routed twice. Requests of one function to another's
//! BAR go to the root complex, as with ACS redirection.

mod build;
mod faults;
mod index;
mod messages;
mod readiness;
mod route;
mod uplink;

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use iommu::ats::{InvalidateRequest, PageGroupResponse, Translation};
use iommu::event::{Lost, Tracer};
use iommu::ids::{Bdf, Iova, Pasid};
use iommu::time::Instant;

use super::header;
use super::host_bridge::{EcamWindow, HostBridge};
use super::port::Port;
use super::{ConfigAccess, Function, Upstream, UpstreamMessage};
use crate::fault::Effect;
use crate::pcie::link::{InvalidateBehavior, Link, Obeys, PendingInvalidations};
use crate::pcie::readiness::Readiness;
use index::Index;
use messages::{Delayed, Owed};
use readiness::Recovery;
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
    /// Invalidate Completions that a fault delays, by the time at which they go on and by their
    /// number.
    delayed: BTreeMap<(Instant, u64), Delayed>,
    /// Invalidate Completions that were delayed so far.
    late: u64,
    /// Buses that have been reset in a way that the host's software sees.
    resets: VecDeque<RangeInclusive<u8>>,
    /// Invalidations that a fault has put off until the next one.
    pending: PendingInvalidations,
    /// When ATCs obey.
    obeys: Obeys,
    /// Invalidate Requests whose completion is yet to be collected, and that their ATCs obey then.
    owed: VecDeque<Owed>,
    /// Functions that are not ready.
    recoveries: Vec<Recovery>,
    /// The faults that end by themselves: when, at which port, and what they did.
    returns: Vec<(Instant, usize, Effect)>,
    /// A port that has contained an error of a request from below, and whose link is still to go down.
    contained: Option<usize>,
    /// Ports that have sent a hot-plug interrupt.
    hot_plug: VecDeque<usize>,
    tracer: Tracer,
}

/// A port in the tree.
#[derive(Debug)]
struct PortNode {
    /// Its name in the topology.
    name: String,
    port: Port,
    /// Its device and function number on its bus.
    devfn: u8,
    /// The port above, `None` on bus 0.
    above: Option<usize>,
    /// The link to its secondary bus. An upstream port has none: that bus is inside of the switch.
    link: Option<Link>,
    /// Secondary Bus Reset, after the last configuration write.
    in_reset: bool,
    /// The attention button was pressed. The card is removed when software has powered the slot
    /// off.
    is_removal_pending: bool,
}

/// A function in the tree.
#[derive(Debug)]
struct FunctionNode {
    function: Box<dyn Function>,
    devfn: u8,
    above: Option<usize>,
    /// How long it takes to become ready.
    readiness: Readiness,
    /// A fault lets it take this long to become ready after a reset.
    slow_reset: Option<Duration>,
}

impl Hierarchy {
    /// The ECAM window, if software has enabled it.
    pub fn ecam(&self) -> Option<EcamWindow> {
        self.host_bridge.ecam()
    }

    /// The devices on bus 0 that assert INTA, by bits of their device numbers.
    pub fn inta(&self) -> u32 {
        let integrated = self.functions.iter().filter(|node| node.above.is_none());
        let asserting = integrated.filter(|node| node.function.asserts_inta());
        asserting.fold(0, |bits, node| bits | 1 << (node.devfn >> 3))
    }

    /// Reads `data.len()` bytes of configuration space. Reads all ones if no function answers, if a
    /// link is down, and if the access crosses a double word.
    pub fn config_read(&mut self, function: Bdf, offset: u16, data: &mut [u8], now: Instant) {
        data.fill(0xff);
        self.end_recoveries(now);
        let Some(target) = self.route_config(function, Lost::ConfigRead, now) else { return };
        match target {
            Target::HostBridge => self.host_bridge.config().read(offset, data),
            Target::Port(index) => self.ports[index].port.config().read(offset, data),
            Target::Function(index) if self.recovers(index, function) => {
                self.drop_config(function, Lost::ConfigRead, now);
                return self.read_not_ready(index, offset, data);
            }
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

    /// Writes `data` to configuration space. The write is ignored where [`Self::config_read`] reads
    /// all ones.
    pub fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant) {
        self.end_recoveries(now);
        match self.route_config(function, Lost::ConfigWrite, now) {
            Some(Target::HostBridge) => self.host_bridge.config_write(offset, data),
            Some(Target::Port(index)) => {
                self.ports[index].port.config_write(function, offset, data);
                self.index.forget_buses();
                self.apply_commands(index, now);
                self.collect_messages_around(index, now);
            }
            Some(Target::Function(index)) if self.recovers(index, function) => {
                self.drop_config(function, Lost::ConfigWrite, now);
            }
            Some(Target::Function(index)) => {
                self.write_function(index, function, offset, data, now);
                self.collect_messages_of(index, now);
            }
            None => {}
        }
    }

    /// Reads `data.len()` bytes of the PCI memory window, all ones where no function answers.
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
            self.contain(now);
            self.collect_messages(now);
        }
    }

    /// Writes `data` into the PCI memory window. DMA that the write starts is done when the call
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
            self.contain(now);
            self.collect_messages(now);
        }
    }

    /// Says when ATCs drop what an Invalidate Request names.
    pub fn set_obeys(&mut self, obeys: Obeys) {
        self.obeys = obeys;
    }

    /// Sends an Invalidate Request, which is posted. The completion is available after
    /// [`Self::collect_messages`], which is to follow.
    pub fn invalidate_request(&mut self, request: InvalidateRequest, now: Instant) {
        self.end_recoveries(now);
        let function = request.destination;
        let Some(above) = self.bus_owner(function.bus()) else { return };
        if !self.reaches(above, Lost::InvalidateRequest, now) {
            return;
        }
        let behavior = self.invalidate_behavior(above);
        if behavior == InvalidateBehavior::Ignore {
            return;
        }
        if let Some(index) = self.function_or_physical(above, function)
            && self.is_awake(index, function, Lost::InvalidateRequest, now)
            && self.is_below_limit(index, function, now)
        {
            let dropped = behavior.dropped(request, &mut self.pending);
            let function = &mut self.functions[index].function;
            let answers = function.invalidate_request(request);
            let is_later = self.obeys == Obeys::AtAnswer && !behavior.lies();
            match is_later && answers {
                true => self.owed.push_back(Owed { request, dropped }),
                false => function.obey(request, dropped, now),
            }
        }
    }

    /// Sends a PRG Response, which is posted.
    pub fn page_group_response(&mut self, response: PageGroupResponse, now: Instant) {
        let lost = Lost::PageGroupResponse;
        for function in self.route_message(response.destination.bus(), lost, now) {
            function.page_group_response(response);
        }
    }

    /// Whether the ATC of the function with index `index` holds an entry that `request` would drop.
    pub fn caches(&self, index: usize, request: &InvalidateRequest) -> bool {
        self.functions.get(index).is_some_and(|node| node.function.caches(request))
    }

    /// The translation of `address` that the ATC of the function with index `index` holds in the
    /// address space of `pasid`.
    pub fn cached(&self, index: usize, pasid: Option<Pasid>, address: Iova) -> Option<Translation> {
        self.functions.get(index)?.function.cached(pasid, address)
    }

    /// When [`Self::handle_timeout`] must be called next, `None` if nothing is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let functions = self.functions.iter().filter_map(|node| node.function.poll_timeout());
        functions.chain(self.poll_link_timeout()).min()
    }

    /// As [`Self::poll_timeout`], without the timers of functions.
    pub fn poll_link_timeout(&self) -> Option<Instant> {
        let delayed = self.delayed.first_key_value().map(|((due, _), _)| *due);
        Instant::earliest([delayed, self.next_restore(), self.next_recovery()])
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, upstream: &mut dyn Upstream, now: Instant) {
        for index in 0..self.functions.len() {
            let (function, mut upstream) = self.function(index, upstream);
            function.handle_timeout(&mut upstream, now);
        }
        self.contain(now);
        self.handle_link_timeout(now);
        self.collect_messages(now);
    }

    /// As [`Self::handle_timeout`], without the timers of functions.
    pub fn handle_link_timeout(&mut self, now: Instant) {
        self.end_recoveries(now);
        self.restore_links(now);
        self.release_delayed(now);
    }

    /// The next message from below, `None` if there is no more.
    pub fn poll_message(&mut self) -> Option<UpstreamMessage> {
        self.messages.pop_front()
    }

    /// The next range of buses that has been reset in a way that the host's software sees: it
    /// initiated the reset, or a hot-plug event reported that the link was down.
    pub fn poll_reset(&mut self) -> Option<RangeInclusive<u8>> {
        self.resets.pop_front()
    }

    /// Runs `action` on the function with index `index`, in the order of [`Self::add_function`],
    /// whether its link is up or not. Requests that it makes pass the link.
    pub fn drive<R>(
        &mut self,
        index: usize,
        upstream: &mut dyn Upstream,
        now: Instant,
        action: impl FnOnce(&mut dyn Function, &mut dyn Upstream) -> R,
    ) -> Option<R> {
        if index >= self.functions.len() {
            return None;
        }
        let (function, mut upstream) = self.function(index, upstream);
        let result = action(function, &mut upstream);
        self.contain(now);
        Some(result)
    }

    /// A function, and the path of its requests.
    fn function<'a>(
        &'a mut self,
        index: usize,
        upstream: &'a mut dyn Upstream,
    ) -> (&'a mut dyn Function, Uplink<'a>) {
        let Self { ports, functions, contained, .. } = self;
        let node = &mut functions[index];
        (node.function.as_mut(), Uplink { ports, above: node.above, contained, upstream })
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
    /// Gives the function with index `index` a command of 8 bytes at 0, which also works while its
    /// link is down.
    pub(crate) fn command(
        &mut self,
        index: usize,
        command: u32,
        upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        use crate::endpoint::regs;
        let bar = crate::testkit::Machine::bar(index as u8);
        self.drive(index, upstream, now, |function, upstream| {
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
mod power_tests;

#[cfg(test)]
mod readiness_tests;

#[cfg(test)]
mod topology_tests;
