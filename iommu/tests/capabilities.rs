//! `docs/unit-capabilities.md` names each bit of CAP and ECAP once, and says which of them a unit
//! can have.

use iommu::event::UnitRole;
use iommu::unit::{UnitConfig, UnitPreset};

const PAGE: &str = include_str!("../../docs/unit-capabilities.md");

/// The bits of a register that the table below `heading` calls absent, and all that it names.
fn table(heading: &str) -> (u64, u64) {
    let section = PAGE.split(&format!("## {heading}\n")).nth(1).expect("the section is there");
    let section = section.split("\n## ").next().unwrap_or_default();
    let (mut absent, mut named) = (0, 0);
    for row in section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Bits"))
    {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let (high, low) = cells[1].split_once(':').unwrap_or((cells[1], cells[1]));
        let number = |text: &str| text.parse::<u32>().expect("a bit");
        let bits = (u64::MAX >> (63 - number(high))) & (u64::MAX << number(low));
        assert_eq!(named & bits, 0, "a bit is named twice: {row}");
        named |= bits;
        match cells[3] {
            "absent" => absent |= bits,
            "modelled" | "reported" => {}
            other => panic!("'{other}' is no state: {row}"),
        }
    }
    (absent, named)
}

/// All bits that a unit can have, by one setting or another.
fn possible() -> (u64, u64) {
    let full = UnitConfig::full(UnitRole::Guest);
    let more = UnitConfig {
        caching_mode: true,
        srtp_flushes: true,
        sirtp_flushes: true,
        device_tlb_throttle: true,
        fault_records: 128,
        max_address_mask: 52,
        ..full
    };
    assert_eq!(more.check(), Ok(()));
    let presets = UnitPreset::ALL.map(|preset| preset.config(UnitRole::Guest));
    presets.into_iter().chain([more]).fold((0, 0), |(cap, ecap), config| {
        (cap | config.cap().into_bits(), ecap | config.ecap().into_bits())
    })
}

#[test]
fn the_page_names_each_bit_and_no_absent_bit_is_ever_set() {
    let (cap, ecap) = possible();
    for (heading, possible) in [("CAP", cap), ("ECAP", ecap)] {
        let (absent, named) = table(heading);
        assert_eq!(named, u64::MAX, "{heading}: bits are missing");
        assert_eq!(possible & absent, 0, "{heading}: an absent bit can be set");
    }
}
