//! COM1: vm-superio's 16550A. What the guest sends waits to be taken, and so do the interrupt and
//! the news that all input has been read.

use std::cell::Cell;
use std::convert::Infallible;

use vm_superio::serial::SerialEvents;
use vm_superio::{Serial, Trigger};

/// Remembers that something has happened.
#[derive(Debug, Default)]
struct Flag(Cell<bool>);

impl Trigger for Flag {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }
}

impl SerialEvents for Flag {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        self.0.set(true);
    }
}

/// The eight ports.
#[derive(Debug)]
pub(super) struct Com1(Serial<Flag, Flag, Vec<u8>>);

impl Com1 {
    pub(super) fn new() -> Self {
        Self(Serial::with_events(Flag::default(), Flag::default(), Vec::new()))
    }

    /// Reads register `offset` and, with more than one byte, those behind it.
    pub(super) fn read(&mut self, offset: u16, data: &mut [u8]) {
        for (offset, byte) in (offset as u8..).zip(data) {
            *byte = self.0.read(offset);
        }
    }

    /// Writes register `offset` and, with more than one byte, those behind it.
    pub(super) fn write(&mut self, offset: u16, data: &[u8]) {
        for (offset, byte) in (offset as u8..).zip(data) {
            // The output is a vector and the trigger a flag: neither can fail.
            let _ = self.0.write(offset, *byte);
        }
    }

    /// How many bytes [`Self::receive`] takes now.
    pub(super) fn room(&mut self) -> usize {
        self.0.fifo_capacity()
    }

    /// Bytes come in; those that do not fit are lost, as on a line without flow control.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let _ = self.0.enqueue_raw_bytes(bytes);
    }

    /// Takes the bytes that the guest has sent.
    pub(super) fn drain_sent(&mut self) -> impl Iterator<Item = u8> + '_ {
        self.0.writer_mut().drain(..)
    }

    /// Whether the interrupt line has gone up since the last call.
    pub(super) fn take_interrupt(&mut self) -> bool {
        self.0.interrupt_evt().0.take()
    }

    /// Whether the guest has read the last byte of its input since the last call.
    pub(super) fn take_input_empty(&mut self) -> bool {
        self.0.events().0.take()
    }
}
