//! The kernel's log, read from `/dev/kmsg` and passed on to the VMM: its lines are heard there also
//! while the console is silent.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use steps::{Message, Text};

use crate::speaker::Speaker;

/// The most records that are kept; then the oldest goes.
const MAX_RECORDS: usize = 16 << 10;
/// The level of warnings, which backtraces have, too (`KERN_WARNING`).
const WARNING: u8 = 4;
/// The longest record that the kernel returns.
const MAX_RECORD: usize = 8 << 10;

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// 0 (emergency) to 7 (debug).
    pub(crate) level: u8,
    /// Whether the kernel made it, and no process.
    pub(crate) is_kernels: bool,
    /// The time since the kernel's start.
    pub(crate) at: Duration,
    /// The text.
    pub(crate) text: String,
}

impl Record {
    /// As dmesg prints it, with its end.
    pub(crate) fn line(&self) -> String {
        format!("[{:5}.{:06}] {}\n", self.at.as_secs(), self.at.subsec_micros(), self.text)
    }
}

/// Parses what one read of `/dev/kmsg` returns: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`, and lines
/// with properties behind it (`Documentation/ABI/testing/dev-kmsg` of Linux).
fn parse(record: &str) -> Option<Record> {
    let (head, rest) = record.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let micros = fields.nth(1)?.parse().ok()?;
    let text = rest.lines().next().unwrap_or_default();
    Some(Record {
        level: (priority & 7) as u8,
        is_kernels: priority >> 3 == 0,
        at: Duration::from_micros(micros),
        text: text.to_owned(),
    })
}

/// Adds a record; without room the oldest goes.
fn push(records: &mut VecDeque<Record>, record: Record) {
    if records.len() == MAX_RECORDS {
        records.pop_front();
    }
    records.push_back(record);
}

/// The log.
#[derive(Debug)]
pub(crate) struct KernelLog {
    source: File,
    records: VecDeque<Record>,
    /// Warnings and worse that are not passed on yet.
    urgent: VecDeque<Record>,
    /// Other records that are not passed on yet. They go when there are no urgent ones: a report of a
    /// stall does not wait for hundreds of lines about the boot.
    others: VecDeque<Record>,
}

impl KernelLog {
    /// Opens the log at its oldest record. What the kernel has logged so far, and is no warning, is
    /// for the steps alone: each byte that is passed on is an exit, and the boot has thousands.
    pub(crate) fn open() -> io::Result<Self> {
        let mut options = File::options();
        let source = options.read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        let (records, urgent, others) = Default::default();
        let mut log = Self { source, records, urgent, others };
        log.read();
        log.others.clear();
        Ok(log)
    }

    /// Reads what is new, and passes on at most `most` records: on a slow machine each takes a while,
    /// and a kernel that reports a stall may log faster. Returns whether all have been passed on.
    pub(crate) fn pump(&mut self, speaker: &Speaker, most: usize) -> bool {
        self.read();
        for _ in 0..most {
            let next = self.urgent.pop_front().or_else(|| self.others.pop_front());
            let Some(Record { level, at, text, .. }) = next else { return true };
            speaker.say(Message::Log { level, at, text: Text::new(&text) });
        }
        self.urgent.is_empty() && self.others.is_empty()
    }

    /// Reads what is new.
    fn read(&mut self) {
        let mut buffer = [0; MAX_RECORD];
        loop {
            let length = match self.source.read(&mut buffer) {
                Ok(length) if length > 0 => length,
                // Records were overwritten before they were read: go on with the oldest.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                _ => return,
            };
            let Some(record) = parse(&String::from_utf8_lossy(&buffer[..length])) else { continue };
            let unsent = match record.level {
                ..=WARNING => &mut self.urgent,
                _ => &mut self.others,
            };
            push(unsent, record.clone());
            push(&mut self.records, record);
        }
    }

    /// The records so far, oldest first.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// Whether a record contains `text`.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.records.iter().any(|record| record.text.contains(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_level_origin_time_and_one_line() {
        let record =
            parse("4,339,5140900,-;DMAR: fault\n SUBSYSTEM=acpi\n DEVICE=+acpi:x\n").unwrap();
        assert_eq!((record.level, record.is_kernels), (4, true));
        assert_eq!(record.at, Duration::from_micros(5_140_900));
        assert_eq!(record.text, "DMAR: fault");
        let other = parse("14,1,2,-,caller=T1;a;b\n").unwrap();
        assert_eq!((other.level, other.is_kernels, other.text.as_str()), (6, false, "a;b"));
    }

    #[test]
    fn what_is_no_record_is_none() {
        for text in ["", "4,1,2,-", "x,1,2,-;t", "4;t", "4,1;t", "4,1,y,-;t"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
