//! The effects of faults, and of software's commands to ports, on the links of the tree.
//!
//! A link is down while there is a reason for it ([`LinkDownReasons`]). The port above sees most
//! reasons, latches events and interrupts. When the last reason is gone the link trains anew, and
//! everything below is reset (`PCIe 6.6.1`).

use std::ops::RangeInclusive;
use std::time::Duration;

use iommu::event::Lost;
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::route::Target;
use super::{Hierarchy, PortNode};
use crate::fault::{Effect, PortEffect};
use crate::pcie::caps::express::SlotEvent;
use crate::pcie::caps::power::PowerState;
use crate::pcie::link::{Link, LinkDownReasons};
use crate::pcie::port::ErrorOutcome;
use crate::pcie::reset::Reset;
use crate::pcie::spec::aer::Uncorrectable;

impl Hierarchy {
    /// Injects a fault at the port with index `port`. A port that does not exist or has no link
    /// ignores it.
    pub fn inject(&mut self, port: usize, effect: Effect, now: Instant) {
        let Some(down) = self.down(port) else { return };
        if !effect.link.is_up() {
            self.set_down(port, down.and(effect.link), now);
        }
        if let Some(lasts) = effect.lasts {
            self.returns.push((now + lasts, port, effect));
        }
        match effect.port {
            Some(PortEffect::DisableLink) => {
                self.ports[port].port.set_link_disable(true);
                self.apply_commands(port, now);
            }
            Some(PortEffect::PullCard) => self.set_card(port, false, now),
            Some(PortEffect::PressButton) => {
                let node = &mut self.ports[port];
                node.is_removal_pending = node.port.press_button();
            }
            Some(PortEffect::Detect(error)) => self.detect(port, error, now),
            None => {}
        }
        if effect.is_about_answers() {
            self.set_answers(port, effect);
        }
        if effect.sleep {
            self.set_power_below(port, PowerState::D3hot, now);
        }
        if effect.reset.is_some() {
            self.set_slow_reset(port, effect.reset);
        }
        self.collect_messages(now);
    }

    /// Ends a fault at the port with index `port`: the cable or the card is back, Link Disable is
    /// cleared, Invalidate Requests are answered again. Only software ends a containment.
    pub fn lift(&mut self, port: usize, effect: Effect, now: Instant) {
        let Some(down) = self.down(port) else { return };
        if effect.lasts.is_some() {
            self.returns.retain(|(_, at, fault)| (*at, *fault) != (port, effect));
        }
        if !effect.link.is_up() {
            self.set_down(port, down.without(effect.link), now);
        }
        match effect.port {
            Some(PortEffect::DisableLink) => {
                self.ports[port].port.set_link_disable(false);
                self.apply_commands(port, now);
            }
            Some(PortEffect::PullCard | PortEffect::PressButton) => {
                self.ports[port].is_removal_pending = false;
                self.set_card(port, true, now);
            }
            Some(PortEffect::Detect(_)) | None => {}
        }
        if effect.is_about_answers() {
            self.set_answers(port, Effect::default());
        }
        if effect.sleep {
            self.set_power_below(port, PowerState::D0, now);
        }
        if effect.reset.is_some() {
            self.set_slow_reset(port, None);
        }
        self.collect_messages(now);
    }

    /// Takes the next port, by its index, that has sent a hot-plug interrupt.
    pub fn poll_hot_plug(&mut self) -> Option<usize> {
        self.hot_plug.pop_front()
    }

    /// The buses below the port with index `port`, if its Slot Status or its Link Status shows that
    /// there is no card or no link.
    pub fn disconnected_buses(&self, port: usize) -> Option<RangeInclusive<u8>> {
        let port = &self.ports.get(port)?.port;
        (!port.shows_card()).then(|| port.buses())
    }

    /// The port with index `port` latches `event`. If it interrupts, that is noted.
    fn latch(&mut self, port: usize, event: SlotEvent) {
        let interrupts = self.ports[port].port.latch(event);
        if interrupts && !self.hot_plug.contains(&port) {
            self.hot_plug.push_back(port);
        }
    }

    /// Whether the link below a port is up.
    pub fn is_link_up(&self, port: usize) -> bool {
        self.down(port).is_some_and(LinkDownReasons::is_up)
    }

    /// Whether `function` answers a configuration read. For a virtual function, whose Vendor ID
    /// reads all ones, that is a read of its physical function's.
    /// A function that is not ready does not answer.
    pub fn is_present(&mut self, function: Bdf, now: Instant) -> bool {
        self.end_recoveries(now);
        match self.route_config(function, Lost::ConfigRead, now) {
            Some(Target::Function(index)) => !self.recovers(index, function),
            target => target.is_some(),
        }
    }

    /// DMA requests that have passed the link below a port.
    pub fn dma_count(&self, port: usize) -> u64 {
        let link = self.ports.get(port).and_then(|node| node.link.as_ref());
        link.map_or(0, Link::dma_count)
    }

    /// These faults happen to a port, each after that many DMA requests. The first of them that
    /// cuts the link at once loses what comes behind it, even before [`Self::inject`] is called.
    pub fn stop_dma(&mut self, port: usize, stops: impl Iterator<Item = (u64, Effect)>) {
        let Some(PortNode { port, link: Some(link), .. }) = self.ports.get_mut(port) else {
            return;
        };
        let cuts = stops.filter(|(_, effect)| effect.cuts_at_once(|error| port.contains(error)));
        link.limit_dma(cuts.map(|(count, _)| count).min().unwrap_or(u64::MAX));
    }

    /// Carries out what software has written to the configuration space of a port.
    pub(super) fn apply_commands(&mut self, port: usize, now: Instant) {
        let node = &mut self.ports[port];
        let in_reset = node.port.secondary_bus_reset();
        let was_in_reset = std::mem::replace(&mut node.in_reset, in_reset);
        if node.is_removal_pending && node.port.may_be_removed() {
            node.is_removal_pending = false;
            self.set_card(port, false, now);
        }
        if let Some(down) = self.down(port) {
            let down = self.ports[port].port.add_commanded_reasons(down);
            self.set_down(port, down, now);
        } else if was_in_reset && !in_reset {
            self.resets.push_back(self.ports[port].port.buses());
            self.reset_below(port, Reset::Hot, now);
        }
    }

    /// Takes down the link below a port that has contained an error of a request.
    #[inline]
    pub(super) fn contain(&mut self, now: Instant) {
        if let Some(port) = self.contained.take() {
            self.apply_commands(port, now);
        }
    }

    /// When the next link comes back by itself.
    pub(super) fn next_restore(&self) -> Option<Instant> {
        self.returns.iter().map(|(due, ..)| *due).min()
    }

    /// Brings back the links whose fault has ended by now.
    pub(super) fn restore_links(&mut self, now: Instant) {
        while let Some(at) = self.returns.iter().position(|(due, ..)| *due <= now) {
            let (_, port, effect) = self.returns.swap_remove(at);
            self.lift(port, effect, now);
        }
    }

    fn down(&self, port: usize) -> Option<LinkDownReasons> {
        Some(self.ports.get(port)?.link.as_ref()?.down())
    }

    fn set_answers(&mut self, port: usize, effect: Effect) {
        if let Some(link) = &mut self.ports[port].link {
            link.set_answers(effect.invalidate, effect.completion);
        }
    }

    /// Puts the functions below a port into `state`, by the register that software has for it.
    fn set_power_below(&mut self, port: usize, state: PowerState, now: Instant) {
        for index in 0..self.functions.len() {
            if !self.is_below(self.functions[index].above, port) {
                continue;
            }
            let core = self.functions[index].function.core();
            let id = core.id;
            if let Some((offset, control)) = core.power_control(state) {
                self.write_function(index, id, offset, &control, now);
            }
        }
    }

    /// Sets how long the functions below a port take to become ready after a reset, instead of their
    /// own time.
    fn set_slow_reset(&mut self, port: usize, time: Option<Duration>) {
        for index in 0..self.functions.len() {
            if self.is_below(self.functions[index].above, port) {
                self.functions[index].slow_reset = time;
            }
        }
    }

    /// Removes or inserts the card below a port.
    fn set_card(&mut self, port: usize, present: bool, now: Instant) {
        let Some(down) = self.down(port) else { return };
        if down.absent() == present {
            self.ports[port].port.set_presence(present);
            self.latch(port, SlotEvent::PresenceDetectChanged);
            self.set_down(port, down.with_absent(!present), now);
        }
    }

    /// The port has detected an error: it contains it, reports it to the root port, or only logs
    /// it.
    fn detect(&mut self, port: usize, error: Uncorrectable, now: Instant) {
        match self.ports[port].port.detect(error) {
            ErrorOutcome::Logged => {}
            ErrorOutcome::Contained => self.apply_commands(port, now),
            ErrorOutcome::Reported { fatal } => {
                let source = self.ports[port].port.id();
                let mut root = port;
                while let Some(above) = self.ports[root].above {
                    let link = self.ports[above].link.as_ref();
                    if link.is_some_and(|link| !link.down().is_up()) {
                        return;
                    }
                    root = above;
                }
                self.ports[root].port.receive_error(source, fatal);
            }
        }
    }

    /// Changes why a link is down, with everything that follows from it. A change that comes of a
    /// fault alone shows in Link Status, but latches nothing.
    fn set_down(&mut self, port: usize, down: LinkDownReasons, now: Instant) {
        let node = &mut self.ports[port];
        let Some(link) = &mut node.link else { return };
        let before = link.down();
        let reset = link.set_down(down, node.port.id(), now);
        if before.looks_up() != down.looks_up() {
            node.port.set_link_active(down.looks_up());
            if before.noticed() != down.noticed() {
                self.latch(port, SlotEvent::DataLinkLayerChanged);
            }
        }
        if let Some(reset) = reset {
            // Those are the resets that the host learns of.
            if !before.noticed().is_up() {
                self.resets.push_back(self.ports[port].port.buses());
            }
            self.reset_below(port, reset, now);
        }
    }

    /// Resets all ports and functions below a port, and what software had commanded the ports to
    /// do.
    fn reset_below(&mut self, port: usize, reset: Reset, now: Instant) {
        self.index.forget_buses();
        for index in 0..self.ports.len() {
            if self.is_below(self.ports[index].above, port) {
                let node = &mut self.ports[index];
                node.port.reset(reset);
                (node.in_reset, node.is_removal_pending) = (false, false);
                if let Some(link) = &mut node.link {
                    // The nodes below are reset by `reset` anyway.
                    let down = node.port.add_commanded_reasons(link.down());
                    let _ = link.set_down(down, node.port.id(), now);
                    node.port.set_link_active(down.looks_up());
                    node.port.set_presence(!down.absent());
                }
            }
        }
        for index in 0..self.functions.len() {
            if self.is_below(self.functions[index].above, port) {
                self.functions[index].function.reset(reset, now);
            }
        }
        let Self { ports, delayed, .. } = self;
        delayed.retain(|_, held| !is_below(ports, held.above, port));
    }

    fn is_below(&self, above: Option<usize>, port: usize) -> bool {
        is_below(&self.ports, above, port)
    }
}

/// Whether the bus below `above` is also below `port`.
fn is_below(ports: &[PortNode], mut above: Option<usize>, port: usize) -> bool {
    while let Some(index) = above {
        if index == port {
            return true;
        }
        above = ports[index].above;
    }
    false
}

#[cfg(test)]
mod tests;
