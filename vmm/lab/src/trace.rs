//! A run in the Chrome trace format, which `ui.perfetto.dev` and `chrome://tracing` open: a process
//! for each subject, a thread for each of its rows. Times are microseconds from the start.

use std::io::{self, Write};

use iommu::event::TimedEvent;
use iommu::time::Instant;
use serde_json::{Value, json};

use super::tracks::{State, Subject, Tracks};

/// Writes the trace of a run that ends at `end`.
///
/// # Errors
///
/// `out` cannot be written.
pub fn write(events: &[TimedEvent], end: Instant, out: &mut dyn Write) -> io::Result<()> {
    let tracks = Tracks::new(events, end);
    let micros = |at: Instant| at.as_nanos() as f64 / 1e3;
    writeln!(out, "{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
    let mut first = true;
    let mut put = |event: &Value| -> io::Result<()> {
        let separator = if std::mem::take(&mut first) { "" } else { ",\n" };
        write!(out, "{separator}{event}")
    };
    for (pid, (subject, track)) in (1_u32..).zip(&tracks.tracks) {
        let name = subject.name();
        put(&json!({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}))?;
        put(
            &json!({"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": pid}}),
        )?;
        for span in &track.spans {
            put(&json!({
                "ph": "X", "name": span.text, "cat": span.state.name(), "pid": pid, "tid": span.row,
                "ts": micros(span.from), "dur": micros(span.to) - micros(span.from),
            }))?;
        }
        for moment in &track.moments {
            put(&json!({
                "ph": "i", "s": "p", "name": moment.text, "cat": moment.state.name(), "pid": pid,
                "tid": 0, "ts": micros(moment.at),
            }))?;
        }
    }
    writeln!(out, "\n]}}")
}

impl Subject {
    /// The name of the track.
    pub(super) fn name(self) -> String {
        match self {
            Self::Link(port) => format!("link below {port}"),
            Self::Cpu(cpu) => format!("CPU {cpu}"),
            Self::Callers(function) => format!("callers of {function}"),
            Self::Slots => "queue slots".to_owned(),
            Self::Requests => "requests".to_owned(),
            Self::Function(function) => format!("function {function}"),
        }
    }
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::GivenUp => "given up",
            Self::Stuck => "stuck",
            Self::Down => "down",
            Self::Blocked => "blocked",
            Self::False => "false",
        }
    }
}
