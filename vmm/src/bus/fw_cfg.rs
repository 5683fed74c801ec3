//! Ports 0x510 and 0x511: the few entries of QEMU's firmware configuration that test kernels read
//! (`docs/specs/fw_cfg.rst` there). An entry is selected, then read byte by byte.

use std::sync::{Mutex, PoisonError};

use vm_device::DevicePio;
use vm_device::bus::PioAddress;

use crate::config::MemorySize;

const SIGNATURE: u16 = 0x00;
const RAM_SIZE: u16 = 0x03;
const CPUS: u16 = 0x05;

/// The two ports.
pub(crate) struct FwCfgPorts {
    memory: u64,
    cpus: u16,
    /// The entry that is selected, and how much of it has been read.
    position: Mutex<(u16, usize)>,
}

impl FwCfgPorts {
    pub(crate) fn new(memory: MemorySize, cpus: u8) -> Self {
        Self { memory: memory.bytes(), cpus: cpus.into(), position: Mutex::default() }
    }

    /// Byte `at` of an entry. What there is not reads as zero: so does the largest APIC id, for which
    /// zero means that there is no limit.
    fn byte(&self, entry: u16, at: usize) -> u8 {
        let [low, high] = self.cpus.to_le_bytes();
        let byte = match entry {
            SIGNATURE => b"QEMU".get(at).copied(),
            RAM_SIZE => self.memory.to_le_bytes().get(at).copied(),
            CPUS => [low, high].get(at).copied(),
            _ => None,
        };
        byte.unwrap_or(0)
    }
}

impl DevicePio for FwCfgPorts {
    fn pio_read(&self, _: PioAddress, offset: u16, data: &mut [u8]) {
        data.fill(0);
        if let (1, [byte]) = (offset, data) {
            let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
            *byte = self.byte(position.0, position.1);
            position.1 = position.1.saturating_add(1);
        }
    }

    fn pio_write(&self, _: PioAddress, offset: u16, data: &[u8]) {
        if let (0, Ok(selector)) = (offset, <[u8; 2]>::try_from(data)) {
            let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
            *position = (u16::from_le_bytes(selector), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_byte_by_byte_and_end_in_zeros() {
        let ports = FwCfgPorts::new("64M".parse().unwrap(), 4);
        let read = |entry: u16| {
            ports.pio_write(PioAddress(0x510), 0, &entry.to_le_bytes());
            [(); 10].map(|()| {
                let mut byte = [0xff];
                ports.pio_read(PioAddress(0x511), 1, &mut byte);
                byte[0]
            })
        };
        assert_eq!(read(0x00), *b"QEMU\0\0\0\0\0\0");
        assert_eq!(read(0x05), [4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read(0x03), [0, 0, 0, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read(0x11), [0; 10]);
        assert_eq!(read(0xffff), [0; 10]);
    }
}
