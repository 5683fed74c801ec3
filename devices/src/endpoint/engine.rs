//! What the endpoint does when it is told to: commands, and the write that repeats.

use std::time::Duration;

use iommu::ids::Iova;
use iommu::time::Instant;

use super::regs::{Command, Opcode, Registers, Status};
use crate::dma::{Bus, Dma, Road, Transfer};

/// A write that repeats until it is stopped. What it writes and where is fixed when it starts, so
/// that other commands can be given meanwhile.
#[derive(Debug)]
struct Repeating {
    address: Iova,
    pattern: u32,
    road: Road,
    period: Duration,
    count: u32,
    due: Instant,
}

/// The engine: its DMA, and the repeating write if one runs.
#[derive(Debug, Default)]
pub(super) struct Engine {
    pub(super) dma: Dma,
    repeating: Option<Repeating>,
}

impl Engine {
    /// Runs `command` and says how it ended. [`Opcode::Interrupt`] and the interrupt bit are left
    /// to the caller, once this has returned [`Status::Ok`].
    pub(super) fn run(
        &mut self,
        command: Command,
        registers: &mut Registers,
        bus: &mut Bus<'_>,
    ) -> Status {
        self.try_run(command, registers, bus).err().unwrap_or_default()
    }

    /// Whether a repeating write runs.
    pub(super) fn is_busy(&self) -> bool {
        self.repeating.is_some()
    }

    /// When the repeating write is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.repeating.as_ref().map(|repeating| repeating.due)
    }

    /// Does the repeating write if it is due: once, however late the call is.
    pub(super) fn handle_timeout(&mut self, bus: &mut Bus<'_>) {
        let Some(repeating) = self.repeating.as_mut().filter(|write| write.due <= bus.now) else {
            return;
        };
        let data = u64::from(repeating.count) << 32 | u64::from(repeating.pattern);
        repeating.count = repeating.count.wrapping_add(1);
        // A caller that comes late does not find a burst of what it has missed.
        let next = repeating.due + repeating.period;
        repeating.due = if next > bus.now { next } else { bus.now + repeating.period };
        let transfer = Transfer::Write(&data.to_le_bytes());
        // The outcome is counted; there is no command that it could be the result of.
        let _ = self.dma.run(repeating.address, transfer, repeating.road, bus);
    }

    fn try_run(
        &mut self,
        command: Command,
        registers: &mut Registers,
        bus: &mut Bus<'_>,
    ) -> Result<(), Status> {
        let opcode = Opcode::decode(command.opcode()).ok_or(Status::BadCommand)?;
        if opcode == Opcode::StopRepeating {
            self.repeating = None;
            return Ok(());
        }
        let length = match opcode {
            Opcode::Read | Opcode::Write | Opcode::Fill => {
                registers.checked_length().ok_or(Status::BadCommand)?
            }
            Opcode::StartRepeating if registers.iova.checked_add(7).is_none() => {
                return Err(Status::BadCommand);
            }
            _ => 0,
        };
        if !bus.rights.bus_master {
            return Err(Status::BusMasterOff);
        }
        let use_atc = command.use_atc() || opcode == Opcode::Translate;
        if use_atc && !self.dma.uses_ats(&bus.rights) {
            return Err(Status::AtsOff);
        }
        let road = Road { use_atc, pasid: registers.pasid(command, &bus.rights)? };
        let address = registers.iova;
        match opcode {
            Opcode::Read => {
                let transfer = Transfer::Read(&mut registers.buffer[..length]);
                self.dma.run(address, transfer, road, bus)?;
            }
            Opcode::Write => {
                let transfer = Transfer::Write(&registers.buffer[..length]);
                self.dma.run(address, transfer, road, bus)?;
            }
            Opcode::Fill => {
                let pattern = registers.pattern.to_le_bytes().into_iter().cycle();
                let data: Vec<u8> = pattern.take(length).collect();
                self.dma.run(address, Transfer::Write(&data), road, bus)?;
            }
            Opcode::StartRepeating => {
                self.start_repeating(registers, road, bus.now);
            }
            Opcode::Translate => self.dma.translate(address, road.pasid, bus)?,
            // The caller sends messages.
            Opcode::StopRepeating
            | Opcode::Interrupt
            | Opcode::PageRequest
            | Opcode::StopMarker => {}
        }
        Ok(())
    }

    /// The first write is due at once.
    fn start_repeating(&mut self, registers: &Registers, road: Road, now: Instant) {
        self.repeating = Some(Repeating {
            address: registers.iova,
            pattern: registers.pattern,
            road,
            period: Duration::from_micros(registers.period.into()),
            count: 0,
            due: now,
        });
    }
}
