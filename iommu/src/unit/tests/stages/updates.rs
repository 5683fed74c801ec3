//! Accessed and dirty bits: the requests that set them, and software that changes an entry at the
//! same time (`VT-d 3.6.2`, `VT-d 3.7.2`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vm_memory::{GuestMemoryBackend, VolatileMemory};

use super::*;

const IOVA: u64 = 0x5000;
const PAGE: u64 = 0x80_0000;
/// Rounds of the race. An update without a comparison loses it in one of some thousands.
const ROUNDS: u64 = 30_000;

/// A rig in which both stages map IOVA, by tables that the second stage maps to themselves.
fn mapped(stage: u8, second_stage_dirty: bool) -> Rig {
    let rig = rig(stage);
    let low = PasidLow::from_bits(rig.peek64(PASIDS));
    rig.poke(PASIDS, low.with_second_stage_dirty(second_stage_dirty).into_bits());
    for large in [FIRST, PAGE] {
        let slot = SECOND + 2 * PAGE_SIZE + (large >> 21) * 8;
        let frame = large & !0x1f_ffff;
        if stage == NESTED {
            rig.poke(slot, second(frame).with_large(true).into_bits());
        }
    }
    rig.poke(Rig::first_slot(IOVA), first(PAGE).into_bits());
    rig.poke(Rig::second_slot(IOVA), second(PAGE).into_bits());
    rig
}

impl Rig {
    /// Accessed and dirty bits of the entries on the way to IOVA in the tables of `stage`, root
    /// first.
    fn bits_of(&self, stage: u8) -> Vec<(bool, bool)> {
        let (tables, leaf) = match stage {
            SECOND_STAGE => (SECOND, Self::second_slot(IOVA)),
            _ => (FIRST, Self::first_slot(IOVA)),
        };
        let slots = [tables, tables + PAGE_SIZE, tables + 2 * PAGE_SIZE, leaf];
        slots
            .map(|slot| match stage {
                SECOND_STAGE => {
                    let entry = SecondStageEntry::from_bits(self.peek64(slot));
                    (entry.accessed(), entry.dirty())
                }
                _ => {
                    let entry = FirstStageEntry::from_bits(self.peek64(slot));
                    (entry.accessed(), entry.dirty())
                }
            })
            .to_vec()
    }

    /// The entries of both stages that have an accessed or dirty bit.
    fn marked(&self) -> usize {
        let bits = [self.bits_of(FIRST_STAGE), self.bits_of(SECOND_STAGE)].concat();
        bits.into_iter().filter(|bits| *bits != (false, false)).count()
    }
}

/// A device writes all the time while a CPU clears the entry, flushes, and waits. The CPU must then
/// find the entry as it left it.
fn entry_after_the_race(stage: u8) -> u64 {
    let rig = mapped(stage, true);
    let config = UnitConfig::full(UnitRole::Guest);
    let mut rig = Rig { unit: Unit::new(config, Tracer::none()), ..rig }
        .enable(QueueAddress::new().with_wide(true), ROOT | 1 << 10);
    let slot = match stage {
        SECOND_STAGE => Rig::second_slot(IOVA),
        _ => Rig::first_slot(IOVA),
    };
    let memory = rig.memory.clone();
    let slice = GuestMemoryBackend::get_slice(&memory, GuestAddress(slot), 8).unwrap();
    let word = slice.get_atomic_ref::<AtomicU64>(0).unwrap();
    let entry = word.load(Ordering::SeqCst);
    let flush = IotlbDescriptor::new().with_granularity(2).with_domain(DOMAIN).into_bits();
    let port = rig.unit.translator().port();
    let request = DmaRequest {
        requester: VICTIM,
        pasid: None,
        privileged: false,
        address: Iova(IOVA),
        address_type: AddressType::Untranslated,
        access: Access::Write,
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                drop(port.translate(&request, &memory));
            }
        });
        let mut left = 0;
        for round in 0..ROUNDS {
            word.store(entry, Ordering::SeqCst);
            (0..round % 64).for_each(|_| std::hint::spin_loop());
            word.swap(0, Ordering::SeqCst);
            rig.submit(&[flush, wait(0).into_bits()]);
            left = word.load(Ordering::SeqCst);
            if left != 0 {
                break;
            }
        }
        done.store(true, Ordering::SeqCst);
        left
    })
}

#[test]
fn a_first_stage_entry_that_software_has_cleared_stays_clear() {
    assert_eq!(entry_after_the_race(FIRST_STAGE), 0);
}

#[test]
fn a_second_stage_entry_that_software_has_cleared_stays_clear() {
    assert_eq!(entry_after_the_race(SECOND_STAGE), 0);
}

#[test]
fn an_allowed_request_marks_every_entry_that_it_uses() {
    for (stage, expected) in [(FIRST_STAGE, FIRST_STAGE), (SECOND_STAGE, SECOND_STAGE)] {
        for write in [false, true] {
            let mut rig = mapped(stage, true);
            let access = if write { Access::Write } else { Access::Read };
            assert!(rig.go(IOVA, access).is_ok());
            let upper = (true, false);
            assert_eq!(rig.bits_of(expected), [upper, upper, upper, (true, write)]);
        }
    }
    let mut rig = mapped(NESTED, true);
    assert!(rig.go(IOVA, Access::Write).is_ok());
    assert_eq!(rig.bits_of(FIRST_STAGE)[3], (true, true));
    let page = SecondStageEntry::from_bits(rig.peek64(SECOND + 2 * PAGE_SIZE + (PAGE >> 21) * 8));
    let tables =
        SecondStageEntry::from_bits(rig.peek64(SECOND + 2 * PAGE_SIZE + (FIRST >> 21) * 8));
    assert!(page.accessed() && page.dirty(), "the page is written");
    assert!(tables.accessed() && tables.dirty(), "the bits in first-stage tables are written");
}

#[test]
fn a_blocked_request_marks_nothing() {
    type Change = fn(&mut Rig);
    let cases: [(&str, u8, Change); 9] = [
        ("a page in the interrupt range", FIRST_STAGE, |rig| {
            rig.poke(Rig::first_slot(IOVA), first(0xfee0_0000).into_bits());
        }),
        ("a page in the interrupt range", SECOND_STAGE, |rig| {
            rig.poke(Rig::second_slot(IOVA), second(0xfee0_0000).into_bits());
        }),
        ("a page in the interrupt range", NESTED, |rig| {
            let slot = SECOND + 2 * PAGE_SIZE + (PAGE >> 21) * 8;
            rig.poke(slot, second(0xfee0_0000).with_large(true).into_bits());
        }),
        ("a read-only page", FIRST_STAGE, |rig| {
            rig.poke(Rig::first_slot(IOVA), first(PAGE).with_write(false).into_bits());
        }),
        ("a read-only page", SECOND_STAGE, |rig| {
            rig.poke(Rig::second_slot(IOVA), second(PAGE).with_write(false).into_bits());
        }),
        ("a read-only page of the second stage", NESTED, |rig| {
            let slot = SECOND + 2 * PAGE_SIZE + (PAGE >> 21) * 8;
            rig.poke(slot, second(PAGE).with_large(true).with_write(false).into_bits());
        }),
        ("an absent page", FIRST_STAGE, |rig| rig.poke(Rig::first_slot(IOVA), 0)),
        ("an absent page", SECOND_STAGE, |rig| rig.poke(Rig::second_slot(IOVA), 0)),
        ("a supervisor's page", NESTED, |rig| {
            rig.poke(Rig::first_slot(IOVA), first(PAGE).with_user(false).into_bits());
        }),
    ];
    for (name, stage, change) in cases {
        let mut rig = mapped(stage, true);
        change(&mut rig);
        assert!(rig.go(IOVA, Access::Write).is_err(), "{name}, stage {stage}");
        assert_eq!(rig.marked(), 0, "{name}, stage {stage}");
    }
}

#[test]
fn a_read_after_a_denied_write_marks_the_entries() {
    for stage in [FIRST_STAGE, SECOND_STAGE] {
        let mut rig = mapped(stage, true);
        rig.poke(Rig::first_slot(IOVA), first(PAGE).with_write(false).into_bits());
        rig.poke(Rig::second_slot(IOVA), second(PAGE).with_write(false).into_bits());
        assert!(rig.go(IOVA, Access::Write).is_err());
        assert!(rig.go(IOVA, Access::Read).is_ok());
        assert_eq!(rig.bits_of(stage), [(true, false); 4], "the denied write has cached nothing");
    }
}

#[test]
fn a_translation_request_marks_what_it_grants() {
    for stage in [FIRST_STAGE, SECOND_STAGE] {
        let mut rig = mapped(stage, true);
        rig.poke(Rig::first_slot(IOVA), first(PAGE).with_write(false).into_bits());
        rig.poke(Rig::second_slot(IOVA), second(PAGE).with_write(false).into_bits());
        let granted = rig.ask(IOVA, false);
        assert!(granted.read && !granted.write);
        assert_eq!(rig.bits_of(stage), [(true, false); 4], "read only, stage {stage}");

        let mut rig = mapped(stage, true);
        rig.poke(Rig::first_slot(IOVA), 0);
        rig.poke(Rig::second_slot(IOVA), 0);
        let granted = rig.ask(IOVA, false);
        assert!(!granted.read && !granted.write);
        assert_eq!(rig.marked(), 0, "nothing, stage {stage}");
    }
}

#[test]
fn a_translation_that_reaches_the_interrupt_range_is_not_given_out() {
    // 0xfee00000 to 0xfeffffff: the lower half is the interrupt range.
    let mut rig = mapped(SECOND_STAGE, true);
    let slot = SECOND + 2 * PAGE_SIZE + 8;
    rig.poke(slot, second(0xfee0_0000).with_large(true).into_bits());
    let request = TranslationRequest {
        requester: VICTIM,
        pasid: None,
        privileged: false,
        address: Iova(0x30_0000),
        no_write: false,
    };
    let answer = rig.unit.translation_request(&request, &rig.memory, rig.now);
    assert_eq!(answer, Err(RequestError::CompleterAbort), "SGN.8.2: the range overlaps");
    assert_eq!(rig.peek64(slot), second(0xfee0_0000).with_large(true).into_bits());
    assert_eq!(rig.go(0x30_0000, Access::Read), Ok(Gpa(0xfef0_0000)), "SGN.8.1: the address");
}

#[test]
fn updates_need_walks_that_are_snooped() {
    let without = |stage, bits| {
        let rig = mapped(stage, true);
        rig.poke(PASIDS + 8, PasidHigh::new().with_domain(DOMAIN).into_bits());
        if bits {
            for level in 0..4 {
                for slot in [level * PAGE_SIZE, level * PAGE_SIZE + page(IOVA) * 8] {
                    let entry = FirstStageEntry::from_bits(rig.peek64(FIRST + slot));
                    let entry = entry.with_accessed(true).with_dirty(true);
                    rig.poke(FIRST + slot, entry.into_bits());
                    let entry = SecondStageEntry::from_bits(rig.peek64(SECOND + slot));
                    let entry = entry.with_accessed(true).with_dirty(true);
                    rig.poke(SECOND + slot, entry.into_bits());
                }
            }
        }
        rig
    };
    for (stage, reason) in [(FIRST_STAGE, 0x90), (SECOND_STAGE, 0x7c)] {
        let mut rig = without(stage, false);
        assert_eq!(rig.fault_of(IOVA, Access::Read), FaultReason(reason));
        assert_eq!(rig.marked(), 0);
        assert!(without(stage, true).go(IOVA, Access::Write).is_ok(), "software has set the bits");
    }
    assert!(!without(FIRST_STAGE, false).ask(IOVA, false).read, "0x90 grants nothing");
    let request = TranslationRequest {
        requester: VICTIM,
        pasid: None,
        privileged: false,
        address: Iova(IOVA),
        no_write: false,
    };
    let mut rig = without(SECOND_STAGE, false);
    let answer = rig.unit.translation_request(&request, &rig.memory, rig.now);
    assert_eq!(answer, Err(RequestError::CompleterAbort), "0x7c");
}

#[test]
fn reads_of_first_stage_tables_need_the_write_right_with_ssade() {
    for (dirty, reason) in [(false, None), (true, Some(FaultReason::NESTED_ROOT_DENIED))] {
        let mut rig = mapped(NESTED, dirty);
        for slot in [0, PAGE_SIZE, 2 * PAGE_SIZE, 3 * PAGE_SIZE + page(IOVA) * 8] {
            let entry = FirstStageEntry::from_bits(rig.peek64(FIRST + slot));
            let set = entry.with_accessed(true).with_dirty(true);
            rig.poke(FIRST + slot, set.into_bits());
        }
        let slot = SECOND + 2 * PAGE_SIZE + (FIRST >> 21) * 8;
        rig.poke(slot, second(FIRST & !0x1f_ffff).with_large(true).with_write(false).into_bits());
        match reason {
            Some(reason) => assert_eq!(rig.fault_of(IOVA, Access::Read), reason),
            None => assert!(rig.go(IOVA, Access::Read).is_ok(), "no bit has to be set"),
        }
    }
}
