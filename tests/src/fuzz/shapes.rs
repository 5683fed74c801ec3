//! Descriptors and interrupt table entries that are nearly right: what the bytes choose are fields, and
//! now and then a bit that has no business there.

use iommu::spec::descriptor::{
    ContextCacheDescriptor, DeviceTlbDescriptor, InterruptEntryCacheDescriptor, IotlbDescriptor,
    PageGroupResponseDescriptor, PasidCacheDescriptor, PasidDeviceTlbDescriptor, WaitDescriptor,
    kind,
};
use iommu::spec::interrupt::Irte;

use super::{Input, MEMORY};

/// Sets one bit in eight cases of 256.
fn spoil(bits: u128, input: &mut Input<'_>) -> u128 {
    let choice = input.byte();
    if choice < 8 { bits ^ 1 << (input.byte() & 127) } else { bits }
}

/// A descriptor of any type.
pub(super) fn descriptor(input: &mut Input<'_>) -> u128 {
    let bits = match input.byte() % 10 {
        0 => ContextCacheDescriptor::new()
            .with_granularity(input.byte() & 3)
            .with_domain(input.byte().into())
            .with_source_id(input.function().into_bits())
            .with_function_mask(input.byte() & 3)
            .into_bits(),
        1 => iotlb(kind::IOTLB, input),
        2 | 3 => DeviceTlbDescriptor::new()
            .with_source_id(input.function().into_bits())
            .with_max_pending(input.byte() & 31)
            .with_size(input.byte() & 1 == 1)
            .with_page(input.address() >> 12)
            .into_bits(),
        4 => InterruptEntryCacheDescriptor::new()
            .with_selective(input.byte() & 1 == 1)
            .with_mask(input.byte() & 15)
            .with_index(input.byte().into())
            .into_bits(),
        5 | 6 => wait(input),
        7 => iotlb(kind::PASID_IOTLB, input),
        8 => PasidCacheDescriptor::new()
            .with_granularity(input.byte() & 3)
            .with_domain(input.byte().into())
            .with_pasid(input.byte().into())
            .into_bits(),
        _ => match input.byte() & 1 {
            0 => PasidDeviceTlbDescriptor::new()
                .with_source_id(input.function().into_bits())
                .with_pasid(input.byte().into())
                .with_global(input.byte() & 1 == 1)
                .into_bits(),
            _ => PageGroupResponseDescriptor::new()
                .with_requester(input.function().into_bits())
                .with_code(input.byte() & 15)
                .with_group(input.byte().into())
                .into_bits(),
        },
    };
    spoil(bits, input)
}

fn iotlb(kind: u8, input: &mut Input<'_>) -> u128 {
    let descriptor = IotlbDescriptor::new()
        .with_kind(kind)
        .with_granularity(input.byte() & 3)
        .with_domain(input.byte().into())
        .with_mask(input.byte() & 31)
        .with_page(input.address() >> 12);
    match kind {
        kind::PASID_IOTLB => descriptor.with_pasid(input.byte().into()).into_bits(),
        _ => descriptor.into_bits(),
    }
}

fn wait(input: &mut Input<'_>) -> u128 {
    let flags = input.byte();
    WaitDescriptor::new()
        .with_interrupt(flags & 1 != 0)
        .with_status_write(flags & 2 != 0)
        .with_fence(flags & 4 != 0)
        .with_page_request_drain(flags & 8 != 0)
        .with_status_data(input.word())
        .with_status_dword(input.qword() % (MEMORY as u64 / 4 + 64))
        .into_bits()
}

/// An interrupt remapping table entry.
pub(super) fn interrupt_entry(input: &mut Input<'_>) -> u128 {
    let flags = input.byte();
    let entry = Irte::new()
        .with_present(flags & 1 == 0)
        .with_fault_disable(flags & 2 != 0)
        .with_logical(flags & 4 != 0)
        .with_level(flags & 8 != 0)
        .with_delivery_mode(input.byte() & 7)
        .with_vector(input.byte())
        .with_destination(u32::from(input.byte()) << (flags & 8))
        .with_source_id(input.function().into_bits())
        .with_source_qualifier(input.byte() & 3)
        .with_source_validation(input.byte() & 3);
    spoil(entry.into_bits(), input)
}
