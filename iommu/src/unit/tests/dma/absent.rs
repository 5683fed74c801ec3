//! Tables that use features which the unit lacks, and details that simple models get wrong.

use super::*;
use crate::unit::{AddressWidths, LargePages};

fn built(config: UnitConfig, tt: u8) -> Rig {
    let rig = Rig::with(config).enable(QueueAddress::new(), ROOT).with_context(tt);
    rig.map(0x1000, 1, leaf(0x80_0000));
    rig
}

fn reason(mut rig: Rig, address: u64) -> Option<FaultReason> {
    let answer = rig.dma(address, Access::Read);
    let fault = rig.take_fault();
    assert_eq!(answer.is_err(), fault.is_some());
    fault
}

#[test]
fn translation_types_and_widths_that_the_unit_lacks_fault() {
    let whole = UnitConfig::new(UnitRole::Guest);
    assert_eq!(reason(built(whole, 1), 0x1000), None);
    assert_eq!(reason(built(whole, 2), 0x1000), None);
    let invalid = Some(FaultReason::CONTEXT_INVALID);
    let no_ats = UnitConfig { device_tlb: false, ..whole };
    assert_eq!(reason(built(no_ats, 1), 0x1000), invalid);
    assert_eq!(reason(built(no_ats, 0), 0x1000), None);
    let no_pass_through = UnitConfig { pass_through: false, ..whole };
    assert_eq!(reason(built(no_pass_through, 2), 0x1000), invalid);
    // The unit walks the widths in SAGAW only, although it could walk five levels.
    let widths = AddressWidths::try_from(vec![39, 48]).unwrap();
    let narrow = UnitConfig { address_widths: widths, ..whole };
    let low = ContextLow::new().with_present(true).with_page(page(TABLES));
    for (width, expected) in [(0, invalid), (2, None), (3, invalid), (4, invalid)] {
        let rig = built(narrow, 1);
        rig.set_context(low, ContextHigh::new().with_width(width).with_domain(DOMAIN));
        assert_eq!(reason(rig, 0x1000), expected, "AW {width}");
    }
    // Pass-through needs the largest width of the unit.
    let rig = built(narrow, 1);
    rig.set_context(
        low.with_translation_type(2),
        ContextHigh::new().with_width(3).with_domain(DOMAIN),
    );
    assert_eq!(reason(rig, 0x1000), invalid);
}

#[test]
fn domains_and_large_pages_that_the_unit_lacks_fault() {
    let whole = UnitConfig::new(UnitRole::Guest);
    let few = UnitConfig { domain_bits: 4, ..whole };
    assert_eq!(reason(built(few, 1), 0x1000), None);
    let rig = built(few, 1);
    let low = ContextLow::new().with_present(true).with_page(page(TABLES));
    rig.set_context(low, ContextHigh::new().with_width(2).with_domain(16));
    assert_eq!(reason(rig, 0x1000), Some(FaultReason::CONTEXT_RESERVED));
    let reserved = Some(FaultReason::PAGE_TABLE_RESERVED);
    for (large_pages, two, one) in [
        (LargePages::OneGiB, None, None),
        (LargePages::TwoMiB, None, reserved),
        (LargePages::None, reserved, reserved),
    ] {
        let rig = || {
            let rig = built(UnitConfig { large_pages, ..whole }, 1);
            rig.map(0x4020_0000, 2, leaf(0x60_0000).with_large(true));
            rig.map(0x8000_0000, 3, leaf(0x4000_0000).with_large(true));
            rig
        };
        assert_eq!(reason(rig(), 0x4020_0000), two, "{large_pages:?}");
        assert_eq!(reason(rig(), 0x8000_0000), one, "{large_pages:?}");
    }
}

#[test]
fn the_snoop_bit_is_reserved_without_snoop_control() {
    for (snoop_control, expected) in [(true, None), (false, Some(FaultReason::PAGE_TABLE_RESERVED))]
    {
        let rig = built(UnitConfig { snoop_control, ..UnitConfig::new(UnitRole::Guest) }, 1);
        rig.map(0x3000, 1, leaf(0x83_0000).with_snoop(true));
        assert_eq!(reason(rig, 0x3000), expected);
    }
}

#[test]
fn a_missing_root_entry_is_recorded_with_source_and_address() {
    let mut rig = Rig::enabled();
    assert!(rig.dma(0x1234_5678, Access::Write).is_err());
    // The bits: FI in 63:12, SID in 79:64, FR in 103:96, F in 127.
    assert_eq!(rig.read64(offset::FRCD), 0x1234_5000);
    assert_eq!(rig.read64(offset::FRCD + 8), 1 << 63 | 1 << 32 | u64::from(VICTIM.into_bits()));
}

#[test]
fn a_39_bit_context_faults_on_higher_address_bits() {
    let rig = built(UnitConfig::new(UnitRole::Guest), 1);
    let low = ContextLow::new().with_present(true).with_page(page(TABLES));
    rig.set_context(low, ContextHigh::new().with_width(1).with_domain(DOMAIN));
    assert_eq!(reason(rig, 1 << 40 | 0x1000), Some(FaultReason::ADDRESS_BEYOND_WIDTH));
}
