//! The measurements of a run, and how results of many runs become one: sums, maxima and histograms
//! of whole numbers, so that neither the order nor the grouping of merges shows in the result.

use std::time::Duration;

use iommu::submit::{Counters, Verdict};
use serde::{Deserialize, Serialize};

use super::gone::Gone;
use super::healthy::Healthy;
use super::{Latencies, text};

/// Verdicts of one kind, by whether the device's ATC had really dropped the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// The ATC had dropped it.
    pub dropped: u64,
    /// The ATC still held a translation of the range. The device can use it if its requests get
    /// through.
    pub held: u64,
}

/// The verdicts that callers got, against the state of the ATCs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Complete.
    pub completed: Answers,
    /// Complete, because the device was taken to be gone.
    pub skipped: Answers,
    /// Not complete: the policy's deadline passed.
    pub deadline_passed: Answers,
    /// Not complete: the unit's own time-out.
    pub unit_timed_out: Answers,
    /// All is well: the unit blocks the device.
    pub quarantined: Answers,
    /// All is well: the device is taken for removed.
    pub removed: Answers,
    /// All is well: the device has been reset.
    pub reset: Answers,
    /// Not complete: the device has timed out before, and is not asked until it is reset.
    #[serde(default)]
    pub withheld: Answers,
    /// All is well: ATS is turned off in the device.
    #[serde(default)]
    pub ats_disabled: Answers,
    /// The domain of the caller was ended.
    #[serde(default)]
    pub crashed: Answers,
    /// All is well: a port above the device blocks it.
    #[serde(default)]
    pub fenced: Answers,
    /// All is well: a worker resets the device.
    #[serde(default)]
    pub recovering: Answers,
    /// All is well: the driver blocks the device while it resets it.
    #[serde(default)]
    pub blocked: Answers,
}

impl Told {
    /// All of them, with the verdict that each is about.
    pub fn all(&self) -> [(Verdict, Answers); 13] {
        [
            (Verdict::Completed, self.completed),
            (Verdict::Skipped, self.skipped),
            (Verdict::DeadlinePassed, self.deadline_passed),
            (Verdict::UnitTimedOut, self.unit_timed_out),
            (Verdict::Quarantined, self.quarantined),
            (Verdict::Removed, self.removed),
            (Verdict::Withheld, self.withheld),
            (Verdict::Fenced, self.fenced),
            (Verdict::Recovering, self.recovering),
            (Verdict::Blocked, self.blocked),
            (Verdict::Reset, self.reset),
            (Verdict::AtsDisabled, self.ats_disabled),
            (Verdict::Crashed, self.crashed),
        ]
    }

    pub(super) fn count(&mut self, verdict: Verdict, held: bool) {
        let answers = self.of(verdict);
        let counter = if held { &mut answers.held } else { &mut answers.dropped };
        *counter += 1;
    }

    const fn of(&mut self, verdict: Verdict) -> &mut Answers {
        match verdict {
            Verdict::Completed => &mut self.completed,
            Verdict::Skipped => &mut self.skipped,
            Verdict::DeadlinePassed => &mut self.deadline_passed,
            Verdict::UnitTimedOut => &mut self.unit_timed_out,
            Verdict::Quarantined => &mut self.quarantined,
            Verdict::Removed => &mut self.removed,
            Verdict::Withheld => &mut self.withheld,
            Verdict::Fenced => &mut self.fenced,
            Verdict::Recovering => &mut self.recovering,
            Verdict::Blocked => &mut self.blocked,
            Verdict::Reset => &mut self.reset,
            Verdict::AtsDisabled => &mut self.ats_disabled,
            Verdict::Crashed => &mut self.crashed,
        }
    }
}

/// The measurements of one run, or of many together.
///
/// *Stuck* concerns the devices behind the port to which the fault happens, *innocent* all others.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunResult {
    /// The number of runs.
    pub runs: u64,
    /// The number of runs in which the fault happened.
    pub faulted: u64,
    /// Input and output operations whose data arrived.
    pub completed_io: u64,
    /// From the moment when a caller wants an invalidation to the moment when it goes on: lock,
    /// presence check, full queue, and wait. Of those that went on.
    pub stuck: Latencies,
    /// As `stuck`, for invalidations of the devices behind other ports.
    pub innocent: Latencies,
    /// As `stuck`, for invalidations of the interrupt entry cache, by which a CPU moves an interrupt.
    #[serde(default)]
    pub irq_moves: Latencies,
    /// As `stuck`, for the wait of a driver that is about to reset its device, with a policy that
    /// blocks the device before that. They are counted in `stuck` or `innocent` as well.
    #[serde(default)]
    pub reset_waits: Latencies,
    /// Callers that still waited at the horizon.
    pub never_returned: u64,
    /// The time for which those had been waiting at the horizon.
    pub waiting: Latencies,
    /// Those of them that never go on: nothing was left that could end their wait, or it had not
    /// ended after as long again as the run and ten times the longest bound of unit and policy.
    #[serde(default)]
    pub lost: u64,
    /// Stretches of time with interrupts off on one CPU, those that last to the horizon included.
    /// Their sum is the total time with interrupts off, of all CPUs.
    pub interrupts_off: Latencies,
    /// The most time that one CPU had interrupts off, all its stretches together.
    #[serde(default, with = "text::nanos")]
    pub interrupts_off_one_cpu: Duration,
    /// The number of reports of the hard lock-up detector: interrupts off for 10 s.
    pub hard_lockups: u64,
    /// The number of reports of the soft lock-up detector: no other task for 20 s. As in Linux
    /// (`watchdog_timer_fn`) it reports from a timer interrupt, which comes when interrupts are on
    /// again: never for a CPU that waits to the end of the run.
    pub soft_lockups: u64,
    /// The counters of the submit-and-wait loop.
    pub host: Counters,
    /// Time spent on presence checks.
    #[serde(with = "text::nanos")]
    pub presence_time: Duration,
    /// DMA that reached memory by a translation whose invalidation had been reported complete, or
    /// been abandoned.
    pub stale_accesses: u64,
    /// Bytes of it.
    pub stale_bytes: u64,
    /// The longest time between that report and such an access.
    #[serde(with = "text::nanos")]
    pub stale_age: Duration,
    /// Stale accesses to pages that belonged to another device by then.
    pub stale_foreign: u64,
    /// Stale accesses by healthy devices: those behind ports without a fault.
    #[serde(default)]
    pub stale_innocent: u64,
    /// For each page that was given back while its device could still reach it: the time until the
    /// device could not, because its ATC had dropped the translation, the unit blocked it, or its
    /// link was down. A translation that only the IOTLB held counts if it was used.
    #[serde(default)]
    pub exposure: Latencies,
    /// Harm to healthy devices.
    #[serde(default)]
    pub healthy: Healthy,
    /// DMA that reached memory by a translation of a page that was unmapped, and whose invalidation
    /// had been put off and was not over: lazy mode allows it.
    #[serde(default)]
    pub deferred_accesses: u64,
    /// The longest time between the unmapping and such an access.
    #[serde(default, with = "text::nanos")]
    pub deferred_age: Duration,
    /// The verdicts that callers got, against the state of the ATCs.
    pub told: Told,
    /// From the first sign of trouble to the quarantine.
    pub time_to_quarantine: Latencies,
    /// The time for which a device was gone while its driver was bound.
    pub zombie: Latencies,
    /// What was done with devices that were gone, and when software knew.
    #[serde(default)]
    pub gone: Gone,
    /// Runs that ended well after a fault: no caller was waiting, and the device works, or its
    /// driver has let it go.
    pub recovered: u64,
    /// Virtual time.
    #[serde(with = "text::nanos")]
    pub virtual_time: Duration,
    /// Tasks of the simulation.
    pub steps: u64,
}

impl RunResult {
    /// Stale accesses by devices behind the port to which the fault happened.
    pub const fn stale_stuck(&self) -> u64 {
        self.stale_accesses - self.stale_innocent
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        self.faulted += other.faulted;
        self.completed_io += other.completed_io;
        self.stuck.merge(&other.stuck);
        self.innocent.merge(&other.innocent);
        self.irq_moves.merge(&other.irq_moves);
        self.reset_waits.merge(&other.reset_waits);
        self.never_returned += other.never_returned;
        self.waiting.merge(&other.waiting);
        self.lost += other.lost;
        self.interrupts_off.merge(&other.interrupts_off);
        self.interrupts_off_one_cpu = self.interrupts_off_one_cpu.max(other.interrupts_off_one_cpu);
        self.hard_lockups += other.hard_lockups;
        self.soft_lockups += other.soft_lockups;
        self.host.merge(&other.host);
        self.presence_time += other.presence_time;
        self.stale_accesses += other.stale_accesses;
        self.stale_bytes += other.stale_bytes;
        self.stale_age = self.stale_age.max(other.stale_age);
        self.stale_foreign += other.stale_foreign;
        self.stale_innocent += other.stale_innocent;
        self.exposure.merge(&other.exposure);
        self.healthy.merge(other.healthy);
        self.deferred_accesses += other.deferred_accesses;
        self.deferred_age = self.deferred_age.max(other.deferred_age);
        self.told.merge(&other.told);
        self.time_to_quarantine.merge(&other.time_to_quarantine);
        self.zombie.merge(&other.zombie);
        self.gone.merge(&other.gone);
        self.recovered += other.recovered;
        self.virtual_time += other.virtual_time;
        self.steps += other.steps;
    }
}

impl Told {
    fn merge(&mut self, other: &Self) {
        for (verdict, answers) in other.all() {
            self.of(verdict).merge(answers);
        }
    }
}

impl Answers {
    fn merge(&mut self, other: Self) {
        self.dropped += other.dropped;
        self.held += other.held;
    }
}
