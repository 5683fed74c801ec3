//! Settings that make a unit stricter, or that follow another unit.

use super::*;
use crate::spec::descriptor::{ContextCacheDescriptor, PasidCacheDescriptor, kind};

const IOVA: u64 = 0x5000;
const OLD: u64 = 0x80_0000;
const NEW: u64 = 0x90_0000;

fn full() -> UnitConfig {
    UnitConfig::full(UnitRole::Guest)
}

/// A rig in which IOVA is mapped to OLD and cached, and the tables then map it to NEW.
fn stale(config: UnitConfig, stage: u8) -> Rig {
    let mut rig = rig_with(config, stage);
    rig.map_leaf(stage, OLD);
    assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(OLD)));
    rig.map_leaf(stage, NEW);
    assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(OLD)), "cached");
    rig
}

fn iotlb(granularity: u8, page: u64) -> IotlbDescriptor {
    IotlbDescriptor::new().with_granularity(granularity).with_domain(DOMAIN).with_page(page)
}

fn pasid_iotlb(page: u64) -> IotlbDescriptor {
    iotlb(3, page).with_kind(kind::PASID_IOTLB)
}

impl Rig {
    fn map_leaf(&self, stage: u8, page: u64) {
        match stage {
            SECOND_STAGE => self.poke(Rig::second_slot(IOVA), second(page).into_bits()),
            _ => self.poke(Rig::first_slot(IOVA), first(page).into_bits()),
        }
    }
}

#[test]
fn srtp_drops_all_translations_with_esrtps_only() {
    for (srtp_flushes, expected) in [(false, OLD), (true, NEW)] {
        let mut rig = stale(UnitConfig { srtp_flushes, ..full() }, SECOND_STAGE);
        rig.command(|bits| bits.with_set_root_table(true));
        assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(expected)));
    }
    // The context and PASID entries go as well.
    let mut rig = stale(UnitConfig { srtp_flushes: true, ..full() }, SECOND_STAGE);
    rig.poke(PASIDS, 0);
    rig.command(|bits| bits.with_set_root_table(true));
    assert_eq!(rig.fault_of(IOVA, Access::Read), FaultReason::SM_PASID_NOT_PRESENT);
}

#[test]
fn clearing_te_drops_all_translations_of_a_unit_with_scalable_mode() {
    let mut rig = stale(full(), SECOND_STAGE);
    rig.command(|bits| bits.with_translation(false));
    rig.command(|bits| bits.with_translation(true));
    assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(NEW)));
}

#[test]
fn narrow_descriptors_are_a_setting_of_scalable_mode() {
    for narrow_descriptors in [false, true] {
        let mut rig = Rig::with(UnitConfig { narrow_descriptors, ..full() });
        rig = rig.enable(QueueAddress::new(), ROOT | 1 << 10);
        let all = PasidCacheDescriptor::new().with_granularity(3).into_bits();
        rig.submit(&[all, pasid_iotlb(5).into_bits(), wait(0).into_bits()]);
        assert_eq!(rig.fault_status().queue_error(), !narrow_descriptors);
        assert_eq!(rig.peek32(status_word(0)), u32::from(narrow_descriptors));
    }
}

#[test]
fn a_unit_that_does_not_snoop_reserves_pwsnp_and_sets_no_bits() {
    let config = UnitConfig {
        coherent: false,
        second_stage_dirty: false,
        extended_accessed: false,
        ..full()
    };
    let mut rig = rig_with(config, FIRST_STAGE);
    rig.map_leaf(FIRST_STAGE, OLD);
    assert_eq!(rig.fault_of(IOVA, Access::Read), FaultReason::FIRST_STAGE_UPDATE_UNSNOOPED);
    rig.poke(PASIDS + 8, PasidHigh::new().with_walk_snoop(true).into_bits());
    let all = PasidCacheDescriptor::new().with_granularity(3).into_bits();
    rig.submit(&[all]);
    assert_eq!(rig.fault_of(IOVA, Access::Read), FaultReason::SM_PASID_RESERVED);
}

#[test]
fn pasid_fields_of_a_stage_that_the_unit_lacks_are_reserved() {
    let first_only =
        UnitConfig { second_stage: false, nested: false, second_stage_dirty: false, ..full() };
    let second_only = UnitConfig {
        first_stage: false,
        nested: false,
        first_stage_1g: false,
        first_stage_5_level: false,
        extended_accessed: false,
        ..full()
    };
    let version_6 =
        UnitConfig { version: crate::unit::Version { major: 6, minor: 0 }, ..first_only };
    let low = PasidLow::new().with_present(true);
    let none = PasidFirstStage::new();
    let table = none.with_page(page(FIRST));
    for (config, low, high, fault) in [
        (first_only, low.with_translation_type(1).with_width(2), table, false),
        (version_6, low.with_translation_type(1), table, false),
        (version_6, low.with_translation_type(1).with_width(2), table, true),
        (first_only, low.with_translation_type(1).with_page(1), table, true),
        (second_only, low.with_translation_type(4), none, false),
        (second_only, low.with_translation_type(4), none.with_supervisor(true), false),
        (second_only, low.with_translation_type(4), none.with_page(1), true),
        (second_only, low.with_translation_type(4), none.with_write_protect(true), true),
        (second_only, low.with_translation_type(4), none.with_paging_mode(1), true),
    ] {
        let mut rig = rig_with(config, FIRST_STAGE);
        rig.map_leaf(FIRST_STAGE, OLD);
        rig.poke(PASIDS, low.into_bits());
        rig.poke(PASIDS + 16, high.into_bits());
        match fault {
            true => assert_eq!(rig.fault_of(IOVA, Access::Read), FaultReason::SM_PASID_RESERVED),
            false => assert!(rig.go(IOVA, Access::Read).is_ok()),
        }
    }
}

#[test]
fn ih_keeps_paging_structure_entries_with_honor_hint_only() {
    for stage in [FIRST_STAGE, SECOND_STAGE] {
        for (honor_hint, hint, expected) in
            [(false, true, NEW), (true, false, NEW), (true, true, OLD)]
        {
            let mut rig = rig_with(UnitConfig { honor_hint, ..full() }, stage);
            rig.map_leaf(stage, OLD);
            assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(OLD)));
            // Another last-level table takes the place of the first one.
            let (table, tables) = (0x7e_0000, if stage == FIRST_STAGE { FIRST } else { SECOND });
            let (above, entry, leaf) = match stage {
                FIRST_STAGE => (FIRST, first(table).into_bits(), first(NEW).into_bits()),
                _ => (SECOND, second(table).into_bits(), second(NEW).into_bits()),
            };
            rig.poke(above + 2 * PAGE_SIZE, entry);
            rig.poke(table + page(IOVA) * 8, leaf);
            let flush = if stage == FIRST_STAGE { pasid_iotlb } else { |page| iotlb(3, page) };
            rig.submit(&[flush(page(IOVA)).with_hint(hint).into_bits()]);
            let case = format!("stage {stage}, honor_hint {honor_hint}, IH {hint}");
            assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(expected)), "{case}");
            // A coarser invalidation ignores IH.
            rig.submit(&[iotlb(2, 0).with_hint(true).into_bits()]);
            assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(NEW)), "{case}, tables at {tables:#x}");
        }
    }
}

/// A page that was never used, below an upper table that another page has brought into the caches.
#[derive(Debug)]
struct Neighbor {
    stage: u8,
    /// The level of the table.
    level: u64,
}

impl Neighbor {
    /// The bits of an address below an entry of a table of `level`.
    fn order(level: u64) -> u64 {
        12 + 9 * (level - 1)
    }

    fn address(&self) -> u64 {
        IOVA + (1 << Self::order(self.level))
    }

    fn entry(&self, address: u64) -> u64 {
        match self.stage {
            FIRST_STAGE => first(address).into_bits(),
            _ => second(address).into_bits(),
        }
    }

    /// The table of `level` on the way to IOVA, as the rig has it.
    fn table(&self, level: u64) -> u64 {
        (if self.stage == FIRST_STAGE { FIRST } else { SECOND }) + (4 - level) * PAGE_SIZE
    }

    /// Maps the page by the table at `top`, with lower tables from `tables` on.
    fn map(&self, rig: &Rig, top: u64, tables: u64, output: u64) {
        let slot = |table, level| table + 8 * (self.address() >> Self::order(level) & 0x1ff);
        let mut table = top;
        for level in (2..=self.level).rev() {
            let below = tables + level * PAGE_SIZE;
            rig.poke(slot(table, level), self.entry(below));
            table = below;
        }
        rig.poke(slot(table, 1), self.entry(output));
    }

    fn flush(&self, rig: &mut Rig, hint: bool) {
        let page = page(self.address());
        let descriptor = if self.stage == FIRST_STAGE { pasid_iotlb(page) } else { iotlb(3, page) };
        rig.submit(&[descriptor.with_hint(hint).into_bits()]);
    }
}

#[test]
fn ih_keeps_upper_tables_with_honor_hint_only() {
    const TABLES: u64 = 0x70_0000;
    for (stage, level) in [(FIRST_STAGE, 2), (FIRST_STAGE, 3), (SECOND_STAGE, 2), (SECOND_STAGE, 3)]
    {
        for (honor_hint, hint) in [(false, true), (true, false), (true, true)] {
            let neighbor = Neighbor { stage, level };
            let case = format!("{neighbor:?}, honor_hint {honor_hint}, IH {hint}");
            let mut rig = rig_with(UnitConfig { honor_hint, ..full() }, stage);
            rig.map_leaf(stage, OLD);
            neighbor.map(&rig, neighbor.table(level), TABLES, OLD);
            assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(OLD)), "{case}");
            // Another table takes the place of the one that both pages have in common.
            let table = TABLES + 0x8000;
            neighbor.map(&rig, table, TABLES + 0x1_0000, NEW);
            rig.poke(neighbor.table(level + 1), neighbor.entry(table));
            neighbor.flush(&mut rig, hint);
            let expected = if honor_hint && hint { OLD } else { NEW };
            let address = neighbor.address();
            assert_eq!(rig.go(address, Access::Read), Ok(Gpa(expected)), "{case}");
            // Without IH the tables on the way to the page are dropped.
            neighbor.flush(&mut rig, false);
            assert_eq!(rig.go(address, Access::Read), Ok(Gpa(NEW)), "{case}, then IH 0");
        }
    }
}

/// Tables 43, 45 and 47: SNP is reserved in scalable mode as well.
#[test]
fn the_snoop_bit_is_reserved_without_snoop_control() {
    const LARGE: u64 = 0x20_0000;
    for snoop_control in [true, false] {
        let config = UnitConfig { snoop_control, ..full() };
        let mut rig = rig_with(config, SECOND_STAGE);
        rig.poke(Rig::second_slot(IOVA), second(OLD).with_snoop(true).into_bits());
        let large = second(OLD).with_large(true).with_snoop(true);
        rig.poke(SECOND + 2 * PAGE_SIZE + 8, large.into_bits());
        for address in [IOVA, LARGE] {
            if snoop_control {
                assert_eq!(rig.go(address, Access::Read), Ok(Gpa(OLD)), "{address:#x}");
            } else {
                let reason = rig.fault_of(address, Access::Read);
                assert_eq!(reason, FaultReason::SM_PAGE_TABLE_RESERVED, "{address:#x}");
            }
        }
    }
}

#[test]
fn a_large_page_needs_its_address_mask_with_exact_pages_only() {
    for (exact_pages, mask, expected) in
        [(false, 0, NEW), (true, 0, OLD), (true, 8, OLD), (true, 9, NEW), (true, 10, NEW)]
    {
        let mut rig = rig_with(UnitConfig { exact_pages, ..full() }, SECOND_STAGE);
        let slot = SECOND + 2 * PAGE_SIZE + 8;
        rig.poke(slot, second(OLD).with_large(true).into_bits());
        assert_eq!(rig.go(0x20_0000, Access::Read), Ok(Gpa(OLD)));
        rig.poke(slot, second(NEW & !0x1f_ffff).with_large(true).into_bits());
        rig.submit(&[iotlb(3, page(0x20_0000)).with_mask(mask).into_bits()]);
        let expected = expected & !0x1f_ffff;
        let case = format!("exact_pages {exact_pages}, AM {mask}");
        assert_eq!(rig.go(0x20_0000, Access::Read), Ok(Gpa(expected)), "{case}");
    }
}

#[test]
fn caching_mode_caches_absent_pages_until_they_are_invalidated() {
    for caching_mode in [false, true] {
        let config = UnitConfig { caching_mode, second_stage_dirty: false, ..full() };
        let mut rig = rig_with(config, SECOND_STAGE);
        assert_eq!(rig.fault_of(IOVA, Access::Write), FaultReason::SM_PAGE_NOT_PRESENT);
        rig.map_leaf(SECOND_STAGE, OLD);
        assert_eq!(rig.go(IOVA, Access::Write).is_err(), caching_mode);
        assert_eq!(rig.ask(IOVA, false).read, !caching_mode, "Translation Requests too");
        rig.submit(&[iotlb(3, page(IOVA)).into_bits()]);
        assert_eq!(rig.go(IOVA, Access::Write), Ok(Gpa(OLD)));
    }
    // CM does not apply to first-stage tables.
    let mut rig = rig_with(UnitConfig { caching_mode: true, ..full() }, FIRST_STAGE);
    assert_eq!(rig.fault_of(IOVA, Access::Read), FaultReason::FIRST_STAGE_NOT_PRESENT);
    rig.map_leaf(FIRST_STAGE, OLD);
    assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(OLD)));
}

#[test]
fn caching_mode_caches_faulty_pasid_and_context_entries_as_domain_0() {
    let pasid_cache = |granularity, domain| {
        let descriptor = PasidCacheDescriptor::new().with_granularity(granularity);
        descriptor.with_domain(domain).into_bits()
    };
    let contexts = |granularity| ContextCacheDescriptor::new().with_granularity(granularity);
    let device = contexts(3).with_source_id(VICTIM.into_bits()).into_bits();
    let other = contexts(3).with_source_id(NEIGHBOR.into_bits()).into_bits();
    let context = CONTEXTS + u64::from(VICTIM.devfn()) * 32;
    for (entry, kept, dropped) in [
        (PASIDS, vec![pasid_cache(0, DOMAIN), pasid_cache(1, DOMAIN), device], pasid_cache(1, 0)),
        (PASIDS, vec![], pasid_cache(0, 0)),
        (PASIDS, vec![], pasid_cache(3, 0)),
        (context, vec![other, pasid_cache(3, 0)], device),
        (context, vec![], contexts(1).into_bits()),
    ] {
        for caching_mode in [false, true] {
            let mut rig = rig_with(UnitConfig { caching_mode, ..full() }, SECOND_STAGE);
            rig.map_leaf(SECOND_STAGE, OLD);
            let present = rig.peek64(entry);
            rig.poke(entry, 0);
            assert!(rig.go(IOVA, Access::Read).is_err());
            rig.poke(entry, present);
            rig.submit(&kept);
            assert_eq!(rig.go(IOVA, Access::Read).is_err(), caching_mode, "entry {entry:#x}");
            rig.submit(&[dropped]);
            assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(OLD)), "entry {entry:#x}");
        }
    }
}
