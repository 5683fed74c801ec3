use super::*;
use crate::sim::Catalog;
use crate::timelines::replay;

/// The summary of a run, by the names of its lines.
fn lines(run: &str) -> Vec<(String, String)> {
    lines_of(&Catalog::default().spec(&run.parse().unwrap()).unwrap())
}

fn lines_of(spec: &RunSpec) -> Vec<(String, String)> {
    let mut out = Vec::new();
    digest(spec, &replay(spec).unwrap(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let split = |line: &str| {
        let (name, text) = line[2..].split_at(13);
        (name.trim_end().to_owned(), text.trim().to_owned())
    };
    text.lines().map(split).collect()
}

fn line<'a>(lines: &'a [(String, String)], name: &str) -> &'a str {
    let found = lines.iter().find(|(other, _)| other == name);
    &found.unwrap_or_else(|| panic!("no line '{name}' in {lines:#?}")).1
}

#[test]
fn an_unsafe_run_says_what_was_promised_and_what_broke_it() {
    let lines = lines("bounded:100ms/ignore-invalidate/strict/0");
    assert!(lines.len() <= 10, "{lines:#?}");
    assert!(line(&lines, "promised").starts_with("each wait ends within 100.0 ms"), "{lines:#?}");
    assert!(line(&lines, "outcome").contains("live, NOT SAFE"), "{lines:#?}");
    assert!(line(&lines, "first unsafe").contains("STALE DMA: 01:00.0"), "{lines:#?}");
    let cause = line(&lines, "cause");
    assert!(cause.contains("the deadline has passed") && cause.contains("ITag"), "{cause}");
    assert!(line(&lines, "stale DMA").contains("01:00.0"), "{lines:#?}");
    // The bound is for each holder of the lock: the CPU behind it waits for both.
    let stuck = line(&lines, "longest wait");
    assert!(stuck.contains("IRQs off for 200.0 ms"), "{stuck}");
    assert!(stuck.contains("100.0 ms on the lock of the domain"), "{stuck}");
    assert_eq!(line(&lines, "lock-ups"), "none");
}

#[test]
fn a_stuck_run_names_the_cpu_and_the_request_that_it_waits_behind() {
    let lines = lines("linux/ignore-invalidate/strict/0");
    assert!(line(&lines, "outcome").contains("NOT LIVE, safe"), "{lines:#?}");
    let stuck = line(&lines, "longest wait");
    assert!(stuck.contains("CPU") && stuck.contains("behind ITag"), "{stuck}");
    assert!(stuck.contains("to 01:00.0, unanswered since"), "{stuck}");
    assert!(line(&lines, "lock-ups").starts_with("hard "), "{lines:#?}");
    assert!(line(&lines, "at the end").contains("still wait"), "{lines:#?}");
}

#[test]
fn a_false_completion_is_not_counted_as_done() {
    let lines = lines("vt-d-sequence:100ms/ignore-invalidate/strict/parallel/0");
    assert!(line(&lines, "outcome").contains("NOT SAFE"), "{lines:#?}");
    assert!(line(&lines, "first unsafe").contains("FALSE COMPLETION"), "{lines:#?}");
    assert!(line(&lines, "cause").contains("one rising number"), "{lines:#?}");
    assert!(line(&lines, "verdicts").contains("FALSELY completed"), "{lines:#?}");
}

#[test]
fn a_healthy_run_has_nothing_unsafe_to_tell() {
    let lines = lines("linux/none/strict/0");
    assert!(line(&lines, "fault").ends_with("no fault happened"), "{lines:#?}");
    assert!(line(&lines, "outcome").starts_with("live, safe, fair"), "{lines:#?}");
    assert!(lines.iter().all(|(name, _)| name != "cause" && name != "first unsafe"));
    assert_eq!(line(&lines, "lock-ups"), "none");
}
