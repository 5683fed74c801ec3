//! Valid files, and the errors for invalid ones.

use std::num::NonZeroU16;

use iommu::submit::{
    Completion, IteMarks, LockScope, OnIte, OnTimeout, Policy, PolicyPath, Precheck, PrecheckOn,
    Slots, Suspects, Units,
};
use proptest::prelude::*;

use super::*;
use crate::matrix::Matrix;
use crate::policies::find;
use crate::seeds::{Place, Seeds};
use crate::text::position;

/// The policies that a text adds.
fn policies(text: &str) -> Result<Vec<Policy>, (usize, String)> {
    let mut catalog = Catalog::default();
    let presets = catalog.policies.len();
    parse(text, &mut catalog)?;
    Ok(catalog.policies.split_off(presets))
}

#[test]
fn a_file_adds_rows_and_says_what_is_compared() {
    let text = r#"
        policies = ["linux", "bounded:20ms", "patient"]
        seeds = 5
        ict = "1s"
        obeys = "at-once"
        units = ["parallel", "old"]
        cpus_per_device = [4]
        [[policy]]
        name = "patient"
        base = "bounded:1s"
        watchdog = true
        [[fault]]
        name = "slower"
        about = "answers take 2 s"
        fault = "before=completion:3,mode=slow:2s"
        [[unit]]
        name = "old"
        about = "has no ITESID"
        itesid = "00:00.0"
    "#;
    let mut catalog = Catalog::default();
    let selection = parse(text, &mut catalog).unwrap();
    let matrix = Matrix::new(&catalog, &selection).unwrap();
    assert_eq!(matrix.names()[0], ["linux", "bounded:20ms", "patient"]);
    assert!(matrix.policies[2].watchdog);
    assert_eq!((matrix.seeds, matrix.machine.ict), (Seeds::Fixed(5), "1s".parse().unwrap()));
    assert_eq!(matrix.spec(Place { cell: 0, seed: 0 }).unwrap().obeys, Obeys::AtOnce);
    assert_eq!(matrix.names()[3], ["parallel", "old"]);
    assert_eq!(matrix.units[1].itesid, Some("00:00.0".parse().unwrap()));
    assert_eq!(matrix.workloads[0].name, "strict@4");
    assert!(matrix.faults.iter().any(|row| row.name == "slower"));
}

#[test]
fn mistakes_in_a_file_have_a_position_and_a_suggestion() {
    for (text, at, expected) in [
        ("polices = []\n", "line 1, column 1", "did you mean `policies`?"),
        ("[[fault]]\nname = \"a\"\nabuot = \"\"\n", "line 3, column 1", "`about`?"),
        ("[[fault]]\nname = \"silent\"\nabout = \"\"\n", "line 1", "already a fault 'silent'"),
        ("[[fault]]\nname = \"a b\"\nabout = \"\"\n", "line 1", "'a b' cannot name"),
        ("ict = \"soon\"\n", "line 1, column 7", "'soon'"),
        ("units = [\"serial\"]\nordering = \"parallel\"\n", "line 2, column 12", "`units`"),
        ("[[unit]]\nname = \"serial\"\nabout = \"\"\n", "line 1", "already a unit 'serial'"),
        ("[[unit]]\nname = \"u\"\nabout = \"\"\nordering = \"random\"\n", "line 4", "random"),
        ("obeys = \"late\"\n", "line 1, column 9", "at-answer"),
        ("seeds = -1\n", "line 1, column 9", "invalid value"),
        (
            "[[fault]]\nname = \"f\"\nabout = \"\"\nfault = \"at=1s,mode=quiet\"\n",
            "line 4",
            "quiet",
        ),
        ("seeds = \n", "line 1", ""),
    ] {
        let (byte, reason) = parse(text, &mut Catalog::default()).unwrap_err();
        let place = position(text, byte);
        assert!(place.starts_with(at), "{text}: {place}: {reason}");
        assert!(reason.contains(expected), "{text}: {reason}");
        assert!(!reason.contains('\n'), "{reason}");
    }
}

#[test]
fn twice_the_same_name_in_a_file_is_told_at_the_second() {
    let text = "[[fault]]\nname = \"a\"\nabout = \"\"\n\n[[fault]]\nname = \"a\"\nabout = \"\"\n";
    let (byte, _) = parse(text, &mut Catalog::default()).unwrap_err();
    assert_eq!(position(text, byte), "line 5, column 1");
}

const GOOD: &str = r#"
[[policy]]
name = "patient"
base = "bounded:5s"
on_timeout = "retry(2)"

[[policy]]
name = "careful"
base = "patient"
completion = "leak"
watchdog = true
"#;

#[test]
fn rows_say_what_differs_from_their_base() {
    let policies = policies(GOOD).unwrap();
    let bounded: Policy = "bounded:5s".parse().unwrap();
    let patient = Policy { name: "patient".into(), on_timeout: OnTimeout::Retry(2), ..bounded };
    let careful = Policy {
        name: "careful".into(),
        completion: Completion::Leak,
        watchdog: true,
        ..patient.clone()
    };
    assert_eq!(policies, [patient, careful]);
}

#[test]
fn mistakes_in_a_policy_have_a_position_and_a_suggestion() {
    let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
    for (wrong, line, expected) in [
        (with("on_timeout", "on_timeuot"), 5, "did you mean `on_timeout`?"),
        (with("[[policy]]", "[[polcy]]"), 2, "did you mean `policy`?"),
        (with("retry(2)", "retri(2)"), 5, "'retri(2)' is not a value of 'on_timeout'"),
        (with("bounded:5s", "bonded:5s"), 4, "did you mean 'bounded:5s'?"),
        (with("bounded:5s", "bounded:0s"), 4, "'0s' is not a duration"),
        (with("\"careful\"", "\"patient\""), 8, "there are two policies 'patient'"),
        (with("\"careful\"", "\"linux\""), 8, "there is a preset 'linux'"),
        (with("\"careful\"", "\"care:ful\""), 8, "is no name"),
        (with("base = \"bounded:5s\"", "base = \"linux\""), 3, "never passes"),
        (with("watchdog = true", "precheck_on = \"teardown\""), 8, "makes no check"),
        (with("watchdog = true", "fn = \"yes\""), 11, "a boolean"),
        (with("watchdog = true", "path = \"unmapping\""), 11, "any, unmap, teardown, reset"),
        (with("name = \"patient\"\n", ""), 2, "missing field `name`"),
        (with("\"patient\"", "patient"), 3, "string"),
        (with("watchdog = true", "watchdog = 1"), 11, "a boolean"),
        (with("watchdog = true", "in_flight = 0"), 11, "in_flight is 0, so that"),
        (with("watchdog = true", "in_flight = 65536"), 11, "65536"),
        (with("watchdog = true", "suspects = \"old\""), 11, "'old' is not a value of 'suspects'"),
    ] {
        let (at, reason) = policies(&wrong).unwrap_err();
        let at = position(&wrong, at);
        assert!(at.starts_with(&format!("line {line}, ")), "{at}: {reason}");
        assert!(reason.contains(expected) && !reason.contains('\n'), "{reason}");
    }
}

#[test]
fn an_unknown_policy_is_refused_with_one_that_may_have_been_meant() {
    let own = policies(GOOD).unwrap();
    let message = |name: &str| find(name, &own).unwrap_err();
    assert!(message("linus").contains("did you mean 'linux'?"), "{}", message("linus"));
    assert!(message("carefull").contains("'careful'"), "{}", message("carefull"));
    assert!(message("quarantin:1s").contains("'quarantine:1s'"));
    assert!(message("zzz").contains("linux, "), "{}", message("zzz"));
    assert!(message("linux:1s").contains("bounded:1s"));
}

fn any_of<T: Copy + std::fmt::Debug>(values: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(values)
}

fn policy() -> impl Strategy<Value = Policy> {
    let deadline = (1..u64::MAX).prop_map(std::time::Duration::from_nanos);
    let on_timeout = prop_oneof![
        Just(OnTimeout::Report),
        any::<u32>().prop_map(OnTimeout::Retry),
        Just(OnTimeout::Quarantine),
        Just(OnTimeout::QuarantinePosted),
        Just(OnTimeout::Remove),
        Just(OnTimeout::Reset),
        Just(OnTimeout::DisableAts),
        Just(OnTimeout::Crash),
    ];
    let where_ = (any_of(PolicyPath::ALL), any_of(PrecheckOn::ALL), any_of(LockScope::ALL));
    let other = prop::option::of((1..u64::MAX).prop_map(std::time::Duration::from_nanos));
    let shape = (any_of(Slots::ALL), any::<bool>(), any_of(Units::ALL), other, any::<bool>());
    let fields = (
        any_of(Precheck::ALL),
        deadline.prop_map(Timeout::After),
        on_timeout,
        any_of(OnIte::ALL),
        any_of(IteMarks::ALL),
        any_of(Completion::ALL),
        any::<bool>(),
        proptest::option::of(any::<NonZeroU16>()),
        any_of(Suspects::ALL),
    );
    let all = ("[a-z][a-z0-9_.+-]{4,12}z", fields, where_, shape);
    all.prop_map(|(name, fields, (path, precheck_on, lock), shape)| {
        let (precheck, deadline, on_timeout, on_ite, ite_marks, completion, ..) = fields;
        let (.., watchdog, in_flight, suspects) = fields;
        let (slots, fenced_waits, units, other, reset_prepare) = shape;
        let has_check = precheck != Precheck::None;
        Policy {
            name,
            path,
            precheck,
            precheck_on: if has_check { precheck_on } else { PrecheckOn::Every },
            deadline,
            other_deadline: other.map(Timeout::After),
            on_timeout,
            on_ite,
            ite_marks,
            completion,
            slots,
            fenced_waits,
            lock,
            watchdog,
            in_flight,
            suspects,
            reset_prepare,
            units,
        }
    })
}

proptest! {
    #[test]
    fn every_policy_survives_being_written_and_read(policy in policy()) {
        let row = toml::to_string(&policy).unwrap();
        prop_assert_eq!(policies(&format!("[[policy]]\n{row}")), Ok(vec![policy]));
    }

    #[test]
    fn no_text_makes_reading_panic(text in ".{0,200}") {
        let _ = policies(&text);
    }
}
