//! The syntax: there and back again, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::fault::AnswerDelay;

fn time() -> impl Strategy<Value = Duration> {
    (1_u64..24 * 60 * 60 * 1_000_000_000).prop_map(Duration::from_nanos)
}

fn delay() -> impl Strategy<Value = AnswerDelay> {
    prop_oneof![
        time().prop_map(AnswerDelay::Fixed),
        time().prop_map(AnswerDelay::Exponential),
        (time(), time()).prop_map(|(a, b)| AnswerDelay::Uniform(a.min(b), a.max(b))),
    ]
}

fn mode() -> impl Strategy<Value = FaultMode> {
    use FaultMode::*;
    prop_oneof![
        prop::sample::select(vec![
            Silent,
            Ghost,
            Disable,
            Surprise,
            Safe,
            Aer,
            NoCompletion,
            IgnoreInvalidate,
            Duplicate,
            EarlyCompletion,
            ByteSwap,
            DropAtNext,
            Sleep,
        ]),
        time().prop_map(Merge),
        (1_u64..60_000_000_000).prop_map(|nanos| SlowReset(Duration::from_nanos(nanos))),
        (2_u8..=8).prop_map(Split),
        (1_u8..=32, time()).prop_map(|(depth, time)| Choke { depth, time }),
        delay().prop_map(Slow),
        (0_u32..=1_000_000).prop_map(Lossy),
        time().prop_map(Late),
    ]
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        time().prop_map(Trigger::At),
        Just(Trigger::Doorbell),
        (prop::sample::select(GuestConsole::ALL.to_vec()), "[a-z,=.*+ ]{1,12}")
            .prop_map(|(console, expression)| Trigger::Line(console, expression)),
        (prop::sample::select(Point::ALL.to_vec()), 1_u64..)
            .prop_map(|(point, number)| Trigger::Count(point, number)),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let port = prop::option::of("[a-z][a-z0-9.]{0,6}");
    (trigger(), port, mode(), prop::option::of(time()))
        .prop_map(|(trigger, port, mode, lasts)| Fault { trigger, port, mode, lasts })
}

proptest! {
    #[test]
    fn every_fault_survives_being_written_and_read(fault in fault()) {
        prop_assert_eq!(fault.to_string().parse::<Fault>(), Ok(fault));
    }

    #[test]
    fn no_text_breaks_the_parser(text: String, tail in "[a-z=:,/.0-9]{0,40}") {
        let _ = text.parse::<Fault>();
        let _ = tail.parse::<Fault>();
        let _ = format!("on=serial:/{tail}").parse::<Fault>();
        let _ = format!("on=debugcon:/{tail}").parse::<Fault>();
    }
}

#[test]
fn keys_come_in_any_order() {
    let parse = |text: &str| text.parse::<Fault>().unwrap();
    assert_eq!(
        parse("for=500ms,mode=surprise,port=rp1,at=3s"),
        parse("at=3s,port=rp1,mode=surprise,for=500ms")
    );
    assert_eq!(parse("at=1s,mode=flap:1s:lost"), parse("at=1s,mode=flap:1s"));
    for console in GuestConsole::ALL {
        let name = console.name();
        let fault = parse(&format!("on={name}:/mounted, really/,mode=no-completion"));
        assert_eq!(fault.trigger, Trigger::Line(console, "mounted, really".to_owned()));
    }
}

#[test]
fn nonsense_is_refused_with_what_is_wrong() {
    for (text, expected) in [
        ("", "column 1: '' is not of the form"),
        ("at=1s,mode=silent,when=2s", "column 19: there is no key 'when'"),
        ("at=1s,at=2s,mode=silent", "column 7: at= is given twice"),
        ("mode=silent", "does not say when"),
        ("at=1s,on=doorbell,mode=silent", "at= and on= cannot both"),
        ("at=1s", "no mode="),
        ("at=1,mode=silent", "'1' is not a duration"),
        ("at=1s,mode=quiet", "no mode 'quiet'; there are silent, ghost"),
        ("at=1s,mode=silent:5s", "'silent' takes no parameter"),
        ("at=1s,mode=slow", "'slow' needs its parameter; write slow:T"),
        ("at=1s,mode=slow:2s..1s", "ends before it begins"),
        ("at=1s,mode=lossy:1.5", "a number from 0 to 1"),
        ("at=1s,mode=flap:1s:kept", "neither keep nor lost"),
        ("at=1s,mode=late:1000d", "at most 24h"),
        ("at=1s,mode=split:9", "'9' is no number from 2 to 8"),
        ("at=1s,mode=split:1", "'1' is no number from 2 to 8"),
        ("at=1s,mode=choke:0:1ms", "'0' is no number from 1 to 32"),
        ("at=1s,mode=choke:33:1ms", "'33' is no number from 1 to 32"),
        ("at=1s,mode=slow-reset:61s", "'61s' is longer than a minute"),
        ("at=1s,mode=slow-reset:-1s", "'-1s' is negative"),
        ("at=1s,mode=choke:3", "write choke:3:1ms"),
        ("at=1s,mode=earl", "no mode 'earl'; did you mean 'early'? there are silent"),
        ("on=bell,mode=silent", "on=bell is unknown"),
        ("on=serial:/x,mode=silent", "is unknown"),
        ("on=debugcon:/x,mode=silent", "write on=doorbell, on=serial:/REGEX/ or on=debugcon:/"),
        ("on=debugcon://,mode=silent", "is unknown"),
        ("on=debugcon:x,mode=silent", "is unknown"),
        ("after=invalidations:0,mode=silent", "counting begins with 1"),
        ("after=invalidations,mode=silent", "needs a number"),
        ("before=requests:1,mode=silent", "after=requests:N"),
        ("at=1s,mode=all-ones-unit,port=rp0", "happens to no port"),
        ("at=1s,mode=dpc,for=1s", "only software"),
        ("at=1s,mode=flap:1s,for=1s", "ends by itself"),
    ] {
        let error = text.parse::<Fault>().unwrap_err().to_string();
        assert!(error.contains(expected), "'{text}': {error}");
    }
}

#[test]
fn earlier_names_of_modes_are_read_and_the_names_of_today_are_written() {
    for (earlier, mode, name) in [
        ("hang", FaultMode::NoCompletion, "no-completion"),
        ("deaf", FaultMode::IgnoreInvalidate, "ignore-invalidate"),
    ] {
        assert_eq!(earlier.parse(), Ok(mode));
        assert_eq!(name.parse(), Ok(mode));
        assert_eq!(mode.to_string(), name);
        let error = format!("{earlier}:1s").parse::<FaultMode>().unwrap_err().to_string();
        assert!(error.contains("takes no parameter"), "{error}");
    }
    let fault: Fault = "at=1s,mode=hang".parse().unwrap();
    assert_eq!(fault.to_string(), "at=1s,mode=no-completion");
}
