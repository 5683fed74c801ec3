//! The host side's access to functions, past the guest: it reads their vendor IDs, resets them, and
//! notices when they are reset, which ends a quarantine.
//!
//! ```text
//!   configuration write: Initiate FLR                           -\
//!   bus reset, slot power, Link Disable, DPC, a card pulled out -+-> HostSide::handle_reset
//!   a link that came back unnoticed by its port -----------------> nothing: the quarantine stays
//! ```

use std::ops::RangeInclusive;

use iommu::ids::Bdf;
use iommu::submit::{FunctionAccess, HostSide, PortFence};
use iommu::time::Instant;

use super::{Downstream, HostLayer, fences};
use crate::pcie::spec::ats;
use crate::pcie::spec::header::{self, Command};
use crate::pcie::{ConfigClient, Hierarchy};

/// The host's drivers: their knowledge of functions beyond the hierarchy's answers, and their setup
/// of a function after a reset.
pub trait Drivers {
    /// The answer to a read of the vendor ID of `function`.
    fn is_present(&mut self, hierarchy: &mut Hierarchy, function: Bdf, now: Instant) -> bool {
        hierarchy.is_present(function, now)
    }

    /// Whether the hot-plug driver has marked `function` as disconnected.
    fn is_disconnected(&self, function: Bdf) -> bool;

    /// The host has initiated an FLR of `function`: its driver may set it up again.
    fn set_up(&mut self, _hierarchy: &mut Hierarchy, _function: Bdf, _now: Instant) {}

    /// The host had blocked `function` in the unit for its FLR, and does so no more.
    fn end_reset(&mut self, _hierarchy: &mut Hierarchy, _function: Bdf, _now: Instant) {}

    /// The host has turned ATS off in `function` for good: its driver does not turn it on again.
    /// `has_arrived`: the function has got the write.
    fn ats_disabled(&mut self, _function: Bdf, _has_arrived: bool) {}
}

/// The host's access to functions.
#[derive(Debug)]
pub struct Functions<'a, D> {
    pub(super) hierarchy: &'a mut Hierarchy,
    pub(super) drivers: &'a mut D,
    pub(super) now: Instant,
}

impl<D: Drivers> Functions<'_, D> {
    fn client(&mut self, function: Bdf) -> ConfigClient<'_, Hierarchy> {
        ConfigClient::new(self.hierarchy, function, self.now)
    }
}

impl<D: Drivers> FunctionAccess for Functions<'_, D> {
    fn is_present(&mut self, function: Bdf) -> bool {
        self.drivers.is_present(self.hierarchy, function, self.now)
    }

    fn is_disconnected(&self, function: Bdf) -> bool {
        self.drivers.is_disconnected(function)
    }

    fn reset(&mut self, function: Bdf, now: Instant) {
        self.client(function).initiate_flr();
        self.drivers.set_up(self.hierarchy, function, now);
    }

    fn disable_ats(&mut self, function: Bdf, _now: Instant) {
        let mut client = self.client(function);
        let at = client.extended_capability(ats::ID);
        if let Some(at) = at {
            client.disable_ats(at);
        }
        self.drivers.ats_disabled(function, at.is_some());
    }

    fn begin_recovery(&mut self, function: Bdf, _now: Instant) {
        let mut client = self.client(function);
        let command = client.read::<Command>(header::COMMAND);
        client.set_command(command.with_bus_master(false));
        if let Some(at) = client.extended_capability(ats::ID) {
            client.disable_ats(at);
        }
        client.initiate_flr();
    }

    fn end_recovery(&mut self, function: Bdf, now: Instant) {
        self.drivers.set_up(self.hierarchy, function, now);
    }

    fn end_reset(&mut self, function: Bdf, now: Instant) {
        self.drivers.end_reset(self.hierarchy, function, now);
    }

    fn fence_port(
        &mut self,
        function: Bdf,
        fence: PortFence,
        now: Instant,
    ) -> Option<RangeInclusive<u8>> {
        fences::set_up(self.hierarchy, function, fence, now)
    }

    fn unfence_port(&mut self, function: Bdf, fence: PortFence, now: Instant) {
        fences::end(self.hierarchy, function, fence, now);
    }
}

impl<H: HostLayer, D: Drivers> Downstream<H, D> {
    /// A configuration write from above. If it initiates an FLR of a function in quarantine, that
    /// ends the quarantine.
    pub fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant) {
        let is_reset =
            self.host.side().is_some_and(|host| host.awaiting_reset().any(|of| of == function))
                && self.functions(now).client(function).initiates_flr(offset, data);
        self.hierarchy.config_write(function, offset, data, now);
        if is_reset {
            self.handle_reset(function, now);
        }
    }

    /// A driver of the host resets a function.
    pub fn reset(&mut self, function: Bdf, now: Instant) {
        self.functions(now).reset(function, now);
        self.handle_reset(function, now);
    }

    /// A driver of the host has reset a function for which it has submitted
    /// [`iommu::submit::Flush::before_reset`].
    pub fn finish_reset(&mut self, function: Bdf, now: Instant) {
        if let Some((host, mut functions)) = self.host(now) {
            host.finish_reset(function, &mut functions, now);
        }
    }

    fn functions(&mut self, now: Instant) -> Functions<'_, D> {
        let Self { hierarchy, drivers, .. } = self;
        Functions { hierarchy, drivers, now }
    }

    /// Tells the host of resets of whole buses. Returns whether there were any.
    pub fn forward_resets(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(buses) = self.hierarchy.poll_reset() {
            any = true;
            let held: Vec<Bdf> =
                self.host.side().into_iter().flat_map(HostSide::awaiting_reset).collect();
            for function in held.into_iter().filter(|function| buses.contains(&function.bus())) {
                self.handle_reset(function, now);
            }
        }
        any
    }

    /// The host learns of a reset.
    fn handle_reset(&mut self, function: Bdf, now: Instant) {
        if let Some((host, mut functions)) = self.host(now) {
            host.handle_reset(function, &mut functions, now);
        }
    }
}
