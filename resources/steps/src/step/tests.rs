use super::*;

/// One word for each form of [`HELP`], with arguments.
fn samples() -> Vec<String> {
    let fill = |help: &Help| {
        let full = help.form.replace(['[', ']'], "");
        let full = full.split('|').next().unwrap();
        full.replace("SECONDS", "7")
            .replace("DISKS", "2")
            .replace("DISK", "1")
            .replace("CPU", "3")
            .replace("TYPE", "DMA-FQ")
            .replace("WORD", "drop")
            .replace("RE", "a.*(b|c)")
            .replace('N', "4")
    };
    HELP.iter().map(fill).collect()
}

#[test]
fn each_step_of_the_list_is_one_and_is_written_as_it_was_read() {
    for word in samples() {
        let step: Step = word.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(step.to_string(), word);
        assert!(HELP.iter().any(|help| help.name() == step.name()), "{word}");
    }
}

#[test]
fn an_argument_in_brackets_can_be_left_out() {
    for help in HELP.iter().filter(|help| help.form.contains('[')) {
        let step: Step = help.name().parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(step.to_string(), help.name());
    }
    assert_eq!("answers:0".parse(), Ok(Step::Answers(Disk(0))));
    assert_eq!("read:2".parse(), Ok(Step::Read { disk: Disk(2), cpu: 0 }));
    assert_eq!("ats".parse(), Ok(Step::Ats(None)));
    assert_eq!("ats:0".parse(), Ok(Step::Ats(Some(Disk(0)))));
    assert_eq!(Step::Ats(Some(Disk(0))).to_string(), "ats:0");
}

#[test]
fn a_word_that_is_no_step_is_quoted_with_what_is_right() {
    for (word, remedy) in [
        ("", "the steps are vtd, strict,"),
        ("dsk", "reset_function, reset_controller, affinity"),
        ("DISK", "disk, same"),
        ("vtd", "write vtd:legacy|scalable"),
        ("vtd:", "write vtd:legacy|scalable"),
        ("vtd:Legacy", "write vtd:legacy|scalable"),
        ("strict:1", "write strict"),
        ("cpus:0", "write cpus:N"),
        ("nvme:0", "write nvme[:DISKS]"),
        ("nvme:256", "write nvme[:DISKS]"),
        ("disk:", "write disk[:DISK]"),
        ("disk:+1", "write disk[:DISK]"),
        ("disk:01", "write disk[:DISK]"),
        ("disk:-1", "write disk[:DISK]"),
        ("same:1", "write same:DISK:DISK"),
        ("same:1:2:3", "write same:DISK:DISK"),
        ("domain:0:dma", "write domain:DISK:TYPE"),
        ("wait:3601", "write wait:SECONDS"),
        ("wait:99999999999999999999", "write wait:SECONDS"),
        ("affinity:0", "write affinity:DISK:CPU"),
        ("vfio:eject", "write vfio:bind|open|map|unmap|reset|close|release"),
        ("reset:kexec", "write reset:reboot|sysrq|panic"),
        ("mark:a b", "'_', '-' and '.'"),
        ("until:", "a dot stands for each"),
        ("until:a b", "a dot stands for each"),
        ("until:\"a\"", "a dot stands for each"),
    ] {
        let error = word.parse::<Step>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("'{}'", short(word))), "{word}: {error}");
        assert!(error.contains(remedy), "{word}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_hostile_word_is_quoted_short_and_on_one_line() {
    let word = format!("mark:{}\n\u{1b}[2J", "x".repeat(100_000));
    let error = word.parse::<Step>().unwrap_err().to_string();
    assert!(error.len() < 300 && !error.contains(['\n', '\u{1b}']), "{error}");
    assert!("\n\u{1b}".parse::<Step>().unwrap_err().to_string().starts_with("'\\n\\u{1b}'"));
}

#[test]
fn values_are_named_by_their_steps() {
    let values = |word: &str| word.parse::<Step>().unwrap().values(2);
    assert_eq!(values("stall"), ["stall_cpu0_ms", "stall_cpu1_ms"]);
    assert_eq!(values("vfio:unmap"), ["vfio_unmap_ms"]);
    assert_eq!(values("reset_function:1"), ["reset_function_ms"]);
    assert_eq!(values("reset:reboot"), ["reboot_ms"]);
    assert!(values("vfio:bind").is_empty() && values("mark:x").is_empty());
    for word in samples() {
        for name in values(&word) {
            assert!(name.parse::<crate::ValueName>().is_ok(), "{word}: {name}");
        }
    }
}

#[test]
fn names_follow_each_other_in_the_list() {
    let mut names: Vec<_> = HELP.iter().map(Help::name).collect();
    names.dedup();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(names.len(), sorted.len(), "a step has rows that are apart");
}
