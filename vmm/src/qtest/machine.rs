//! RAM, the chipset that KVM's guests have, and a clock that stands still unless it is told to move.
//!
//! One thread, no locks, no CPUs. After each call everything that can happen at that moment has
//! happened; the chipset's outputs wait in [`Machine::poll_output`].

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;

use devices::chipset::{Chipset, ChipsetConfig, GuestExit, Output};
use devices::root_complex::{RootComplex, RootComplexConfig};
use devices::stale::StaleCounts;
use iommu::Memory;
use iommu::event::Tracer;
use iommu::time::Instant;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::config::MemorySize;
use crate::storage::{self, FileStorage};
use crate::{Error, memory};

/// Timers that may fire while the clock moves once.
const MAX_TIMERS: u32 = 1_000_000;
/// Outputs that are kept until they are taken; then the oldest is lost.
const MAX_OUTPUTS: usize = 4096;

/// The configuration of a machine.
#[derive(Debug, Clone)]
pub struct MachineConfig {
    /// Its RAM.
    pub memory: MemorySize,
    /// Its PCIe hierarchy, both remapping units and the host's policy.
    pub root_complex: RootComplexConfig,
    /// The sink of events.
    pub tracer: Tracer,
}

/// The clock was told to pass more timers than one command may fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MAX_TIMERS} timers have fired, and the clock has stopped at {} ns; move it in smaller steps",
    reached.as_nanos()
)]
pub struct TooManyTimers {
    /// The time at which the clock has stopped.
    pub reached: Instant,
}

/// A machine without CPUs.
#[derive(Debug)]
pub struct Machine {
    config: MachineConfig,
    files: HashMap<PathBuf, FileStorage>,
    memory: Memory,
    chipset: Chipset,
    now: Instant,
    outputs: VecDeque<Output>,
    /// What the oracle has found before the last reset.
    stale_before: StaleCounts,
}

impl Machine {
    /// A machine after power-on, its clock at 0.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Devices`].
    pub fn new(config: MachineConfig) -> Result<Self, Error> {
        config.root_complex.check(&memory::ranges(config.memory))?;
        let memory = memory::allocate(config.memory)?;
        let files = storage::open_all(&config.root_complex.topology)?;
        let chipset = chipset(&config, &files, &memory)?;
        let (outputs, stale_before) = (VecDeque::new(), StaleCounts::default());
        Ok(Self { config, files, memory, chipset, now: Instant::START, outputs, stale_before })
    }

    /// Puts all devices back to where they were after power-on, except sticky registers of the
    /// remapping unit. Memory and clock stay.
    ///
    /// # Errors
    /// None that [`Self::new`] has not met already.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.stale_before = self.stale_counts().unwrap_or_default();
        self.config.root_complex.sticky = self.chipset.sticky_registers();
        self.chipset = chipset(&self.config, &self.files, &self.memory)?;
        Ok(())
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// When the next timer fires.
    pub fn next_timer(&self) -> Option<Instant> {
        self.chipset.poll_timeout()
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
                    self.chipset.handle_timeout(self.now);
                    self.collect_outputs();
                }
                None => {
                    self.now = self.now.max(until);
                    return Ok(());
                }
            }
        }
        Err(TooManyTimers { reached: self.now })
    }

    /// Takes the oldest output of the chipset.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The root complex of segment 0, to look at.
    pub fn root_complex(&self) -> &RootComplex {
        self.chipset.root_complex()
    }

    /// What the stale-DMA oracle has found so far, if there is one.
    pub fn stale_counts(&self) -> Option<StaleCounts> {
        let mut counts = self.chipset.stale_counts()?;
        counts.merge(&self.stale_before);
        Some(counts)
    }

    /// The machine's RAM.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// One read of `data.len()` bytes; all ones where nothing answers.
    pub fn memory_read(&mut self, address: u64, data: &mut [u8]) {
        if self.is_memory(address, data.len()) {
            // Cannot fail: the range has just been checked.
            let _ = self.memory.read_slice(data, GuestAddress(address));
            return;
        }
        self.chipset.memory_read(address, data, self.now);
        self.collect_outputs();
    }

    /// One write of `data`; lost where nothing answers.
    pub fn memory_write(&mut self, address: u64, data: &[u8]) {
        if self.is_memory(address, data.len()) {
            let _ = self.memory.write_slice(data, GuestAddress(address));
            return;
        }
        self.chipset.memory_write(address, data, self.now);
        self.collect_outputs();
    }

    /// One read of a port, of one, two or four bytes.
    pub fn port_read(&mut self, port: u16, data: &mut [u8]) {
        self.chipset.port_read(port, data, self.now);
        self.collect_outputs();
    }

    /// One write of a port. A reset has put all devices back when this returns; power-off and debug
    /// exit are outputs and nothing more, as there are no CPUs to stop.
    ///
    /// # Errors
    /// As [`Self::reset`].
    pub fn port_write(&mut self, port: u16, data: &[u8]) -> Result<(), Error> {
        self.chipset.port_write(port, data, self.now);
        if self.collect_outputs() {
            self.reset()?;
        }
        Ok(())
    }

    /// Whether all of an access is RAM.
    pub fn is_memory(&self, address: u64, length: usize) -> bool {
        self.memory.check_range(GuestAddress(address), length)
    }

    /// Returns whether the guest has reset the machine.
    fn collect_outputs(&mut self) -> bool {
        let mut is_reset = false;
        while let Some(output) = self.chipset.poll_output() {
            is_reset |= output == Output::Exit(GuestExit::Reset);
            if self.outputs.len() >= MAX_OUTPUTS {
                self.outputs.pop_front();
            }
            self.outputs.push_back(output);
        }
        is_reset
    }
}

fn chipset(
    config: &MachineConfig,
    files: &HashMap<PathBuf, FileStorage>,
    memory: &Memory,
) -> Result<Chipset, Error> {
    let chipset = ChipsetConfig {
        root_complex: config.root_complex.clone(),
        memory: config.memory.bytes(),
        cpus: 1,
        tsc_khz: 0,
    };
    let (memory, tracer) = (memory.clone(), config.tracer.clone());
    Ok(Chipset::new(chipset, &mut storage::media(files), memory, tracer)?)
}
