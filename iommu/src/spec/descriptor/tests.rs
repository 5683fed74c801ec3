//! Legal and illegal descriptors; no bits panic.

use proptest::prelude::*;

use super::*;

const ALL: DecodeRules = DecodeRules {
    scalable: true,
    device_tlb: true,
    throttle: true,
    interrupt_remapping: true,
    max_handle_mask: 15,
    page_requests: true,
    page_request_drain: true,
    page_selective: true,
    max_address_mask: 18,
    honor_hint: false,
};

/// The bits of the public fields of a type.
fn covered(kind: u8) -> u128 {
    let ones = u128::MAX;
    match kind {
        kind::CONTEXT_CACHE => ContextCacheDescriptor::new()
            .with_granularity(3)
            .with_domain(!0)
            .with_source_id(!0)
            .with_function_mask(3)
            .into_bits(),
        kind::IOTLB => IotlbDescriptor::new()
            .with_granularity(3)
            .with_drain_writes(true)
            .with_drain_reads(true)
            .with_domain(!0)
            .with_mask(63)
            .with_hint(true)
            .with_page(ones as u64 >> 12)
            .into_bits(),
        kind::DEVICE_TLB => DeviceTlbDescriptor::new()
            .with_physical_function_low(15)
            .with_max_pending(31)
            .with_source_id(!0)
            .with_physical_function_high(0xfff)
            .with_size(true)
            .with_page(ones as u64 >> 12)
            .into_bits(),
        kind::INTERRUPT_ENTRY_CACHE => InterruptEntryCacheDescriptor::new()
            .with_selective(true)
            .with_mask(31)
            .with_index(!0)
            .into_bits(),
        kind::WAIT => WaitDescriptor::new()
            .with_interrupt(true)
            .with_status_write(true)
            .with_fence(true)
            .with_page_request_drain(true)
            .with_status_data(!0)
            .with_status_dword(ones as u64 >> 2)
            .into_bits(),
        kind::PASID_IOTLB => IotlbDescriptor::new()
            .with_granularity(3)
            .with_domain(!0)
            .with_pasid(0xf_ffff)
            .with_mask(63)
            .with_hint(true)
            .with_page(ones as u64 >> 12)
            .into_bits(),
        kind::PASID_CACHE => PasidCacheDescriptor::new()
            .with_granularity(3)
            .with_domain(!0)
            .with_pasid(0xf_ffff)
            .into_bits(),
        kind::PASID_DEVICE_TLB => PasidDeviceTlbDescriptor::new()
            .with_max_pending(31)
            .with_physical_function_low(15)
            .with_source_id(!0)
            .with_pasid(0xf_ffff)
            .with_physical_function_high(0xfff)
            .with_global(true)
            .with_size(true)
            .with_page(ones as u64 >> 12)
            .into_bits(),
        _ => PageGroupResponseDescriptor::new()
            .with_pasid_present(true)
            .with_code(15)
            .with_requester(!0)
            .with_pasid(0xf_ffff)
            .with_last(true)
            .with_group(0x1ff)
            .into_bits(),
    }
}

fn reserved_of(kind: u8) -> u128 {
    match kind {
        kind::CONTEXT_CACHE => reserved::CONTEXT_CACHE,
        kind::IOTLB => reserved::IOTLB,
        kind::DEVICE_TLB => reserved::DEVICE_TLB,
        kind::INTERRUPT_ENTRY_CACHE => reserved::INTERRUPT_ENTRY_CACHE,
        kind::WAIT => reserved::WAIT,
        kind::PASID_IOTLB => reserved::PASID_IOTLB,
        kind::PASID_CACHE => reserved::PASID_CACHE,
        kind::PASID_DEVICE_TLB => reserved::PASID_DEVICE_TLB,
        _ => reserved::PAGE_GROUP_RESPONSE,
    }
}

#[test]
fn each_bit_is_a_field_or_reserved() {
    for kind in 1..=9 {
        assert_eq!(covered(kind) | TYPE, !reserved_of(kind), "type {kind}");
    }
}

#[test]
fn a_single_reserved_bit_is_refused() {
    for (kind, legal) in [
        (kind::CONTEXT_CACHE, ContextCacheDescriptor::new().with_granularity(1).into_bits()),
        (kind::IOTLB, IotlbDescriptor::new().with_granularity(1).into_bits()),
        (kind::DEVICE_TLB, DeviceTlbDescriptor::new().into_bits()),
        (kind::INTERRUPT_ENTRY_CACHE, InterruptEntryCacheDescriptor::new().into_bits()),
        (kind::WAIT, WaitDescriptor::new().into_bits()),
        (kind::PASID_CACHE, PasidCacheDescriptor::new().into_bits()),
        (kind::PASID_DEVICE_TLB, PasidDeviceTlbDescriptor::new().into_bits()),
        (kind::PAGE_GROUP_RESPONSE, PageGroupResponseDescriptor::new().into_bits()),
    ] {
        assert!(Descriptor::decode(legal, &ALL).is_ok(), "type {kind}");
        for bit in (0..128).filter(|bit| reserved_of(kind) >> bit & 1 == 1) {
            let refused = Descriptor::decode(legal | 1 << bit, &ALL);
            assert_eq!(refused, Err(QueueErrorInfo::ReservedField), "type {kind}, bit {bit}");
        }
    }
}

#[test]
fn granularities_and_masks_outside_the_table_are_refused() {
    let iotlb = |granularity, mask| {
        let d = IotlbDescriptor::new().with_granularity(granularity).with_mask(mask);
        Descriptor::decode(d.into_bits(), &ALL)
    };
    assert_eq!(iotlb(0, 0), Err(QueueErrorInfo::ReservedField));
    assert_eq!(iotlb(3, 19), Err(QueueErrorInfo::ReservedField));
    assert!(iotlb(3, 18).is_ok());
    let context = ContextCacheDescriptor::new().with_granularity(0);
    let refused = Descriptor::decode(context.into_bits(), &ALL);
    assert_eq!(refused, Err(QueueErrorInfo::ReservedField));
    let pasid = PasidCacheDescriptor::new().with_granularity(2);
    let refused = Descriptor::decode(pasid.into_bits(), &ALL);
    assert_eq!(refused, Err(QueueErrorInfo::ReservedField));
}

#[test]
fn a_type_without_its_capability_is_invalid() {
    let legacy = DecodeRules { page_selective: true, max_address_mask: 18, ..Default::default() };
    for kind in [3_u128, 4, 6, 7, 8, 9, 0, 0xa, 0xf, 0x200 | 1, 0xe00 | 5] {
        let refused = Descriptor::decode(kind, &legacy);
        assert_eq!(refused, Err(QueueErrorInfo::InvalidType), "type bits {kind:#x}");
    }
}

#[test]
fn a_wait_names_its_status_dword() {
    let raw = WaitDescriptor::new()
        .with_status_write(true)
        .with_status_data(7)
        .with_status_dword(0x1234_5678 >> 2);
    let wait = Wait {
        status: Some((Gpa(0x1234_5678), 7)),
        interrupt: false,
        fence: false,
        page_request_drain: false,
    };
    assert_eq!(Descriptor::decode(raw.into_bits(), &ALL), Ok(Descriptor::Wait(wait)));
}

#[test]
fn an_absent_capability_reserves_its_field() {
    let rules = DecodeRules { throttle: false, page_request_drain: false, ..ALL };
    let pfsid = DeviceTlbDescriptor::new().with_physical_function_high(1).into_bits();
    assert_eq!(Descriptor::decode(pfsid, &rules), Err(QueueErrorInfo::ReservedField));
    let drain = WaitDescriptor::new().with_page_request_drain(true).into_bits();
    assert_eq!(Descriptor::decode(drain, &rules), Err(QueueErrorInfo::ReservedField));
}

proptest! {
    #[test]
    fn no_bits_panic(raw: u128, scalable: bool, device_tlb: bool) {
        let rules = DecodeRules { scalable, device_tlb, ..ALL };
        let _ = Descriptor::decode(raw, &rules);
    }

    #[test]
    fn device_tlb_ranges_come_through(source: u16, address: u64, order in 12_u8..=64) {
        let range = PageRange::containing(Iova(address), order);
        let (bits, size) = range.encode();
        let raw = DeviceTlbDescriptor::new()
            .with_source_id(source)
            .with_size(size)
            .with_page(bits >> 12);
        let Ok(Descriptor::DeviceTlb(d)) = Descriptor::decode(raw.into_bits(), &ALL) else {
            return Err(TestCaseError::fail("refused"));
        };
        prop_assert_eq!((d.function.into_bits(), d.range, d.max_pending), (source, range, 32));
    }
}
