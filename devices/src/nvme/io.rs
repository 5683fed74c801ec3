//! The commands of the NVM command set (`NVMe 6`).

use super::MAX_TRANSFER;
use super::controller::Controller;
use super::identify::check_namespace;
use super::memory::{Memory, Segment};
use super::spec::{Command, Outcome, Status, io};
use super::storage::BLOCK_SIZE;
use super::{prp, sgl};

/// What a command means on the medium, in bytes.
#[derive(Debug, Clone, Copy)]
struct Extent {
    start: u64,
    length: u64,
}

impl Controller {
    /// Carries out an I/O command.
    pub(super) fn io(&mut self, command: &Command, memory: &mut Memory<'_>) -> Outcome {
        // The buffer is not needed while it is away: no command carries out another.
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = self.io_with(command, &mut buffer, memory);
        self.buffer = buffer;
        outcome.map(|()| 0)
    }

    fn io_with(
        &mut self,
        command: &Command,
        buffer: &mut [u8],
        memory: &mut Memory<'_>,
    ) -> Result<(), Status> {
        let opcode = command.opcode();
        match opcode {
            io::FLUSH => {
                check_namespace(command.namespace(), true)?;
                return self.flush();
            }
            io::READ | io::WRITE | io::COMPARE | io::WRITE_ZEROES => {}
            _ => return Err(Status::InvalidOpcode),
        }
        check_namespace(command.namespace(), false)?;
        let extent = self.extent(command)?;
        if opcode == io::WRITE_ZEROES {
            return self.write_zeroes(extent, buffer, command);
        }
        let length = usize::try_from(extent.length).ok().filter(|length| *length <= MAX_TRANSFER);
        let length = length.ok_or(Status::InvalidField)?;
        let segments = segments(command, length, memory)?;
        match opcode {
            io::READ => {
                self.load(extent.start, &mut buffer[..length])?;
                memory.scatter(&segments, &buffer[..length])?;
                self.logs.reads += 1;
                self.logs.blocks_read += extent.length / BLOCK_SIZE;
                Ok(())
            }
            io::WRITE => {
                memory.gather(&segments, &mut buffer[..length])?;
                self.store(extent.start, &buffer[..length])?;
                self.logs.writes += 1;
                self.logs.blocks_written += extent.length / BLOCK_SIZE;
                self.settle(command)
            }
            _ => {
                memory.gather(&segments, &mut buffer[..length])?;
                self.compare(extent.start, &buffer[..length])
            }
        }
    }

    /// Starting LBA and Number of Logical Blocks, if the namespace has those.
    fn extent(&self, command: &Command) -> Result<Extent, Status> {
        let blocks = u64::from(command.dword::<12>() & 0xffff) + 1;
        let first = command.starting_lba();
        first
            .checked_add(blocks)
            .filter(|end| *end <= self.storage.blocks())
            .map(|_| Extent { start: first * BLOCK_SIZE, length: blocks * BLOCK_SIZE })
            .ok_or(Status::LbaOutOfRange)
    }

    fn write_zeroes(
        &mut self,
        extent: Extent,
        buffer: &mut [u8],
        command: &Command,
    ) -> Result<(), Status> {
        buffer.fill(0);
        let mut done = 0;
        while done < extent.length {
            let piece = (extent.length - done).min(buffer.len() as u64);
            self.store(extent.start + done, &buffer[..piece as usize])?;
            done += piece;
        }
        self.settle(command)
    }

    fn compare(&mut self, mut start: u64, data: &[u8]) -> Result<(), Status> {
        let mut block = [0; BLOCK_SIZE as usize];
        for expected in data.chunks_exact(block.len()) {
            self.load(start, &mut block)?;
            if block != expected {
                return Err(Status::CompareFailure);
            }
            start += BLOCK_SIZE;
        }
        Ok(())
    }

    /// What was written is durable at once if the command says so, or without a write cache.
    fn settle(&mut self, command: &Command) -> Result<(), Status> {
        const FORCE_UNIT_ACCESS: u32 = 1 << 30;
        if command.dword::<12>() & FORCE_UNIT_ACCESS == 0 && self.features.write_cache {
            return Ok(());
        }
        self.flush()
    }

    fn load(&mut self, offset: u64, data: &mut [u8]) -> Result<(), Status> {
        let outcome = self.storage.read(offset, data);
        self.logs.media_errors += u64::from(outcome.is_err());
        outcome.map_err(|_| Status::UnrecoveredRead)
    }

    fn store(&mut self, offset: u64, data: &[u8]) -> Result<(), Status> {
        let outcome = self.storage.write(offset, data);
        self.logs.media_errors += u64::from(outcome.is_err());
        outcome.map_err(|_| Status::WriteFault)
    }

    fn flush(&mut self) -> Result<(), Status> {
        let outcome = self.storage.flush();
        self.logs.media_errors += u64::from(outcome.is_err());
        outcome.map_err(|_| Status::WriteFault)
    }
}

fn segments(
    command: &Command,
    length: usize,
    memory: &mut Memory<'_>,
) -> Result<Vec<Segment>, Status> {
    match command.head().psdt() {
        0 => prp::walk(command.prp1(), command.prp2(), length, memory),
        1 | 2 => {
            let descriptor = u128::from(command.prp2()) << 64 | u128::from(command.prp1());
            sgl::walk(descriptor.into(), length, memory)
        }
        _ => Err(Status::InvalidField),
    }
}
