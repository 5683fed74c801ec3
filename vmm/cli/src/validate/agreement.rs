//! Compares the observations of KVM and of the simulation.

use std::cmp::Reverse;
use std::time::Duration;

use iommu::submit::Verdict;
use serde::Serialize;

use super::observe::{Affected, Observation, Told, nanos};

/// Tolerance for the comparison of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Difference that is always tolerated.
    slack: Duration,
    /// The unit's time-out, after which each waiter resubmits on its own, and how many time-outs a
    /// waiter may lose to others.
    resubmits_after: Option<(Duration, u32)>,
}

impl Limits {
    /// Shortest stall that is compared: shorter ones depend on the load of the host.
    const FROM: Duration = Duration::from_millis(100);
    /// Tolerated difference, in exits.
    const EXITS: u32 = 5;

    /// Five exits, or a fifth of what the simulation says if that is more.
    pub(super) fn new(exit: Duration) -> Self {
        Self { slack: exit * Self::EXITS, resubmits_after: None }
    }

    /// As `self`, for waiters that resubmit on their own after each time-out of the unit, in any order.
    /// Each device has `cpus` CPUs.
    pub(super) fn with_own_resubmission(self, ict: Duration, cpus: u8) -> Self {
        Self { resubmits_after: Some((ict, u32::from(cpus) + 1)), ..self }
    }

    /// Whether they agree; nothing if both are too short to be compared.
    pub(super) fn agree(self, kvm: Duration, simulated: Duration) -> Option<bool> {
        let is_compared = kvm.max(simulated) >= Self::FROM;
        is_compared.then(|| kvm.abs_diff(simulated) <= self.slack.max(simulated / 5))
    }

    /// Whether the neighbour may have completed where it waits without end in the simulation, or after
    /// another number of time-outs. There the waiters of a host resubmit in order. Elsewhere the CPUs
    /// race. If the neighbour is the first, its wait ends with the time-out, or with the next one.
    /// Each further CPU of the victim may take its place once.
    fn allow_neighbor(self, kvm: Option<Affected>, simulated: Option<Affected>) -> bool {
        let (Some(kvm), Some(simulated)) = (kvm, simulated) else { return false };
        let Some((ict, most)) = self.resubmits_after else { return false };
        let completed = Some(Verdict::Completed);
        let is_time_outs = |side: Affected| {
            (1..=most).any(|count| self.agree(side.wait, ict * count) == Some(true))
        };
        let simulated_waits = simulated.verdict.is_none()
            || most > 2 && simulated.verdict == completed && is_time_outs(simulated);
        let harms = |side: Affected| (side.false_completion, side.stale);
        kvm.verdict == completed
            && is_time_outs(kvm)
            && simulated_waits
            && harms(kvm) == harms(simulated)
    }
}

/// Both observations of a pair, and whether they agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Agreement {
    /// The observation under KVM.
    pub(crate) kvm: Observation,
    /// The observation in the simulation.
    pub(crate) simulated: Observation,
    /// Verdict, submissions, state of the ATC, owner of the status write, stale accesses, and the
    /// verdict of the neighbour's longest wait are equal.
    pub(crate) outcome_agrees: bool,
    /// The CPU's stalls agree; `None` below 100 ms in both, or if both wait to the end.
    pub(crate) stall_agrees: Option<bool>,
    /// The neighbour's longest waits agree; `None` as for `stall_agrees`.
    pub(crate) neighbor_agrees: Option<bool>,
    /// The longest stalls of the victim's other CPUs agree; `None` as for `stall_agrees`.
    pub(crate) crowd_agrees: Option<bool>,
    /// Observations of other tries under KVM.
    pub(crate) discarded: Vec<Observation>,
    /// The distance that would still agree in any case.
    #[serde(rename = "slack_ns", serialize_with = "nanos")]
    slack: Duration,
}

impl Agreement {
    /// Compares two observations.
    pub(super) fn new(kvm: Observation, simulated: Observation, limits: Limits) -> Self {
        let ended = kvm.verdict.is_some() || simulated.verdict.is_some();
        let stalls = || limits.agree(kvm.stall, simulated.stall);
        let wait = |side: &Observation| {
            let verdict = |affected: Affected| affected.verdict.map(|_| affected.wait);
            side.neighbor.map_or(Some(Duration::ZERO), verdict)
        };
        let waits = wait(&kvm).zip(wait(&simulated));
        let races = limits.allow_neighbor(kvm.neighbor, simulated.neighbor);
        let crowd = |side: &Observation| side.crowd.map_or(Duration::ZERO, |crowd| crowd.stall);
        let has_ended = |side: &Observation| side.crowd.is_none_or(|crowd| crowd.ended);
        let crowds_end = has_ended(&kvm) && has_ended(&simulated);
        Self {
            outcome_agrees: outcome(&kvm) == outcome(&simulated)
                && has_ended(&kvm) == has_ended(&simulated)
                && (neighbor(&kvm) == neighbor(&simulated) || races),
            stall_agrees: ended.then(stalls).flatten(),
            neighbor_agrees: waits
                .filter(|_| !races)
                .and_then(|(kvm, simulated)| limits.agree(kvm, simulated)),
            crowd_agrees: crowds_end
                .then(|| limits.agree(crowd(&kvm), crowd(&simulated)))
                .flatten(),
            discarded: Vec::new(),
            slack: limits.slack,
            kvm,
            simulated,
        }
    }

    /// Whether all of it agrees.
    pub(crate) fn agrees(&self) -> bool {
        self.outcome_agrees
            && self.stall_agrees.unwrap_or(true)
            && self.neighbor_agrees.unwrap_or(true)
            && self.crowd_agrees.unwrap_or(true)
    }

    /// The one of two tries that is nearer to the simulation, with the other one discarded.
    pub(super) fn or(mut self, mut next: Self) -> Self {
        let rank = |it: &Self| (it.agrees(), it.outcome_agrees, Reverse(it.kvm.stall));
        if rank(&next) > rank(&self) {
            std::mem::swap(&mut self, &mut next);
        }
        self.discarded.append(&mut next.discarded);
        self.discarded.push(next.kvm);
        self
    }
}

/// The part of an observation that has to be equal, but for the neighbour's.
type Outcome = (Option<Verdict>, u32, bool, bool, Option<Told>);

fn outcome(side: &Observation) -> Outcome {
    (side.verdict, side.submissions, side.dropped, side.false_completion, side.stale)
}

/// Its verdict, whether another's status write ended a flush of it, and its stale accesses.
type NeighborOutcome = (Option<Verdict>, bool, Option<Told>);

fn neighbor(side: &Observation) -> Option<NeighborOutcome> {
    side.neighbor.map(|it| (it.verdict, it.false_completion, it.stale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::observe::{Crowd, passed_deadline};

    fn compare(kvm: Observation, simulated: Observation) -> Agreement {
        Agreement::new(kvm, simulated, Limits::new(Duration::from_millis(6)))
    }

    #[test]
    fn stalls_of_100_ms_and_more_may_be_a_fifth_or_five_exits_apart() {
        for (kvm, simulated, agrees) in [
            (110, 100, Some(true)),
            (130, 100, Some(true)),
            (131, 100, Some(false)),
            (1200, 1000, Some(true)),
            (1201, 1000, Some(false)),
            (799, 1000, Some(false)),
            (20, 99, None),
            (100, 1, Some(false)),
        ] {
            let both = compare(passed_deadline(kvm), passed_deadline(simulated));
            assert_eq!(both.stall_agrees, agrees, "{kvm} {simulated}");
            assert_eq!(both.agrees(), agrees != Some(false), "{kvm} {simulated}");
        }
    }

    #[test]
    fn an_outcome_is_all_of_what_can_be_known_but_its_time() {
        let neighbor = Affected::new(None, Duration::from_millis(50));
        let changes: [&dyn Fn(&mut Observation); 9] = [
            &|it: &mut Observation| it.stale = Some(Told::Failure),
            &|it: &mut Observation| it.verdict = None,
            &|it: &mut Observation| it.submissions = 2,
            &|it: &mut Observation| it.dropped = true,
            &|it: &mut Observation| it.false_completion = true,
            &|it: &mut Observation| it.neighbor = Some(neighbor),
            &|it: &mut Observation| {
                it.neighbor = Some(Affected { false_completion: true, ..neighbor })
            },
            &|it: &mut Observation| {
                it.neighbor = Some(Affected { stale: Some(Told::Failure), ..neighbor })
            },
            &|it: &mut Observation| {
                it.crowd = Crowd::new(Duration::from_secs(1), Duration::from_secs(1))
            },
        ];
        assert!(compare(passed_deadline(100), passed_deadline(100)).outcome_agrees);
        for change in changes {
            let mut other = passed_deadline(100);
            change(&mut other);
            assert!(!compare(other, passed_deadline(100)).outcome_agrees);
        }
    }

    #[test]
    fn a_neighbor_that_resubmits_first_waits_for_one_time_out_or_two() {
        let ict = Duration::from_millis(300);
        let side = |verdict, millis| {
            let wait = Duration::from_millis(millis);
            let neighbor = Some(Affected::new(verdict, wait));
            Observation { verdict: None, neighbor, ..passed_deadline(750) }
        };
        let completed = Some(Verdict::Completed);
        for (kvm, simulated, agrees) in [
            (side(completed, 310), side(None, 750), true),
            (side(completed, 640), side(None, 750), true),
            (side(completed, 450), side(None, 750), false),
            (side(Some(Verdict::UnitTimedOut), 310), side(None, 750), false),
            (side(None, 750), side(completed, 300), false),
            (passed_deadline(750), side(None, 750), false),
        ] {
            let limits = Limits::new(Duration::from_millis(6));
            let serial = Agreement::new(kvm.clone(), simulated.clone(), limits);
            assert!(!serial.outcome_agrees, "one host resubmits in order: {kvm:?}");
            let raced =
                Agreement::new(kvm.clone(), simulated, limits.with_own_resubmission(ict, 1));
            assert_eq!(raced.outcome_agrees, agrees, "{kvm:?}");
        }
        // With further CPUs of the victim the neighbor may lose more time-outs.
        for (kvm, cpus, agrees) in [(900, 1, false), (900, 2, true), (450, 2, false)] {
            let limits = Limits::new(Duration::from_millis(6)).with_own_resubmission(ict, cpus);
            let raced = Agreement::new(side(completed, kvm), side(completed, 300), limits);
            assert_eq!(raced.agrees(), agrees, "{kvm} {cpus}");
        }
    }

    #[test]
    fn the_stalls_of_the_victims_other_cpus_agree_as_its_own_do() {
        let with = |millis| Observation {
            crowd: Crowd::new(Duration::from_millis(millis), Duration::from_secs(1)),
            ..passed_deadline(100)
        };
        for (kvm, agrees) in [(220, Some(true)), (300, Some(false)), (5, Some(false))] {
            let both = compare(with(kvm), with(200));
            assert_eq!((both.crowd_agrees, both.outcome_agrees), (agrees, true), "{kvm}");
        }
        assert!(!compare(with(1000), with(200)).outcome_agrees, "they do not all come back");
    }

    #[test]
    fn of_several_tries_the_nearest_counts_and_all_are_kept() {
        let tries = [150, 900, 130, 160]
            .map(|millis| compare(passed_deadline(millis), passed_deadline(100)));
        let best = tries.into_iter().reduce(Agreement::or).unwrap();
        assert!(best.agrees() && best.kvm.stall == Duration::from_millis(130));
        let mut others: Vec<_> = best.discarded.iter().map(|it| it.stall.as_millis()).collect();
        others.sort_unstable();
        assert_eq!(others, [150, 160, 900]);
    }

    #[test]
    fn two_that_wait_for_ever_have_no_stall_to_compare() {
        let waits = |millis| Observation { verdict: None, ..passed_deadline(millis) };
        assert_eq!(compare(waits(750), waits(10)).stall_agrees, None);
    }
}
