//! When a silent process counts as hung.

use std::fs;
use std::time::{Duration, Instant};

/// How long a process may be silent. On a busy machine a healthy one is silent for long as well, but
/// then it has used little processor time. One that waits for an interrupt that never comes uses
/// none: for it the time that passes counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// In processor time of the process.
    pub(crate) used: Duration,
    /// In time that passes.
    pub(crate) passed: Duration,
}

/// What a process has used since its last sign of life.
#[derive(Debug)]
pub(crate) struct Silence {
    process: u32,
    since: Instant,
    used_before: Duration,
}

impl Silence {
    /// Begins now.
    pub(crate) fn of(process: u32) -> Self {
        Self { process, since: Instant::now(), used_before: used(process) }
    }

    /// The process has given a sign of life.
    pub(crate) fn broken(&mut self) {
        *self = Self::of(self.process);
    }

    /// How long it has lasted, if that is too long.
    pub(crate) fn exceeds(&self, limit: Limit) -> Option<Duration> {
        let passed = self.since.elapsed();
        let used = used(self.process).saturating_sub(self.used_before);
        (passed > limit.passed || used > limit.used).then_some(passed)
    }
}

/// The processor time that a process has used; zero if it has ended.
fn used(process: u32) -> Duration {
    /// Of user and system time in `/proc/PID/stat`, behind the name (proc(5)).
    const FIELDS: [usize; 2] = [11, 12];
    /// `USER_HZ`, which is part of Linux's interface on x86.
    const TICKS_PER_SECOND: u64 = 100;

    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks: u64 = FIELDS
        .iter()
        .filter_map(|field| fields.get(*field)?.parse::<u64>().ok())
        .fold(0, u64::saturating_add);
    Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::MAX;

    #[test]
    fn time_that_a_process_uses_counts_and_time_that_passes() {
        let silence = Silence::of(std::process::id());
        let limit = Duration::from_millis(50);
        assert_eq!(silence.exceeds(Limit { used: NEVER, passed: NEVER }), None);
        while used(std::process::id()) < silence.used_before + 2 * limit {
            std::hint::black_box(0);
        }
        assert!(silence.exceeds(Limit { used: limit, passed: NEVER }).is_some());
        assert!(silence.exceeds(Limit { used: NEVER, passed: limit }).is_some());
    }

    #[test]
    fn a_process_that_has_ended_uses_nothing() {
        assert_eq!(used(u32::MAX), Duration::ZERO);
    }
}
