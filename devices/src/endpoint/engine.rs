//! The endpoint's commands, its repeating write, and the traffic generators.

use std::time::Duration;

use iommu::ats::Access;
use iommu::time::Instant;

use super::outstanding::{Outstanding, Sender};
use super::regs::{Command, Opcode, Registers, Status};
use super::traffic::{CONTROL, GENERATORS, Generator, Order, Running, STEP, Traffic};
use crate::dma::atc::Geometry;
use crate::dma::{Bus, Dma, DmaPath, Transfer};

/// The DMA of the endpoint, its repeating write, and its traffic generators.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) dma: Dma,
    repeating: Option<Running>,
    generators: [Generator; GENERATORS],
    /// The traffic of the first generator after a reset.
    configured: Option<Traffic>,
    pub(super) outstanding: Outstanding,
}

/// The requests that have ended by the Completion Timeout.
#[derive(Debug, Default)]
pub(super) struct TimedOut {
    pub(super) requests: u32,
    /// The last command has ended.
    pub(super) last_command: bool,
    /// Commands that end with the function's MSI.
    pub(super) interrupts: u32,
}

impl Engine {
    pub(super) fn new(geometry: Geometry, configured: Option<Traffic>) -> Self {
        let mut generators: [Generator; GENERATORS] = Default::default();
        if let Some(traffic) = configured {
            generators[0] = Generator::running(traffic);
        }
        let (dma, outstanding) = (Dma::new(geometry), Outstanding::default());
        Self { dma, repeating: None, generators, configured, outstanding }
    }

    /// Restores the state after power-on.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.dma.atc.geometry(), self.configured);
    }

    /// Runs `command`. The caller sends the interrupt of [`Opcode::Interrupt`] and of the interrupt
    /// bit, and page requests. A request that is not answered ends after `timeout`, or never.
    pub(super) fn run(
        &mut self,
        command: Command,
        registers: &mut Registers,
        bus: &mut Bus<'_>,
        timeout: Option<Duration>,
    ) -> Status {
        let status = self.try_run(command, registers, bus).err().unwrap_or_default();
        if status == Status::Pending {
            let sender = Sender::Command { is_last: true, interrupt: command.interrupt() };
            self.outstanding.add(sender, 1, timeout, bus.now);
        }
        status
    }

    /// Ends the requests whose Completion Timeout has passed.
    pub(super) fn time_out(&mut self, now: Instant) -> TimedOut {
        let mut ended = TimedOut::default();
        while let Some(sender) = self.outstanding.time_out(now) {
            ended.requests += 1;
            match sender {
                Sender::Command { is_last, interrupt } => {
                    ended.last_command |= is_last;
                    ended.interrupts += u32::from(interrupt);
                }
                Sender::Generator(index) => {
                    self.generators.get_mut(index).into_iter().for_each(Generator::note_time_out);
                }
                Sender::Repeating | Sender::Earlier => {}
            }
        }
        self.dma.failed = self.dma.failed.wrapping_add(ended.requests);
        ended
    }

    /// Whether a repeating write runs.
    pub(super) fn is_busy(&self) -> bool {
        self.repeating.is_some()
    }

    /// When [`Self::handle_timeout`] must be called next, while the function may send requests.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let generators = self.generators.iter().filter_map(Generator::poll_timeout);
        generators.chain(self.repeating.as_ref().map(Running::due)).min()
    }

    /// Sends the requests that are due. Those that are not answered end after `timeout`, or never.
    pub(super) fn handle_timeout(&mut self, bus: &mut Bus<'_>, timeout: Option<Duration>) {
        let Self { dma, repeating, generators, outstanding, .. } = self;
        let mut add = |sender, count, now| {
            if count > 0 {
                outstanding.add(sender, count, timeout, now);
            }
        };
        if let Some(running) = repeating {
            add(Sender::Repeating, running.send_all(dma, bus), bus.now);
        }
        for (index, generator) in generators.iter_mut().enumerate() {
            add(Sender::Generator(index), generator.handle_timeout(dma, bus), bus.now);
        }
    }

    /// Reads the generators' registers, which begin at offset 0.
    pub(super) fn read_generators(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if is_register(offset, data.len()) {
            for (at, bytes) in (offset..).step_by(4).zip(data.as_chunks_mut::<4>().0) {
                let generator = self.generators.get((at / STEP) as usize);
                *bytes = generator.map_or(0, |it| it.read(at % STEP)).to_le_bytes();
            }
        }
    }

    /// Writes the generators' registers.
    pub(super) fn write_generators(
        &mut self,
        offset: u64,
        data: &[u8],
        registers: &Registers,
        now: Instant,
    ) {
        if is_register(offset, data.len()) {
            let of_endpoint = (registers.pasid, registers.pattern);
            for (at, bytes) in (offset..).step_by(4).zip(data.as_chunks::<4>().0) {
                let index = (at / STEP) as usize;
                if let Some(generator) = self.generators.get_mut(index) {
                    if at % STEP == CONTROL {
                        self.outstanding.start_generator(index);
                    }
                    generator.write(at % STEP, u32::from_le_bytes(*bytes), of_endpoint, now);
                }
            }
        }
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
        let pasid = registers.pasid(command, &bus.rights)?;
        let may_be_privileged = pasid.is_some() && bus.rights.pasid.privileged();
        let privileged = command.privileged() && may_be_privileged;
        let path = DmaPath { use_atc, pasid, privileged };
        let address = registers.iova;
        match opcode {
            Opcode::Read => {
                let transfer = Transfer::Read(&mut registers.buffer[..length]);
                self.dma.run(address, transfer, path, bus)?;
            }
            Opcode::Write => {
                let transfer = Transfer::Write(&registers.buffer[..length]);
                self.dma.run(address, transfer, path, bus)?;
            }
            Opcode::Fill => {
                let pattern = registers.pattern.to_le_bytes().into_iter().cycle();
                let data: Vec<u8> = pattern.take(length).collect();
                self.dma.run(address, Transfer::Write(&data), path, bus)?;
            }
            Opcode::StartRepeating => {
                self.start_repeating(registers, path, bus.now);
            }
            Opcode::Translate => self.dma.translate(address, path, bus)?,
            // The caller sends messages.
            Opcode::StopRepeating
            | Opcode::Interrupt
            | Opcode::PageRequest
            | Opcode::StopMarker => {}
        }
        Ok(())
    }

    /// The first write is due at once. The repeating write keeps its address and pattern, so that
    /// other commands can run meanwhile.
    fn start_repeating(&mut self, registers: &Registers, path: DmaPath, now: Instant) {
        let traffic = Traffic {
            access: Access::Write,
            order: Order::Fixed,
            use_atc: path.use_atc,
            address: registers.iova,
            span: 0,
            length: 8,
            burst: 1,
            period: Duration::from_micros(registers.period.into()),
        };
        self.repeating = Some(Running::new(traffic, path.pasid, registers.pattern, now));
    }
}

/// Whether `length` bytes at `offset` are one register or two of four bytes.
fn is_register(offset: u64, length: usize) -> bool {
    matches!(length, 4 | 8) && offset.is_multiple_of(length as u64)
}
