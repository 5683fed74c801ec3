//! The commands of the NVM command set (`NVMe 6`).

use super::controller::Controller;
use super::memory::{Memory, Segment};
use super::model::MAX_TRANSFER;
use super::spec::{Command, NSID_ALL, Outcome, Status, io, namespace_index};
use super::storage::BLOCK_SIZE;
use super::{prp, sgl};

/// The blocks of a command, in bytes.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// The index of the namespace, from 0.
    medium: usize,
    start: u64,
    length: u64,
}

impl Controller {
    /// Executes an I/O command.
    pub(super) fn io(&mut self, command: &Command, memory: &mut Memory<'_>) -> Outcome {
        // No command executes another, so nothing else needs the buffer meanwhile.
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
            io::FLUSH => return self.flush(command.namespace()),
            io::READ | io::WRITE | io::COMPARE | io::WRITE_ZEROES => {}
            _ => return Err(Status::InvalidOpcode),
        }
        let extent = self.extent(command)?;
        if opcode == io::WRITE_ZEROES {
            return self.write_zeroes(extent, buffer, command);
        }
        let length = usize::try_from(extent.length).ok().filter(|length| *length <= MAX_TRANSFER);
        let length = length.ok_or(Status::InvalidField)?;
        let segments = segments(command, length, memory)?;
        match opcode {
            io::READ => {
                self.load(extent, &mut buffer[..length])?;
                memory.scatter(&segments, &buffer[..length])?;
                self.logs.reads += 1;
                self.logs.blocks_read += extent.length / BLOCK_SIZE;
                Ok(())
            }
            io::WRITE => {
                memory.gather(&segments, &mut buffer[..length])?;
                self.store(extent, &buffer[..length])?;
                self.logs.writes += 1;
                self.logs.blocks_written += extent.length / BLOCK_SIZE;
                self.flush_if_needed(command)
            }
            _ => {
                memory.gather(&segments, &mut buffer[..length])?;
                self.compare(extent, &buffer[..length])
            }
        }
    }

    /// Starting LBA and Number of Logical Blocks, if the namespace has these blocks.
    fn extent(&self, command: &Command) -> Result<Extent, Status> {
        let medium = namespace_index(command.namespace(), self.namespaces.len())?;
        let blocks = u64::from(command.dword::<12>() & 0xffff) + 1;
        let first = command.starting_lba();
        first
            .checked_add(blocks)
            .filter(|end| *end <= self.namespaces[medium].blocks())
            .map(|_| Extent { medium, start: first * BLOCK_SIZE, length: blocks * BLOCK_SIZE })
            .ok_or(Status::LbaOutOfRange)
    }

    fn write_zeroes(
        &mut self,
        extent: Extent,
        buffer: &mut [u8],
        command: &Command,
    ) -> Result<(), Status> {
        buffer.fill(0);
        let end = extent.start + extent.length;
        for start in (extent.start..end).step_by(buffer.len()) {
            let piece = (end - start).min(buffer.len() as u64);
            self.store(Extent { start, ..extent }, &buffer[..piece as usize])?;
        }
        self.flush_if_needed(command)
    }

    fn compare(&mut self, extent: Extent, data: &[u8]) -> Result<(), Status> {
        let mut block = [0; BLOCK_SIZE as usize];
        let starts = (extent.start..).step_by(block.len());
        for (start, expected) in starts.zip(data.chunks_exact(block.len())) {
            self.load(Extent { start, ..extent }, &mut block)?;
            if block != expected {
                return Err(Status::CompareFailure);
            }
        }
        Ok(())
    }

    /// Flushes after a write with FUA, and after each write if the write cache is disabled.
    fn flush_if_needed(&mut self, command: &Command) -> Result<(), Status> {
        const FORCE_UNIT_ACCESS: u32 = 1 << 30;
        if command.dword::<12>() & FORCE_UNIT_ACCESS == 0 && self.features.write_cache {
            return Ok(());
        }
        self.flush(command.namespace())
    }

    fn load(&mut self, from: Extent, data: &mut [u8]) -> Result<(), Status> {
        let outcome = self.namespaces[from.medium].read(from.start, data);
        self.logs.media_errors += u64::from(outcome.is_err());
        outcome.map_err(|_| Status::UnrecoveredRead)
    }

    fn store(&mut self, to: Extent, data: &[u8]) -> Result<(), Status> {
        let outcome = self.namespaces[to.medium].write(to.start, data);
        self.logs.media_errors += u64::from(outcome.is_err());
        outcome.map_err(|_| Status::WriteFault)
    }

    /// Flushes a namespace, or all namespaces.
    pub(super) fn flush(&mut self, namespace: u32) -> Result<(), Status> {
        let count = self.namespaces.len();
        let media = match namespace {
            NSID_ALL => 0..count,
            one => namespace_index(one, count).map(|index| index..index + 1)?,
        };
        let flushed = self.namespaces[media].iter_mut().map(|medium| medium.flush());
        let failed = flushed.filter(Result::is_err).count();
        self.logs.media_errors += failed as u64;
        if failed == 0 { Ok(()) } else { Err(Status::WriteFault) }
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
