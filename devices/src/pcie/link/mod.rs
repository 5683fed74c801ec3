//! The link below a port: the one seam that every TLP in either direction passes.
//!
//! ```text
//!  port  -- configuration, memory, Invalidate Requests, PRG Responses -->  function
//!        <-- DMA, Translation Requests, MSIs, completions, Page Requests --
//! ```
//!
//! A link carries a TLP or loses it. It may be down for several reasons at once, and is up when the
//! last of them is gone. Ports and functions ask [`Link::carries`], and know nothing of faults. The
//! sender of a posted TLP never learns that it was lost. A requester that waits for a completion
//! gets what a Completion Timeout gives.
//!
//! - `answers`: functions that answer Invalidate Requests late, wrongly or never.

mod answers;

use std::time::Duration;

use bitfield_struct::bitfield;
use iommu::event::{Event, LinkState, Lost, Tracer};
use iommu::ids::Bdf;
use iommu::time::Instant;

use crate::pcie::reset::Reset;
pub use answers::{
    AnswerDelay, CompletionFault, CompletionOutcome, InvalidateBehavior, Obeys, ParseObeysError,
    PendingInvalidations,
};

/// The reasons for which a link is down. Without any, the link is up.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct LinkDownReasons {
    /// A fault that the port does not notice: it goes on reporting an active link.
    pub ghost: bool,
    /// A fault that shows in Link Status.
    pub fault: bool,
    /// There is no card in the slot.
    pub absent: bool,
    /// Link Disable is set in Link Control.
    pub disabled: bool,
    /// Secondary Bus Reset is set in Bridge Control.
    pub reset: bool,
    /// Power Controller Control in Slot Control is off.
    pub unpowered: bool,
    /// Downstream Port Containment has been triggered.
    pub contained: bool,
    /// A fault that shows in Link Status, and that what is below does not notice.
    pub glitch: bool,
}

impl LinkDownReasons {
    /// The link is up.
    pub fn is_up(self) -> bool {
        self == Self::new()
    }

    /// These reasons, and `others`.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self::from_bits(self.into_bits() | others.into_bits())
    }

    /// These reasons but for `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self::from_bits(self.into_bits() & !others.into_bits())
    }

    /// Whether the port takes the link to be up.
    pub fn looks_up(self) -> bool {
        self.with_ghost(false).is_up()
    }

    /// The reasons that the port reports. It does not know those of silent faults.
    #[must_use]
    pub fn noticed(self) -> Self {
        self.with_ghost(false).with_fault(false).with_glitch(false)
    }

    /// The reset of the functions below a link that comes up, after it was down for these reasons.
    pub fn resets(self) -> Option<Reset> {
        if self.absent() || self.unpowered() {
            return Some(Reset::Cold);
        }
        (!self.with_glitch(false).is_up()).then_some(Reset::Hot)
    }
}

/// The link between a port and the device below it.
#[derive(Debug)]
pub struct Link {
    port: Bdf,
    down: LinkDownReasons,
    /// Everything that has been a reason since it was up.
    reasons: LinkDownReasons,
    invalidate: InvalidateBehavior,
    completion_fault: Option<CompletionFault>,
    /// DMA requests that have come up.
    dma: u64,
    /// After how many of them no more come up: a fault waits for that, and is about to happen.
    dma_limit: u64,
    random: fastrand::Rng,
    tracer: Tracer,
}

impl Link {
    /// A link below `port` that is up. Its random choices follow `seed`.
    pub fn new(port: Bdf, seed: u64, tracer: Tracer) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (down, reasons) = (LinkDownReasons::new(), LinkDownReasons::new());
        Self {
            port,
            down,
            reasons,
            invalidate: InvalidateBehavior::Complete,
            completion_fault: None,
            dma: 0,
            dma_limit: u64::MAX,
            random,
            tracer,
        }
    }

    /// Restarts the random choices of the link from `seed`.
    pub fn seed(&mut self, seed: u64) {
        self.random = fastrand::Rng::with_seed(seed);
    }

    /// The reasons for which the link is down.
    pub fn down(&self) -> LinkDownReasons {
        self.down
    }

    /// Sets the reasons for which the link is down. Emits [`Event::Link`] if the link goes down or
    /// comes up. Returns the reset that the functions below get when the link comes up, if any.
    /// `port` is the current id of the port above.
    pub fn set_down(&mut self, down: LinkDownReasons, port: Bdf, now: Instant) -> Option<Reset> {
        self.port = port;
        let changed = down.is_up() != self.down.is_up();
        self.down = down;
        self.reasons = self.reasons.and(down);
        if changed {
            let state = if down.is_up() { LinkState::Up } else { LinkState::Down };
            self.tracer.emit(now, || Event::Link { port, state });
        }
        let is_over = changed && down.is_up();
        is_over.then(|| std::mem::take(&mut self.reasons).resets()).flatten()
    }

    /// Sets the behavior of the functions below on Invalidate Requests, and the fault of their
    /// completions.
    pub fn set_answers(
        &mut self,
        invalidate: InvalidateBehavior,
        completion_fault: Option<CompletionFault>,
    ) {
        (self.invalidate, self.completion_fault) = (invalidate, completion_fault);
    }

    /// The behavior of the functions below on Invalidate Requests.
    pub fn invalidate_behavior(&self) -> InvalidateBehavior {
        self.invalidate
    }

    /// Invalidate Requests that functions below handle at once, if a fault limits that.
    pub fn invalidate_limit(&self) -> Option<u8> {
        match self.completion_fault {
            Some(CompletionFault::Choke { depth, .. }) => Some(depth),
            _ => None,
        }
    }

    /// Whether a TLP of the kind `tlp` that is sent at `now` arrives at the other end. Emits
    /// [`Event::Lost`] if it does not.
    #[must_use]
    pub fn carries(&self, tlp: Lost, now: Instant) -> bool {
        let is_up = self.down.is_up();
        if !is_up {
            self.tracer.emit(now, || Event::Lost { port: self.port, what: tlp });
        }
        is_up
    }

    /// As [`Self::carries`], for a DMA request, which is counted.
    #[must_use]
    pub fn carries_dma(&mut self, now: Instant) -> bool {
        if self.dma >= self.dma_limit {
            self.tracer.emit(now, || Event::Lost { port: self.port, what: Lost::Dma });
            return false;
        }
        let carries = self.carries(Lost::Dma, now);
        self.dma += u64::from(carries);
        carries
    }

    /// How many DMA requests have come up.
    pub fn dma_count(&self) -> u64 {
        self.dma
    }

    /// Says after how many DMA requests no more come up.
    pub fn limit_dma(&mut self, limit: u64) {
        self.dma_limit = limit;
    }

    /// The outcome of an Invalidate Completion that is sent now. Emits [`Event::Lost`] if the
    /// completion is lost, or is not sent.
    pub fn completion_outcome(&mut self, now: Instant) -> CompletionOutcome {
        let outcome = if self.invalidate == InvalidateBehavior::NoCompletion {
            CompletionOutcome::IsNotSent
        } else {
            self.draw_outcome()
        };
        if matches!(outcome, CompletionOutcome::IsLost | CompletionOutcome::IsNotSent) {
            let what = Lost::InvalidateCompletion;
            self.tracer.emit(now, || Event::Lost { port: self.port, what });
        }
        outcome
    }

    fn draw_outcome(&mut self) -> CompletionOutcome {
        match self.completion_fault {
            Some(CompletionFault::Lossy(ppm)) if self.random.u32(0..1_000_000) < ppm => {
                CompletionOutcome::IsLost
            }
            Some(CompletionFault::Duplicate) => CompletionOutcome::ArrivesTwice,
            Some(CompletionFault::Late(delay)) => CompletionOutcome::ArrivesAfter(self.draw(delay)),
            Some(CompletionFault::Choke { time, .. }) => CompletionOutcome::ArrivesAfter(time),
            Some(CompletionFault::Merge(time)) => CompletionOutcome::ArrivesMerged(time),
            Some(CompletionFault::Split(parts)) => CompletionOutcome::ArrivesInParts(parts),
            Some(CompletionFault::Lossy(_)) | None => CompletionOutcome::Arrives,
        }
    }

    fn draw(&mut self, delay: AnswerDelay) -> Duration {
        match delay {
            AnswerDelay::Fixed(delay) => delay,
            AnswerDelay::Uniform(from, to) => {
                from + to.saturating_sub(from).mul_f64(self.random.f64())
            }
            // The inverse of its distribution; 1 - f64() is never 0, and so nothing is infinite.
            AnswerDelay::Exponential(mean) => mean.mul_f64((1.0 - self.random.f64()).ln().abs()),
            AnswerDelay::Pareto { mean, milli_index } => {
                let index = f64::from(milli_index.max(1001)) / 1000.0;
                let least = mean.as_secs_f64() * (index - 1.0) / index;
                let drawn = least * (1.0 - self.random.f64()).powf(-1.0 / index);
                let drawn = Duration::try_from_secs_f64(drawn).unwrap_or(AnswerDelay::LONGEST);
                drawn.min(AnswerDelay::LONGEST)
            }
            AnswerDelay::Bimodal { fast, slow, slow_ppm } => {
                if self.random.u32(0..1_000_000) < slow_ppm { slow } else { fast }
            }
        }
    }
}

#[cfg(test)]
mod tests;
