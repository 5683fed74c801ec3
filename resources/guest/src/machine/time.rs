//! Time from the time-stamp counter.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::bench;
use crate::machine::cpu::tsc;
use crate::machine::ports::{in8, out8};

static KHZ: AtomicU64 = AtomicU64::new(1);

/// Sets the counter's frequency, which the bench port or a measurement gives.
pub fn init() {
    let khz = bench::tsc_khz().unwrap_or_else(measure_khz);
    KHZ.store(khz.max(1), Ordering::Relaxed);
}

/// The counter's frequency.
pub fn khz() -> u64 {
    KHZ.load(Ordering::Relaxed)
}

/// A stretch of time, in ticks of the counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

impl Ticks {
    /// A time in milliseconds.
    pub fn from_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(khz()))
    }

    /// A time in microseconds.
    pub fn from_us(us: u64) -> Self {
        Self(us.saturating_mul(khz()) / 1000)
    }

    /// The time in nanoseconds.
    pub fn as_ns(self) -> u64 {
        self.0.saturating_mul(1_000_000) / khz()
    }
}

impl fmt::Display for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.as_ns() / 1000;
        write!(f, "{}.{:03} ms", us / 1000, us % 1000)
    }
}

/// A moment in the future.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: u64,
    length: Ticks,
}

impl Deadline {
    /// `length` from now.
    pub fn after(length: Ticks) -> Self {
        Self { start: tsc(), length }
    }

    /// The time since the start.
    pub fn elapsed(self) -> Ticks {
        // The counters of two processors may differ a little.
        Ticks(tsc().saturating_sub(self.start))
    }

    /// Whether the deadline has passed.
    pub fn passed(self) -> bool {
        self.elapsed() >= self.length
    }
}

/// Polls until `done` holds. False if it does not after `limit`.
pub fn poll(limit: Ticks, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Deadline::after(limit);
    loop {
        if done() {
            return true;
        }
        if deadline.passed() {
            return false;
        }
        core::hint::spin_loop();
    }
}

/// Waits for a time.
pub fn delay(length: Ticks) {
    poll(length, || false);
}

/// Counts ticks while channel 2 of the interval timer runs for 10 ms, for machines without a bench
/// port, which have this timer.
fn measure_khz() -> u64 {
    const SPEAKER: u16 = 0x61;
    const GATE: u8 = 1 << 0;
    const SPEAKER_ON: u8 = 1 << 1;
    const OUTPUT: u8 = 1 << 5;
    const CHANNEL_2: u16 = 0x42;
    const COMMAND: u16 = 0x43;
    const CHANNEL_2_ONE_SHOT: u8 = 0xb0;
    const TEN_MS: u16 = 11932;

    let idle = in8(SPEAKER) & !(GATE | SPEAKER_ON);
    out8(SPEAKER, idle | GATE);
    out8(COMMAND, CHANNEL_2_ONE_SHOT);
    let [low, high] = TEN_MS.to_le_bytes();
    out8(CHANNEL_2, low);
    out8(CHANNEL_2, high);
    let start = tsc();
    for _ in 0..1_000_000 {
        if in8(SPEAKER) & OUTPUT != 0 {
            break;
        }
    }
    let ticks = tsc() - start;
    out8(SPEAKER, idle);
    ticks / 10
}
