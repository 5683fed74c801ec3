//! The interrupt entry cache: entries stay until they are invalidated.

use super::*;
use crate::spec::descriptor::InterruptEntryCacheDescriptor;

impl Rig {
    fn invalidate_entries(&mut self, descriptor: InterruptEntryCacheDescriptor) {
        self.submit(&[descriptor.into_bits()]);
    }
}

#[test]
fn a_cached_entry_stays_until_it_is_invalidated() {
    let one = InterruptEntryCacheDescriptor::new().with_selective(true).with_index(5);
    for descriptor in [InterruptEntryCacheDescriptor::new(), one, one.with_index(4).with_mask(1)] {
        let mut rig = Rig::remapping();
        rig.set_entry(5, entry(0x31));
        assert_eq!(rig.vector(5), Ok(0x31));
        rig.set_entry(5, entry(0x32));
        assert_eq!(rig.vector(5), Ok(0x31));
        rig.set_entry(5, Irte::new());
        assert_eq!(rig.vector(5), Ok(0x31));
        rig.invalidate_entries(descriptor);
        assert_eq!(rig.vector(5), Err(FaultReason::IR_ENTRY_NOT_PRESENT));
    }
}

#[test]
fn an_invalidation_of_other_entries_keeps_an_entry() {
    let mut rig = Rig::remapping();
    rig.set_entry(5, entry(0x31));
    assert_eq!(rig.vector(5), Ok(0x31));
    rig.set_entry(5, entry(0x32));
    let others = InterruptEntryCacheDescriptor::new().with_selective(true);
    for descriptor in [others.with_index(4), others.with_index(6).with_mask(1)] {
        rig.invalidate_entries(descriptor);
        assert_eq!(rig.vector(5), Ok(0x31));
    }
    rig.invalidate_entries(others.with_index(7).with_mask(2));
    assert_eq!(rig.vector(5), Ok(0x32));
}

#[test]
fn absent_and_invalid_entries_are_not_cached() {
    let mut rig = Rig::remapping();
    rig.expect_fault(message(5), FaultReason::IR_ENTRY_NOT_PRESENT, 5);
    rig.set_entry(5, entry(0x31).with_posted(true));
    rig.expect_fault(message(5), FaultReason::IR_ENTRY_RESERVED, 5);
    rig.set_entry(5, entry(0x31));
    assert_eq!(rig.vector(5), Ok(0x31));
}

#[test]
fn caching_mode_caches_absent_and_invalid_entries() {
    for wrong in [Irte::new(), entry(0x31).with_posted(true)] {
        let mut rig = Rig::with_settings(|config| config.caching_mode = true);
        rig.set_entry(5, wrong);
        assert!(rig.vector(5).is_err());
        rig.set_entry(5, entry(0x31));
        assert!(rig.vector(5).is_err(), "cached");
        rig.invalidate_entries(InterruptEntryCacheDescriptor::new().with_selective(true));
        assert!(rig.vector(5).is_err(), "another entry was named");
        let named = InterruptEntryCacheDescriptor::new().with_selective(true).with_index(5);
        rig.invalidate_entries(named);
        assert_eq!(rig.vector(5), Ok(0x31));
    }
}

#[test]
fn sirtp_and_the_end_of_remapping_drop_all_entries_with_esirtps() {
    let switch = |rig: &mut Rig| {
        rig.command(|bits| bits.with_interrupt_remapping(false));
        rig.command(|bits| bits.with_interrupt_remapping(true));
    };
    let latch = |rig: &mut Rig| rig.latch(table(SIZE));
    for act in [&switch as &dyn Fn(&mut Rig), &latch] {
        for (flushes, vector) in [(false, 0x31), (true, 0x32)] {
            let mut rig = Rig::with_settings(|config| config.sirtp_flushes = flushes);
            rig.set_entry(5, entry(0x31));
            assert_eq!(rig.vector(5), Ok(0x31));
            rig.set_entry(5, entry(0x32));
            act(&mut rig);
            assert_eq!(rig.vector(5), Ok(vector));
        }
    }
}

#[test]
fn latching_a_table_keeps_the_cache() {
    let mut rig = Rig::remapping();
    rig.set_entry(5, entry(0x31));
    rig.set_entry(256 + 5, entry(0x32));
    assert_eq!(rig.vector(5), Ok(0x31));
    rig.latch(table(SIZE).with_page(TABLE / PAGE_SIZE + 1));
    assert_eq!(rig.vector(5), Ok(0x31));
    rig.invalidate_entries(InterruptEntryCacheDescriptor::new());
    assert_eq!(rig.vector(5), Ok(0x32));
}

#[test]
fn irta_has_no_effect_before_sirtp() {
    let mut rig = Rig::remapping();
    rig.set_entry(5, entry(0x31));
    rig.write64(offset::IRTA, 0);
    assert_eq!(rig.vector(5), Ok(0x31));
}

#[test]
fn iec_needs_interrupt_remapping_and_takes_masks_up_to_15() {
    let mut rig = Rig::enabled();
    rig.invalidate_entries(InterruptEntryCacheDescriptor::new());
    assert_eq!(rig.error_record().info(), QueueErrorInfo::InvalidType as u8);
    for (mask, fine) in [(15, true), (16, false)] {
        let mut rig = Rig::remapping();
        let selective = InterruptEntryCacheDescriptor::new().with_selective(true);
        rig.invalidate_entries(selective.with_mask(mask));
        assert_eq!(rig.fault_status().queue_error(), !fine);
    }
}

#[test]
fn a_preview_has_no_effect() {
    let mut rig = Rig::remapping();
    let preview =
        |rig: &Rig, index| rig.unit.preview_interrupt(Some(DEVICE), message(index), &rig.memory);
    assert_eq!(preview(&rig, 5), None);
    assert_eq!(rig.take_interrupt_record(), None);
    rig.set_entry(5, entry(0x31));
    assert_eq!(preview(&rig, 5).map(|msi| msi.data), Some(0x4031));
    rig.set_entry(5, entry(0x32));
    assert_eq!(rig.vector(5), Ok(0x32), "it was not cached");
    rig.set_entry(5, entry(0x33));
    assert_eq!(preview(&rig, 5).map(|msi| msi.data), Some(0x4032), "the cache counts");
}
