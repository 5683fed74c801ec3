//! Progress of commands that boot many guests, on standard error: a bar on a terminal, else a line for each run.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(runs: usize) -> Self {
        let bar = ProgressBar::new(runs as u64);
        let template = "[{elapsed}] {bar:24} {pos}/{len} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// The run with this index begins.
    pub(super) fn begin(&self, index: usize, text: String) {
        if self.bar.is_hidden() {
            eprintln!("ghostlink: {text}");
        }
        self.bar.set_position(index as u64);
        self.bar.set_message(text);
    }

    /// Does something that writes to the terminal, with the bar out of the way.
    pub(super) fn suspended<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
