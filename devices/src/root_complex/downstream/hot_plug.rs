//! The host's hot-plug driver: what it knows of functions, and when it learns that.
//!
//! ```text
//!   event, enabled in Slot Control --interrupt--> after `delay` the handler reads Link and Slot Status:
//!                                                 no link or no card: everything below is disconnected
//! ```
//!
//! A slot that is not hot-plug capable reports nothing, and neither does one whose events or interrupt
//! are disabled (`PCIe 6.7.3.4`): the driver does not learn of a link that goes down then.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use iommu::ids::Bdf;
use iommu::time::Instant;

use super::{Downstream, Drivers, HostLayer};
use crate::pcie::Hierarchy;

/// The hot-plug driver of a host below a guest. The guest sets up its functions itself.
#[derive(Debug)]
pub struct HotPlugDriver {
    delay: Duration,
    /// When the handler of the interrupt of each of these ports runs.
    interrupts: VecDeque<(Instant, usize)>,
    /// Ports without a card or a link, with the buses below.
    disconnected: Vec<(usize, RangeInclusive<u8>)>,
}

impl HotPlugDriver {
    /// A driver whose handler runs `delay` after a port's interrupt.
    pub fn new(delay: Duration) -> Self {
        Self { delay, interrupts: VecDeque::new(), disconnected: Vec::new() }
    }

    /// When the next handler runs.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.interrupts.front().map(|(at, _)| *at)
    }

    /// The port with index `port` has sent an interrupt.
    fn interrupt(&mut self, port: usize, now: Instant) {
        if self.interrupts.iter().all(|(_, other)| *other != port) {
            self.interrupts.push_back((now + self.delay, port));
        }
    }

    /// Runs the handlers that are due.
    fn run(&mut self, hierarchy: &Hierarchy, now: Instant) {
        while let Some((_, port)) = self.interrupts.pop_front_if(|(at, _)| *at <= now) {
            self.disconnected.retain(|(other, _)| *other != port);
            if let Some(buses) = hierarchy.disconnected_buses(port) {
                self.disconnected.push((port, buses));
            }
        }
    }
}

impl Drivers for HotPlugDriver {
    fn is_disconnected(&self, function: Bdf) -> bool {
        self.disconnected.iter().any(|(_, buses)| buses.contains(&function.bus()))
    }
}

impl<H: HostLayer> Downstream<H, HotPlugDriver> {
    /// Hands interrupts of ports to the host's hot-plug driver, and runs its handlers that are due.
    pub fn run_hot_plug(&mut self, now: Instant) {
        let Self { host, hierarchy, drivers, .. } = self;
        while let Some(port) = hierarchy.poll_hot_plug() {
            if host.side().is_some() {
                drivers.interrupt(port, now);
            }
        }
        drivers.run(hierarchy, now);
    }
}
