//! The devices at q35's addresses, and a clock that stands still unless it is told to move.
//!
//! One thread, no locks, no CPUs. After each call everything that can happen at that moment has
//! happened; what CPUs would be told waits in [`Machine::poll_signal`].

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;

use devices::config_ports::ConfigPorts;
use devices::io_apic::IoApic;
use devices::root_complex::{Line, RootComplex, RootComplexConfig};
use iommu::Memory;
use iommu::ats::Msi;
use iommu::event::Tracer;
use iommu::ids::Bdf;
use iommu::time::Instant;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::config::MemorySize;
use crate::layout::{self, port};
use crate::storage::{self, FileStorage};
use crate::{Error, memory};

/// Timers that may fire while the clock moves once.
const MAX_TIMERS: u32 = 1_000_000;
/// Signals that are kept until somebody takes them; then the oldest is lost.
const MAX_SIGNALS: usize = 4096;

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct MachineConfig {
    /// Its RAM.
    pub memory: MemorySize,
    /// Its PCIe hierarchy, both remapping units and the host's policy.
    pub root_complex: RootComplexConfig,
    /// Where events go.
    pub tracer: Tracer,
}

/// What the machine tells its CPUs, which are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// An input of the I/O APIC has changed.
    Line(Line),
    /// A message has got through to the local APICs.
    Message(Msi),
}

/// The clock was told to pass more timers than one command may fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MAX_TIMERS} timers have fired, and the clock has stopped at {} ns; move it in smaller steps",
    reached.as_nanos()
)]
pub struct TooManyTimers {
    /// Where the clock stands now.
    pub reached: Instant,
}

/// A machine without CPUs.
#[derive(Debug)]
pub struct Machine {
    config: MachineConfig,
    files: HashMap<PathBuf, FileStorage>,
    memory: Memory,
    root_complex: RootComplex,
    io_apic: IoApic,
    config_ports: ConfigPorts,
    now: Instant,
    signals: VecDeque<Signal>,
}

impl Machine {
    /// A machine after power-on, its clock at 0.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Devices`].
    pub fn new(config: MachineConfig) -> Result<Self, Error> {
        let memory = memory::allocate(config.memory)?;
        let tracer = config.tracer.clone();
        let files = storage::open_all(&config.root_complex.topology)?;
        let (devices, mut media) = (config.root_complex.clone(), storage::media(&files));
        let root_complex = RootComplex::with_media(devices, &mut media, memory.clone(), tracer)?;
        Ok(Self {
            config,
            files,
            memory,
            root_complex,
            io_apic: IoApic::new(),
            config_ports: ConfigPorts::new(),
            now: Instant::START,
            signals: VecDeque::new(),
        })
    }

    /// Puts all devices back to where they were after power-on. Memory and clock stay.
    ///
    /// # Errors
    /// None that [`Self::new`] has not met already.
    pub fn reset(&mut self) -> Result<(), Error> {
        let (config, memory) = (self.config.root_complex.clone(), self.memory.clone());
        let (mut media, tracer) = (storage::media(&self.files), self.config.tracer.clone());
        self.root_complex = RootComplex::with_media(config, &mut media, memory, tracer)?;
        self.io_apic = IoApic::new();
        self.config_ports = ConfigPorts::new();
        Ok(())
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// When the next timer fires.
    pub fn next_timer(&self) -> Option<Instant> {
        self.root_complex.poll_timeout()
    }

    /// Moves the clock to `until`; the timers on the way fire at their instants, in their order.
    /// Does nothing if that is in the past.
    ///
    /// # Errors
    /// [`TooManyTimers`]; the clock then stands where it has come to.
    pub fn advance(&mut self, until: Instant) -> Result<(), TooManyTimers> {
        for _ in 0..MAX_TIMERS {
            match self.next_timer().filter(|due| *due <= until) {
                Some(due) => {
                    self.now = self.now.max(due);
                    self.root_complex.handle_timeout(self.now);
                    self.settle();
                }
                None => {
                    self.now = self.now.max(until);
                    return Ok(());
                }
            }
        }
        Err(TooManyTimers { reached: self.now })
    }

    /// Takes the oldest thing that CPUs would have been told.
    pub fn poll_signal(&mut self) -> Option<Signal> {
        self.signals.pop_front()
    }

    /// The root complex, to look at.
    pub fn root_complex(&self) -> &RootComplex {
        &self.root_complex
    }

    /// The machine's RAM.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// One read of `data.len()` bytes; what nobody answers reads as all ones.
    pub fn memory_read(&mut self, address: u64, data: &mut [u8]) {
        if self.is_memory(address, data.len()) {
            // Cannot fail: it has just been seen to be there.
            let _ = self.memory.read_slice(data, GuestAddress(address));
            return;
        }
        data.fill(0xff);
        let now = self.now;
        match self.decode(address, data.len()) {
            Some(Target::Config(function, offset)) => {
                self.root_complex.config_read(function, offset, data, now);
            }
            Some(Target::Window) => self.root_complex.memory_read(address, data, now),
            Some(Target::Unit(offset)) => self.root_complex.unit_read(offset, data),
            Some(Target::IoApic(offset)) => self.io_apic.mmio_read(offset, data),
            None => {}
        }
    }

    /// One write of `data`; where nobody listens it is lost.
    pub fn memory_write(&mut self, address: u64, data: &[u8]) {
        if self.is_memory(address, data.len()) {
            let _ = self.memory.write_slice(data, GuestAddress(address));
            return;
        }
        let now = self.now;
        match self.decode(address, data.len()) {
            Some(Target::Config(function, offset)) => {
                self.root_complex.config_write(function, offset, data, now);
            }
            Some(Target::Window) => self.root_complex.memory_write(address, data, now),
            Some(Target::Unit(offset)) => self.root_complex.unit_write(offset, data, now),
            Some(Target::IoApic(offset)) => self.io_apic.mmio_write(offset, data),
            None => {}
        }
        self.settle();
    }

    /// One read of a port, of one, two or four bytes.
    pub fn port_read(&mut self, port: u16, data: &mut [u8]) {
        if let Some(target) = self.config_ports.read(port, data) {
            self.root_complex.config_read(target.function, target.offset, data, self.now);
        }
    }

    /// One write of a port. A one-byte write of reset control with bit 2 set, and 0xfe at the
    /// keyboard controller, reset the machine.
    ///
    /// # Errors
    /// As [`Self::reset`].
    pub fn port_write(&mut self, port: u16, data: &[u8]) -> Result<(), Error> {
        match (port, data) {
            (port::RESET, [value]) if value & 1 << 2 != 0 => return self.reset(),
            (port::KEYBOARD, [0xfe]) => return self.reset(),
            _ => {}
        }
        if let Some(target) = self.config_ports.write(port, data) {
            self.root_complex.config_write(target.function, target.offset, data, self.now);
            self.settle();
        }
        Ok(())
    }

    /// Whether all of an access is RAM.
    pub fn is_memory(&self, address: u64, length: usize) -> bool {
        self.memory.check_range(GuestAddress(address), length)
    }

    fn decode(&self, address: u64, length: usize) -> Option<Target> {
        if let Some(offset) =
            self.root_complex.ecam().and_then(|window| window.offset(address, length))
        {
            // Bits 27:12 are the function, bits 11:0 its register (PCIe 7.2.2).
            let function = Bdf::from_bits((offset >> 12) as u16);
            return Some(Target::Config(function, (offset & 0xfff) as u16));
        }
        let within = |range: layout::Range| {
            let offset = address.checked_sub(range.start)?;
            let end = offset.checked_add(u64::try_from(length).ok()?)?;
            (end <= range.size).then_some(offset)
        };
        None.or_else(|| within(layout::UNIT).map(Target::Unit))
            .or_else(|| within(layout::IO_APIC).map(Target::IoApic))
            .or_else(|| within(layout::PCI_MEMORY).map(|_| Target::Window))
    }

    /// Carries wires to the I/O APIC and its messages to the remapping unit until none is left.
    fn settle(&mut self) {
        loop {
            if let Some(line) = self.root_complex.poll_line() {
                self.io_apic.set_level(line.pin, line.level);
                self.signal(Signal::Line(line));
            } else if let Some(message) = self.io_apic.poll_message() {
                self.root_complex.io_apic_message(message, self.now);
            } else if let Some(message) = self.root_complex.poll_interrupt() {
                self.signal(Signal::Message(message));
            } else {
                break;
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        if self.signals.len() >= MAX_SIGNALS {
            self.signals.pop_front();
        }
        self.signals.push_back(signal);
    }
}

/// Who answers a memory access that is not RAM.
enum Target {
    Config(Bdf, u16),
    Window,
    Unit(u64),
    IoApic(u64),
}
