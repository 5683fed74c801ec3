//! Violations that the explorer must find, and others that it must not find.

use std::time::Duration;

use iommu::submit::PRESETS;

use super::*;

const ICT: Duration = Duration::from_secs(60);

fn config(policy: &str, fault: &str) -> ExploreConfig {
    ExploreConfig {
        policy: policy.parse().unwrap(),
        fault: fault.parse().unwrap(),
        ict: Timeout::After(ICT),
        ordering: Ordering::Serial,
        obeys: Obeys::AtAnswer,
        properties: false,
        slow_neighbor: false,
        depth: 5,
        random: 0,
        seed: 1,
    }
}

fn found(config: &ExploreConfig) -> Vec<Invariant> {
    explore(config).unwrap().violations.into_keys().collect()
}

fn finds(policy: &str, fault: &str) -> Vec<Invariant> {
    found(&config(policy, fault))
}

#[test]
fn nothing_is_found_where_nothing_goes_wrong() {
    for preset in PRESETS {
        let config = ExploreConfig { depth: 4, ..config(preset.name, "none") };
        assert_eq!(found(&config), [], "{}", preset.name);
    }
}

#[test]
fn slot_reuse_is_unsafe_and_sequence_numbers_are_safe() {
    for (policy, unsafe_) in [("bounded", true), ("amd", false), ("quarantine", false)] {
        let found = finds(policy, "late");
        assert_eq!(found.contains(&Invariant::FalseCompletion), unsafe_, "{policy}: {found:?}");
    }
}

#[test]
fn no_number_helps_against_an_answer_that_comes_after_the_unit_has_given_up() {
    // The ITag is used again by then. With at-answer the answer that comes too late makes the victim drop
    // the same page, so that it is true of both requests.
    let obeys = Obeys::AtOnce;
    let config = ExploreConfig { depth: 6, obeys, ..config("amd", "too-late") };
    assert!(found(&config).contains(&Invariant::FalseCompletion));
    let fenced = ExploreConfig { policy: "quarantine".parse().unwrap(), ..config };
    assert_eq!(found(&fenced), []);
}

#[test]
fn where_waits_complete_out_of_order_a_sequence_number_wakes_the_wrong_waiter() {
    let parallel = ExploreConfig { ordering: Ordering::Parallel, ..config("amd", "no-completion") };
    assert!(found(&parallel).contains(&Invariant::FalseCompletion));
}

#[test]
fn a_bound_without_a_fence_is_unsafe_and_with_one_it_is_safe() {
    for fault in ["no-completion", "ignore-invalidate"] {
        assert!(finds("bounded", fault).contains(&Invariant::StaleAfterFailure), "{fault}");
        assert!(finds("late-removal", fault).contains(&Invariant::StaleAfterSuccess), "{fault}");
        for ordering in [Ordering::Serial, Ordering::Parallel] {
            for policy in ["quarantine", "quarantine-posted"] {
                let config = ExploreConfig { ordering, ..config(policy, fault) };
                assert_eq!(found(&config), [], "{policy}, {fault}, {ordering}");
            }
        }
    }
}

#[test]
fn who_hangs_drops_what_it_is_told_to_and_never_says_so_and_who_is_deaf_does_not_even_drop_it() {
    use action::{Page, Who};
    for (fault, obeys, drops) in [
        ("no-completion", Obeys::AtOnce, true),
        ("no-completion", Obeys::AtAnswer, false),
        ("ignore-invalidate", Obeys::AtOnce, false),
    ] {
        let config = ExploreConfig { obeys, ..config("bounded", fault) };
        let mut world = world::World::new(&config, false).unwrap();
        let page = Page(Who::Victim, 0);
        assert!(world.act(Action::Unmap(page)));
        let arrives = fault == "no-completion";
        assert_eq!(world.act(Action::Deliver(Who::Victim)), arrives, "{fault}");
        assert!(!world.enabled().contains(&Action::Answer(Who::Victim)), "{fault}");
        assert!(world.act(Action::Wait), "the deadline passes, and the page has another user");
        assert_eq!(world.act(Action::Use(page)) && world.broken.is_some(), !drops, "{fault}");
    }
}

#[test]
fn a_lie_is_found_as_stale_after_success_which_no_policy_promises_to_prevent() {
    for fault in ["early", "byte-swap", "drop-at-next"] {
        let report = explore(&config("linux", fault)).unwrap();
        let found: Vec<_> = report.violations.keys().copied().collect();
        assert_eq!(found, [Invariant::StaleAfterSuccess], "{fault}");
        let (policy, fault) = ("bounded".parse().unwrap(), fault.parse().unwrap());
        assert!(report.keeps_claims(&policy, fault), "{fault}");
    }
}

#[test]
fn merged_and_split_completions_are_safe() {
    for fault in ["merge", "split"] {
        assert_eq!(finds("linux", fault), [], "{fault}");
    }
}

#[test]
fn a_function_that_sleeps_and_wakes_up_is_stale_after_a_failure_unless_it_is_held() {
    let unheld = ExploreConfig { depth: 6, ..config("bounded", "sleep") };
    assert!(found(&unheld).contains(&Invariant::StaleAfterFailure));
    let held = ExploreConfig { policy: "quarantine".parse().unwrap(), ..unheld };
    assert_eq!(found(&held), []);
}

#[test]
fn the_presence_check_says_success_of_a_device_that_comes_back() {
    let found = finds("linux-7.0-teardown", "flap");
    assert!(found.contains(&Invariant::StaleAfterSuccess), "{found:?}");
    let unmapped = finds("linux-7.0-unmap", "flap");
    assert!(!unmapped.contains(&Invariant::StaleAfterSuccess), "no check, no claim: {unmapped:?}");
}

#[test]
fn waits_in_even_slots_are_lost_before_fe89277c9ceb() {
    // Before 6.12 every submission has an even number of slots.
    for (policy, lost) in [
        ("linux-6.8-unmap", false),
        ("linux-6.9-unmap", false),
        ("linux-6.12-unmap", true),
        ("linux-7.0-unmap", false),
    ] {
        let found = finds(policy, "silent");
        assert_eq!(found.contains(&Invariant::LostWait), lost, "{policy}: {found:?}");
    }
}

#[test]
fn a_narration_is_numbered_and_ends_in_what_must_not_happen() {
    let report = explore(&config("bounded", "late")).unwrap();
    let violation = &report.violations[&Invariant::FalseCompletion];
    assert!(
        violation.narration[0].starts_with("1. A CPU unmaps page"),
        "{:?}",
        violation.narration
    );
    assert!(violation.narration.last().unwrap().starts_with("=> "));
    assert!(!report.keeps_claims(&"bounded".parse().unwrap(), "late".parse().unwrap()));
}

#[test]
fn random_traces_find_what_lies_deeper_and_are_made_short() {
    let shallow = ExploreConfig { depth: 3, random: 150, ..config("bounded", "late") };
    let report = explore(&shallow).unwrap();
    let violation = &report.violations[&Invariant::FalseCompletion];
    let deep = explore(&config("bounded", "late")).unwrap();
    let shortest = &deep.violations[&Invariant::FalseCompletion];
    assert_eq!(violation.trace.len(), shortest.trace.len());
    assert_eq!(explore(&shallow).unwrap(), report, "the same seed, the same report");
}
