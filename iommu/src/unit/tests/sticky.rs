//! Registers that outlast a reset (`VT-d 11.3`): RW1CS and ROS.

use super::*;

/// A unit with a fault record, IQE, an overflow and a completed wait with IF=1.
fn marked() -> Rig {
    let config = UnitConfig { fault_records: 1, ..UnitConfig::full(UnitRole::Guest) };
    let mut rig = Rig::with(config).enable(QueueAddress::new(), ROOT);
    let request = DmaRequest {
        requester: VICTIM,
        pasid: None,
        privileged: false,
        address: crate::ids::Iova(0x1234_5000),
        address_type: crate::ats::AddressType::Untranslated,
        access: crate::ats::Access::Write,
    };
    for _ in 0..2 {
        assert!(rig.unit.dma(&request, &rig.memory, rig.now).is_err());
    }
    rig.submit(&[wait(0).with_interrupt(true).into_bits(), 0]);
    let status = rig.fault_status();
    assert!(status.pending() && status.overflow() && status.queue_error());
    rig
}

#[test]
fn error_and_status_records_outlast_a_reset_and_nothing_else_does() {
    let before = marked();
    let sticky = before.unit.sticky_registers();
    let mut unit = Unit::new(before.unit.config, Tracer::none());
    let fresh = unit.dump();
    unit.restore_sticky_registers(&sticky);
    let kept = ["FSTS", "FRCD", "ICS", "IQERCD"];
    for ((old, fresh), new) in before.unit.dump().into_iter().zip(fresh).zip(unit.dump()) {
        assert_eq!(new, if kept.contains(&new.0) { old } else { fresh });
    }
    assert_ne!(before.unit.dump(), unit.dump());
}

#[test]
fn a_new_unit_has_no_sticky_registers_set() {
    let unit = Unit::new(UnitConfig::full(UnitRole::Guest), Tracer::none());
    assert_eq!(unit.sticky_registers(), StickyRegisters::default());
}
