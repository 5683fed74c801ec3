//! The machine that a guest sees, but for its CPUs and RAM: every port and every address behind
//! which something answers. KVM, `ghostlink qtest`, the fuzz targets and the tests drive this one.
//!
//! ```text
//!                   +-> configuration, PCI window, unit -> RootComplex -+-> Output::Interrupt
//!   memory, ports --+                                     |       ^     |
//!                   |                        Output::Line v       |     v
//!   ends of      ---+-> I/O APIC <----------------------- + ------+   Output::Route
//!   interrupt       |                                     ^ Output::Line
//!                   +-> HPET, pc-testdev -----------------+
//!                   +-> COM1 -----------------------------+-----------> Output::Console
//!                   +-> debug console ------------------------------> Output::DebugConsole
//!                   +-> bench, firmware configuration
//!                   +-> debug exit, reset, power-off -----------------> Output::Exit
//! ```
//!
//! - [`map`]: where everything is.
//! - [`RootComplex`]: the remapping units, ports, links and functions. Each further PCI segment has
//!   another one.
//!
//! After each call all effects of the call have happened or wait as outputs. The caller then drains
//! [`Chipset::poll_output`]. An address or port at which nothing answers reads as all ones, and
//! writes to it are lost. So are accesses that are only partly in a range.

mod com1;
mod fw_cfg;
pub mod map;
mod onboard;
mod pc_testdev;
mod power;
mod segments;
mod sleep;
mod wires;

use std::collections::VecDeque;

use iommu::Memory;
use iommu::ats::Msi;
use iommu::event::{Event, Tracer};
use iommu::ids::Bdf;
use iommu::time::Instant;
use iommu::unit::StickyRegisters;

use crate::Error;
use crate::bench::{Bench, Request};
use crate::config_ports::ConfigPorts;
use crate::hpet::Hpet;
use crate::io_apic::{self, IoApic};
use crate::pcie::ConfigClient;
use crate::pcie::host_bridge::{PCIEXBAR, PcieBar};
use crate::pcie::spec::header::{Command, INTERRUPT_LINE};
use crate::root_complex::{Line, RootComplex, RootComplexConfig, inta_pin};
use crate::topology::{Media, Topology};

use com1::Com1;
use fw_cfg::FwCfg;
use map::{COM1_PIN, PortOwner, port};
use pc_testdev::PcTestdev;
pub use power::GuestExit;
use power::ResetControl;
use segments::Segments;
use sleep::Sleep;
pub use sleep::Suspended;
use wires::{Source, Wires};

/// The configuration of a chipset.
#[derive(Debug, Clone)]
pub struct ChipsetConfig {
    /// The PCIe hierarchy, both remapping units and the host's policy.
    pub root_complex: RootComplexConfig,
    /// Bytes of RAM, as the firmware configuration tells.
    pub memory: u64,
    /// CPUs, as the firmware configuration and the bench tell.
    pub cpus: u8,
    /// Frequency of the CPUs' time stamp counters in kHz, as the bench tells; 0 if unknown.
    pub tsc_khz: u32,
}

/// An effect outside of the chipset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A message has got through to the local APICs.
    Interrupt(Msi),
    /// From now on level-triggered interrupts of this I/O APIC pin arrive at the local APICs as
    /// `msi`, or not at all: [`Chipset::end_of_interrupt`] is to be called for its vector. Comes
    /// before the first interrupt that it is about.
    Route {
        /// The I/O APIC's pin.
        pin: u8,
        /// The remapped message.
        msi: Option<Msi>,
    },
    /// An input of the I/O APIC has changed.
    Line(Line),
    /// The guest has sent this byte to COM1.
    Console(u8),
    /// The guest has sent this byte to the debug console.
    DebugConsole(u8),
    /// The guest has read all input of COM1: there is room for more.
    ConsoleEmpty,
    /// The guest has ended its run. A reset leaves it to the caller to build a new chipset.
    Exit(GuestExit),
}

/// The guest's chipset.
#[derive(Debug)]
pub struct Chipset {
    root_complex: RootComplex,
    segments: Segments,
    io_apic: IoApic,
    /// The remapped message of each pin's last interrupt, if it was level-triggered.
    routes: [Option<Msi>; io_apic::PINS as usize],
    config_ports: ConfigPorts,
    reset_control: ResetControl,
    com1: Com1,
    bench: Bench,
    fw_cfg: FwCfg,
    hpet: Option<Hpet>,
    pc_testdev: Option<PcTestdev>,
    /// A machine with `pc-testdev` can sleep.
    sleep: Option<Sleep>,
    wires: Wires,
    tracer: Tracer,
    /// Grows with what one access causes, and is empty after it.
    outputs: VecDeque<Output>,
}

/// A device, and an address in it.
enum Target {
    Config(Bdf, u16),
    Window,
    Unit(u64),
    IoApic(u64),
    Hpet(u64),
    TestMemory(u64),
}

impl Chipset {
    /// A chipset after power-on, in front of the guest's `memory`.
    ///
    /// # Errors
    /// As [`RootComplex::with_media`].
    pub fn new(
        config: ChipsetConfig,
        media: &mut Media,
        memory: Memory,
        tracer: Tracer,
    ) -> Result<Self, Error> {
        let ChipsetConfig { root_complex, memory: size, cpus, tsc_khz } = config;
        let Topology { hpet, pc_testdev, .. } = root_complex.topology;
        let mut configs = root_complex.segments().into_iter();
        let first = configs.next().map_or(root_complex, |first| first.config);
        let segments = Segments::new(configs, media, &memory, &tracer)?;
        Ok(Self {
            root_complex: RootComplex::with_media(first, media, memory, tracer.clone())?,
            segments,
            io_apic: IoApic::new(),
            routes: [None; io_apic::PINS as usize],
            config_ports: ConfigPorts::new(),
            reset_control: ResetControl::default(),
            com1: Com1::new(),
            bench: Bench::new(tsc_khz, cpus.into()),
            fw_cfg: FwCfg::new(size, cpus),
            hpet: hpet.then(Hpet::new),
            pc_testdev: pc_testdev.then(PcTestdev::new),
            sleep: pc_testdev.then(Sleep::default),
            wires: Wires::default(),
            tracer,
            outputs: VecDeque::new(),
        })
    }

    /// Does what firmware has done before a kernel runs: ECAM is on at [`map::ECAM`], and functions
    /// on bus 0 know their I/O APIC pin.
    pub fn set_up(&mut self, topology: &Topology) {
        let ecam = PcieBar::from_bits(map::ECAM.start).with_enable(true);
        // The address is below 4 GiB: the upper half of PCIEXBAR stays 0.
        self.config(Bdf::new(0, 0, 0)).write(PCIEXBAR, ecam.into_bits() as u32);
        for function in topology.integrated() {
            self.config(function).write(INTERRUPT_LINE, inta_pin(function.device()));
        }
    }

    /// Gives the functions on bus 0 addresses from [`map::FIRMWARE_BARS`] up, and switches memory
    /// space on, which multiboot images take for done.
    pub fn place_bars(&mut self, topology: &Topology) {
        for (index, function) in (0..).zip(topology.integrated()) {
            let mut function = self.config(function);
            function.set_bar0(map::FIRMWARE_BARS + (index << 20));
            function.set_command(Command::new().with_memory_space(true));
        }
    }

    /// The remapping units' registers that outlast the guest's reset, for
    /// [`RootComplexConfig::sticky`] of the next chipset. A reset by 0xcf9 that switches the power
    /// off and on keeps none.
    pub fn sticky_registers(&self) -> Vec<StickyRegisters> {
        match self.reset_control.cycles_power() {
            true => Vec::new(),
            false => self.all_sticky_registers(),
        }
    }

    fn config(&mut self, function: Bdf) -> ConfigClient<'_, RootComplex> {
        ConfigClient::new(&mut self.root_complex, function, Instant::START)
    }

    /// One read of `data.len()` bytes at an address that is not RAM.
    pub fn memory_read(&mut self, address: u64, data: &mut [u8], now: Instant) {
        if self.segments.read(address, data, now) {
            return self.settle(now);
        }
        match self.decode(address, data.len()) {
            Some(Target::Unit(offset)) => self.root_complex.unit_read(offset, data),
            Some(Target::Config(function, offset)) => {
                self.root_complex.config_read(function, offset, data, now);
            }
            Some(Target::Window) => {
                self.root_complex.memory_read(address, data, now);
                self.settle(now);
            }
            Some(Target::IoApic(offset)) => self.io_apic.mmio_read(offset, data),
            Some(Target::Hpet(offset)) => match &self.hpet {
                Some(hpet) => hpet.read(offset, data, now),
                None => data.fill(0xff),
            },
            Some(Target::TestMemory(offset)) => match &self.pc_testdev {
                Some(device) => device.memory_read(offset, data),
                None => data.fill(0xff),
            },
            None => data.fill(0xff),
        }
    }

    /// One write of `data` to an address that is not RAM.
    pub fn memory_write(&mut self, address: u64, data: &[u8], now: Instant) {
        if self.segments.write(address, data, now) {
            return self.settle(now);
        }
        match self.decode(address, data.len()) {
            Some(Target::Unit(offset)) => self.root_complex.unit_write(offset, data, now),
            Some(Target::Config(function, offset)) => {
                self.root_complex.config_write(function, offset, data, now);
            }
            Some(Target::Window) => self.root_complex.memory_write(address, data, now),
            Some(Target::IoApic(offset)) => self.io_apic.mmio_write(offset, data),
            Some(Target::Hpet(offset)) => {
                if let Some(hpet) = &mut self.hpet {
                    hpet.write(offset, data, now);
                    self.forward_hpet(now);
                }
            }
            Some(Target::TestMemory(offset)) => {
                if let Some(device) = &mut self.pc_testdev {
                    device.memory_write(offset, data);
                }
                return;
            }
            None => return,
        }
        self.settle(now);
    }

    /// One read of a port; `data.len()` is the size of the access.
    pub fn port_read(&mut self, port: u16, data: &mut [u8], now: Instant) {
        let Some((owner, offset)) = map::port_owner(port, data.len()) else {
            return data.fill(0xff);
        };
        match owner {
            PortOwner::Com1 => {
                self.com1.read(offset, data);
                self.settle_com1(now);
            }
            PortOwner::Pci => self.config_port_read(port, data, now),
            PortOwner::Bench => self.bench.read(offset, data),
            PortOwner::FwCfg => self.fw_cfg.read(offset, data),
            PortOwner::DebugExit | PortOwner::Keyboard | PortOwner::Power | PortOwner::Sleep => {
                data.fill(0);
            }
            PortOwner::Clock => self.read_clock(offset, data, now),
            PortOwner::PowerEvents => match &self.sleep {
                Some(sleep) => sleep.read_events(offset, data),
                None => data.fill(0xff),
            },
            PortOwner::Test | PortOwner::TestLines => match &self.pc_testdev {
                Some(device) if owner == PortOwner::Test => device.port_read(offset, data),
                Some(_) => data.fill(0xff),
                None => onboard::read_debug_console(port, data),
            },
        }
    }

    /// One write of a port.
    pub fn port_write(&mut self, port: u16, data: &[u8], now: Instant) {
        let Some((owner, offset)) = map::port_owner(port, data.len()) else { return };
        let exit = match owner {
            PortOwner::Com1 => {
                self.com1.write(offset, data);
                return self.settle_com1(now);
            }
            PortOwner::Pci => self.config_port_write(port, data, now),
            PortOwner::Bench => return self.bench_write(offset, data, now),
            PortOwner::FwCfg => return self.fw_cfg.write(offset, data),
            PortOwner::DebugExit => {
                let value = power::debug_exit(data);
                self.tracer.emit(now, || Event::GuestExit { value });
                Some(GuestExit::Debug(value))
            }
            PortOwner::Keyboard => power::keyboard(data),
            PortOwner::Power => power::pm1a_control(data, self.sleep.is_some()),
            PortOwner::PowerEvents => {
                let sleep = self.sleep.iter_mut();
                return sleep.for_each(|sleep| sleep.write_events(offset, data));
            }
            PortOwner::Clock => return self.write_clock(offset, data, now),
            PortOwner::Sleep => power::sleep(offset, data),
            PortOwner::Test => {
                match &mut self.pc_testdev {
                    Some(device) => device.port_write(offset, data),
                    None => self.outputs.extend(onboard::debug_console(port, data)),
                }
                return;
            }
            PortOwner::TestLines => return self.set_test_lines(offset, data, now),
        };
        self.outputs.extend(exit.map(Output::Exit));
    }

    /// A CPU has ended the level-triggered interrupt `vector`.
    pub fn end_of_interrupt(&mut self, vector: u8, now: Instant) {
        self.io_apic.eoi(vector);
        self.settle(now);
    }

    /// How many bytes [`Self::console_input`] takes now.
    pub fn console_room(&mut self) -> usize {
        self.com1.room()
    }

    /// Bytes come in at COM1; those that do not fit are lost.
    pub fn console_input(&mut self, bytes: &[u8], now: Instant) {
        self.com1.receive(bytes);
        self.settle_com1(now);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = [self.root_complex.poll_timeout(), self.segments.poll_timeout()];
        let due = Instant::earliest(due);
        if self.hpet.is_none() && self.sleep.is_none() {
            return due;
        }
        let hpet = self.hpet.as_ref().and_then(Hpet::poll_timeout);
        let alarm = self.sleep.as_ref().and_then(|sleep| sleep.rtc.poll_timeout());
        Instant::earliest([due, hpet, alarm])
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.root_complex.handle_timeout(now);
        self.segments.handle_timeout(now);
        if let Some(hpet) = &mut self.hpet {
            hpet.handle_timeout(now);
            self.forward_hpet(now);
        }
        self.handle_alarm(now);
        self.settle(now);
    }

    /// Takes the oldest output. Drain it after every other call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The root complex of segment 0, to look at.
    pub fn root_complex(&self) -> &RootComplex {
        &self.root_complex
    }

    /// Where an access goes. The fixed ranges come first: PCIEXBAR can be set to lie over them.
    fn decode(&self, address: u64, length: usize) -> Option<Target> {
        if let Some(offset) = map::UNITS.offset(address, length) {
            return Some(Target::Unit(offset));
        }
        if let Some(offset) = map::IO_APIC.offset(address, length) {
            return Some(Target::IoApic(offset));
        }
        let ecam = self.root_complex.ecam();
        if let Some(offset) = ecam.and_then(|window| window.offset(address, length)) {
            // Bits 27:12 are the function, bits 11:0 its register (PCIe 7.2.2).
            let function = Bdf::from_bits((offset >> 12) as u16);
            return Some(Target::Config(function, (offset & 0xfff) as u16));
        }
        if map::PCI_MEMORY.offset(address, length).is_some() {
            return Some(Target::Window);
        }
        // Last, as most machines have neither.
        let hpet = || map::HPET.offset(address, length).map(Target::Hpet);
        hpet().or_else(|| map::TEST_MEMORY.offset(address, length).map(Target::TestMemory))
    }

    fn config_port_read(&mut self, port: u16, data: &mut [u8], now: Instant) {
        if let (port::RESET, [value]) = (port, &mut *data) {
            *value = self.reset_control.read();
        } else if let Some(target) = self.config_ports.read(port, data) {
            self.root_complex.config_read(target.function, target.offset, data, now);
        }
    }

    fn config_port_write(&mut self, port: u16, data: &[u8], now: Instant) -> Option<GuestExit> {
        if let (port::RESET, [value]) = (port, data) {
            return self.reset_control.write(*value);
        }
        if let Some(target) = self.config_ports.write(port, data) {
            self.root_complex.config_write(target.function, target.offset, data, now);
            self.settle(now);
        }
        None
    }

    fn bench_write(&mut self, offset: u16, data: &[u8], now: Instant) {
        match self.bench.write(offset, data) {
            Some(Request::Doorbell { value }) => {
                self.tracer.emit(now, || Event::Doorbell { value });
                self.root_complex.doorbell(now);
                self.segments.doorbell(now);
                self.settle(now);
            }
            Some(Request::Report { metric, value }) => {
                self.tracer.emit(now, || Event::GuestReport { metric, value });
            }
            None => {}
        }
    }

    fn settle_com1(&mut self, now: Instant) {
        self.outputs.extend(self.com1.drain_sent().map(Output::Console));
        if self.com1.take_input_empty() {
            self.outputs.push_back(Output::ConsoleEmpty);
        }
        if self.com1.take_interrupt() {
            for level in [true, false] {
                self.set_line(Source::Com1, Line { pin: COM1_PIN, level });
            }
            self.settle(now);
        }
    }

    /// Carries wires to the I/O APIC and its messages to the remapping unit until none is left.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(line) = self.root_complex.poll_line() {
                self.set_line(Source::RootComplex, line);
            } else if let Some((pin, message)) = self.io_apic.poll_message() {
                self.update_route(pin, message);
                self.root_complex.io_apic_message(message, now);
            } else if let Some(message) = self.root_complex.poll_interrupt() {
                self.outputs.push_back(Output::Interrupt(message));
            } else if let Some(message) = self.segments.poll_interrupt() {
                self.outputs.push_back(Output::Interrupt(message));
            } else {
                break;
            }
        }
    }

    fn set_line(&mut self, source: Source, line: Line) {
        if let Some(line) = self.wires.set(source, line) {
            self.io_apic.set_level(line.pin, line.level);
            self.outputs.push_back(Output::Line(line));
        }
    }

    /// Notes the remapped form of `message`, which `pin` is about to send. A local APIC ends the vector
    /// that it was given, which is not the one in the redirection entry if the unit remaps. Software changes
    /// the unit's table without telling the I/O APIC, so each message looks its route up; only an
    /// interrupt that has been sent can be ended.
    fn update_route(&mut self, pin: u8, message: Msi) {
        const LEVEL: u32 = 1 << 15;
        let route = self.root_complex.io_apic_route(message).filter(|msi| msi.data & LEVEL != 0);
        let known = &mut self.routes[usize::from(pin)];
        if *known != route {
            *known = route;
            self.outputs.push_back(Output::Route { pin, msi: route });
        }
    }
}

#[cfg(test)]
mod onboard_tests;
#[cfg(test)]
mod segments_tests;
#[cfg(test)]
mod sleep_tests;
#[cfg(test)]
mod tests;
