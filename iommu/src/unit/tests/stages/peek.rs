//! A look at the tables leaves no trace in them, in the caches or in the fault records.

use super::*;

const IOVA: u64 = 0x5123;
const OUTPUT: u64 = 0x80_0123;

impl Rig {
    fn look(&self) -> Option<TableEntry> {
        self.unit.translator().peek(VICTIM, None, Iova(IOVA), &self.memory)
    }

    fn leaf(stage: u8) -> u64 {
        if stage == FIRST_STAGE { Self::first_slot(0x5000) } else { Self::second_slot(0x5000) }
    }
}

#[test]
fn a_look_follows_the_tables_and_sets_no_bit() {
    for stage in [FIRST_STAGE, SECOND_STAGE] {
        let mut rig = rig(stage);
        let entry = match stage {
            FIRST_STAGE => first(0x80_0000).with_write(false).into_bits(),
            _ => second(0x80_0000).with_write(false).into_bits(),
        };
        rig.poke(Rig::leaf(stage), entry);
        let tables = [FIRST, SECOND, Rig::leaf(stage)].map(|at| rig.peek64(at));
        let found = rig.look().unwrap();
        assert_eq!((found.output, found.range), (Gpa(OUTPUT), PageRange::page(Iova(IOVA))));
        assert!(found.permits(Access::Read, Gpa(OUTPUT)));
        assert!(!found.permits(Access::Write, Gpa(OUTPUT)), "the tables forbid writes");
        assert!(!found.permits(Access::Read, Gpa(OUTPUT + 0x1000)));
        assert_eq!([FIRST, SECOND, Rig::leaf(stage)].map(|at| rig.peek64(at)), tables);

        assert!(rig.go(IOVA, Access::Read).is_ok(), "the page is in the IOTLB now");
        rig.poke(Rig::leaf(stage), 0);
        let found = rig.look().unwrap();
        assert!(!found.read && !found.write, "the tables decide, and not a cache");
        assert!(rig.go(IOVA, Access::Read).is_ok(), "and the cache is as it was");
        assert_eq!(rig.count(|event| matches!(event, Event::DmaFault { .. })), 0);
    }
}

#[test]
fn a_first_stage_entry_is_tagged_by_its_pasid_and_a_second_stage_entry_by_its_domain() {
    for (stage, pasid) in [(FIRST_STAGE, Some(Pasid::new(0))), (SECOND_STAGE, None)] {
        let rig = rig(stage);
        rig.poke(Rig::first_slot(0x5000), first(0x80_0000).into_bits());
        rig.poke(Rig::second_slot(0x5000), second(0x80_0000).into_bits());
        let found = rig.look().unwrap();
        assert_eq!((found.domain, found.pasid), (crate::ids::DomainId(DOMAIN), pasid));
    }
}
