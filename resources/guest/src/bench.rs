//! The bench port, by which this program reports to ghostlink. On other machines, which have no
//! such port, questions are answered `None`, and reports are dropped.

use core::sync::atomic::{AtomicU8, Ordering};

use crate::machine::ports::{in32, out32};

const SIGNATURE: u16 = 0x5e0;
const TSC_KHZ_OR_DOORBELL: u16 = 0x5e4;
const CPUS_OR_METRIC: u16 = 0x5e8;
const VALUE_LOW: u16 = 0x5ec;
const VALUE_HIGH: u16 = 0x5f0;

const GLNK: u32 = 0x4b4e_4c47;

/// A measurement, by its number at the bench port.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Metric {
    /// How the measured flush ended: 0 completed, 1 timed out, 2 stalled.
    Outcome = 1,
    /// The time of the measured flush.
    GuestStallNs = 2,
    /// The longest flush of the healthy neighbour.
    NeighborStallNs = 3,
    /// Invalidation time-outs (ITE) that either processor handled.
    Timeouts = 4,
    /// Source id of the last ITE that the measured flush handled. If it handled none, source id of
    /// the first ITE that the neighbour handled.
    TimeoutSource = 5,
    /// Median of the healthy flushes.
    HealthyMedianNs = 6,
    /// Longest of the healthy flushes.
    HealthyMaximumNs = 7,
    /// Wait descriptors that either processor marked as aborted.
    WaitsAborted = 8,
    /// Number of flushes of the neighbour.
    NeighborFlushes = 9,
    /// How often the neighbour submitted again.
    NeighborResubmissions = 10,
    /// The neighbour's worst outcome.
    NeighborOutcome = 11,
    /// How often the measured flush was submitted again.
    Resubmissions = 12,
    /// The time of the first submission of the measured flush, whatever its outcome.
    FirstAttemptNs = 13,
    /// `costs=on`: an access to a port.
    ExitNs = 14,
    /// `costs=on`: a read of the unit's fault status, which each turn of the waiting loop makes.
    RegisterReadNs = 15,
    /// `costs=on`: a read of the victim's vendor ID.
    PresenceNs = 16,
    /// `costs=on`: a write of the queue's tail that does not move it.
    DoorbellNs = 17,
    /// `costs=on`: from the start of a flush until its descriptors are in the ring.
    FillNs = 18,
    /// `costs=on`: the write of the queue's tail for a flush; the unit answers during that write.
    AnsweredDoorbellNs = 19,
    /// `cpus_each=2` and more: the longest flush of the victim's other CPUs, with its wait for the
    /// lock of the domain.
    CrowdStallNs = 20,
}

/// Whether there is a bench port. The first call probes the port.
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

/// Makes one access to a port, to measure an exit.
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

/// Rings the doorbell. With `--drop-link doorbell` the link is down when this returns.
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
