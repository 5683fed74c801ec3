//! The ledger: which translation is stale, since when, and how much it remembers.

use iommu::ats::PageRange;
use iommu::ids::{Bdf, DomainId, Gpa, Iova, Pasid};
use iommu::spec::descriptor::IotlbScope;

use super::*;

const FUNCTION: Bdf = Bdf::new(1, 0, 0);
const PAGE: u64 = 0x1000;

fn page(number: u64) -> PageRange {
    PageRange::page(Iova(number * PAGE))
}

fn atc(pasid: Option<u32>) -> Space {
    Space::Atc(FUNCTION, pasid.map(Pasid::new))
}

fn of_atc(pasid: Option<u32>, range: PageRange) -> Invalidation {
    let (function, pasid) = (FUNCTION, pasid.map(Pasid::new));
    Invalidation::Atc { function, pasid, global: false, range }
}

fn told(nanos: u64, success: bool) -> Concluded {
    Concluded { at: Instant::from_nanos(nanos), success }
}

fn is_stale(ledger: &Ledger, space: Space, number: u64) -> bool {
    ledger.find(space, Iova(number * PAGE)).is_some_and(|(_, concluded)| concluded.is_some())
}

/// A ledger in which each of `spaces` has cached pages 0 to 3.
fn filled(spaces: &[Space]) -> Ledger {
    let mut ledger = Ledger::default();
    for space in spaces {
        for number in 0..4 {
            ledger.cached(*space, page(number), Gpa(0x10_0000 + number * PAGE));
        }
    }
    ledger
}

fn stale_pages(ledger: &Ledger, space: Space) -> Vec<u64> {
    (0..4).filter(|number| is_stale(ledger, space, *number)).collect()
}

#[test]
fn a_translation_is_stale_when_its_invalidation_has_ended_and_fresh_when_it_is_cached_again() {
    let mut ledger = filled(&[atc(None)]);
    let range = PageRange::containing(Iova(0), 13);
    let asked = ledger.ask(of_atc(None, range));
    assert!(stale_pages(&ledger, atc(None)).is_empty());
    ledger.conclude(of_atc(None, range), asked, told(5, true));
    assert_eq!(stale_pages(&ledger, atc(None)), [0, 1]);
    let found = ledger.find(atc(None), Iova(PAGE + 8));
    assert_eq!(found, Some((Gpa(0x10_1008), Some(told(5, true)))));
    ledger.cached(atc(None), page(1), Gpa(0x20_0000));
    assert_eq!(stale_pages(&ledger, atc(None)), [0]);
}

#[test]
fn what_is_cached_after_the_request_is_not_stale_by_it() {
    let mut ledger = filled(&[atc(None)]);
    let asked = ledger.ask(of_atc(None, PageRange::ALL));
    ledger.cached(atc(None), page(2), Gpa(0x10_2000));
    ledger.conclude(of_atc(None, PageRange::ALL), asked, told(1, true));
    assert_eq!(stale_pages(&ledger, atc(None)), [0, 1, 3]);
}

#[test]
fn after_a_failure_software_may_ask_again_and_after_success_it_may_reuse_the_page() {
    let mut ledger = filled(&[atc(None)]);
    let (one, two) = (of_atc(None, page(1)), of_atc(None, page(2)));
    let first = ledger.ask(one);
    ledger.conclude(one, first, told(1, false));
    assert_eq!(ledger.find(atc(None), Iova(PAGE)).unwrap().1, Some(told(1, false)));
    let again = ledger.ask(one);
    assert!(!is_stale(&ledger, atc(None), 1), "software waits again");
    ledger.conclude(one, again, told(2, true));
    assert_eq!(ledger.find(atc(None), Iova(PAGE)).unwrap().1, Some(told(2, true)));

    let first = ledger.ask(two);
    ledger.conclude(two, first, told(3, true));
    let again = ledger.ask(two);
    ledger.conclude(two, again, told(4, false));
    assert_eq!(ledger.find(atc(None), Iova(2 * PAGE)).unwrap().1, Some(told(3, true)));
}

#[test]
fn an_invalidation_covers_the_spaces_that_it_names() {
    let (d1, d2) = (DomainId(1), DomainId(2));
    let spaces = [
        atc(None),
        atc(Some(5)),
        atc(Some(6)),
        Space::Atc(Bdf::new(2, 0, 0), None),
        Space::Iotlb(d1, None),
        Space::Iotlb(d1, Some(Pasid::new(5))),
        Space::Iotlb(d2, None),
    ];
    let everywhere =
        Invalidation::Atc { function: FUNCTION, pasid: None, global: true, range: PageRange::ALL };
    let five = Pasid::new(5);
    let iotlb = Invalidation::Iotlb;
    for (invalidation, pages) in [
        (of_atc(None, page(1)), [1, 0, 0, 0, 0, 0, 0]),
        (of_atc(Some(6), PageRange::ALL), [0, 0, 4, 0, 0, 0, 0]),
        (everywhere, [0, 4, 4, 0, 0, 0, 0]),
        (iotlb(IotlbScope::Global), [0, 0, 0, 0, 4, 4, 4]),
        (iotlb(IotlbScope::Domain(d1)), [0, 0, 0, 0, 4, 4, 0]),
        (iotlb(IotlbScope::Pages(d1, page(1))), [0, 0, 0, 0, 1, 4, 0]),
        (iotlb(IotlbScope::Pasid(d1, five, Some(page(0)))), [0, 0, 0, 0, 0, 1, 0]),
        (iotlb(IotlbScope::Pasid(d1, five, None)), [0, 0, 0, 0, 0, 4, 0]),
    ] {
        let mut ledger = filled(&spaces);
        let asked = ledger.ask(invalidation);
        ledger.conclude(invalidation, asked, told(1, true));
        let stale = spaces.map(|space| stale_pages(&ledger, space).len());
        assert_eq!(stale, pages, "{invalidation:?}");
    }
}

#[test]
fn a_large_translation_replaces_what_it_overlaps() {
    let mut ledger = filled(&[atc(None)]);
    let large = PageRange::containing(Iova(0), 21);
    ledger.cached(atc(None), large, Gpa(0x20_0000));
    assert_eq!(ledger.find(atc(None), Iova(0x1_2345)), Some((Gpa(0x21_2345), None)));
    let asked = ledger.ask(of_atc(None, page(9)));
    ledger.conclude(of_atc(None, page(9)), asked, told(1, true));
    assert!(is_stale(&ledger, atc(None), 0), "a part of it is enough");
    ledger.cached(atc(None), page(3), Gpa(0));
    assert_eq!(ledger.find(atc(None), Iova(0)), None, "and it goes as a whole");
}

#[test]
fn a_guest_does_not_size_the_ledger() {
    let mut ledger = Ledger::default();
    let capacity = Ledger::CAPACITY as u64;
    for number in 0..3 * capacity {
        ledger.cached(atc(None), page(number), Gpa(number * PAGE));
        // Again and again the same page.
        ledger.ask(of_atc(None, page(0)));
        ledger.cached(atc(Some(1)), page(0), Gpa(0));
    }
    let kept = (0..3 * capacity).filter(|n| ledger.find(atc(None), Iova(n * PAGE)).is_some());
    let kept: Vec<u64> = kept.collect();
    assert_eq!(kept.len() as u64, capacity - 1, "and one of the other space");
    assert_eq!(kept.first(), Some(&(2 * capacity + 1)), "the oldest has made room");
}

#[test]
fn the_summary_names_all_that_was_counted() {
    let none = StaleCounts::default();
    assert_eq!(none.to_string(), "0 stale accesses");
    let age = Duration::from_millis(5);
    let mut some = StaleCounts { stale_accesses: 1, longest_age: age, ..none };
    assert_eq!(
        some.to_string(),
        "1 stale access, 0 of them after the caller was told of success, up to 5ms old"
    );
    some.merge(&StaleCounts { harmless: 2, not_judged: 1, not_followed: 3, ..none });
    assert_eq!(
        some.to_string(),
        "1 stale access, 0 of them after the caller was told of success, up to 5ms old; \
         2 accesses by an invalidated translation that the tables still have; \
         1 access not judged: the oracle had no record of the translation; \
         3 invalidations not followed: too many were pending"
    );
}
