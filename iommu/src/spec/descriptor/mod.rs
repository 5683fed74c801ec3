//! Invalidation descriptors (`VT-d 6.5.2`): their layouts, and [`Descriptor::decode`], which checks
//! them as the unit does.

mod layout;

pub use layout::{
    ContextCacheDescriptor, DeviceTlbDescriptor, InterruptEntryCacheDescriptor, IotlbDescriptor,
    PageGroupResponseDescriptor, PasidCacheDescriptor, PasidDeviceTlbDescriptor, WaitDescriptor,
    kind,
};

use super::queue::QueueErrorInfo;
use crate::ats::PageRange;
use crate::ids::{Bdf, DomainId, Gpa, Iova, PAGE_SIZE, Pasid};

/// The bits `high:low` of a descriptor.
const fn bits(high: u32, low: u32) -> u128 {
    (u128::MAX >> (127 - high)) & (u128::MAX << low)
}

/// Bits 11:9 and 3:0, which every descriptor uses for its type.
const TYPE: u128 = bits(11, 9) | bits(3, 0);

/// The scope of an invalidation in the context cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextScope {
    /// All entries.
    Global,
    /// One domain.
    Domain(DomainId),
    /// A function, or the functions that differ from it only in ignored bits.
    Device {
        /// Its domain.
        domain: DomainId,
        /// The function.
        source: Bdf,
        /// Bits of the requester id to ignore.
        ignored: u16,
    },
}

impl ContextScope {
    /// The device scope for an FM field: 1 ignores bit 2 of the function number, 2 bits 2:1, 3 bits
    /// 2:0.
    pub const fn device(domain: DomainId, source: Bdf, function_mask: u8) -> Self {
        let ignored = match function_mask & 3 {
            0 => 0,
            1 => 0b100,
            2 => 0b110,
            _ => 0b111,
        };
        Self::Device { domain, source, ignored }
    }
}

/// The scope of an invalidation in the IOTLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IotlbScope {
    /// All entries.
    Global,
    /// One domain.
    Domain(DomainId),
    /// The pages of a range in a domain.
    Pages(DomainId, PageRange),
    /// First-stage translations of a PASID in a domain: all, or those of a range.
    Pasid(DomainId, Pasid, Option<PageRange>),
}

/// The scope of an invalidation in the PASID cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasidScope {
    /// All entries.
    Global,
    /// One domain.
    Domain(DomainId),
    /// A PASID in a domain.
    Pasid(DomainId, Pasid),
}

/// A Device-TLB invalidation, with or without PASID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceTlbInvalidate {
    /// The function with the Device-TLB.
    pub function: Bdf,
    /// The function whose pending requests are limited: PFSID with ECAP.DIT, otherwise `function`.
    pub throttled: Bdf,
    /// The most requests that may be pending in `throttled`, 1 to 32.
    pub max_pending: u8,
    /// The address space, if the descriptor has a PASID.
    pub pasid: Option<Pasid>,
    /// All address spaces of the function.
    pub global: bool,
    /// The range to invalidate.
    pub range: PageRange,
}

/// An invalidation wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// The address and the value of the status write.
    pub status: Option<(Gpa, u32)>,
    /// The unit sends an interrupt on completion.
    pub interrupt: bool,
    /// Descriptors behind this one start only after it has completed.
    pub fence: bool,
    /// The unit drains page requests first.
    pub page_request_drain: bool,
}

/// A descriptor that the unit has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descriptor {
    /// Type 1.
    ContextCache(ContextScope),
    /// Types 2 and 6.
    Iotlb(IotlbScope),
    /// Types 2 and 6, page-selective with IH=1: only entries that map pages have changed.
    IotlbLeaves(IotlbScope),
    /// Types 3 and 8.
    DeviceTlb(DeviceTlbInvalidate),
    /// Type 4: the first entry and the number of index bits to ignore, or `None` for all entries.
    InterruptEntryCache(Option<(u16, u8)>),
    /// Type 5.
    Wait(Wait),
    /// Type 7.
    PasidCache(PasidScope),
    /// Type 9.
    PageGroupResponse(PageGroupResponseDescriptor),
}

/// The unit's mode and capabilities that decide which descriptors are legal.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecodeRules {
    /// The translation table mode is scalable: types 6 to 9 are legal.
    pub scalable: bool,
    /// ECAP.DT: Device-TLB types are legal.
    pub device_tlb: bool,
    /// ECAP.DIT: PFSID is not reserved.
    pub throttle: bool,
    /// ECAP.IR: type 4 is legal.
    pub interrupt_remapping: bool,
    /// ECAP.MHMV.
    pub max_handle_mask: u8,
    /// ECAP.PRS: type 9 is legal.
    pub page_requests: bool,
    /// ECAP.PDS: PD is not reserved.
    pub page_request_drain: bool,
    /// CAP.PSI.
    pub page_selective: bool,
    /// CAP.MAMV.
    pub max_address_mask: u8,
    /// IH makes a difference: [`Descriptor::IotlbLeaves`].
    pub honor_hint: bool,
}

/// The type of a descriptor: bits 11:9 and 3:0.
pub const fn kind_of(raw: u128) -> u8 {
    ((raw >> 5) as u8 & 0x70) | (raw as u8 & 0xf)
}

impl Descriptor {
    /// Checks and decodes a 128-bit descriptor (`VT-d 6.5.2`).
    ///
    /// # Errors
    /// `InvalidType` if `rules` exclude the type; `ReservedField` for reserved bits, granularities
    /// and masks.
    pub fn decode(raw: u128, rules: &DecodeRules) -> Result<Self, QueueErrorInfo> {
        match kind_of(raw) {
            kind::CONTEXT_CACHE => decode_context_cache(raw),
            kind::IOTLB => decode_iotlb(raw, rules),
            kind::DEVICE_TLB if rules.device_tlb => decode_device_tlb(raw, rules),
            kind::INTERRUPT_ENTRY_CACHE if rules.interrupt_remapping => decode_iec(raw, rules),
            kind::WAIT => decode_wait(raw, rules),
            kind::PASID_IOTLB if rules.scalable => decode_pasid_iotlb(raw, rules),
            kind::PASID_CACHE if rules.scalable => decode_pasid_cache(raw),
            kind::PASID_DEVICE_TLB if rules.scalable && rules.device_tlb => {
                decode_pasid_device_tlb(raw, rules)
            }
            kind::PAGE_GROUP_RESPONSE if rules.scalable && rules.page_requests => {
                let response = PageGroupResponseDescriptor::from_bits(raw);
                reject_unless(raw & reserved::PAGE_GROUP_RESPONSE == 0)?;
                Ok(Self::PageGroupResponse(response))
            }
            _ => Err(QueueErrorInfo::InvalidType),
        }
    }
}

/// Bits that must be zero in each type.
mod reserved {
    use super::{TYPE, bits};

    pub(super) const CONTEXT_CACHE: u128 = !(TYPE | bits(5, 4) | bits(49, 16));
    pub(super) const IOTLB: u128 =
        !(TYPE | bits(7, 4) | bits(31, 16) | bits(64 + 6, 64) | bits(127, 64 + 12));
    pub(super) const DEVICE_TLB: u128 =
        !(TYPE | bits(20, 12) | bits(47, 32) | bits(63, 52) | bits(64, 64) | bits(127, 64 + 12));
    pub(super) const INTERRUPT_ENTRY_CACHE: u128 = !(TYPE | bits(4, 4) | bits(47, 27));
    pub(super) const WAIT: u128 = !(TYPE | bits(7, 4) | bits(63, 32) | bits(127, 64 + 2));
    pub(super) const PASID_IOTLB: u128 =
        !(TYPE | bits(5, 4) | bits(51, 16) | bits(64 + 6, 64) | bits(127, 64 + 12));
    pub(super) const PASID_CACHE: u128 = !(TYPE | bits(5, 4) | bits(51, 16));
    // Bits 8:4 are MIP here, and the type's high part begins above them.
    pub(super) const PASID_DEVICE_TLB: u128 =
        !(TYPE | bits(8, 4) | bits(63, 12) | bits(64, 64) | bits(127, 64 + 11));
    pub(super) const PAGE_GROUP_RESPONSE: u128 =
        !(TYPE | bits(4, 4) | bits(51, 12) | bits(64 + 11, 64 + 2));
    pub(super) const PFSID: u128 = bits(15, 12) | bits(63, 52);
    pub(super) const WAIT_PD: u128 = bits(7, 7);
}

fn reject_unless(legal: bool) -> Result<(), QueueErrorInfo> {
    if legal { Ok(()) } else { Err(QueueErrorInfo::ReservedField) }
}

fn decode_context_cache(raw: u128) -> Result<Descriptor, QueueErrorInfo> {
    reject_unless(raw & reserved::CONTEXT_CACHE == 0)?;
    let d = ContextCacheDescriptor::from_bits(raw);
    let domain = DomainId(d.domain());
    Ok(Descriptor::ContextCache(match d.granularity() {
        1 => ContextScope::Global,
        2 => ContextScope::Domain(domain),
        3 => ContextScope::device(domain, Bdf::from_bits(d.source_id()), d.function_mask()),
        _ => return Err(QueueErrorInfo::ReservedField),
    }))
}

fn decode_iotlb(raw: u128, rules: &DecodeRules) -> Result<Descriptor, QueueErrorInfo> {
    reject_unless(raw & reserved::IOTLB == 0)?;
    let d = IotlbDescriptor::from_bits(raw);
    let domain = DomainId(d.domain());
    let scope = match d.granularity() {
        1 => IotlbScope::Global,
        2 => IotlbScope::Domain(domain),
        3 => {
            reject_unless(rules.page_selective && d.mask() <= rules.max_address_mask)?;
            let scope = IotlbScope::Pages(domain, masked_range(d.page(), d.mask()));
            return Ok(iotlb_pages(scope, d.hint() && rules.honor_hint));
        }
        _ => return Err(QueueErrorInfo::ReservedField),
    };
    Ok(Descriptor::Iotlb(scope))
}

const fn iotlb_pages(scope: IotlbScope, leaves: bool) -> Descriptor {
    if leaves { Descriptor::IotlbLeaves(scope) } else { Descriptor::Iotlb(scope) }
}

/// The range of 2^`mask` pages that contains the page number `page`.
pub(crate) const fn masked_range(page: u64, mask: u8) -> PageRange {
    PageRange::containing(Iova(page.wrapping_mul(PAGE_SIZE)), mask.saturating_add(12))
}

/// Decodes MIP, where 0 stands for 32.
const fn pending_limit(field: u8) -> u8 {
    if field == 0 { 32 } else { field }
}

fn decode_device_tlb(raw: u128, rules: &DecodeRules) -> Result<Descriptor, QueueErrorInfo> {
    reject_unless(raw & reserved::DEVICE_TLB == 0)?;
    reject_unless(rules.throttle || raw & reserved::PFSID == 0)?;
    let d = DeviceTlbDescriptor::from_bits(raw);
    let function = Bdf::from_bits(d.source_id());
    let physical = d.physical_function_high() << 4 | u16::from(d.physical_function_low());
    Ok(Descriptor::DeviceTlb(DeviceTlbInvalidate {
        function,
        throttled: if rules.throttle { Bdf::from_bits(physical) } else { function },
        max_pending: pending_limit(d.max_pending()),
        pasid: None,
        global: false,
        range: PageRange::decode(d.page() * PAGE_SIZE, d.size()),
    }))
}

fn decode_pasid_device_tlb(raw: u128, rules: &DecodeRules) -> Result<Descriptor, QueueErrorInfo> {
    reject_unless(raw & reserved::PASID_DEVICE_TLB == 0)?;
    reject_unless(rules.throttle || raw & reserved::PFSID == 0)?;
    let d = PasidDeviceTlbDescriptor::from_bits(raw);
    let function = Bdf::from_bits(d.source_id());
    let physical = d.physical_function_high() << 4 | u16::from(d.physical_function_low());
    Ok(Descriptor::DeviceTlb(DeviceTlbInvalidate {
        function,
        throttled: if rules.throttle { Bdf::from_bits(physical) } else { function },
        max_pending: pending_limit(d.max_pending()),
        pasid: (!d.global()).then_some(Pasid::new(d.pasid())),
        global: d.global(),
        range: PageRange::decode(d.page() * PAGE_SIZE, d.size()),
    }))
}

fn decode_iec(raw: u128, rules: &DecodeRules) -> Result<Descriptor, QueueErrorInfo> {
    reject_unless(raw & reserved::INTERRUPT_ENTRY_CACHE == 0)?;
    let d = InterruptEntryCacheDescriptor::from_bits(raw);
    reject_unless(!d.selective() || d.mask() <= rules.max_handle_mask)?;
    Ok(Descriptor::InterruptEntryCache(d.selective().then_some((d.index(), d.mask()))))
}

fn decode_wait(raw: u128, rules: &DecodeRules) -> Result<Descriptor, QueueErrorInfo> {
    reject_unless(raw & reserved::WAIT == 0)?;
    reject_unless(rules.page_request_drain || raw & reserved::WAIT_PD == 0)?;
    let d = WaitDescriptor::from_bits(raw);
    Ok(Descriptor::Wait(Wait {
        status: d.status_write().then_some((Gpa(d.status_dword() << 2), d.status_data())),
        interrupt: d.interrupt(),
        fence: d.fence(),
        page_request_drain: d.page_request_drain(),
    }))
}

fn decode_pasid_iotlb(raw: u128, rules: &DecodeRules) -> Result<Descriptor, QueueErrorInfo> {
    reject_unless(raw & reserved::PASID_IOTLB == 0)?;
    let d = IotlbDescriptor::from_bits(raw);
    let range = match d.granularity() {
        2 => None,
        3 => Some(masked_range(d.page(), d.mask())),
        _ => return Err(QueueErrorInfo::ReservedField),
    };
    let (domain, pasid) = (DomainId(d.domain()), Pasid::new(d.pasid()));
    let leaves = range.is_some() && d.hint() && rules.honor_hint;
    Ok(iotlb_pages(IotlbScope::Pasid(domain, pasid, range), leaves))
}

fn decode_pasid_cache(raw: u128) -> Result<Descriptor, QueueErrorInfo> {
    reject_unless(raw & reserved::PASID_CACHE == 0)?;
    let d = PasidCacheDescriptor::from_bits(raw);
    let domain = DomainId(d.domain());
    Ok(Descriptor::PasidCache(match d.granularity() {
        0 => PasidScope::Domain(domain),
        1 => PasidScope::Pasid(domain, Pasid::new(d.pasid())),
        3 => PasidScope::Global,
        _ => return Err(QueueErrorInfo::ReservedField),
    }))
}

#[cfg(test)]
mod tests;
