//! The invalidations of one call, and their descriptors.
//!
//! ```text
//!   unmap of a page, as Linux submits it:  [IOTLB] [Device-TLB of each function ..] [wait]
//!   what a guest-visible unit forwards:            [Device-TLB]                     [wait]
//!   a fence:                    [context cache] [IOTLB]                             [wait]
//!   an interrupt that moves:    [interrupt entry cache]                             [wait]
//!   before a reset:             [context cache] [IOTLB] [Device-TLB of the function] [wait]
//! ```

use super::fields::FlushPath;
use crate::ats::{InvalidateRequest, PageRange};
use crate::ids::{Bdf, DomainId};
use crate::spec::descriptor::{
    ContextCacheDescriptor, DeviceTlbDescriptor, InterruptEntryCacheDescriptor, IotlbDescriptor,
    IotlbScope, PasidDeviceTlbDescriptor, kind,
};

/// The values of a descriptor that depend on unit and functions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// log2 of the pages that one IOTLB invalidation can name; `None` if it can name none.
    pub(super) max_mask: Option<u8>,
    /// MIP: the most requests that the unit has pending in a function, 0 for 32.
    pub(super) max_pending: u8,
}

/// The Device-TLB invalidations of one call. A single one is stored without an allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DeviceTlbs {
    One(InvalidateRequest),
    Many(Box<[InvalidateRequest]>),
}

/// The invalidations of one call: a part of the unit's IOTLB, and then Device-TLBs. The ITags in
/// the requests are ignored, since the unit chooses its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flush {
    iotlb: Option<IotlbScope>,
    device_tlbs: DeviceTlbs,
    path: FlushPath,
    unit: UnitPart,
}

/// What a call invalidates in the unit besides the IOTLB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnitPart {
    None,
    /// All of the interrupt entry cache.
    InterruptEntries,
    /// The context entry of the function, which the unit may have cached under this domain.
    Context(DomainId),
}

impl Flush {
    /// The most Device-TLB invalidations of one call, as in Linux (`QI_MAX_BATCHED_DESC_COUNT`).
    pub const MAX: usize = 16;

    /// Invalidates the IOTLB first, and then Device-TLBs, as an unmap does. `None` for more than
    /// [`Self::MAX`] requests, which the caller must split. Its path is [`FlushPath::Unmap`].
    pub fn new(iotlb: Option<IotlbScope>, device_tlbs: &[InvalidateRequest]) -> Option<Self> {
        let device_tlbs = match device_tlbs {
            [one] => DeviceTlbs::One(*one),
            many if many.len() <= Self::MAX => DeviceTlbs::Many(many.into()),
            _ => return None,
        };
        Some(Self { iotlb, device_tlbs, path: FlushPath::Unmap, unit: UnitPart::None })
    }

    /// The same invalidations on another path in the kernel.
    #[must_use]
    pub fn on(self, path: FlushPath) -> Self {
        Self { path, ..self }
    }

    /// The path in the kernel on which they are submitted.
    pub const fn path(&self) -> FlushPath {
        self.path
    }

    /// Invalidates all of the unit's interrupt entry cache, as Linux does when it moves an interrupt to
    /// another CPU (`VT-d 6.5.2.8`). The unit must have interrupt remapping.
    pub fn interrupt_entries() -> Self {
        let device_tlbs = DeviceTlbs::Many(Box::default());
        let (path, unit) = (FlushPath::Unmap, UnitPart::InterruptEntries);
        Self { iotlb: None, device_tlbs, path, unit }
    }

    /// Blocks a function in the unit, and empties its Device-TLB by `request`, before a driver resets
    /// it. From the submission on the function gets no other invalidation, until
    /// [`super::HostSide::finish_reset`]. The call ends after those that are under way for the
    /// function. Its path is [`FlushPath::Reset`].
    pub fn before_reset(request: InvalidateRequest) -> Self {
        let (iotlb, device_tlbs) = (Some(IotlbScope::Global), DeviceTlbs::One(request));
        let unit = UnitPart::Context(DomainId(0));
        Self { iotlb, device_tlbs, path: FlushPath::Reset, unit }
    }

    /// Whether it is that of [`Self::before_reset`].
    pub(super) const fn is_before_reset(&self) -> bool {
        matches!(self.unit, UnitPart::Context(_))
    }

    /// The domain under which the unit may have cached the function's context entry.
    pub(super) fn set_cached_domain(&mut self, domain: DomainId) {
        self.unit = UnitPart::Context(domain);
        if domain != DomainId(0) {
            self.iotlb = Some(IotlbScope::Domain(domain));
        }
    }

    /// Whether something of the unit itself is invalidated: its IOTLB, or its interrupt entry cache.
    pub(super) const fn has_unit_part(&self) -> bool {
        self.iotlb.is_some() || !matches!(self.unit, UnitPart::None)
    }

    /// The part of the IOTLB to invalidate.
    pub const fn iotlb(&self) -> Option<IotlbScope> {
        self.iotlb
    }

    /// The Device-TLBs to invalidate.
    pub fn device_tlbs(&self) -> &[InvalidateRequest] {
        match &self.device_tlbs {
            DeviceTlbs::One(one) => std::slice::from_ref(one),
            DeviceTlbs::Many(many) => many,
        }
    }

    /// The function that stands for the call in events: the first one.
    pub(super) fn function(&self) -> Bdf {
        self.device_tlbs().first().map_or(Bdf::default(), |request| request.destination)
    }

    /// The descriptors, with those of the unit itself if `with_iotlb` is set, and without the Device-TLBs
    /// whose bit is set in `waived`.
    pub(super) fn descriptors(
        &self,
        with_iotlb: bool,
        waived: u16,
        limits: Limits,
    ) -> impl Iterator<Item = u128> {
        let requests = self.device_tlbs().iter().enumerate();
        let wanted = requests.filter(move |(index, _)| waived & 1 << index == 0);
        let iotlb = self.iotlb.filter(|_| with_iotlb).map(|scope| iotlb(scope, limits.max_mask));
        let cache = match self.unit {
            UnitPart::None => None,
            UnitPart::InterruptEntries => Some(InterruptEntryCacheDescriptor::new().into_bits()),
            UnitPart::Context(domain) => Some(context(self.function(), domain)),
        };
        let parts = cache.filter(|_| with_iotlb).into_iter().chain(iotlb);
        parts.chain(wanted.map(move |(_, request)| device_tlb(request, limits.max_pending)))
    }
}

impl From<InvalidateRequest> for Flush {
    fn from(request: InvalidateRequest) -> Self {
        let device_tlbs = DeviceTlbs::One(request);
        Self { iotlb: None, device_tlbs, path: FlushPath::Unmap, unit: UnitPart::None }
    }
}

/// The descriptors after which the unit reads the context entry of `function` again, which it may
/// have cached under `domain` (`VT-d 6.5.2.1`, `VT-d 6.5.2.3`).
pub(super) fn fence(function: Bdf, domain: DomainId) -> [u128; 2] {
    [context(function, domain), iotlb(IotlbScope::Global, None)]
}

fn context(function: Bdf, domain: DomainId) -> u128 {
    let of = ContextCacheDescriptor::new().with_granularity(3).with_domain(domain.0);
    of.with_source_id(function.into_bits()).into_bits()
}

/// As in Linux, a range that is too large for the unit becomes the whole domain or address space.
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

/// The descriptor for which the unit sends `request`.
fn device_tlb(request: &InvalidateRequest, max_pending: u8) -> u128 {
    let source = request.destination.into_bits();
    let (address, size) = request.range.encode();
    if request.pasid.is_none() && !request.global {
        return DeviceTlbDescriptor::new()
            .with_source_id(source)
            .with_max_pending(max_pending)
            .with_size(size)
            .with_page(address >> 12)
            .into_bits();
    }
    PasidDeviceTlbDescriptor::new()
        .with_source_id(source)
        .with_max_pending(max_pending)
        .with_pasid(request.pasid.map_or(0, |pasid| pasid.get()))
        .with_global(request.global)
        .with_size(size)
        .with_page(address >> 12)
        .into_bits()
}
