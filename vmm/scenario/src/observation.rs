//! What a run has shown: console, the runner's messages, events, and its end.

use devices::stale::StaleCounts;
use steps::{Message, Stamped};
use vmm::Exit;

use crate::tally::Counts;

/// Prefix of the messages of a runner that has only the console, behind the kernel's time stamp.
const RUNNER: &str = "] ghostlink: ";

/// What a run has shown. Verdicts are made of this alone, so a test can make up one.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The lines of the serial console, without control characters and without the runner's.
    pub console: Vec<String>,
    /// What the runner has said.
    pub messages: Vec<Stamped>,
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
    /// All lines of the kernel, in the order of their time: those of the serial console, and those that
    /// only the runner has passed on.
    pub(crate) fn kernel_lines(&self) -> Vec<String> {
        let mut at = 0;
        let mut lines: Vec<(u128, String)> = Vec::new();
        for line in &self.console {
            // A line without a stamp belongs to the one before.
            at = stamp(line).unwrap_or(at);
            lines.push((at, line.clone()));
        }
        let known: std::collections::HashSet<&str> =
            self.console.iter().map(|line| text_of(line)).collect();
        for stamped in &self.messages {
            let Message::Log { at, text, .. } = &stamped.message else { continue };
            if !known.contains(text.as_str()) {
                let line = format!("[{:5}.{:06}] {text}", at.as_secs(), at.subsec_micros());
                lines.push((at.as_micros(), line));
            }
        }
        lines.sort_by_key(|(at, _)| *at);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// The release of the kernel that has run, if it got to the runner.
    pub fn release(&self) -> Option<&str> {
        self.messages.iter().find_map(|stamped| match &stamped.message {
            Message::Start { release, .. } => Some(release.as_str()),
            _ => None,
        })
    }
}

/// The time of a line of the kernel, in microseconds.
fn stamp(line: &str) -> Option<u128> {
    let (seconds, micros) =
        line.strip_prefix('[')?.split_once(']')?.0.trim_start().split_once('.')?;
    let (seconds, micros): (u64, u64) = (seconds.parse().ok()?, micros.parse().ok()?);
    Some(u128::from(seconds) * 1_000_000 + u128::from(micros))
}

/// A line without its stamp.
fn text_of(line: &str) -> &str {
    match (stamp(line), line.split_once("] ")) {
        (Some(_), Some((_, text))) => text,
        _ => line,
    }
}

/// The message in a line of a runner that has only the console.
pub(crate) fn message_of(line: &str) -> Option<Stamped> {
    let (stamp, said) = line.split_once(RUNNER)?;
    let said = match (said.strip_prefix("kernel "), said.split_once('=')) {
        (Some(kernel), _) => {
            let cpus = kernel.rsplit(' ').nth(1).unwrap_or("1");
            format!("start {cpus} {}", kernel.split([' ', ',']).next().unwrap_or_default())
        }
        (None, Some((name, value))) if !name.contains(' ') => format!("value {name}={value}"),
        (None, _) => match said.split_once("..") {
            Some(("1", steps)) => format!("plan {steps}"),
            _ => said.to_owned(),
        },
    };
    format!("{stamp}] {said}").parse().ok()
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
