//! Disks as block devices: a partition table, a pattern, and reads that pass the page cache.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

use crate::sys;

/// Bytes of a sector, as the partition table counts them.
const SECTOR: u64 = 512;
/// The first sector of the partition, 1 MiB.
const FIRST_SECTOR: u32 = 2048;
/// Bytes that are written and verified.
const PATTERN: usize = 1 << 20;
/// The alignment that direct reads have.
const ALIGNMENT: usize = 4096;

/// The device of a disk.
pub(crate) fn disk(number: u8) -> String {
    format!("/dev/nvme{number}n1")
}

/// A partition table (MBR) with one partition of type Linux, from 1 MiB to the end of a disk of
/// `bytes`. `None` if the disk has no room.
fn partition_table(bytes: u64) -> Option<[u8; SECTOR as usize]> {
    let sectors = (bytes / SECTOR).checked_sub(FIRST_SECTOR.into()).filter(|count| *count > 0)?;
    // 32 bits are what the table has.
    let sectors = u32::try_from(sectors).unwrap_or(u32::MAX);
    let mut table = [0; SECTOR as usize];
    // Cylinder, head and sector at their ends say that only the sectors' numbers hold.
    table[446..454].copy_from_slice(&[0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
    table[454..458].copy_from_slice(&FIRST_SECTOR.to_le_bytes());
    table[458..462].copy_from_slice(&sectors.to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    Some(table)
}

/// Bytes that differ from block to block, so that a block in the wrong place is found.
fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(PATTERN);
    while bytes.len() < PATTERN {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

/// Makes a partition on a disk, writes a pattern to it and reads it back past the page cache, a page at
/// a time, so that the data comes from the disk and each page is mapped and unmapped for its own
/// request. Returns the number of bytes.
pub(crate) fn verify(number: u8) -> Result<usize, String> {
    let path = disk(number);
    let failed = |action: &str| {
        let action = format!("cannot {action} {path}");
        move |error: io::Error| format!("{action}: {error}")
    };
    let mut disk = File::options().read(true).write(true).open(&path).map_err(failed("open"))?;
    let bytes = disk.seek(SeekFrom::End(0)).map_err(failed("find the size of"))?;
    let table = partition_table(bytes).ok_or_else(|| format!("{path} has only {bytes} bytes"))?;
    disk.write_all_at(&table, 0).map_err(failed("write the partition table of"))?;
    disk.sync_all().map_err(failed("flush"))?;
    sys::reread_partitions(&disk).map_err(failed("read the partition table of"))?;
    drop(disk);

    let partition = format!("{path}p1");
    let failed = |action: &str| {
        let action = format!("cannot {action} {partition}");
        move |error: io::Error| format!("{action}: {error}")
    };
    let mut options = File::options();
    let mut file =
        wait_for(Duration::from_secs(10), || options.read(true).write(true).open(&partition))
            .map_err(failed("open"))?;
    let pattern = pattern();
    file.write_all(&pattern).map_err(failed("write"))?;
    file.sync_all().map_err(failed("flush"))?;
    drop(file);
    let mut reader = DirectReader::open(&partition).map_err(failed("open"))?;
    for (index, wrote) in pattern.chunks(ALIGNMENT).enumerate() {
        let offset = index * ALIGNMENT;
        let read = reader.read_at(offset as u64, ALIGNMENT).map_err(failed("read"))?;
        if read != wrote {
            return Err(format!(
                "{partition} has other data than was written, from byte {offset} on"
            ));
        }
    }
    Ok(PATTERN)
}

/// Repeats `attempt` until it succeeds, or fails with its last error after `limit`.
fn wait_for<T>(limit: Duration, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let end = std::time::Instant::now() + limit;
    loop {
        match attempt() {
            Err(_) if std::time::Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// Reads `length` bytes from the start of a disk, past the page cache. A disk that is disabled may
/// have size 0, which is an error here.
pub(crate) fn direct_read(number: u8, length: usize) -> io::Result<Vec<u8>> {
    direct_reader(number)?.read_at(0, length).map(<[u8]>::to_vec)
}

/// A disk or a partition that is open for direct reads.
pub(crate) struct DirectReader {
    file: File,
    buffer: Vec<u8>,
}

/// Opens a disk.
pub(crate) fn direct_reader(number: u8) -> io::Result<DirectReader> {
    DirectReader::open(&disk(number))
}

impl DirectReader {
    fn open(path: &str) -> io::Result<Self> {
        let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(path)?;
        Ok(Self { file, buffer: Vec::new() })
    }

    /// Reads `length` bytes at `offset`, both multiples of 4096.
    pub(crate) fn read_at(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        self.buffer.resize(length + ALIGNMENT, 0);
        let start = self.buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let buffer = &mut self.buffer[start..start + length];
        self.file.read_exact_at(buffer, offset)?;
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_table_has_one_partition_from_1_mib_to_the_end() {
        let table = partition_table(64 << 20).unwrap();
        assert_eq!(table[510..], [0x55, 0xaa]);
        assert_eq!(table[446 + 4], 0x83);
        assert_eq!(table[454..458], 2048_u32.to_le_bytes());
        assert_eq!(table[458..462], ((64 << 11) - 2048_u32).to_le_bytes());
        assert!(table[..446].iter().chain(&table[462..510]).all(|byte| *byte == 0));
        assert_eq!(partition_table(1 << 20), None);
        assert_eq!(partition_table(0), None);
        assert_eq!(partition_table(u64::MAX).unwrap()[458..462], [0xff; 4]);
    }

    #[test]
    fn no_two_blocks_of_the_pattern_are_the_same() {
        let pattern = pattern();
        assert_eq!(pattern.len(), PATTERN);
        let mut blocks: Vec<&[u8]> = pattern.chunks(512).collect();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), PATTERN / 512);
    }

    #[test]
    fn a_disk_that_is_not_there_is_named() {
        let error = verify(250).unwrap_err();
        assert!(error.starts_with("cannot open /dev/nvme250n1: No such file"), "{error}");
    }
}
