//! Events as JSON lines: one object per event and line, as it happens.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use iommu::event::{EventSink, TimedEvent};

/// A sink that writes each event as a line of JSON. What it has not written yet is written when it
/// is dropped.
#[derive(Debug)]
pub(crate) struct JsonLines<W: Write>(Mutex<BufWriter<W>>);

impl JsonLines<File> {
    /// Writes to a new file at `path`, in place of one that is there.
    ///
    /// # Errors
    ///
    /// The file cannot be made.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        File::create(path).map(Self::new)
    }
}

impl<W: Write> JsonLines<W> {
    /// Writes to `writer`.
    pub(crate) fn new(writer: W) -> Self {
        Self(Mutex::new(BufWriter::new(writer)))
    }
}

impl<W: Write + Send> EventSink for JsonLines<W> {
    fn record(&self, event: TimedEvent) {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not end the run; the file ends early, which its reader sees.
        let _ = serde_json::to_writer(&mut *writer, &event);
        let _ = writer.write_all(b"\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iommu::event::{Event, Tracer};
    use iommu::time::Instant;
    use std::sync::Arc;

    /// A writer that others can look into.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_event_is_an_object_on_a_line_of_its_own() {
        let text = Shared::default();
        let tracer = Tracer::to(Arc::new(JsonLines::new(text.clone())));
        for value in 0..2 {
            tracer.emit(Instant::from_nanos(7), || Event::Doorbell { value });
        }
        drop(tracer);
        let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1], serde_json::json!({"at": 7, "event": "doorbell", "value": 1}));
    }
}
