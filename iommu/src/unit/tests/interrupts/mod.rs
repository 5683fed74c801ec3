//! Interrupt remapping from a driver's view: a table in memory, messages, fault records.

mod caching;

use proptest::prelude::*;

use super::*;
use crate::spec::fault::{FaultReason, FaultRecordHigh};
use crate::spec::interrupt::{InterruptTableAddress, Irte, RemappableAddress};

const TABLE: u64 = 0x40_0000;
/// The table has 2^(7+1) entries.
const SIZE: u8 = 7;
const DEVICE: Bdf = Bdf::new(3, 4, 5);

/// A table of 2^(`size`+1) entries.
fn table(size: u8) -> InterruptTableAddress {
    InterruptTableAddress::new().with_page(TABLE / PAGE_SIZE).with_size(size)
}

fn on(bits: GlobalBits) -> GlobalBits {
    bits.with_interrupt_remapping(true)
}

impl Rig {
    /// Enables the queue, and remapping with a table of 256 entries that are not present.
    fn remapping() -> Self {
        Self::with_table(table(SIZE))
    }

    fn with_settings(change: impl FnOnce(&mut UnitConfig)) -> Self {
        let mut config = UnitConfig {
            interrupt_remapping: true,
            extended_interrupt_mode: true,
            ..UnitConfig::new(UnitRole::Guest)
        };
        change(&mut config);
        Self::with(config).latched(table(SIZE))
    }

    fn with_table(table: InterruptTableAddress) -> Self {
        let rig = Self::with(UnitConfig {
            interrupt_remapping: true,
            extended_interrupt_mode: true,
            ..UnitConfig::new(UnitRole::Guest)
        });
        rig.latched(table)
    }

    fn latched(mut self, table: InterruptTableAddress) -> Self {
        let rig = &mut self;
        rig.latch(table);
        rig.write64(offset::IQA, RING);
        rig.command(|bits| on(bits).with_queued_invalidation(true));
        self
    }

    fn latch(&mut self, table: InterruptTableAddress) {
        self.write64(offset::IRTA, table.into_bits());
        self.command(|bits| bits.with_set_interrupt_table(true));
    }

    fn set_entry(&self, index: u64, irte: Irte) {
        self.memory.write_obj(irte.into_bits().to_le(), GuestAddress(TABLE + 16 * index)).unwrap();
    }

    fn send(&mut self, requester: Option<Bdf>, msi: Msi) -> Result<Msi, FaultReason> {
        self.unit.remap_interrupt(requester, msi, &self.memory, self.now)
    }

    /// The vector of entry `index` for an interrupt of `DEVICE`.
    fn vector(&mut self, index: u16) -> Result<u8, FaultReason> {
        self.send(Some(DEVICE), message(index)).map(|msi| msi.data as u8)
    }

    /// Takes the first record: source, reason and index.
    fn take_interrupt_record(&mut self) -> Option<(u16, u8, u64)> {
        let status = self.fault_status();
        if !status.pending() {
            return None;
        }
        let at = offset::FRCD + 16 * u16::from(status.record_index());
        let (low, high) = (self.read64(at), FaultRecordHigh::from_bits(self.read64(at + 8)));
        assert_eq!(low & 0xffff_ffff_f000, 0);
        assert!(!high.type1() && !high.pasid_present());
        self.write32(at + 12, 1 << 31);
        Some((high.source_id(), high.reason(), low >> 48))
    }

    /// Sends a message, and expects that it is blocked for `reason` and recorded with `index`.
    fn expect_fault(&mut self, msi: Msi, reason: FaultReason, index: u64) {
        assert_eq!(self.send(Some(DEVICE), msi), Err(reason));
        assert_eq!(
            self.take_interrupt_record(),
            Some((DEVICE.into_bits(), reason.0, index)),
            "{reason}"
        );
    }
}

/// A message with this handle and without subhandle.
fn message(handle: u16) -> Msi {
    Msi { address: RemappableAddress::for_handle(handle).into_bits(), data: 0 }
}

fn with_subhandle(handle: u16, data: u32) -> Msi {
    let address = RemappableAddress::for_handle(handle).with_subhandle_valid(true);
    Msi { address: address.into_bits(), data }
}

fn entry(vector: u8) -> Irte {
    Irte::new().with_present(true).with_vector(vector)
}

const COMPATIBILITY: Msi = Msi { address: 0xfee0_1000, data: 0x4031 };

#[test]
fn a_unit_without_the_capability_remaps_nothing() {
    let mut rig = Rig::new();
    rig.write64(offset::IRTA, u64::MAX);
    assert_eq!(rig.read64(offset::IRTA), 0);
    let all = on(GlobalBits::new()).with_set_interrupt_table(true);
    rig.write32(offset::GCMD, all.with_compatibility_interrupts(true).into_bits());
    assert_eq!(rig.status(), GlobalBits::new());
    assert_eq!(rig.send(None, message(5)), Ok(message(5)));
}

#[test]
fn eime_needs_eim_and_gsts_reports_commands() {
    let config = UnitConfig { interrupt_remapping: true, ..UnitConfig::new(UnitRole::Guest) };
    for (extended_interrupt_mode, bits) in [(false, 0x3fff_ffff_f00f), (true, 0x3fff_ffff_f80f)] {
        let mut rig = Rig::with(UnitConfig { extended_interrupt_mode, ..config });
        rig.write64(offset::IRTA, u64::MAX);
        assert_eq!(rig.read64(offset::IRTA), bits);
    }
    let mut rig = Rig::remapping();
    assert!(rig.status().set_interrupt_table() && rig.status().interrupt_remapping());
    rig.command(|bits| bits.with_compatibility_interrupts(true));
    assert!(rig.status().compatibility_interrupts());
    rig.command(|bits| bits.with_compatibility_interrupts(false).with_interrupt_remapping(false));
    let status = rig.status();
    assert!(!status.compatibility_interrupts() && !status.interrupt_remapping());
    assert!(status.set_interrupt_table() && status.queued_invalidation());
}

#[test]
fn one_write_latches_the_table_and_then_enables_remapping() {
    let config = UnitConfig { interrupt_remapping: true, ..UnitConfig::new(UnitRole::Guest) };
    let mut rig = Rig::with(config);
    rig.set_entry(1, entry(0x31));
    rig.write64(offset::IRTA, table(0).into_bits());
    rig.write32(offset::GCMD, on(GlobalBits::new()).with_set_interrupt_table(true).into_bits());
    assert_eq!(rig.vector(1), Ok(0x31));
}

#[test]
fn disabled_remapping_passes_messages_unchanged() {
    let mut rig = Rig::remapping();
    rig.command(|bits| bits.with_interrupt_remapping(false));
    for msi in [COMPATIBILITY, message(5), with_subhandle(5, u32::MAX)] {
        assert_eq!(rig.send(Some(DEVICE), msi), Ok(msi));
    }
    assert_eq!(rig.take_interrupt_record(), None);
}

#[test]
fn compatibility_format_passes_only_with_cfi_and_never_with_eime() {
    for (extended, compatibility, passes) in
        [(false, false, false), (false, true, true), (true, false, false), (true, true, false)]
    {
        let mut rig = Rig::with_table(table(SIZE).with_extended(extended));
        rig.command(|bits| bits.with_compatibility_interrupts(compatibility));
        if passes {
            assert_eq!(rig.send(Some(DEVICE), COMPATIBILITY), Ok(COMPATIBILITY));
        } else {
            rig.expect_fault(COMPATIBILITY, FaultReason::IR_COMPATIBILITY_BLOCKED, 0);
        }
    }
}

#[test]
fn handle_and_subhandle_select_the_entry() {
    let mut rig = Rig::with_table(table(15));
    let indexes = [0_u16, 1, 0x7fff, 0x8000, 0xffff];
    for (vector, index) in (0x30..).zip(indexes) {
        rig.set_entry(index.into(), entry(vector));
    }
    for (vector, index) in (0x30..).zip(indexes) {
        assert_eq!(rig.vector(index), Ok(vector), "{index:#x}");
        let data = rig.send(Some(DEVICE), with_subhandle(0, index.into())).map(|msi| msi.data);
        assert_eq!(data, Ok(0x4000 | u32::from(vector)));
    }
    let ignored = Msi { data: u32::MAX, ..message(1) };
    assert_eq!(rig.send(None, ignored).map(|msi| msi.data), Ok(0x4031), "without SHV");
}

#[test]
fn an_entry_defines_the_whole_message() {
    let mut rig = Rig::remapping();
    let logical = entry(0xa1).with_logical(true).with_redirection_hint(true);
    rig.set_entry(1, logical.with_delivery_mode(1).with_destination(0x0300));
    let expected = Msi { address: 0xfee0_300c, data: 0x41a1 };
    assert_eq!(rig.send(Some(DEVICE), message(1)), Ok(expected));
    rig.set_entry(2, entry(0x42).with_level(true).with_available(0xf));
    assert_eq!(rig.send(None, message(2)), Ok(Msi { address: 0xfee0_0000, data: 0xc042 }));

    let mut rig = Rig::with_table(table(SIZE).with_extended(true));
    rig.set_entry(1, entry(0x31).with_destination(0x0001_0203));
    let expected = Msi { address: 0x0001_0200_fee0_3000, data: 0x4031 };
    assert_eq!(rig.send(Some(DEVICE), message(1)), Ok(expected));
}

#[test]
fn reserved_bits_in_a_request_are_fault_20() {
    let mut rig = Rig::remapping();
    rig.set_entry(1, entry(0x31));
    rig.expect_fault(with_subhandle(1, 1 << 16), FaultReason::IR_REQUEST_RESERVED, 0);
}

#[test]
fn an_index_beyond_the_table_is_fault_21() {
    let mut rig = Rig::remapping();
    rig.set_entry(255, entry(0x31));
    assert_eq!(rig.vector(255), Ok(0x31));
    rig.expect_fault(message(256), FaultReason::IR_INDEX_BEYOND_TABLE, 256);
    rig.expect_fault(with_subhandle(255, 1), FaultReason::IR_INDEX_BEYOND_TABLE, 256);
    rig.latch(table(15));
    let wide = with_subhandle(0xffff, 2);
    rig.expect_fault(wide, FaultReason::IR_INDEX_BEYOND_TABLE, 1);
}

#[test]
fn an_entry_beyond_the_host_address_width_is_fault_21() {
    let last_page = (1 << 46) / PAGE_SIZE - 1;
    let mut rig = Rig::with_table(table(15).with_page(last_page));
    rig.expect_fault(message(0), FaultReason::IR_ENTRY_INACCESSIBLE, 0);
    rig.expect_fault(message(256), FaultReason::IR_INDEX_BEYOND_TABLE, 256);
}

#[test]
fn an_entry_that_is_not_present_is_fault_22() {
    let mut rig = Rig::remapping();
    rig.expect_fault(message(7), FaultReason::IR_ENTRY_NOT_PRESENT, 7);
}

#[test]
fn an_entry_outside_memory_is_fault_23() {
    let mut rig = Rig::with_table(table(SIZE).with_page(MEMORY as u64 / PAGE_SIZE));
    rig.expect_fault(message(7), FaultReason::IR_ENTRY_INACCESSIBLE, 7);
}

#[test]
fn reserved_fields_of_an_entry_are_fault_24() {
    let good = entry(0x31);
    let bad = [
        good.with_reserved_low(1),
        good.with_reserved_middle(0x80),
        good.with_reserved_high(1 << 43),
        good.with_posted(true),
        good.with_delivery_mode(3),
        good.with_delivery_mode(6),
        good.with_source_validation(3),
        good.with_destination(0x0000_0001),
        good.with_destination(0x0001_0000),
    ];
    let mut rig = Rig::remapping();
    for (index, irte) in (0..).zip(bad) {
        rig.set_entry(index.into(), irte);
        rig.expect_fault(message(index), FaultReason::IR_ENTRY_RESERVED, index.into());
        rig.set_entry(index.into(), irte.with_present(false));
        rig.expect_fault(message(index), FaultReason::IR_ENTRY_NOT_PRESENT, index.into());
    }
}

#[test]
fn a_source_that_the_entry_does_not_accept_is_fault_26() {
    let mut rig = Rig::remapping();
    let own = entry(0x31).with_source_validation(1).with_source_id(DEVICE.into_bits());
    let foreign = own.with_source_id(DEVICE.into_bits() ^ 1);
    rig.set_entry(1, own);
    rig.set_entry(2, foreign);
    rig.set_entry(3, foreign.with_source_qualifier(3));
    rig.set_entry(4, entry(0x34).with_source_validation(2).with_source_id(0x0204));
    rig.set_entry(5, entry(0x35).with_source_validation(2).with_source_id(0x0402));
    assert_eq!(rig.vector(1), Ok(0x31));
    rig.expect_fault(message(2), FaultReason::IR_SOURCE_MISMATCH, 2);
    assert_eq!(rig.send(None, message(2)).map(|msi| msi.data as u8), Ok(0x31), "no requester id");
    assert_eq!(rig.vector(3), Ok(0x31));
    assert_eq!(rig.vector(4), Ok(0x34));
    rig.expect_fault(message(5), FaultReason::IR_SOURCE_MISMATCH, 5);
}

#[test]
fn fpd_suppresses_records_of_faults_in_the_entry() {
    let mut rig = Rig::remapping();
    let silent = Irte::new().with_fault_disable(true);
    rig.set_entry(1, silent);
    rig.set_entry(2, silent.with_present(true).with_posted(true));
    rig.set_entry(3, silent.with_present(true).with_source_validation(1));
    for (index, reason) in [
        (1, FaultReason::IR_ENTRY_NOT_PRESENT),
        (2, FaultReason::IR_ENTRY_RESERVED),
        (3, FaultReason::IR_SOURCE_MISMATCH),
    ] {
        assert_eq!(rig.vector(index), Err(reason));
        assert_eq!(rig.take_interrupt_record(), None);
    }
    let unrecorded = |event: &Event| matches!(event, Event::InterruptFault { recorded: false, .. });
    assert_eq!(rig.count(unrecorded), 3);
}

#[test]
fn a_malformed_interrupt_is_fault_29_while_remapping_is_enabled() {
    let mut rig = Rig::remapping();
    let refused = rig.unit.refuse_in_interrupt_range(DEVICE, rig.now);
    assert_eq!(refused, RequestError::UnsupportedRequest);
    assert_eq!(rig.take_interrupt_record(), Some((DEVICE.into_bits(), 0x29, 0)));
    rig.command(|bits| bits.with_interrupt_remapping(false));
    rig.unit.refuse_in_interrupt_range(DEVICE, rig.now);
    assert_eq!(rig.take_interrupt_record(), None);
}

#[test]
fn a_fault_raises_the_fault_event_which_is_not_remapped() {
    let mut rig = Rig::remapping();
    rig.route_events(offset::FECTL, 0xfee0_2000, 0x41);
    assert_eq!(rig.vector(9), Err(FaultReason::IR_ENTRY_NOT_PRESENT));
    assert_eq!(rig.msis(), [Msi { address: 0xfee0_2000, data: 0x41 }]);
}

#[test]
fn disabling_both_kinds_of_remapping_resets_the_next_record() {
    let mut rig = Rig::remapping();
    rig.expect_fault(message(1), FaultReason::IR_ENTRY_NOT_PRESENT, 1);
    rig.command(|bits| bits.with_translation(true));
    rig.command(|bits| bits.with_translation(false));
    assert_eq!(rig.unit.next_record, 1, "interrupt remapping is still on");
    rig.command(|bits| bits.with_interrupt_remapping(false));
    assert_eq!(rig.unit.next_record, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_message_and_table_give_a_message_or_a_reason(
        irta: u64,
        inside: bool,
        command: u32,
        entries in proptest::collection::vec((0_u64..64, any::<u128>(), any::<bool>()), 0..16),
        messages in proptest::collection::vec(
            (any::<Option<u16>>(), any::<u64>(), 0_u64..64, any::<u32>(), 0_u8..4),
            1..32,
        ),
    ) {
        let mut rig = Rig::with(UnitConfig::full(UnitRole::Guest));
        let near = InterruptTableAddress::from_bits(irta).with_page(TABLE / PAGE_SIZE);
        rig.write64(offset::IRTA, if inside { near.into_bits() } else { irta });
        rig.write32(offset::GCMD, command);
        rig.command(|bits| on(bits).with_set_interrupt_table(true));
        for (index, bits, tame) in entries {
            // Without reserved bits, so that the unit accepts some of them.
            let mask = if tame { 0x0003_ffff_ffff_ffff_00ff_0f7f } else { u128::MAX };
            rig.set_entry(index, Irte::from_bits(bits & mask));
        }
        for (requester, address, handle, data, kind) in messages {
            let msi = match kind {
                0 => Msi { address: 0xfee0_0000 | address & 0xf_ffff, data },
                1 => with_subhandle(handle as u16, data & 0x3f),
                _ => Msi { data, ..message(handle as u16) },
            };
            let requester = requester.map(Bdf::from_bits);
            let preview = rig.unit.preview_interrupt(requester, msi, &rig.memory);
            let sent = rig.send(requester, msi);
            prop_assert_eq!(preview, sent.ok());
            if let Ok(sent) = sent {
                prop_assert_eq!(sent.address & 0xff_fff0_0000, 0xfee0_0000);
            }
        }
    }
}
