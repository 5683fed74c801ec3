//! Lines that are commands, lines that are not, and any lines at all.

use proptest::prelude::*;

use super::*;

fn error(line: &str) -> String {
    Command::parse(line).unwrap_err().to_string()
}

#[test]
fn accesses_of_every_width() {
    assert_eq!(Command::parse("readb 0x10"), Ok(Command::Read(Width::Byte, 16)));
    assert_eq!(Command::parse("writew 010 7"), Ok(Command::Write(Width::Word, 8, 7)));
    assert_eq!(Command::parse("writeq 0 0XFf"), Ok(Command::Write(Width::Quad, 0, 255)));
    assert_eq!(Command::parse("inl 0xcfc"), Ok(Command::In(Width::Long, 0xcfc)));
    assert_eq!(Command::parse("  outb\t0x64 0xfe\r"), Ok(Command::Out(Width::Byte, 0x64, 0xfe)));
}

#[test]
fn bytes_in_both_encodings() {
    let bytes = |data: &[u8]| Ok(Command::WriteBytes(0x1000, data.to_vec()));
    assert_eq!(Command::parse("write 0x1000 3 0x01fFa0"), bytes(&[0x01, 0xff, 0xa0]));
    assert_eq!(Command::parse("write 0x1000 4 0x01ff"), bytes(&[0x01, 0xff, 0, 0]));
    assert_eq!(Command::parse("b64write 0x1000 3 Af+g"), bytes(&[0x01, 0xff, 0xa0]));
    assert_eq!(Command::parse("read 1 2"), Ok(Command::ReadBytes(Encoding::Hex, 1, 2)));
    assert_eq!(Command::parse("b64read 1 2"), Ok(Command::ReadBytes(Encoding::Base64, 1, 2)));
    assert_eq!(Command::parse("memset 0 0x1000 0x5a"), Ok(Command::Fill(0, 4096, 0x5a)));
}

#[test]
fn clock_and_interrupts() {
    assert_eq!(Command::parse("clock_step"), Ok(Command::ClockStep(None)));
    assert_eq!(Command::parse("clock_step 5"), Ok(Command::ClockStep(Some(5))));
    assert_eq!(Command::parse("clock_set 9"), Ok(Command::ClockSet(9)));
    assert_eq!(Command::parse("endianness"), Ok(Command::Endianness));
    assert_eq!(Command::parse("stale_accesses"), Ok(Command::StaleAccesses));
    assert!(Command::parse("stale_accesses 1").is_err());
    let device = "ioapic".to_owned();
    assert_eq!(Command::parse("irq_intercept_in ioapic"), Ok(Command::InterceptIn(device)));
}

#[test]
fn mistakes_are_named() {
    for (line, told) in [
        ("", "Unknown command ''"),
        ("fly 1", "Unknown command 'fly'"),
        ("inq 1", "Unknown command 'inq'"),
        ("readl", "write readb"),
        ("readl 1 2", "write readb"),
        ("clock_set", "clock_set NS"),
        ("readl -1", "'-1'"),
        ("readl +1", "'+1'"),
        ("readl 08", "'08'"),
        ("readl 0x", "'0x'"),
        ("readl 0x10000000000000000", "not a number"),
        ("inb 0x10000", "'0x10000'"),
        ("read 0 0xffffffffffffffff", "at most 16777216"),
        ("memset 0 0xffffffffffffffff 0", "at most 1073741824"),
        ("write 0 1 0x1", "two hexadecimal digits"),
        ("write 0 1 zz", "two hexadecimal digits"),
        ("b64write 0 1 ?", "base64"),
    ] {
        assert!(error(line).contains(told), "{line}: {}", error(line));
    }
    let long = "x".repeat(100_000);
    assert!(error(&long).len() < 100);
}

proptest! {
    #[test]
    fn any_line_is_a_command_or_an_error(line in ".*") {
        let _ = Command::parse(&line);
    }

    #[test]
    fn any_words_behind_a_name(
        name in "(read|write|b64read|b64write|memset|in[bwlq]|out[bwlq]|clock_step|clock_set)[bwlq]?",
        words in prop::collection::vec("(0x)?[0-9a-fA-F]{0,18}|[A-Za-z+/=]{0,9}", 0..5),
    ) {
        if let Err(error) = Command::parse(&format!("{name} {}", words.join(" "))) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn numbers_survive_every_base(value: u64) {
        let texts = [format!("{value}"), format!("{value:#x}"), format!("0{value:o}")];
        for text in texts {
            prop_assert_eq!(number(&text), Ok(value));
        }
    }

    #[test]
    fn bytes_survive_both_encodings(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for encoding in [Encoding::Hex, Encoding::Base64] {
            let text = encode(encoding, &bytes);
            prop_assert_eq!(decode(encoding, bytes.len(), &text), Ok(bytes.clone()));
        }
    }
}
