//! What a run has shown: console, events, and its end.

use devices::stale::StaleCounts;
use vmm::Exit;

use crate::tally::Counts;

/// Prefix of the runner's messages, behind the kernel's time stamp.
const RUNNER: &str = "ghostlink: ";

/// What a run has shown. Verdicts are made of this alone, so a test can make up one.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The lines of the console, without control characters.
    pub console: Vec<String>,
    /// The events.
    pub counts: Counts,
    /// The DMA that the oracle has judged.
    pub stale: StaleCounts,
    /// How the run has ended.
    pub exit: Exit,
    /// The duration of the run in seconds.
    pub seconds: f64,
}

impl Observation {
    /// The kernel's lines: those of the runner do not count.
    pub(crate) fn kernel_lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.console.iter().map(String::as_str).filter(|line| runner_says(line).is_none())
    }

    /// The runner's messages, each with its line.
    pub(crate) fn messages(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.console.iter().filter_map(|line| Some((runner_says(line)?, line.as_str())))
    }

    /// Release and version of the kernel, as the runner says them or the kernel itself.
    pub(crate) fn introduction(&self) -> Option<&str> {
        let banner =
            self.console.iter().find_map(|line| Some(line.split_once("Linux version ")?.1));
        let runner = self.messages().find_map(|(said, _)| said.strip_prefix("kernel "));
        runner.or(banner)
    }

    /// The release of the kernel that has run, if it got so far.
    pub fn release(&self) -> Option<&str> {
        self.introduction()?.split([' ', ',']).next()
    }

    /// Whether the guest has come to its runner.
    pub(crate) fn reached_runner(&self) -> bool {
        self.messages().next().is_some()
    }
}

/// The runner's message on a line of the console.
fn runner_says(line: &str) -> Option<&str> {
    let (stamp, said) = line.split_once(RUNNER)?;
    (stamp.is_empty() || stamp.trim_end().ends_with(']')).then_some(said)
}

/// A line as it can be shown: a guest must not end the line, or move the cursor of a terminal.
pub(crate) fn printable(line: &str) -> String {
    let ends_line = |next: char| matches!(next, '\u{2028}' | '\u{2029}');
    let mut shown = String::with_capacity(line.len());
    for next in line.trim_end().chars() {
        match next {
            '\t' => shown.push(next),
            _ if next.is_control() || ends_line(next) => shown.extend(next.escape_default()),
            _ => shown.push(next),
        }
    }
    shown
}
