//! COM1: vm-superio's 16550A between the guest's ports, the console and pin 4 of the I/O APIC.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vm_superio::serial::SerialEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::console::Output;
use crate::console_watch::ConsoleWatch;
use crate::interrupts::Interrupts;
use crate::layout::COM1_PIN;

/// COM1, shared by all threads.
pub(crate) struct Uart {
    /// No other lock is taken while this one is held: what the guest sends is collected in it,
    /// and written, which may take as long as the reader likes, when it is released.
    serial: Mutex<Serial<Line, Room, Vec<u8>>>,
    output: Output,
    watch: ConsoleWatch,
    interrupts: Arc<Interrupts>,
    has_spoken: AtomicBool,
}

/// Remembers that the interrupt line went up.
#[derive(Debug, Default)]
struct Line(Cell<bool>);

impl Trigger for Line {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }
}

/// Tells the event loop that there is room for input again.
#[derive(Debug)]
struct Room(EventFd);

impl SerialEvents for Room {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        // Fails only if the counter is full, and then the event loop wakes up already.
        let _ = self.0.write(1);
    }
}

impl Uart {
    /// COM1 that sends to `output`, under the eyes of `watch`, and writes `room` when the guest has
    /// read all its input.
    pub(crate) fn new(
        output: Output,
        watch: ConsoleWatch,
        room: EventFd,
        interrupts: Arc<Interrupts>,
    ) -> Self {
        let serial = Serial::with_events(Line::default(), Room(room), Vec::new());
        let has_spoken = AtomicBool::new(false);
        Self { serial: Mutex::new(serial), output, watch, interrupts, has_spoken }
    }

    /// The guest reads register `offset` (and, with more than one byte, those behind it).
    pub(crate) fn read(&self, offset: u8, data: &mut [u8]) {
        self.with(|serial| {
            for (offset, byte) in (offset..).zip(data) {
                *byte = serial.read(offset);
            }
        });
    }

    /// The guest writes register `offset` (and, with more than one byte, those behind it).
    pub(crate) fn write(&self, offset: u8, data: &[u8]) {
        self.with(|serial| {
            for (offset, byte) in (offset..).zip(data) {
                // The output is a vector and the trigger a flag: neither can fail.
                let _ = serial.write(offset, *byte);
            }
        });
    }

    /// Whether the guest has sent anything.
    pub(crate) fn has_spoken(&self) -> bool {
        self.has_spoken.load(Ordering::Relaxed)
    }

    /// How many bytes [`Self::receive`] takes now.
    pub(crate) fn room(&self) -> usize {
        self.with(|serial| serial.fifo_capacity())
    }

    /// Bytes come in; those that do not fit are lost, as on a line without flow control.
    pub(crate) fn receive(&self, bytes: &[u8]) {
        self.with(|serial| {
            let _ = serial.enqueue_raw_bytes(bytes);
        });
    }

    fn with<R>(&self, call: impl FnOnce(&mut Serial<Line, Room, Vec<u8>>) -> R) -> R {
        let mut serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
        let result = call(&mut serial);
        let sent = std::mem::take(serial.writer_mut());
        let raised = serial.interrupt_evt().0.take();
        drop(serial);
        if !sent.is_empty() {
            self.has_spoken.store(true, Ordering::Relaxed);
            self.watch.sent(&sent);
            self.output.write(&sent);
        }
        if raised {
            self.interrupts.pulse(COM1_PIN);
        }
        result
    }
}
