//! Live, safe and fair in every order.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::*;

fn config(policy: &str, fault: &str, ordering: Ordering) -> ExploreConfig {
    ExploreConfig {
        policy: policy.parse().unwrap(),
        fault: fault.parse().unwrap(),
        ict: Timeout::After(Duration::from_secs(60)),
        ordering,
        obeys: Obeys::AtAnswer,
        properties: true,
        slow_neighbor: false,
        depth: 5,
        random: 0,
        seed: 1,
    }
}

/// The properties that are broken.
fn broken(config: &ExploreConfig) -> Vec<&'static str> {
    let report = explore(config).unwrap();
    assert!(report.complete, "every order");
    let mut broken: Vec<_> = report.violations.keys().map(|it| it.property()).collect();
    broken.sort_unstable();
    broken.dedup();
    broken
}

#[test]
fn each_policy_breaks_the_property_that_it_gives_up() {
    let serial = Ordering::Serial;
    assert_eq!(broken(&config("linux", "no-completion", serial)), ["live"]);
    assert_eq!(broken(&config("bounded", "ignore-invalidate", serial)), ["safe"]);
    assert_eq!(broken(&config("quarantine", "ignore-invalidate", serial)), ["live"]);
    let posted = broken(&config("quarantine-posted", "ignore-invalidate", serial));
    assert!(posted.contains(&"fair"), "{posted:?}");
    let parallel = Ordering::Parallel;
    assert_eq!(broken(&config("quarantine", "ignore-invalidate", parallel)), [""; 0]);
}

#[test]
fn a_unit_that_gives_up_soon_makes_a_fence_live_on_a_unit_in_order() {
    let mut config = config("quarantine", "ignore-invalidate", Ordering::Serial);
    config.ict = Timeout::After(Duration::from_secs(2));
    assert_eq!(broken(&config), [""; 0]);
}

#[test]
fn nothing_is_broken_where_nothing_goes_wrong_and_a_slow_neighbor_only_makes_its_callers_late() {
    for ordering in Ordering::ALL {
        assert_eq!(broken(&config("quarantine", "none", ordering)), [""; 0], "{ordering}");
    }
    let mut slow = config("linux", "none", Ordering::Parallel);
    slow.slow_neighbor = true;
    assert_eq!(broken(&slow), ["live"]);
}

/// Some of the candidates, and the names of those that hold beside a neighbor that may be slow.
fn holding_beside_a_slow_neighbor(ordering: Ordering, step: usize) -> Vec<String> {
    let policies = candidates();
    assert!(policies.len() > 400, "{}", policies.len());
    let jobs = NonZeroUsize::new(2).unwrap();
    let faults = ["no-completion", "ignore-invalidate"].map(|fault| fault.parse().unwrap());
    let mut config = config("bounded", "no-completion", ordering);
    (config.slow_neighbor, config.depth) = (true, 4);
    // A few of them: the command in docs/results.md tries all.
    let some: Vec<_> = policies.into_iter().step_by(step).collect();
    let fates = try_candidates(&some, &faults, &config, jobs).unwrap();
    let holds = some.iter().zip(fates).filter(|(_, fate)| matches!(fate, Fate::Holds { .. }));
    holds.map(|(policy, _)| policy.name.clone()).collect()
}

#[test]
fn beside_a_slow_neighbor_no_policy_has_all_three_in_order_and_some_have_in_parallel() {
    for ordering in [Ordering::Serial, Ordering::Blocking] {
        assert_eq!(holding_beside_a_slow_neighbor(ordering, 29), [""; 0], "{ordering}");
    }
    let parallel = holding_beside_a_slow_neighbor(Ordering::Parallel, 55);
    assert!(parallel.iter().any(|name| name.starts_with("quarantine")), "{parallel:?}");
}

#[test]
fn to_take_a_neighbor_for_mute_is_fair_while_it_owes_an_answer_and_unfair_after() {
    // No function is mute here: the slow neighbor alone causes each violation.
    let slow = |policy: &str, ordering| ExploreConfig {
        slow_neighbor: true,
        ..config(policy, "none", ordering)
    };
    for ordering in [Ordering::Serial, Ordering::Parallel] {
        // The neighbor's own answer is missing when the bound passes.
        let report = explore(&slow("quarantine", ordering)).unwrap();
        assert!(!report.violations.contains_key(&Invariant::Unfair), "{ordering}");
        // The answer is there, and the unit does not say so behind the victim's request.
        let posted = ExploreConfig {
            fault: "no-completion".parse().unwrap(),
            ..slow("quarantine-posted", ordering)
        };
        let is_unfair = explore(&posted).unwrap().violations.contains_key(&Invariant::Unfair);
        assert_eq!(is_unfair, ordering == Ordering::Serial, "{ordering}");
    }
}
