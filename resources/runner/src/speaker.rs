//! The runner's lines to the VMM, by the debug console.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use steps::{Message, Stamped, Text};

use crate::shell::message_text;
use crate::sys;

/// The debug console.
const DEBUG_CONSOLE: u16 = 0xe9;
/// The debug-exit port: a byte written there ends the machine.
const DEBUG_EXIT: u16 = 0xf4;

/// The time since the kernel's start.
pub(crate) fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// How ports are written. Neither way passes through printk, which may be silent.
#[derive(Debug)]
enum Ports {
    /// By instructions.
    Instructions,
    /// By `/dev/port`, where the kernel has no ioperm.
    File(File),
}

/// The way to the VMM.
#[derive(Debug)]
pub(crate) struct Speaker {
    ports: Ports,
    /// Where messages are repeated.
    terminal: Option<File>,
}

impl Speaker {
    /// Opens the way.
    ///
    /// # Errors
    /// The kernel permits neither ioperm nor `/dev/port`.
    pub(crate) fn new() -> io::Result<Self> {
        let allowed = sys::allow_ports(DEBUG_CONSOLE, 1).and(sys::allow_ports(DEBUG_EXIT, 4));
        let ports = match allowed {
            Ok(()) => Ports::Instructions,
            Err(_) => Ports::File(File::options().write(true).open("/dev/port")?),
        };
        Ok(Self { ports, terminal: None })
    }

    /// Repeats messages on a terminal.
    pub(crate) fn repeat_on(&mut self, terminal: File) {
        self.terminal = Some(terminal);
    }

    /// Sends a message as one line.
    pub(crate) fn say(&self, message: Message) {
        if let (Some(terminal), Some(text)) = (&self.terminal, message_text(&message)) {
            // Nothing can be done for a reader who is gone.
            let _ = (&*terminal).write_all(text.as_bytes());
        }
        let line = format!("{}\n", Stamped { at: uptime(), message });
        self.write(DEBUG_CONSOLE, line.as_bytes());
    }

    /// Sends a line of evidence.
    pub(crate) fn show(&self, text: &str) {
        self.say(Message::Evidence(Text::new(text)));
    }

    /// Ends the machine.
    pub(crate) fn end_machine(&self) {
        self.write(DEBUG_EXIT, &[0]);
    }

    fn write(&self, port: u16, bytes: &[u8]) {
        match &self.ports {
            Ports::Instructions => sys::write_port(port, bytes),
            // The offset of the file is the port, so that each byte has a call of its own.
            Ports::File(file) => {
                for byte in bytes {
                    let _ = file.write_at(std::slice::from_ref(byte), port.into());
                }
            }
        }
    }
}
