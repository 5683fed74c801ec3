//! The IOTLB against a model that checks every entry, and ports in parallel.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};

use proptest::prelude::*;

use super::iotlb::{Invalidations, Iotlb, Tag};
use super::*;
use crate::ats::PageRange;
use crate::ids::{DomainId, Iova, Pasid};

#[derive(Debug, Clone, Copy)]
enum Step {
    Fill { domain: u16, pasid: Option<u32>, page: u64, size: usize },
    All,
    Domain(u16),
    Pages(u16, u64, u8),
    PasidPages(u16, u32, Option<(u64, u8)>),
}

fn step() -> impl Strategy<Value = Step> {
    let domain = || 0_u16..3;
    let pasid = || 0_u32..2;
    let range = || (0_u64..1 << 20, 12_u8..40);
    prop_oneof![
        12 => (domain(), proptest::option::of(pasid()), 0_u64..1 << 20, 0_usize..3)
            .prop_map(|(domain, pasid, page, size)| Step::Fill { domain, pasid, page, size }),
        1 => Just(Step::All),
        1 => domain().prop_map(Step::Domain),
        3 => (domain(), range()).prop_map(|(d, (page, order))| Step::Pages(d, page, order)),
        2 => (domain(), pasid(), proptest::option::of(range()))
            .prop_map(|(d, p, range)| Step::PasidPages(d, p, range)),
    ]
}

const ORDERS: [u8; 3] = [12, 21, 30];
const FILLED: Mapping = Mapping { output: Gpa(0), order: 12, read: true, write: true, dirty: true };

/// The entries that must not be found, and those that may be. An IOTLB may drop entries at any
/// time.
#[derive(Default)]
struct Model(HashMap<(u16, Option<u32>, PageRange), u64>);

impl Model {
    fn drop_if(&mut self, condition: impl Fn(u16, Option<u32>, PageRange) -> bool) {
        self.0.retain(|(domain, pasid, range), _| !condition(*domain, *pasid, *range));
    }

    fn apply(&mut self, step: Step, serial: u64) {
        let named = |page: u64, order| PageRange::containing(Iova(page << 12), order);
        match step {
            Step::Fill { domain, pasid, page, size } => {
                self.0.insert((domain, pasid, named(page, ORDERS[size])), serial);
            }
            Step::All => self.0.clear(),
            Step::Domain(domain) => self.drop_if(|d, _, _| d == domain),
            Step::Pages(domain, page, order) => {
                let range = named(page, order);
                self.drop_if(|d, p, r| d == domain && (p.is_some() || r.overlaps(range)));
            }
            Step::PasidPages(domain, pasid, range) => {
                let range = range.map_or(PageRange::ALL, |(page, order)| named(page, order));
                self.drop_if(|d, p, r| d == domain && p == Some(pasid) && r.overlaps(range));
            }
        }
    }
}

fn apply(iotlb: &mut Iotlb, invalidations: &Invalidations, step: Step, serial: u64) {
    let range = |page: u64, order| PageRange::containing(Iova(page << 12), order);
    match step {
        Step::Fill { domain, pasid, page, size } => {
            let tag = Tag::new(DomainId(domain), pasid.map(Pasid::new));
            let output = Gpa(serial << 30);
            let mapping = Mapping { output, order: ORDERS[size], ..FILLED };
            iotlb.insert(tag, Iova(page << 12), invalidations.now(), mapping);
        }
        Step::All => invalidations.add_all(),
        Step::Domain(domain) => invalidations.add(DomainId(domain)),
        Step::Pages(domain, page, order) => {
            iotlb.invalidate_pages(DomainId(domain), range(page, order), false);
        }
        Step::PasidPages(domain, pasid, named) => {
            let tag = Tag::new(DomainId(domain), Some(Pasid::new(pasid)));
            iotlb.invalidate_tag(tag, named.map(|(page, order)| range(page, order)), false);
        }
    }
}

proptest! {
    #[test]
    fn a_lookup_finds_no_invalidated_and_no_invented_entry(
        steps in proptest::collection::vec(step(), 1..200)
    ) {
        let (mut iotlb, invalidations) = (Iotlb::default(), Invalidations::new(16));
        let mut model = Model::default();
        let mut filled = Vec::new();
        for (serial, step) in steps.into_iter().enumerate() {
            let serial = serial as u64 + 1;
            apply(&mut iotlb, &invalidations, step, serial);
            model.apply(step, serial);
            if let Step::Fill { domain, pasid, page, size } = step {
                filled.push((domain, pasid, page, size));
            }
            for (domain, pasid, page, _) in &filled {
                let tag = Tag::new(DomainId(*domain), pasid.map(Pasid::new));
                let oldest = invalidations.oldest_valid(DomainId(*domain));
                let address = Iova(page << 12);
                let Some(found) = iotlb.lookup(tag, address, oldest) else { continue };
                let range = PageRange::containing(address, found.order);
                let key = (*domain, *pasid, range);
                prop_assert_eq!(model.0.get(&key).copied(), Some(found.output.0 >> 30));
            }
        }
    }

    #[test]
    fn an_entry_is_found_while_its_set_has_room(pages in proptest::collection::btree_set(0_u64..1 << 30, 1..4)) {
        let (mut iotlb, invalidations) = (Iotlb::default(), Invalidations::new(16));
        let tag = Tag::new(DomainId(1), None);
        for page in &pages {
            iotlb.insert(tag, Iova(page << 12), invalidations.now(), FILLED);
        }
        for page in pages {
            let oldest = invalidations.oldest_valid(DomainId(1));
            prop_assert!(iotlb.lookup(tag, Iova(page << 12), oldest).is_some());
        }
    }
}

/// An invalidation does not complete while a device thread uses the translation.
#[test]
fn an_invalidation_completes_after_the_last_use_of_the_translation() {
    use crate::ats::{AddressType, DmaRequest};
    use crate::ids::Bdf;
    use vm_memory::{Bytes, GuestAddress};

    const ROOT: u64 = 0x1000;
    const CONTEXTS: u64 = 0x2000;
    const TABLES: u64 = 0x3000;
    const ROUNDS: u64 = 2000;
    let memory = Memory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let poke = |at: u64, value: u64| memory.write_obj(value, GuestAddress(at)).unwrap();
    poke(ROOT, CONTEXTS | 1);
    poke(CONTEXTS, TABLES | 1);
    poke(CONTEXTS + 8, 1 | 1 << 8);
    poke(TABLES, (TABLES + 0x1000) | 3);
    poke(TABLES + 0x1000, (TABLES + 0x2000) | 3);
    let map = |output: u64| poke(TABLES + 0x2000, output << 12 | 3);
    map(1);

    let translator = Arc::new(Translator::new(UnitConfig::default()));
    translator.set_root(RootTableAddress::from_bits(ROOT));
    translator.set_enabled(true);
    // The oldest page that may still be used, and whether the other thread has finished.
    let (oldest, done) = (AtomicU64::new(1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let port = translator.port();
            let request = DmaRequest {
                requester: Bdf::default(),
                pasid: None,
                privileged: false,
                address: Iova(0),
                address_type: AddressType::Untranslated,
                access: Access::Read,
            };
            while !done.load(Ordering::SeqCst) {
                let mapped = port.translate(&request, &memory).unwrap();
                // The page may be used while this guard lives. Its invalidation must not have
                // completed.
                let page = mapped.address().0 >> 12;
                assert!(
                    page >= oldest.load(Ordering::SeqCst),
                    "a page is used after its invalidation"
                );
            }
        });
        for page in 2..ROUNDS {
            map(page);
            let pages = PageRange::page(Iova(0));
            let scope = match page % 3 {
                0 => IotlbScope::Global,
                1 => IotlbScope::Domain(DomainId(1)),
                _ => IotlbScope::Pages(DomainId(1), pages),
            };
            translator.invalidate_iotlb(scope);
            translator.drain();
            oldest.store(page, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
    });
}
