//! COM1, polled. Each character is an exit to the VMM (about 11 us), and so is each read of the
//! line status. With the transmit FIFO on, one read of the status is enough for 16 characters.

use core::fmt::{self, Write};

use crate::machine::ports::{in8, out8};

const DATA: u16 = 0x3f8;
const INTERRUPT_ENABLE: u16 = 0x3f9;
/// For reads. FIFO control has the same port, for writes.
const INTERRUPT_ID: u16 = 0x3fa;
const FIFO_CONTROL: u16 = 0x3fa;
const LINE_CONTROL: u16 = 0x3fb;
const MODEM_CONTROL: u16 = 0x3fc;
const LINE_STATUS: u16 = 0x3fd;

const FIFO_ENABLE_AND_CLEAR: u8 = 0x07;
const FIFO_BYTES: usize = 16;
const EIGHT_BITS: u8 = 0x03;
/// OUT2 connects the UART to its interrupt line on a PC.
const DTR_RTS_OUT2: u8 = 0x0b;
const STATUS_RECEIVED: u8 = 1 << 0;
const STATUS_EMPTY: u8 = 1 << 5;
const INTERRUPT_EMPTY: u8 = 1 << 1;

/// The I/O APIC pin of COM1.
pub const PIN: u8 = 4;

/// Sets the port up. To be called once, before the first line.
pub fn init() {
    out8(INTERRUPT_ENABLE, 0);
    out8(LINE_CONTROL, EIGHT_BITS);
    out8(FIFO_CONTROL, FIFO_ENABLE_AND_CLEAR);
    out8(MODEM_CONTROL, DTR_RTS_OUT2);
}

/// Turns the interrupt of the empty transmitter on or off. It comes at once, as the transmitter is
/// empty.
pub fn interrupt_when_empty(on: bool) {
    // The read acknowledges the last interrupt; without it there is no other one.
    let _ = in8(INTERRUPT_ID);
    out8(INTERRUPT_ENABLE, if on { INTERRUPT_EMPTY } else { 0 });
}

/// A received byte, if there is one.
pub fn receive() -> Option<u8> {
    (in8(LINE_STATUS) & STATUS_RECEIVED != 0).then(|| in8(DATA))
}

/// Sends bytes as they are.
pub fn send(bytes: &[u8]) {
    for chunk in bytes.chunks(FIFO_BYTES) {
        while in8(LINE_STATUS) & STATUS_EMPTY == 0 {
            core::hint::spin_loop();
        }
        for &byte in chunk {
            out8(DATA, byte);
        }
    }
}

/// A buffered line, sent in pieces of [`FIFO_BYTES`]. A longer line is cut off.
struct Line {
    bytes: [u8; 160],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.used;
        let taken = text.len().min(room);
        self.bytes[self.used..self.used + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.used += taken;
        Ok(())
    }
}

/// Prints one line, for [`crate::println`].
pub fn print_line(arguments: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 160], used: 0 };
    // `Line` and the types that this program prints never fail.
    let _ = line.write_fmt(arguments);
    send(&line.bytes[..line.used]);
    send(b"\n");
}

/// Prints a line on the serial port.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::machine::serial::print_line(format_args!($($argument)*))
    };
}
