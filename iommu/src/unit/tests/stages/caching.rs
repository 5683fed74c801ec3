//! The caching of scalable-mode entries: entries that are cached, and invalidations that drop them
//! or keep them.

use super::*;
use crate::spec::descriptor::{ContextCacheDescriptor, PasidCacheDescriptor, kind};

const IOVA: u64 = 0x5000;
const OLD: u64 = 0x80_0000;
const NEW: u64 = 0x81_0000;

fn pasid_iotlb(granularity: u8, pasid: u32) -> IotlbDescriptor {
    IotlbDescriptor::new()
        .with_kind(kind::PASID_IOTLB)
        .with_granularity(granularity)
        .with_domain(DOMAIN)
        .with_pasid(pasid)
}

fn pages(domain: u16, page: u64) -> u128 {
    let descriptor = IotlbDescriptor::new().with_granularity(3).with_domain(domain);
    descriptor.with_page(page).into_bits()
}

#[test]
fn a_pasid_entry_stays_until_its_own_invalidation() {
    let mut rig = rig(SECOND_STAGE);
    rig.poke(Rig::second_slot(IOVA), second(OLD).into_bits());
    assert!(rig.go(IOVA, Access::Read).is_ok());
    rig.poke(PASIDS, 0);
    let pasid_cache = |granularity, domain, pasid| {
        let descriptor = PasidCacheDescriptor::new().with_granularity(granularity);
        descriptor.with_domain(domain).with_pasid(pasid).into_bits()
    };
    let context = ContextCacheDescriptor::new().with_granularity(1).into_bits();
    for other in [context, iotlb_global(), pasid_cache(0, DOMAIN + 1, 0), pasid_cache(1, DOMAIN, 1)]
    {
        rig.submit(&[other]);
        assert!(rig.go(IOVA, Access::Read).is_ok(), "stale, as in hardware");
    }
    for named in [pasid_cache(1, DOMAIN, 0), pasid_cache(0, DOMAIN, 0), pasid_cache(3, 0, 0)] {
        rig.pasid_entry(SECOND_STAGE, PasidFirstStage::new());
        assert!(rig.go(IOVA, Access::Read).is_ok());
        rig.poke(PASIDS, 0);
        rig.submit(&[named]);
        assert_eq!(rig.fault_of(IOVA, Access::Read), FaultReason::SM_PASID_NOT_PRESENT);
    }
}

#[test]
fn a_page_selective_invalidation_drops_all_first_stage_pages_of_the_domain() {
    let mut rig = rig(FIRST_STAGE);
    rig.poke(Rig::first_slot(IOVA), first(OLD).into_bits());
    assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(OLD)));
    rig.poke(Rig::first_slot(IOVA), first(NEW).into_bits());
    rig.submit(&[pages(DOMAIN + 1, page(IOVA))]);
    assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(OLD)), "another domain's");
    rig.submit(&[pages(DOMAIN, 0x123)]);
    assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(NEW)), "another page, but the domain");
}

#[test]
fn a_pasid_invalidation_keeps_second_stage_pages() {
    let mut rig = rig(SECOND_STAGE);
    rig.poke(Rig::second_slot(IOVA), second(OLD).into_bits());
    assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(OLD)));
    rig.poke(Rig::second_slot(IOVA), second(NEW).into_bits());
    rig.submit(&[pasid_iotlb(2, 0).into_bits()]);
    assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(OLD)));
    rig.submit(&[pages(DOMAIN, page(IOVA))]);
    assert_eq!(rig.go(IOVA, Access::Read), Ok(Gpa(NEW)));
}

#[test]
fn upper_tables_are_cached_until_they_are_invalidated() {
    for stage in [FIRST_STAGE, SECOND_STAGE] {
        let mut rig = rig(stage);
        for iova in [IOVA, IOVA + PAGE_SIZE] {
            rig.poke(Rig::first_slot(iova), first(OLD).into_bits());
            rig.poke(Rig::second_slot(iova), second(OLD).into_bits());
        }
        assert!(rig.go(IOVA, Access::Read).is_ok());
        // The root loses its entry. Another page below the same last-level table is still found.
        rig.poke(FIRST, 0);
        rig.poke(SECOND, 0);
        assert_eq!(rig.go(IOVA + PAGE_SIZE, Access::Read), Ok(Gpa(OLD)), "stage {stage}");
        let domain = IotlbDescriptor::new().with_granularity(2).with_domain(DOMAIN).into_bits();
        rig.submit(&[domain]);
        assert!(rig.go(IOVA + PAGE_SIZE, Access::Read).is_err(), "stage {stage}");
    }
}

#[test]
fn an_invalidation_of_any_4k_page_drops_its_large_page() {
    let mut rig = rig(SECOND_STAGE);
    let slot = SECOND + 2 * PAGE_SIZE + 8;
    rig.poke(slot, second(0x40_0000).with_large(true).into_bits());
    assert_eq!(rig.go(0x20_1000, Access::Read), Ok(Gpa(0x40_1000)));
    rig.poke(slot, second(0x60_0000).with_large(true).into_bits());
    assert_eq!(rig.go(0x3f_f000, Access::Read), Ok(Gpa(0x5f_f000)), "another part of it is cached");
    rig.submit(&[pages(DOMAIN, page(0x40_0000))]);
    assert_eq!(rig.go(0x20_1000, Access::Read), Ok(Gpa(0x40_1000)), "the page behind it");
    rig.submit(&[pages(DOMAIN, page(0x2a_b000))]);
    assert_eq!(rig.go(0x20_1000, Access::Read), Ok(Gpa(0x60_1000)));
}

#[test]
fn a_context_invalidation_selects_functions_by_its_mask() {
    // VICTIM is function 0.
    for (source, mask, hit) in
        [(1, 0, false), (4, 1, true), (6, 2, true), (7, 2, false), (7, 3, true)]
    {
        let mut rig = rig(SECOND_STAGE);
        rig.poke(Rig::second_slot(IOVA), second(OLD).into_bits());
        assert!(rig.go(IOVA, Access::Read).is_ok());
        rig.poke(CONTEXTS + u64::from(VICTIM.devfn()) * 32, 0);
        let device = ContextCacheDescriptor::new()
            .with_granularity(3)
            .with_function_mask(mask)
            .with_source_id(Bdf::new(VICTIM.bus(), VICTIM.device(), source).into_bits());
        rig.submit(&[device.into_bits()]);
        assert_eq!(rig.go(IOVA, Access::Read).is_err(), hit, "function {source}, FM {mask}");
    }
}
