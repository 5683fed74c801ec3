//! The root complex: everything between the guest's CPUs and memory on one side and the links on
//! the other.
//!
//! ```text
//!        CPU: configuration, memory window, unit registers          interrupts
//!   ---------|------------------|---------------|----------------------^------------
//!            v                  v               v                      |
//!        +-----------------------------+   +---------+  Msi            |
//!        | Hierarchy: ports, links,    |   | guest's |-----------------+
//!        | endpoints                   |   | unit    |  Invalidate
//!        |            DMA, translation ----> tables  |----------> HostSide: policy, physical unit
//!        |                             |   +---------+                 |      ^
//!        |       Invalidate Request <------------------- request ------+      |
//!        |       Invalidate Completion --------------------- completion ------+
//!        +-----------------------------+                                verdict -> guest's unit
//! ```
//!
//! This is [`Host::Forwarded`]: the guest's VMM has a host below it. With [`Host::Direct`] there is
//! none, as on bare metal: the Invalidate Requests of the guest's unit go to the links, and the
//! Invalidate Completions come back to it.
//!
//! Page Requests go to the guest's unit as DMA does, and its PRG Responses back down.
//!
//! After each call everything that can happen at that moment has happened; what the CPUs must be
//! told waits in [`RootComplex::poll_interrupt`].

mod config;
pub mod downstream;
mod faults;
mod units;
mod upstream;

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use iommu::Memory;
use iommu::ats::{InvalidateCompletion, InvalidateRequest, Msi};
use iommu::event::{Tracer, UnitRole};
use iommu::ids::Bdf;
use iommu::submit::HostSide;
use iommu::time::Instant;
use iommu::unit::{Output, StickyRegisters, Unit};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use crate::Error;
use crate::chipset::map::Range;
use crate::pcie::host_bridge::EcamWindow;
use crate::pcie::{ConfigAccess, Hierarchy, UpstreamMessage};
use crate::stale::StaleCounts;
use crate::topology::Media;
pub use config::{Host, RootComplexConfig, SegmentConfig};
use downstream::{Downstream, HotPlugDriver};
use units::{GuestUnit, Units};
use upstream::ToMemory;

/// The requester id that the I/O APIC has unless it is built otherwise, and in events always: no
/// PCI function has it.
pub const IO_APIC_ID: Bdf = Bdf::new(0xff, 0, 0);

/// The requester id of the HPET's messages. No PCI function has it.
pub const HPET_ID: Bdf = Bdf::new(0xff, 1, 0);

/// A change of one of the wires from INTA to the I/O APIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The I/O APIC's pin.
    pub pin: u8,
    /// Asserted.
    pub level: bool,
}

/// The I/O APIC pins to which functions on bus 0 are wired.
pub const INTA_PINS: RangeInclusive<u8> = 20..=23;

/// The I/O APIC pin to which INTA of `device` on bus 0 leads: pins 20 to 23 in turn, as q35's
/// chipset has it.
pub const fn inta_pin(device: u8) -> u8 {
    20 + device % 4
}

/// The root complex with all that hangs off it.
#[derive(Debug)]
pub struct RootComplex {
    units: Units,
    downstream: Downstream<Option<HostSide>, HotPlugDriver>,
    memory: Memory,
    tracer: Tracer,
    io_apic: Option<Bdf>,
    interrupts: VecDeque<Msi>,
    /// The I/O APIC pins that are asserted, a bit for each, as of the last [`Self::settle`].
    lines: u32,
    line_changes: VecDeque<Line>,
}

impl RootComplex {
    /// A root complex after power-on, in front of the guest's `memory`.
    ///
    /// # Errors
    /// [`Error::Schedule`] for faults that cannot be, [`Error::CapabilitySpace`] for functions,
    /// [`Error::Host`] if the host side cannot be built, and those of
    /// [`RootComplexConfig::check`].
    pub fn new(config: RootComplexConfig, memory: Memory, tracer: Tracer) -> Result<Self, Error> {
        Self::with_media(config, &mut Media::new(), memory, tracer)
    }

    /// As [`Self::new`], with the files that namespaces are in.
    ///
    /// # Errors
    /// Also [`Error::NoMedium`] for a file that is not in `media`.
    pub fn with_media(
        config: RootComplexConfig,
        media: &mut Media,
        memory: Memory,
        tracer: Tracer,
    ) -> Result<Self, Error> {
        config.check(&ranges(&memory))?;
        let mut hierarchy = config.topology.build(media, &tracer)?;
        hierarchy.set_obeys(config.obeys);
        let units = Units::new(&config, &tracer);
        let host = match config.host {
            Host::Direct => None,
            Host::Forwarded { unit, policy } => Some(HostSide::new(unit, policy, tracer.clone())?),
        };
        let (driven, sink) = (UnitRole::Guest, tracer.clone());
        let drivers = HotPlugDriver::new(config.hot_plug);
        let downstream = Downstream::new(host, hierarchy, drivers, &config.faults, driven, sink)?;
        let mut complex = Self {
            units,
            downstream,
            memory,
            tracer,
            io_apic: config.io_apic,
            interrupts: VecDeque::new(),
            lines: 0,
            line_changes: VecDeque::new(),
        };
        complex.pause_units();
        Ok(complex)
    }

    /// A configuration read of `data.len()` bytes; all ones where nothing answers.
    pub fn config_read(&mut self, function: Bdf, offset: u16, data: &mut [u8], now: Instant) {
        self.downstream.hierarchy.config_read(function, offset, data, now);
    }

    /// A configuration write.
    pub fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant) {
        self.downstream.config_write(function, offset, data, now);
        self.units.update(&self.downstream.hierarchy);
        self.settle(now);
    }

    /// A read in the PCI memory window; all ones where nothing answers.
    pub fn memory_read(&mut self, address: u64, data: &mut [u8], now: Instant) {
        let (hierarchy, mut upstream) = self.split();
        hierarchy.memory_read(address, data, &mut upstream, now);
        self.settle(now);
    }

    /// A write in the PCI memory window.
    pub fn memory_write(&mut self, address: u64, data: &[u8], now: Instant) {
        let (hierarchy, mut upstream) = self.split();
        hierarchy.memory_write(address, data, &mut upstream, now);
        self.settle(now);
    }

    /// A read of the units' registers, of which each has a page.
    pub fn unit_read(&mut self, offset: u64, data: &mut [u8]) {
        match self.units.get((offset / Unit::SIZE) as usize) {
            Some(GuestUnit { unit, .. }) if !self.downstream.guest_unit_is_gone() => {
                unit.read(offset % Unit::SIZE, data);
            }
            _ => data.fill(0xff),
        }
    }

    /// A write to the units' registers.
    pub fn unit_write(&mut self, offset: u64, data: &[u8], now: Instant) {
        let (index, offset) = ((offset / Unit::SIZE) as usize, offset % Unit::SIZE);
        if self.downstream.guest_unit_is_gone() || index >= self.units.len() {
            return;
        }
        self.reach_tail(offset, now);
        if let Some(GuestUnit { unit, .. }) = self.units.get_mut(index) {
            unit.write(offset, data, &self.memory, now);
        }
        self.settle(now);
    }

    /// The I/O APIC sends an interrupt.
    pub fn io_apic_message(&mut self, msi: Msi, now: Instant) {
        self.platform_message(self.io_apic, msi, now);
    }

    /// A device of the chipset that is no PCI function sends an interrupt, with a requester id of its
    /// own or without.
    pub fn platform_message(&mut self, requester: Option<Bdf>, msi: Msi, now: Instant) {
        self.split().1.platform_interrupt(requester, msi, now);
        self.settle(now);
    }

    /// The message that reaches the local APICs for `msi` of the I/O APIC, `None` if remapping
    /// blocks it. Has no side effect. A relay of ends of interrupt needs the vector in advance.
    pub fn io_apic_route(&self, msi: Msi) -> Option<Msi> {
        self.guest_unit().preview_interrupt(self.io_apic, msi, &self.memory)
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Instant::earliest([
            self.units.poll_timeout(),
            self.downstream.poll_timeout(),
            self.downstream.hierarchy.poll_timeout(),
            self.downstream.drivers.poll_timeout(),
        ])
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.downstream.run_schedule(now);
        self.downstream.run_hot_plug(now);
        self.units.iter_mut().for_each(|GuestUnit { unit, .. }| unit.handle_timeout(now));
        self.downstream.handle_host_timeout(now);
        self.observe(now);
        let (hierarchy, mut upstream) = self.split();
        hierarchy.handle_timeout(&mut upstream, now);
        self.settle(now);
    }

    /// Takes the oldest interrupt that a CPU must be told of.
    pub fn poll_interrupt(&mut self) -> Option<Msi> {
        self.interrupts.pop_front()
    }

    /// Takes the oldest change of a wire to the I/O APIC. Drain it after every other call, too.
    pub fn poll_line(&mut self) -> Option<Line> {
        self.line_changes.pop_front()
    }

    /// Where software has put ECAM by the host bridge's PCIEXBAR, if it has.
    pub fn ecam(&self) -> Option<EcamWindow> {
        self.downstream.hierarchy.ecam()
    }

    /// The index of the port that the user calls `name`, as [`Self::inject`] takes it.
    pub fn port_index(&self, name: &str) -> Option<usize> {
        self.downstream.hierarchy.port_index(name)
    }

    /// How many ports there are.
    pub fn port_count(&self) -> usize {
        self.downstream.hierarchy.port_count()
    }

    /// How many units there are.
    pub fn unit_count(&self) -> usize {
        self.units.len()
    }

    /// The first of the units that the guest sees, to look at.
    pub fn guest_unit(&self) -> &Unit {
        self.units.first()
    }

    /// The registers of the guest's units that outlast a reset, for [`RootComplexConfig::sticky`].
    pub fn sticky_registers(&self) -> Vec<StickyRegisters> {
        self.units.iter().map(|GuestUnit { unit, .. }| unit.sticky_registers()).collect()
    }

    /// What the oracle has found, if there is one.
    pub fn stale_counts(&self) -> Option<StaleCounts> {
        self.units.stale_counts()
    }

    /// The host's unit, to look at; `None` if the guest's unit is the physical one.
    pub fn host_unit(&self) -> Option<&Unit> {
        self.downstream.host.as_ref().map(HostSide::unit)
    }

    fn split(&mut self) -> (&mut Hierarchy, ToMemory<'_>) {
        let Self { units, downstream, memory, tracer, interrupts, .. } = self;
        let Downstream { host, hierarchy, .. } = downstream;
        let (host, origin) = (host.as_ref(), None);
        (hierarchy, ToMemory { units, host, memory, tracer, origin, interrupts })
    }

    /// Carries messages between the parts until none is left. Each stems from a descriptor
    /// or from a deadline, and the rings do not grow meanwhile: this ends.
    fn settle(&mut self, now: Instant) {
        while self.forward_unit_outputs(now)
            | self.forward_requests(now)
            | self.forward_messages(now)
            | self.forward_verdicts(now)
            | self.downstream.forward_resets(now)
            | self.pass_pause(now)
        {}
        self.observe(now);
        self.downstream.check_dma(now);
        self.downstream.run_hot_plug(now);
        self.note_lines();
    }

    /// Tells the oracle what the unit has told software.
    fn observe(&mut self, now: Instant) {
        self.units.iter_mut().for_each(|unit| unit.observe(now));
    }

    /// Functions share wires; a wire changes when the first asserts it or the last lets go.
    fn note_lines(&mut self) {
        let inta = self.downstream.hierarchy.inta();
        let asserting = (0..32_u8).filter(|device| inta & 1 << device != 0);
        let lines = asserting.fold(0, |lines, device| lines | 1 << inta_pin(device));
        let changed = std::mem::replace(&mut self.lines, lines) ^ lines;
        let pins = (0..32_u8).filter(|pin| changed & 1 << pin != 0);
        self.line_changes.extend(pins.map(|pin| Line { pin, level: lines & 1 << pin != 0 }));
    }

    fn forward_unit_outputs(&mut self, now: Instant) -> bool {
        let mut any = false;
        for index in 0..self.units.len() {
            while let Some(output) = self.units.poll_output(index) {
                any = true;
                match output {
                    Output::Invalidate(request) => self.submit(index, request, now),
                    Output::PageGroupResponse(response) => {
                        // A unit has no path to the functions of another.
                        if self.units.index(response.destination) == index {
                            self.downstream.hierarchy.page_group_response(response, now);
                        }
                    }
                    Output::Msi(msi) => self.interrupts.push_back(msi),
                }
            }
        }
        any
    }

    /// The guest's unit has sent an Invalidate Request.
    fn submit(&mut self, index: usize, request: InvalidateRequest, now: Instant) {
        if self.units.index(request.destination) != index {
            return self.lose(index, request, now);
        }
        if let Some((host, mut functions)) = self.downstream.host(now) {
            host.submit(request, &mut functions, now);
        } else {
            self.downstream.send_request(now);
            self.deliver_request(request, now);
        }
    }

    /// A unit has sent a request to a function of another unit, to which it has no path. Nothing
    /// answers. A unit above a host has no time-out of its own: the host refuses.
    fn lose(&mut self, index: usize, request: InvalidateRequest, now: Instant) {
        if self.downstream.host.is_some()
            && let Some(GuestUnit { unit, .. }) = self.units.get_mut(index)
        {
            unit.time_out(request.destination, request.itag, now);
        }
    }

    fn forward_requests(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(request) = self.downstream.poll_request(now) {
            any = true;
            self.deliver_request(request, now);
        }
        any
    }

    fn deliver_request(&mut self, request: InvalidateRequest, now: Instant) {
        self.downstream.deliver_request(request, now);
        self.downstream.hierarchy.collect_messages(now);
    }

    /// An Invalidate Completion arrives at the physical unit.
    fn deliver_completion(&mut self, completion: InvalidateCompletion, now: Instant) {
        if self.downstream.host.is_some() {
            return self.downstream.deliver_completion(completion, now);
        }
        let GuestUnit { unit, .. } = self.units.of(completion.requester);
        let ended = unit.accept_completion(completion, now);
        self.downstream.note_completion(ended, now);
        let GuestUnit { unit, .. } = self.units.of(completion.requester);
        unit.finish_completion(&self.memory, now);
    }

    fn forward_messages(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(message) = self.downstream.hierarchy.poll_message() {
            any = true;
            match message {
                UpstreamMessage::Msi { requester, msi } => {
                    self.split().1.message(requester, msi, now);
                }
                UpstreamMessage::InvalidateCompletion(completion) => {
                    self.deliver_completion(completion, now);
                }
                // The hierarchy has root ports for these.
                UpstreamMessage::Error { .. } => {}
                // As with DMA, the guest's units are the only ones on this path.
                UpstreamMessage::PageRequest(request) => {
                    let (_, to_memory) = self.split();
                    if to_memory.admit(request.requester, request.address, now).is_err() {
                        continue;
                    }
                    let GuestUnit { unit, .. } = self.units.of(request.requester);
                    unit.handle_page_request(request, &self.memory, now);
                }
            }
        }
        any
    }

    /// The host's verdicts reach the guest's unit.
    fn forward_verdicts(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(answer) = self.downstream.poll_verdict(now) {
            any = true;
            for request in answer.flush.device_tlbs() {
                let GuestUnit { unit, .. } = self.units.of(request.destination);
                if answer.verdict.is_success() {
                    unit.acknowledge(request.destination, request.itag, &self.memory, now);
                } else {
                    unit.time_out(request.destination, request.itag, now);
                }
            }
        }
        any
    }
}

/// The pieces of memory, in ascending order.
fn ranges(memory: &Memory) -> Vec<Range> {
    let range = |region: &_| {
        let start = GuestMemoryRegion::start_addr(region).0;
        Range { start, size: GuestMemoryRegion::len(region) }
    };
    memory.iter().map(range).collect()
}

impl ConfigAccess for RootComplex {
    fn config_read(&mut self, function: Bdf, offset: u16, data: &mut [u8], now: Instant) {
        self.config_read(function, offset, data, now);
    }

    fn config_write(&mut self, function: Bdf, offset: u16, data: &[u8], now: Instant) {
        self.config_write(function, offset, data, now);
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod direct_tests;

#[cfg(test)]
mod integrated_tests;

#[cfg(test)]
mod interrupt_tests;

#[cfg(test)]
mod units_tests;

#[cfg(test)]
mod page_request_tests;

#[cfg(test)]
mod hot_plug_tests;

#[cfg(test)]
mod quarantine_tests;

#[cfg(test)]
mod stale_tests;
