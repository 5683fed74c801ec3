//! The last lines of a log.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Bytes that are kept of a log.
const KEPT: usize = 16 << 10;
/// Lines that a message may have.
const LINES: usize = 20;

/// Reads a log to its end, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Tail {
    /// Starts to read, and copies what it reads to `file`.
    pub(crate) fn of(mut log: impl Read + Send + 'static, mut file: Option<File>) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&kept);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = log.read(&mut buffer) {
                let bytes = &buffer[..length];
                if file.as_mut().is_some_and(|file| file.write_all(bytes).is_err()) {
                    file = None; // the disk is full; the run does not depend on its log
                }
                let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(bytes);
                let excess = kept.len().saturating_sub(KEPT);
                kept.drain(..excess);
            }
        });
        Self { kept, thread }
    }

    /// The last lines, once the log has ended.
    pub(crate) fn end(self) -> Vec<String> {
        // It does not panic.
        let _ = self.thread.join();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        last_lines(&kept)
    }
}

/// The last lines that are not empty, without control characters.
fn last_lines(log: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(log);
    let lines = text.lines().map(|line| line.replace(char::is_control, " ").trim_end().to_owned());
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_long_log_are_kept() {
        let log: String = (0..100_000).map(|line| format!("line {line}\r\n\n")).collect();
        let lines = Tail::of(std::io::Cursor::new(log), None).end();
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[LINES - 1], "line 99999");
    }

    #[test]
    fn a_log_without_an_end_of_line_or_with_an_escape_is_safe() {
        assert_eq!(last_lines(b"\x1b[2Jx\xff"), [" [2Jx\u{fffd}"]);
        assert_eq!(last_lines(b""), Vec::<String>::new());
        assert_eq!(Tail::of(std::io::repeat(b'x').take(1 << 20), None).end()[0].len(), KEPT);
    }
}
