//! QEMU's `pc-testdev` (`hw/misc/pc-testdev.c` there), which kvm-unit-tests use.
//!
//! | port | bytes | |
//! |---|---|---|
//! | 0xe0 | 4 | holds the value that was written, in accesses of one, two or four bytes |
//! | 0xe4 | 4 | ignored; QEMU drops its mapping of the page that is written, and the next access makes a new one |
//! | 0xe8 | 4 | the same value as at 0xe0 |
//! | 0x2000 | 24 | a write of 1 asserts ISA interrupt 0 to 15, or I/O APIC pin 16 to 23, and 0 releases it |
//!
//! 64 KiB of memory at 0xff000000 are no RAM to the CPUs, so that KVM emulates each instruction that
//! accesses them.

use super::map::TEST_MEMORY;

/// Bytes of memory.
const SIZE: usize = TEST_MEMORY.size as usize;
/// The offset of the ports that drop a page.
const FLUSH: u16 = 4;

/// The device, but for its lines.
#[derive(Debug)]
pub(super) struct PcTestdev {
    value: [u8; 4],
    memory: Box<[u8; SIZE]>,
}

impl PcTestdev {
    pub(super) fn new() -> Self {
        Self { value: [0; 4], memory: Box::new([0; SIZE]) }
    }

    pub(super) fn port_read(&self, offset: u16, data: &mut [u8]) {
        match held(offset, data.len()) {
            Some(range) => data.copy_from_slice(&self.value[range]),
            None => data.fill(0xff),
        }
    }

    /// A write. That of a page is ignored: a guest cannot tell whether the host has mapped it anew.
    pub(super) fn port_write(&mut self, offset: u16, data: &[u8]) {
        if let Some(range) = held(offset, data.len()) {
            self.value[range].copy_from_slice(data);
        }
    }

    /// A read of memory. All of it lies inside.
    pub(super) fn memory_read(&self, offset: u64, data: &mut [u8]) {
        let at = offset as usize;
        data.copy_from_slice(&self.memory[at..at + data.len()]);
    }

    /// A write of memory. All of it lies inside.
    pub(super) fn memory_write(&mut self, offset: u64, data: &[u8]) {
        let at = offset as usize;
        self.memory[at..at + data.len()].copy_from_slice(data);
    }
}

/// The bytes of the held value that an access reaches.
fn held(offset: u16, length: usize) -> Option<std::ops::Range<usize>> {
    let at = usize::from(offset % 4);
    let is_flush = offset / 4 == FLUSH / 4;
    (!is_flush && at + length <= 4).then_some(at..at + length)
}
