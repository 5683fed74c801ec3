//! What one call invalidates, and the descriptors that say so.
//!
//! ```text
//!   unmap of a page, as Linux submits it:  [IOTLB] [Device-TLB of each function ..] [wait]
//!   what a guest-visible unit forwards:            [Device-TLB]                     [wait]
//!   a fence:                    [context cache] [IOTLB]                             [wait]
//! ```

use crate::ats::{InvalidateRequest, PageRange};
use crate::ids::{Bdf, DomainId};
use crate::spec::descriptor::{
    ContextCacheDescriptor, DeviceTlbDescriptor, IotlbDescriptor, IotlbScope,
    PasidDeviceTlbDescriptor, kind,
};

/// Device-TLB invalidations of one call. A single one needs no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DeviceTlbs {
    One(InvalidateRequest),
    Many(Box<[InvalidateRequest]>),
}

/// What one call invalidates: part of the unit's IOTLB, and then Device-TLBs. The ITags of the
/// requests mean nothing here; the unit chooses its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flush {
    iotlb: Option<IotlbScope>,
    device_tlbs: DeviceTlbs,
}

impl Flush {
    /// Device-TLB invalidations of one call, at most: as in Linux (`QI_MAX_BATCHED_DESC_COUNT`).
    pub const MAX: usize = 16;

    /// An invalidation of the IOTLB and then of these Device-TLBs, as an unmap has it; `None` for more
    /// than [`Self::MAX`], which the caller must split.
    pub fn new(iotlb: Option<IotlbScope>, device_tlbs: &[InvalidateRequest]) -> Option<Self> {
        let device_tlbs = match device_tlbs {
            [one] => DeviceTlbs::One(*one),
            many if many.len() <= Self::MAX => DeviceTlbs::Many(many.into()),
            _ => return None,
        };
        Some(Self { iotlb, device_tlbs })
    }

    /// What it invalidates in the IOTLB.
    pub const fn iotlb(&self) -> Option<IotlbScope> {
        self.iotlb
    }

    /// What it invalidates in Device-TLBs.
    pub fn device_tlbs(&self) -> &[InvalidateRequest] {
        match &self.device_tlbs {
            DeviceTlbs::One(one) => std::slice::from_ref(one),
            DeviceTlbs::Many(many) => many,
        }
    }

    /// By which function it is known in events: the first one.
    pub(super) fn function(&self) -> Bdf {
        self.device_tlbs().first().map_or(Bdf::default(), |request| request.destination)
    }

    /// The descriptors, without those Device-TLBs whose bit is set in `waived`. The unit takes ranges
    /// of up to 2^`max_mask` pages, if it takes any.
    pub(super) fn descriptors(
        &self,
        waived: u16,
        max_mask: Option<u8>,
    ) -> impl Iterator<Item = u128> {
        let requests = self.device_tlbs().iter().enumerate();
        let wanted = requests.filter(move |(index, _)| waived & 1 << index == 0);
        let iotlb = self.iotlb.map(|scope| iotlb(scope, max_mask));
        iotlb.into_iter().chain(wanted.map(|(_, request)| device_tlb(request)))
    }
}

impl From<InvalidateRequest> for Flush {
    fn from(request: InvalidateRequest) -> Self {
        Self { iotlb: None, device_tlbs: DeviceTlbs::One(request) }
    }
}

/// The descriptors by which the unit forgets what it knows of `function` of `domain`
/// (`VT-d 6.5.2.1`, `VT-d 6.5.2.3`), so that it reads the context entry anew.
pub(super) fn fence(function: Bdf, domain: DomainId) -> [u128; 2] {
    let contexts = ContextCacheDescriptor::new()
        .with_granularity(3)
        .with_domain(domain.0)
        .with_source_id(function.into_bits());
    [contexts.into_bits(), iotlb(IotlbScope::Global, None)]
}

/// As in Linux, a range that is larger than the unit can name becomes the domain, or the address space.
fn iotlb(scope: IotlbScope, max_mask: Option<u8>) -> u128 {
    let (of, range) = match scope {
        IotlbScope::Global => return IotlbDescriptor::new().with_granularity(1).into_bits(),
        IotlbScope::Domain(domain) => (IotlbDescriptor::new().with_domain(domain.0), None),
        IotlbScope::Pages(domain, range) => {
            (IotlbDescriptor::new().with_domain(domain.0), Some(range))
        }
        IotlbScope::Pasid(domain, pasid, range) => {
            let of = IotlbDescriptor::new().with_kind(kind::PASID_IOTLB).with_domain(domain.0);
            (of.with_pasid(pasid.get()), range)
        }
    };
    let nameable = |range: &PageRange| max_mask.is_some_and(|max| range.order() - 12 <= max);
    match range.filter(nameable) {
        Some(range) => {
            let of = of.with_granularity(3).with_mask(range.order() - 12);
            of.with_page(range.start().0 >> 12).into_bits()
        }
        None => of.with_granularity(2).into_bits(),
    }
}

/// The descriptor that makes the unit send `request`.
fn device_tlb(request: &InvalidateRequest) -> u128 {
    let source = request.destination.into_bits();
    let (address, size) = request.range.encode();
    if request.pasid.is_none() && !request.global {
        return DeviceTlbDescriptor::new()
            .with_source_id(source)
            .with_size(size)
            .with_page(address >> 12)
            .into_bits();
    }
    PasidDeviceTlbDescriptor::new()
        .with_source_id(source)
        .with_pasid(request.pasid.map_or(0, |pasid| pasid.get()))
        .with_global(request.global)
        .with_size(size)
        .with_page(address >> 12)
        .into_bits()
}
