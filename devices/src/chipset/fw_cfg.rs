//! Ports 0x510 and 0x511: the few entries of QEMU's firmware configuration that test kernels read
//! (`docs/specs/fw_cfg.rst` there). An entry is selected, then read byte by byte.

const SIGNATURE: u16 = 0x00;
const RAM_SIZE: u16 = 0x03;
const CPUS: u16 = 0x05;

/// The two ports.
#[derive(Debug)]
pub(super) struct FwCfg {
    memory: u64,
    cpus: u16,
    selected: u16,
    /// How many bytes of the selected entry have been read.
    position: usize,
}

impl FwCfg {
    pub(super) fn new(memory: u64, cpus: u8) -> Self {
        Self { memory, cpus: cpus.into(), selected: 0, position: 0 }
    }

    pub(super) fn read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0);
        if let (1, [byte]) = (offset, data) {
            *byte = self.byte();
            self.position = self.position.saturating_add(1);
        }
    }

    pub(super) fn write(&mut self, offset: u16, data: &[u8]) {
        if let (0, Ok(selector)) = (offset, <[u8; 2]>::try_from(data)) {
            self.selected = u16::from_le_bytes(selector);
            self.position = 0;
        }
    }

    /// The next byte of the selected entry. Entries that do not exist read as zero: so does the
    /// largest APIC id, for which zero means that there is no limit.
    fn byte(&self) -> u8 {
        let byte = match self.selected {
            SIGNATURE => b"QEMU".get(self.position).copied(),
            RAM_SIZE => self.memory.to_le_bytes().get(self.position).copied(),
            CPUS => self.cpus.to_le_bytes().get(self.position).copied(),
            _ => None,
        };
        byte.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_byte_by_byte_and_end_in_zeros() {
        let mut ports = FwCfg::new(64 << 20, 4);
        let mut read = |entry: u16| {
            ports.write(0, &entry.to_le_bytes());
            [(); 10].map(|()| {
                let mut byte = [0xff];
                ports.read(1, &mut byte);
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
