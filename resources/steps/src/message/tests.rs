use super::*;

fn parse(line: &str) -> Result<Stamped, ParseMessageError> {
    line.parse()
}

fn messages() -> Vec<(&'static str, Message)> {
    let result = |outcome| Message::Result { number: 3, word: "vtd:legacy".into(), outcome };
    vec![
        (
            "start 2 6.12.117+deb12-amd64",
            Message::Start { release: "6.12.117+deb12-amd64".into(), cpus: 2 },
        ),
        ("plan 31", Message::Plan { steps: 31 }),
        ("step 3 disk:1", Message::Step { number: 3, word: "disk:1".into() }),
        ("ok 3 vtd:legacy", result(Outcome::Ok)),
        ("not ok 3 vtd:legacy", result(Outcome::NotOk)),
        ("skip 3 vtd:legacy no unit", result(Outcome::Skip("no unit".into()))),
        (
            "value remove_ms=12",
            Message::Value { name: "remove_ms".parse().unwrap(), quantity: Quantity::Number(12) },
        ),
        (
            "value remove_ms=never",
            Message::Value { name: "remove_ms".parse().unwrap(), quantity: Quantity::Never },
        ),
        ("# ecap f00f5a = 1", Message::Evidence("ecap f00f5a = 1".into())),
        ("mark drop", Message::Mark("drop".parse().unwrap())),
        (
            "log 4 3.000042 DMAR: DRHD: handling fault",
            Message::Log {
                level: 4,
                at: Duration::from_micros(3_000_042),
                text: "DMAR: DRHD: handling fault".into(),
            },
        ),
        ("end", Message::End),
    ]
}

#[test]
fn each_message_is_read_as_it_was_written() {
    for (text, message) in messages() {
        let stamped = Stamped { at: Duration::from_micros(12_000_345), message };
        let line = format!("[   12.000345] {text}");
        assert_eq!(stamped.to_string(), line);
        assert_eq!(parse(&line), Ok(stamped.clone()));
        assert_eq!(parse(&format!("{line}\r\n")), Ok(stamped));
    }
}

#[test]
fn never_is_above_every_number() {
    assert!(Quantity::Never > Quantity::Number(u64::MAX));
}

#[test]
fn hostile_lines_are_errors() {
    use ParseMessageError::{Kind, Length, Number, Stamp, Value, Word};
    for (line, error) in [
        ("", Stamp),
        ("ok 1 disk", Stamp),
        ("[", Stamp),
        ("[] end", Stamp),
        ("[1.000] end", Stamp),
        ("[1.00000x] end", Stamp),
        ("[-1.000000] end", Stamp),
        ("[99999999999999999999.000000] end", Stamp),
        ("[1.000000]", Stamp),
        ("[1.000000] ", Kind),
        ("[1.000000] end now", Kind),
        ("[1.000000] not", Kind),
        ("[1.000000] not so", Kind),
        ("[1.000000] OK 1 disk", Kind),
        ("[1.000000] ok", Number),
        ("[1.000000] ok 1", Number),
        ("[1.000000] ok +1 disk", Number),
        ("[1.000000] ok 4294967296 disk", Number),
        ("[1.000000] ok 1 ", Word),
        ("[1.000000] ok 1 a b", Word),
        ("[1.000000] plan -1", Number),
        ("[1.000000] value a", Value),
        ("[1.000000] value A=1", Value),
        ("[1.000000] value =1", Value),
        ("[1.000000] value a=1.5", Value),
        ("[1.000000] value a=18446744073709551616", Value),
        ("[1.000000] mark a b", Word),
        ("[1.000000] mark ", Word),
        ("[1.000000] log 8 1.000000 x", Number),
        ("[1.000000] log 4 x", Number),
    ] {
        assert_eq!(parse(line), Err(error), "{line}");
        assert!(!error.to_string().contains('\n'));
    }
    let long = format!("[1.000000] # {}", "x".repeat(Stamped::LONGEST));
    assert_eq!(parse(&long), Err(Length));
}

#[test]
fn text_has_no_control_characters_and_an_end() {
    assert_eq!(Text::new("a\nb\u{1b}[2Jc\u{9b}d \t").as_str(), "a b [2Jc d");
    let long = Text::new(&"\u{e9}".repeat(Text::MAX));
    assert_eq!(long.as_str().len(), Text::MAX);
    let at = Duration::ZERO;
    let written = Stamped { at, message: Message::Evidence(long) }.to_string();
    assert!(written.len() <= Stamped::LONGEST);
    assert_eq!(parse(&written).unwrap().to_string(), written);
    let evidence = parse("[    1.000000] # \u{1b}]0;title\u{7}\nok 1 disk").unwrap();
    assert_eq!(evidence.message, Message::Evidence(" ]0;title  ok 1 disk".into()));
}

/// Every cut of every message, with a byte of each kind put in its place, is an error or a message
/// that is written as it is read.
#[test]
fn damaged_lines_do_no_harm() {
    for (text, _) in messages() {
        let line = format!("[   12.000345] {text}");
        for cut in 0..line.len() {
            for put in ["", " ", "\n", "=", "-", "\u{e9}", "\0", "99999999999"] {
                let damaged = format!("{}{put}{}", &line[..cut], &line[cut + 1..]);
                if let Ok(read) = parse(&damaged) {
                    assert_eq!(parse(&read.to_string()), Ok(read), "{damaged}");
                }
            }
        }
    }
}
