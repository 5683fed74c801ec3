//! Commands are executed on a machine, and answered.

use std::fmt::Write;
use std::time::Duration;

use devices::chipset::{GuestExit, Output};
use iommu::time::Instant;

use super::command::{self, Command, Encoding, ParseCommandError};
use super::machine::{Machine, TooManyTimers};
use crate::Error;

/// The device whose inputs and outputs can be intercepted, as QEMU calls it.
const IO_APIC: &str = "ioapic";
/// Bytes that are moved at once.
const CHUNK: usize = 64 << 10;

/// Why a command that was understood has failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Parse(#[from] ParseCommandError),
    #[error("Unknown device '{0}'; there is {IO_APIC}")]
    Device(String),
    #[error("{IO_APIC} has no wires at its output; msi_intercept tells of messages")]
    NoOutputs,
    #[error("no oracle watches this machine; add --oracle")]
    NoOracle,
    #[error("the access runs past the end of the address space")]
    Range,
    #[error(transparent)]
    Timers(#[from] TooManyTimers),
    #[error(transparent)]
    Machine(#[from] Error),
}

/// A machine and what its driver wants to hear of.
#[derive(Debug)]
pub struct Session {
    machine: Machine,
    lines: bool,
    messages: bool,
    is_reset: bool,
}

impl Session {
    /// A session in which nothing is intercepted yet.
    pub fn new(machine: Machine) -> Self {
        Self { machine, lines: false, messages: false, is_reset: false }
    }

    /// The machine.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Whether software has reset the machine since the last call.
    pub(super) fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.is_reset)
    }

    /// Does what one line says. The answer is one line, which begins with `OK` or `FAIL`, after
    /// lines for what has been intercepted; each ends with a newline.
    pub fn execute(&mut self, line: &str) -> String {
        let outcome = Command::parse(line).map_err(CommandError::from).and_then(|c| self.run(c));
        let mut answer = self.intercepted();
        match outcome {
            Ok(value) if value.is_empty() => answer.push_str("OK\n"),
            Ok(value) => {
                // Writing to a string cannot fail.
                let _ = writeln!(answer, "OK {value}");
            }
            Err(error) => {
                let _ = writeln!(answer, "FAIL {error}");
            }
        }
        answer
    }

    fn run(&mut self, command: Command) -> Result<String, CommandError> {
        match command {
            Command::Read(width, address) => {
                let mut data = [0; 8];
                self.machine.memory_read(address, &mut data[..width as usize]);
                Ok(format!("0x{:016x}", u64::from_le_bytes(data)))
            }
            Command::Write(width, address, value) => {
                self.machine.memory_write(address, &value.to_le_bytes()[..width as usize]);
                Ok(String::new())
            }
            Command::ReadBytes(encoding, address, size) => self.read_bytes(encoding, address, size),
            Command::WriteBytes(address, bytes) => self.write_bytes(address, &bytes),
            Command::Fill(address, size, value) => self.fill(address, size, value),
            Command::In(width, port) => {
                let mut data = [0; 4];
                self.machine.port_read(port, &mut data[..(width as usize).min(4)]);
                Ok(format!("0x{:04x}", u32::from_le_bytes(data)))
            }
            Command::Out(width, port, value) => {
                let data = value.to_le_bytes();
                self.machine.port_write(port, &data[..(width as usize).min(4)])?;
                Ok(String::new())
            }
            Command::InterceptIn(device) if device == IO_APIC => {
                self.lines = true;
                Ok(String::new())
            }
            Command::InterceptOut(device) if device == IO_APIC => Err(CommandError::NoOutputs),
            Command::InterceptIn(device) | Command::InterceptOut(device) => {
                Err(CommandError::Device(device.chars().take(40).collect()))
            }
            Command::InterceptMessages => {
                self.messages = true;
                Ok(String::new())
            }
            Command::ClockStep(by) => self.step(by),
            Command::ClockSet(to) => self.advance(Instant::from_nanos(to)),
            Command::Endianness => Ok("little".to_owned()),
            Command::StaleAccesses => {
                let found = self.machine.stale_counts().ok_or(CommandError::NoOracle)?;
                Ok(format!(
                    "{} told_success={} harmless={} not_judged={} not_followed={}",
                    found.stale_accesses,
                    found.told_success,
                    found.harmless,
                    found.not_judged,
                    found.not_followed
                ))
            }
        }
    }

    fn step(&mut self, by: Option<u64>) -> Result<String, CommandError> {
        let now = self.machine.now();
        let until = match by {
            Some(nanos) => now + Duration::from_nanos(nanos),
            None => self.machine.next_timer().unwrap_or(now),
        };
        self.advance(until)
    }

    fn advance(&mut self, until: Instant) -> Result<String, CommandError> {
        self.machine.advance(until)?;
        Ok(self.machine.now().as_nanos().to_string())
    }

    fn read_bytes(
        &mut self,
        encoding: Encoding,
        address: u64,
        size: usize,
    ) -> Result<String, CommandError> {
        check_range(address, size as u64)?;
        let mut bytes = vec![0; size];
        let mut at = address;
        let mut rest = bytes.as_mut_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at_mut(self.piece(at, rest.len()));
            self.machine.memory_read(at, piece);
            at = at.wrapping_add(piece.len() as u64);
            rest = behind;
        }
        Ok(command::encode(encoding, &bytes))
    }

    fn write_bytes(&mut self, address: u64, bytes: &[u8]) -> Result<String, CommandError> {
        check_range(address, bytes.len() as u64)?;
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(self.piece(at, rest.len()));
            self.machine.memory_write(at, piece);
            at = at.wrapping_add(piece.len() as u64);
            rest = behind;
        }
        Ok(String::new())
    }

    fn fill(&mut self, address: u64, size: u64, value: u8) -> Result<String, CommandError> {
        check_range(address, size)?;
        let chunk = [value; CHUNK];
        let (mut at, mut rest) = (address, size);
        while rest > 0 {
            let length = usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK);
            self.write_bytes(at, &chunk[..length])?;
            rest -= length as u64;
            at = at.wrapping_add(length as u64);
        }
        Ok(String::new())
    }

    /// The number of bytes, of `length` at `address`, that form one access. In RAM these are all
    /// bytes, in registers 1, 2 or 4 that are naturally aligned.
    fn piece(&self, address: u64, length: usize) -> usize {
        if self.machine.is_memory(address, length) {
            return length;
        }
        let alignment = address.trailing_zeros().min(2);
        match (1_usize << alignment).min(length) {
            // An access that no bus has.
            3 => 2,
            size => size,
        }
    }

    /// Lines for outputs since the last answer that the driver has asked for.
    fn intercepted(&mut self) -> String {
        let mut text = String::new();
        while let Some(output) = self.machine.poll_output() {
            let _ = match output {
                Output::Line(line) if self.lines => {
                    let verb = if line.level { "raise" } else { "lower" };
                    writeln!(text, "IRQ {verb} {}", line.pin)
                }
                Output::Interrupt(msi) if self.messages => {
                    writeln!(text, "MSI 0x{:x} 0x{:x}", msi.address, msi.data)
                }
                Output::Exit(GuestExit::Reset) => {
                    self.is_reset = true;
                    Ok(())
                }
                _ => Ok(()),
            };
        }
        text
    }
}

fn check_range(address: u64, size: u64) -> Result<(), CommandError> {
    address.checked_add(size).map(|_| ()).ok_or(CommandError::Range)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

#[cfg(test)]
pub(super) mod testkit {
    use devices::fault::Fault;
    use devices::root_complex::RootComplexConfig;
    use devices::topology::Topology;
    use iommu::event::{Tracer, UnitRole};
    use iommu::unit::UnitConfig;

    use super::*;
    use crate::qtest::MachineConfig;

    /// 64 MiB and one edu.
    pub(in crate::qtest) fn session() -> Session {
        session_with(false)
    }

    /// As [`session`], with the stale-DMA oracle or without.
    pub(in crate::qtest) fn session_with(oracle: bool) -> Session {
        session_of(oracle, Vec::new())
    }

    /// As [`session_with`], with faults.
    pub(in crate::qtest) fn session_of(oracle: bool, faults: Vec<Fault>) -> Session {
        let unit = UnitConfig::new(UnitRole::Guest);
        session_on(Topology::simple(2, 1), unit, oracle, faults)
    }

    /// As [`session_of`], with another unit and other devices.
    pub(in crate::qtest) fn session_on(
        topology: Topology,
        unit: UnitConfig,
        oracle: bool,
        faults: Vec<Fault>,
    ) -> Session {
        let config = MachineConfig {
            memory: "64M".parse().unwrap(),
            root_complex: RootComplexConfig {
                topology,
                oracle,
                faults,
                ..RootComplexConfig::direct(unit)
            },
            tracer: Tracer::none(),
        };
        Session::new(Machine::new(config).unwrap())
    }
}
