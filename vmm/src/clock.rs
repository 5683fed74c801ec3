//! The one clock of the program. Everything else is told what time it is.

use std::time;

use iommu::time::Instant;

/// The host's monotonic clock, counted from the start of the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: time::Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self { start: time::Instant::now() }
    }

    /// The time since the start.
    pub(crate) fn now(&self) -> Instant {
        Instant::START + self.start.elapsed()
    }
}
