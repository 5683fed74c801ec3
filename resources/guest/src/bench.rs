//! The bench port: how this program talks to ghostlink. Other machines have none; then every question
//! is answered `None`, and what is told goes nowhere.

use core::sync::atomic::{AtomicU8, Ordering};

use crate::machine::ports::{in32, out32};

const SIGNATURE: u16 = 0x5e0;
const TSC_KHZ_OR_DOORBELL: u16 = 0x5e4;
const CPUS_OR_METRIC: u16 = 0x5e8;
const VALUE_LOW: u16 = 0x5ec;
const VALUE_HIGH: u16 = 0x5f0;

const GLNK: u32 = 0x4b4e_4c47;

/// What can be reported, with the numbers that the VMM knows.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Metric {
    /// How the measured flush ended: 0 completed, 1 timed out, 2 stalled.
    Outcome = 1,
    /// How long the measured flush took.
    GuestStallNs = 2,
    /// The longest flush of the healthy neighbour.
    NeighborStallNs = 3,
    /// Time-outs (ITE) that were handled, by either processor.
    Timeouts = 4,
    /// Source id of the last that the measured flush handled; if it handled none, of the first that the
    /// neighbour did.
    TimeoutSource = 5,
    /// Median of the healthy flushes.
    HealthyMedianNs = 6,
    /// Longest of the healthy flushes.
    HealthyMaximumNs = 7,
    /// Wait descriptors that were marked aborted, by either processor.
    WaitsAborted = 8,
    /// Flushes that the neighbour made.
    NeighborFlushes = 9,
    /// How often the neighbour had to submit again.
    NeighborResubmissions = 10,
    /// The neighbour's worst outcome.
    NeighborOutcome = 11,
    /// How often the measured flush had to be submitted again.
    Resubmissions = 12,
    /// How long its first submission took, however that ended.
    FirstAttemptNs = 13,
    /// `costs=on`: an access to a port.
    ExitNs = 14,
    /// `costs=on`: a read of the unit's fault status, as each turn of the waiting loop makes one.
    RegisterReadNs = 15,
    /// `costs=on`: a read of the victim's vendor ID.
    PresenceNs = 16,
    /// `costs=on`: a write of the queue's tail that brings nothing new.
    DoorbellNs = 17,
    /// `costs=on`: from the start of a flush until its descriptors are in the ring.
    FillNs = 18,
    /// `costs=on`: the write of the queue's tail for a flush, in which it is also answered.
    AnsweredDoorbellNs = 19,
}

/// Whether there is a bench port. Asked once, then remembered.
pub fn present() -> bool {
    const UNKNOWN: u8 = 0;
    const ABSENT: u8 = 1;
    const PRESENT: u8 = 2;
    static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);

    if STATE.load(Ordering::Relaxed) == UNKNOWN {
        let state = if in32(SIGNATURE) == GLNK { PRESENT } else { ABSENT };
        STATE.store(state, Ordering::Relaxed);
    }
    STATE.load(Ordering::Relaxed) == PRESENT
}

/// An access to a port, and nothing else.
pub fn probe() {
    in32(SIGNATURE);
}

/// Frequency of the time-stamp counter.
pub fn tsc_khz() -> Option<u64> {
    present().then(|| u64::from(in32(TSC_KHZ_OR_DOORBELL)))
}

/// Number of processors.
pub fn cpus() -> Option<u32> {
    present().then(|| in32(CPUS_OR_METRIC))
}

/// Rings the doorbell. If the run was told to (`--drop-link doorbell`), the link is gone when this
/// returns.
pub fn ring_doorbell(value: u32) {
    if present() {
        out32(TSC_KHZ_OR_DOORBELL, value);
    }
}

/// Reports a measurement.
pub fn report(metric: Metric, value: u64) {
    if present() {
        out32(CPUS_OR_METRIC, metric as u32);
        out32(VALUE_LOW, value as u32);
        out32(VALUE_HIGH, (value >> 32) as u32);
    }
}
