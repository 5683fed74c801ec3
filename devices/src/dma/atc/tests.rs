//! The cache compared with a list, and its associativity.

use super::*;
use iommu::ids::Gpa;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Insert(Option<Pasid>, PageRange),
    Invalidate(Spaces, PageRange),
    Lookup(Option<Pasid>, Iova),
    Clear,
}

fn pasid() -> impl Strategy<Value = Option<Pasid>> {
    prop::option::weighted(0.2, (0_u32..2).prop_map(Pasid::new))
}

fn spaces() -> impl Strategy<Value = Spaces> {
    prop_oneof![1 => Just(Spaces::EveryPasid), 4 => pasid().prop_map(Spaces::One)]
}

/// Steps in 1 MiB, so that ranges overlap. Most ranges are single pages, so that they fill the
/// cache.
fn step() -> impl Strategy<Value = Step> {
    let range = (0_u64..1 << 20, prop_oneof![9 => Just(12_u8), 1 => 13_u8..16])
        .prop_map(|(address, order)| PageRange::containing(Iova(address), order));
    prop_oneof![
        40 => (pasid(), range.clone()).prop_map(|(pasid, range)| Step::Insert(pasid, range)),
        4 => (spaces(), range).prop_map(|(spaces, range)| Step::Invalidate(spaces, range)),
        1 => spaces().prop_map(|spaces| Step::Invalidate(spaces, PageRange::ALL)),
        20 => (pasid(), 0_u64..1 << 20).prop_map(|(p, address)| Step::Lookup(p, Iova(address))),
        1 => Just(Step::Clear),
    ]
}

fn translation(range: PageRange, serial: usize) -> Translation {
    let output = Gpa((serial as u64) << 40 | range.start().0);
    Translation {
        range,
        output,
        read: true,
        write: false,
        untranslated_only: false,
        privileged: false,
    }
}

fn geometry() -> impl Strategy<Value = Geometry> {
    prop::sample::select(vec![(64, 64), (1, 1), (64, 1), (32, 8), (12, 3), (512, 4)])
        .prop_map(|(entries, ways)| Geometry::new(entries, ways).unwrap())
}

/// The model: a list of translations, each with the step at which it was inserted.
struct Naive {
    geometry: Geometry,
    entries: Vec<(usize, Option<Pasid>, Translation)>,
}

impl Naive {
    /// The set of a range. Consecutive ranges are in consecutive sets.
    fn set(&self, range: PageRange) -> u64 {
        let sets = u64::from(self.geometry.entries() / self.geometry.ways());
        range.start().0 / (1 << range.order()) % sets
    }

    fn insert(&mut self, serial: usize, pasid: Option<Pasid>, translation: Translation) {
        self.entries.retain(|(_, p, old)| *p != pasid || !old.range.overlaps(translation.range));
        let set = self.set(translation.range);
        let neighbors: Vec<usize> = self
            .entries
            .iter()
            .filter(|(.., old)| self.set(old.range) == set)
            .map(|(serial, ..)| *serial)
            .collect();
        if neighbors.len() == usize::from(self.geometry.ways()) {
            self.entries.retain(|(serial, ..)| *serial != neighbors[0]);
        }
        self.entries.push((serial, pasid, translation));
    }
}

#[test]
fn a_geometry_is_whole_sets_and_a_power_of_two_of_them() {
    for (entries, ways) in [(64, 64), (4096, 1), (4096, 4096), (96, 12), (1, 1)] {
        assert!(Geometry::new(entries, ways).is_some(), "{entries}, {ways}");
    }
    for (entries, ways) in [(0, 0), (0, 1), (4097, 1), (64, 0), (64, 65), (64, 3), (96, 32)] {
        assert_eq!(Geometry::new(entries, ways), None, "{entries}, {ways}");
    }
}

#[test]
fn pages_that_share_a_set_push_each_other_out() {
    let page = |number: u64| translation(PageRange::page(Iova(number << 12)), 0);
    let mut atc = Atc::new(Geometry::new(8, 2).unwrap());
    [0, 4, 8, 1].into_iter().for_each(|number| atc.insert(None, page(number)));
    let hits = |number: u64| atc.lookup(None, Iova(number << 12)).is_some();
    assert_eq!([0, 4, 8, 1].map(hits), [false, true, true, true]);
}

proptest! {
    #[test]
    fn behaves_as_a_naive_model(
        geometry in geometry(), steps in prop::collection::vec(step(), 0..400),
    ) {
        let (mut atc, mut naive) = (Atc::new(geometry), Naive { geometry, entries: Vec::new() });
        for (serial, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(pasid, range) => {
                    atc.insert(pasid, translation(range, serial));
                    naive.insert(serial, pasid, translation(range, serial));
                }
                Step::Invalidate(spaces, range) => {
                    let before = naive.entries.len();
                    let meant = |pasid: &Option<Pasid>| match spaces {
                        Spaces::One(one) => *pasid == one,
                        _ => pasid.is_some(),
                    };
                    naive.entries.retain(|(_, p, entry)| !meant(p) || !entry.range.overlaps(range));
                    let dropped = atc.invalidate(spaces, range) as usize;
                    prop_assert_eq!(dropped, before - naive.entries.len());
                }
                Step::Lookup(pasid, address) => {
                    let mut hits = naive
                        .entries
                        .iter()
                        .filter(|(_, p, entry)| *p == pasid && entry.range.contains(address));
                    let hit = hits.next().map(|(.., hit)| *hit);
                    prop_assert_eq!(atc.lookup(pasid, address), hit);
                    prop_assert!(hits.next().is_none());
                }
                Step::Clear => {
                    prop_assert_eq!(atc.clear() as usize, naive.entries.len());
                    naive.entries.clear();
                }
            }
            prop_assert_eq!(atc.len() as usize, naive.entries.len());
            prop_assert_eq!(atc.is_empty(), naive.entries.is_empty());
            prop_assert!(atc.len() <= geometry.entries().into());
        }
    }

    #[test]
    fn nothing_in_an_invalidated_range_hits(
        geometry in geometry(),
        ranges in prop::collection::vec((0_u64..1 << 20, 12_u8..18), 0..80),
        address in 0_u64..1 << 20,
        order in 12_u8..22,
    ) {
        let mut atc = Atc::new(geometry);
        for (address, order) in ranges {
            atc.insert(None, translation(PageRange::containing(Iova(address), order), 0));
        }
        let gone = PageRange::containing(Iova(address), order);
        atc.invalidate(Spaces::One(None), gone);
        for page in (gone.start().0..=gone.last().0).step_by(4096) {
            prop_assert_eq!(atc.lookup(None, Iova(page)), None);
        }
    }
}
