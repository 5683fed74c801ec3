//! The debug console: the lines that the guest writes to port 0xe9, and where they go.

use std::io::{self, Write};
use std::sync::mpsc::TrySendError;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use devices::chipset::Chipset;
use devices::fault::GuestConsole;

use crate::Error;
use crate::config::DebugConsole;
use crate::console::CAPTURE_MAX;
use crate::console_watch::ConsoleWatch;
use crate::exit::RunEnd;
use crate::sys;

/// The line that is being sent, and the faults that wait for one.
#[derive(Debug)]
pub(crate) struct DebugLine {
    line: Vec<u8>,
    watch: ConsoleWatch,
}

impl DebugLine {
    /// For the faults of `chipset`.
    pub(crate) fn new(chipset: &Chipset) -> Result<Self, Error> {
        let watch = ConsoleWatch::new(chipset, GuestConsole::Debug)?;
        Ok(Self { line: Vec::with_capacity(DebugConsole::LONGEST_LINE), watch })
    }

    /// The guest has sent `byte`. Returns whether that completes a line.
    pub(crate) fn push(&mut self, byte: u8) -> bool {
        self.line.push(byte);
        byte == b'\n' || self.line.len() == DebugConsole::LONGEST_LINE
    }

    /// The faults that have waited for the line. It may lack its end.
    pub(crate) fn matched(&mut self) -> Vec<usize> {
        self.watch.line(&self.line)
    }

    /// The line, after which the next one begins.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let line = self.line.as_slice().to_vec();
        self.line.clear();
        line
    }

    /// As [`Self::take`], for a line that goes nowhere.
    pub(crate) fn discard(&mut self) {
        self.line.clear();
    }
}

/// The receiver of complete lines.
#[derive(Debug)]
pub(crate) struct DebugOutput {
    to: DebugConsole,
    run_end: Arc<RunEnd>,
}

/// How often a full channel is looked at again.
const RETRY: Duration = Duration::from_millis(1);

impl DebugOutput {
    pub(crate) fn new(to: DebugConsole, run_end: Arc<RunEnd>) -> Self {
        Self { to, run_end }
    }

    /// Whether lines go nowhere.
    pub(crate) fn discards(&self) -> bool {
        matches!(self.to, DebugConsole::Discard)
    }

    /// Passes a line on. A receiver that does not take it holds the guest's CPU up until the run is
    /// over. A file that cannot be written ends the run.
    pub(crate) fn write(&self, line: Vec<u8>) {
        match &self.to {
            DebugConsole::Discard => {}
            DebugConsole::Stdout => {
                let mut stdout = io::stdout().lock();
                if sys::wait_writable(&stdout, self.run_end.wake()) {
                    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
                }
            }
            DebugConsole::File(file) => {
                if let Err(error) = (&**file).write_all(&line) {
                    let error = Error::host("write the debug console's file")(error);
                    self.run_end.end(Err(error));
                }
            }
            DebugConsole::Capture(buffer) => {
                let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                let room = CAPTURE_MAX.saturating_sub(buffer.len());
                buffer.extend_from_slice(&line[..line.len().min(room)]);
            }
            DebugConsole::Channel(sender) => {
                let mut line = line;
                // A receiver that is gone does not want it.
                while let Err(TrySendError::Full(back)) = sender.try_send(line) {
                    if self.run_end.is_over() {
                        return;
                    }
                    line = back;
                    std::thread::sleep(RETRY);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Mutex;
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::Exit;

    fn output(to: DebugConsole) -> DebugOutput {
        DebugOutput::new(to, Arc::new(RunEnd::new().unwrap()))
    }

    #[test]
    fn a_full_channel_holds_the_writer_up_until_there_is_room_or_the_run_is_over() {
        let (sender, receiver) = sync_channel(1);
        let output = Arc::new(output(DebugConsole::Channel(sender)));
        output.write(b"one\n".to_vec());
        let writer = {
            let output = output.clone();
            std::thread::spawn(move || output.write(b"two\n".to_vec()))
        };
        assert_eq!(receiver.recv().unwrap(), b"one\n");
        assert_eq!(receiver.recv().unwrap(), b"two\n");
        writer.join().unwrap();
        output.write(b"three\n".to_vec());
        output.run_end.end(Ok(Exit::Stopped));
        output.write(b"lost\n".to_vec());
        drop(receiver);
        output.write(b"nowhere\n".to_vec());
    }

    #[test]
    fn a_file_that_cannot_be_written_ends_the_run_with_an_error() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = output(DebugConsole::File(Arc::new(full)));
        output.write(b"line\n".to_vec());
        let error = output.run_end.take().unwrap().unwrap_err().to_string();
        assert!(error.contains("write the debug console's file"), "{error}");
    }

    #[test]
    fn a_capture_has_a_limit() {
        let buffer = Arc::new(Mutex::new(vec![b'.'; CAPTURE_MAX - 1]));
        output(DebugConsole::Capture(buffer.clone())).write(b"ab".to_vec());
        assert_eq!(buffer.lock().unwrap().len(), CAPTURE_MAX);
    }
}
