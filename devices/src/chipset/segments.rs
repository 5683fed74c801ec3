//! PCI segments besides segment 0. Each has a root complex of its own, with its host bridge, its units
//! and its ports, and addresses of its own: a function has its unit by the root complex that it is
//! in, and none has a path to another segment.

use iommu::Memory;
use iommu::ats::Msi;
use iommu::event::Tracer;
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::Chipset;
use super::map::{self, Range};
use crate::Error;
use crate::fault::{FaultMode, GuestConsole};
use crate::root_complex::{RootComplex, SegmentConfig};
use crate::stale::StaleCounts;
use crate::topology::Media;

/// A segment besides segment 0.
#[derive(Debug)]
pub(super) struct Segment {
    complex: RootComplex,
    /// Its configuration space. Unlike that of segment 0 it cannot be moved: the ports at 0xcf8, which
    /// would find it again, lead to segment 0 only.
    ecam: Range,
    /// The window of its functions' memory.
    window: Range,
    /// The register pages of its units.
    units: Range,
}

/// A place in a segment.
enum Target {
    Config(Bdf, u16),
    Window,
    Unit(u64),
}

impl Segment {
    fn decode(&self, address: u64, length: usize) -> Option<Target> {
        if let Some(offset) = self.units.offset(address, length) {
            return Some(Target::Unit(offset));
        }
        if let Some(offset) = self.ecam.offset(address, length) {
            // As in segment 0, for fewer buses.
            let function = Bdf::from_bits((offset >> 12) as u16);
            return Some(Target::Config(function, (offset & 0xfff) as u16));
        }
        self.window.offset(address, length).map(|_| Target::Window)
    }
}

/// All of them, in ascending order. Most machines have none.
#[derive(Debug, Default)]
pub(super) struct Segments(Vec<Segment>);

impl Segments {
    /// The segments after power-on.
    pub(super) fn new(
        configs: impl Iterator<Item = SegmentConfig>,
        media: &mut Media,
        memory: &Memory,
        tracer: &Tracer,
    ) -> Result<Self, Error> {
        let segment = |(index, segment): (usize, SegmentConfig)| {
            let (number, first) = (segment.number, segment.unit(0));
            let tracer = tracer.in_segment(number);
            let complex = RootComplex::with_media(segment.config, media, memory.clone(), tracer)?;
            let units = Range { size: first.size * complex.unit_count() as u64, ..first };
            let (ecam, window) = (map::segment_ecam(index), map::segment_memory(index));
            Ok(Segment { complex, ecam, window, units })
        };
        configs.enumerate().map(segment).collect::<Result<_, _>>().map(Self)
    }

    /// Reads if the address is in one of them.
    #[inline]
    pub(super) fn read(&mut self, address: u64, data: &mut [u8], now: Instant) -> bool {
        !self.0.is_empty() && self.read_one(address, data, now)
    }

    fn read_one(&mut self, address: u64, data: &mut [u8], now: Instant) -> bool {
        for segment in &mut self.0 {
            match segment.decode(address, data.len()) {
                Some(Target::Unit(offset)) => segment.complex.unit_read(offset, data),
                Some(Target::Config(function, offset)) => {
                    segment.complex.config_read(function, offset, data, now);
                }
                Some(Target::Window) => segment.complex.memory_read(address, data, now),
                None => continue,
            }
            return true;
        }
        false
    }

    /// Writes if the address is in one of them.
    #[inline]
    pub(super) fn write(&mut self, address: u64, data: &[u8], now: Instant) -> bool {
        !self.0.is_empty() && self.write_one(address, data, now)
    }

    fn write_one(&mut self, address: u64, data: &[u8], now: Instant) -> bool {
        for segment in &mut self.0 {
            match segment.decode(address, data.len()) {
                Some(Target::Unit(offset)) => segment.complex.unit_write(offset, data, now),
                Some(Target::Config(function, offset)) => {
                    segment.complex.config_write(function, offset, data, now);
                }
                Some(Target::Window) => segment.complex.memory_write(address, data, now),
                None => continue,
            }
            return true;
        }
        false
    }

    /// The guest rings the bench's doorbell.
    pub(super) fn doorbell(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|segment| segment.complex.doorbell(now));
    }

    /// Takes the oldest interrupt that a CPU must be told of.
    pub(super) fn poll_interrupt(&mut self) -> Option<Msi> {
        self.0.iter_mut().find_map(|segment| segment.complex.poll_interrupt())
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.complexes().filter_map(RootComplex::poll_timeout).min()
    }

    /// Does what is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|segment| segment.complex.handle_timeout(now));
    }

    pub(super) fn complexes(&self) -> impl Iterator<Item = &RootComplex> {
        self.0.iter().map(|segment| &segment.complex)
    }

    /// The root complex with that port, counted on from those of segment 0, and the port's index in it.
    fn with_port(&mut self, mut port: usize) -> Option<(&mut RootComplex, usize)> {
        for Segment { complex, .. } in &mut self.0 {
            match port.checked_sub(complex.port_count()) {
                Some(rest) => port = rest,
                None => return Some((complex, port)),
            }
        }
        None
    }
}

impl Chipset {
    /// Lets `mode` happen to the port with index `port`, as [`RootComplex::inject`]. The ports of
    /// further segments follow those of segment 0. Without such a port nothing happens.
    pub fn inject(&mut self, port: usize, mode: FaultMode, now: Instant) {
        if let Some((complex, port)) = self.with_port(port) {
            complex.inject(port, mode, now);
        }
        self.settle(now);
    }

    /// Ends `mode` at the port with index `port`.
    pub fn lift(&mut self, port: usize, mode: FaultMode, now: Instant) {
        if let Some((complex, port)) = self.with_port(port) {
            complex.lift(port, mode, now);
        }
        self.settle(now);
    }

    fn with_port(&mut self, port: usize) -> Option<(&mut RootComplex, usize)> {
        match port.checked_sub(self.root_complex.port_count()) {
            None => Some((&mut self.root_complex, port)),
            Some(rest) => self.segments.with_port(rest),
        }
    }

    /// What faults of all segments wait for on `console`, as [`RootComplex::console_expressions`].
    pub fn console_expressions(
        &self,
        console: GuestConsole,
    ) -> impl Iterator<Item = (usize, &str)> {
        let all = 1 + self.segments.0.len();
        let complexes = std::iter::once(&self.root_complex).chain(self.segments.complexes());
        complexes.enumerate().flat_map(move |(index, complex)| {
            complex
                .console_expressions(console)
                .map(move |(fault, text)| (fault * all + index, text))
        })
    }

    /// A console has shown what `fault` of [`Self::console_expressions`] waits for.
    pub fn console_matched(&mut self, fault: usize, now: Instant) {
        let all = 1 + self.segments.0.len();
        match (fault % all).checked_sub(1) {
            None => self.root_complex.console_matched(fault / all, now),
            Some(index) => self.segments.0[index].complex.console_matched(fault / all, now),
        }
        self.settle(now);
    }

    /// The registers of all units that outlast a reset.
    pub(super) fn all_sticky_registers(&self) -> Vec<iommu::unit::StickyRegisters> {
        let further = self.segments.complexes().flat_map(RootComplex::sticky_registers);
        self.root_complex.sticky_registers().into_iter().chain(further).collect()
    }

    /// What the oracles of all segments have found, if there are any.
    pub fn stale_counts(&self) -> Option<StaleCounts> {
        let further = self.segments.complexes().filter_map(RootComplex::stale_counts);
        let mut counts = self.root_complex.stale_counts()?;
        further.for_each(|other| counts.merge(&other));
        Some(counts)
    }
}
