//! The link below a port: the one seam that every TLP in either direction passes.
//!
//! ```text
//!  port  -- configuration, memory, Invalidate Requests, PRG Responses -->  function
//!        <-- DMA, Translation Requests, MSIs, completions, Page Requests --
//! ```
//!
//! A link carries a TLP or loses it. All fault logic lives here: what stands above and below asks
//! [`Link::carries`] and otherwise knows nothing of faults. Whoever sent a posted TLP never learns
//! that it was lost; whoever waits for a completion gets what a Completion Timeout gives.

use iommu::event::{Event, LinkState, Lost, Tracer};
use iommu::ids::Bdf;
use iommu::time::Instant;

/// The link between a port and the device below it.
#[derive(Debug)]
pub struct Link {
    port: Bdf,
    state: LinkState,
    tracer: Tracer,
}

impl Link {
    /// A link below `port` that is up.
    pub fn new(port: Bdf, tracer: Tracer) -> Self {
        Self { port, state: LinkState::Up, tracer }
    }

    /// What the link does now.
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// Changes what the link does. Emits [`Event::Link`] if that is news.
    pub fn set_state(&mut self, state: LinkState, now: Instant) {
        if self.state != state {
            self.state = state;
            self.tracer.emit(now, || Event::Link { port: self.port, state });
        }
    }

    /// Whether a TLP of the kind `tlp` that is sent at `now` arrives at the other end. Emits
    /// [`Event::Lost`] if it does not.
    #[must_use]
    pub fn carries(&self, tlp: Lost, now: Instant) -> bool {
        match self.state {
            LinkState::Up => true,
            LinkState::SilentlyDown => {
                self.tracer.emit(now, || Event::Lost { port: self.port, what: tlp });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
