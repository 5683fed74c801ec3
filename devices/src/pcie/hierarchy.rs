//! The whole hierarchy, routed as the guest has programmed it.
//!
//! Configuration requests and Invalidate Requests go by bus number, memory requests by the ports'
//! windows and the functions' BARs. Where a guest programs overlaps or loops, the first port takes
//! what matches, and nothing is ever routed twice: such a guest harms only itself.

use std::collections::VecDeque;

use iommu::ats::{InvalidateRequest, PageGroupResponse};
use iommu::event::{LinkState, Tracer};
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::branch::Branch;
use super::host_bridge::{EcamWindow, HostBridge};
use super::{Function, Upstream, UpstreamMessage};
use crate::Error;

/// Root ports that a hierarchy can have.
pub const MAX_PORTS: u8 = 8;

/// A host bridge, root ports with an ATS test endpoint behind each, and functions on bus 0.
#[derive(Debug)]
pub struct Hierarchy {
    host_bridge: HostBridge,
    /// The branch at index n hangs off device n + 1 on bus 0.
    branches: Vec<Branch>,
    functions: Vec<(Bdf, Box<dyn Function>)>,
    messages: VecDeque<UpstreamMessage>,
}

impl Hierarchy {
    /// A hierarchy with `ports` root ports, 1 to [`MAX_PORTS`].
    ///
    /// # Errors
    /// [`Error::PortCount`] if there are too few or too many.
    pub fn new(ports: u8, tracer: Tracer) -> Result<Self, Error> {
        if !(1..=MAX_PORTS).contains(&ports) {
            return Err(Error::PortCount { ports, max: MAX_PORTS });
        }
        let branches = (1..=ports)
            .map(|device| Branch::new(Bdf::new(0, device, 0), device, tracer.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            host_bridge: HostBridge::default(),
            branches,
            functions: Vec::new(),
            messages: VecDeque::new(),
        })
    }

    /// Puts `function` on bus 0, at a device number that nobody has.
    pub fn integrate(&mut self, device: u8, function: Box<dyn Function>) {
        self.functions.push((Bdf::new(0, device, 0), function));
    }

    /// Where software has put ECAM, if it has.
    pub fn ecam(&self) -> Option<EcamWindow> {
        self.host_bridge.ecam()
    }

    /// The device numbers on bus 0 that assert INTA, a bit for each.
    pub fn inta(&self) -> u32 {
        let asserting = self.functions.iter().filter(|(_, function)| function.asserts_inta());
        asserting.fold(0, |bits, (id, _)| bits | 1 << id.device())
    }

    /// Reads `data.len()` bytes of configuration space. All ones where there is no function, where
    /// a link is down, and for an access that crosses a double word.
    pub fn config_read(&mut self, function: Bdf, offset: u16, data: &mut [u8], now: Instant) {
        data.fill(0xff);
        match self.route_config(function) {
            Some(Target::HostBridge(bridge)) => bridge.config().read(offset, data),
            Some(Target::Integrated(integrated)) => integrated.config_read(offset, data),
            Some(Target::Port(branch)) => branch.port().config().read(offset, data),
            Some(Target::Below(branch)) => branch.config_read(function, offset, data, now),
            None => {}
        }
    }

    /// Writes `data` to configuration space; nothing happens where [`Self::config_read`] gives all
    /// ones.
    pub fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant) {
        match self.route_config(function) {
            Some(Target::HostBridge(bridge)) => bridge.config_write(offset, data),
            Some(Target::Integrated(integrated)) => {
                integrated.config_write(function, offset, data);
            }
            Some(Target::Port(branch)) => branch.port_mut().config_write(offset, data),
            Some(Target::Below(branch)) => branch.config_write(function, offset, data, now),
            None => {}
        }
        self.collect_messages(now);
    }

    /// Reads `data.len()` bytes of the PCI memory window; all ones where nothing answers.
    pub fn memory_read(&mut self, address: u64, data: &mut [u8], now: Instant) {
        data.fill(0xff);
        if let Some(branch) = self.route_memory(address, data.len()) {
            branch.memory_read(address, data, now);
        } else if let Some(function) = self.claimant(address, data.len()) {
            function.memory_read(address, data);
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
        if let Some(branch) = self.route_memory(address, data.len()) {
            branch.memory_write(address, data, upstream, now);
        } else if let Some(function) = self.claimant(address, data.len()) {
            function.memory_write(address, data, now);
        }
        self.collect_messages(now);
    }

    /// Sends an Invalidate Request down: posted, so that nothing says whether it arrived.
    pub fn invalidate_request(&mut self, request: InvalidateRequest, now: Instant) {
        let bus = request.destination.bus();
        if let Some(branch) = self.branches.iter_mut().find(|branch| branch.port().owns_bus(bus)) {
            branch.invalidate_request(request, now);
        }
        self.collect_messages(now);
    }

    /// Sends a PRG Response down: posted too.
    pub fn page_group_response(&mut self, response: PageGroupResponse, now: Instant) {
        let bus = response.destination.bus();
        if let Some(branch) = self.branches.iter_mut().find(|branch| branch.port().owns_bus(bus)) {
            branch.page_group_response(response, now);
        }
    }

    /// Changes what the link below the port with index `port` does. There is nothing to change
    /// below a port that does not exist.
    pub fn set_link(&mut self, port: usize, state: LinkState, now: Instant) {
        if let Some(branch) = self.branches.get_mut(port) {
            branch.set_link(state, now);
        }
    }

    /// When [`Self::handle_timeout`] must be called next, `None` if nothing is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let functions = self.functions.iter().filter_map(|(_, function)| function.poll_timeout());
        self.branches.iter().filter_map(Branch::poll_timeout).chain(functions).min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, upstream: &mut dyn Upstream, now: Instant) {
        for branch in &mut self.branches {
            branch.handle_timeout(upstream, now);
        }
        for (_, function) in &mut self.functions {
            function.handle_timeout(upstream, now);
        }
        self.collect_messages(now);
    }

    /// The next message that came up a link, `None` when there are no more.
    pub fn poll_message(&mut self) -> Option<UpstreamMessage> {
        self.messages.pop_front()
    }

    fn collect_messages(&mut self, now: Instant) {
        for branch in &mut self.branches {
            branch.collect_messages(&mut self.messages, now);
        }
        for (_, function) in &mut self.functions {
            self.messages.extend(std::iter::from_fn(|| function.poll_message()));
        }
    }

    fn route_config(&mut self, function: Bdf) -> Option<Target<'_>> {
        if function.bus() != 0 {
            let owner =
                self.branches.iter_mut().find(|branch| branch.port().owns_bus(function.bus()));
            return owner.map(Target::Below);
        }
        if function == Bdf::new(0, 0, 0) {
            return Some(Target::HostBridge(&mut self.host_bridge));
        }
        if let Some((_, integrated)) = self.functions.iter_mut().find(|(id, _)| *id == function) {
            return Some(Target::Integrated(integrated.as_mut()));
        }
        let port = self.branches.iter_mut().find(|branch| branch.port().id() == function);
        port.map(Target::Port)
    }

    fn route_memory(&mut self, address: u64, length: usize) -> Option<&mut Branch> {
        self.branches.iter_mut().find(|branch| branch.port().owns_memory(address, length))
    }

    /// The function on bus 0 with a BAR at `address`.
    fn claimant(&mut self, address: u64, length: usize) -> Option<&mut dyn Function> {
        let mut functions = self.functions.iter_mut();
        let (_, function) = functions.find(|(_, function)| function.claims(address, length))?;
        Some(function.as_mut())
    }
}

/// Where a configuration request goes.
enum Target<'a> {
    HostBridge(&'a mut HostBridge),
    Integrated(&'a mut dyn Function),
    Port(&'a mut Branch),
    Below(&'a mut Branch),
}

#[cfg(test)]
mod tests;
