//! A function with SR-IOV: a physical function and its virtual ones, each with an ATC and a
//! requester id of its own.
//!
//! ```text
//!   VF Enable, NumVFs -------------------------> how many there are; none after a reset
//!   First VF Offset, VF Stride ----------------> their ids, from the id of the physical function
//!   VF BAR 0, VF MSE --------------------------> the addresses of their registers
//!   power state, STU, PASID Control -----------> apply to them too: `Inherited`
//! ```

use std::time::Duration;

use iommu::ats::{InvalidateRequest, PageGroupResponse};
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::caps::sriov::Sriov;
use super::reset::Reset;
use super::spec::pasid::PasidControl;
use super::{Function, FunctionCore, Upstream, UpstreamMessage};

/// The state of a physical function that applies to its virtual functions, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inherited {
    /// The physical function is not in D0. The specification leaves open what virtual functions do
    /// then; here they sleep, too (`PCIe 9.6.2`).
    pub sleeps: bool,
    /// Smallest Translation Unit: log2 of its pages (`PCIe 9.3.7`).
    pub translation_unit: u8,
    /// PASID Control (`PCIe 9.3.7`).
    pub pasid: PasidControl,
    /// Completion Timeout; `None` if it is disabled (`PCIe 9.3.5`).
    pub completion_timeout: Option<Duration>,
}

/// A kind of function that can be a physical function or a virtual one.
pub trait SriovFunction: Function {
    /// The state of this physical function that its virtual functions have, too.
    fn inherited(&self) -> Inherited;

    /// Gives this virtual function the state of its physical one, and the address of its registers;
    /// `None` while VF Memory Space is disabled. Its id has been set.
    fn inherit(&mut self, inherited: Inherited, registers: Option<u64>, now: Instant);

    /// The first `count` virtual functions of this physical one are enabled.
    fn note_enabled(&mut self, _count: usize) {}
}

/// A physical function with its virtual functions.
#[derive(Debug)]
pub struct PhysicalFunction<F> {
    function: F,
    sriov: Sriov,
    /// All virtual functions that can be enabled.
    virtual_functions: Vec<F>,
    /// The number of enabled ones, from the first.
    enabled: usize,
}

impl<F: SriovFunction> PhysicalFunction<F> {
    /// `function` with its virtual functions after reset. `sriov` is its capability.
    pub(crate) fn with(function: F, sriov: Sriov, virtual_functions: Vec<F>) -> Self {
        Self { function, sriov, virtual_functions, enabled: 0 }
    }

    /// The physical function, and all virtual functions, enabled or not.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut F> {
        std::iter::once(&mut self.function).chain(&mut self.virtual_functions)
    }

    /// The virtual functions that are enabled.
    fn enabled(&self) -> &[F] {
        &self.virtual_functions[..self.enabled]
    }

    /// The physical function, and the virtual functions that are enabled.
    fn functions(&self) -> impl Iterator<Item = &F> {
        std::iter::once(&self.function).chain(self.enabled())
    }

    fn functions_mut(&mut self) -> impl Iterator<Item = &mut F> {
        let Self { function, virtual_functions, enabled, .. } = self;
        std::iter::once(function).chain(&mut virtual_functions[..*enabled])
    }

    /// Updates the virtual functions after a write to the physical one, or its reset.
    fn follow(&mut self, now: Instant) {
        let Self { function, sriov, virtual_functions, enabled } = self;
        let inherited = function.inherited();
        let core = function.core_mut();
        let id = core.id;
        let count = sriov.written(&mut core.config, id.devfn(), *enabled as u16);
        let count = usize::from(count).min(virtual_functions.len());
        // Functions that are enabled or disabled by this have the state after power-on.
        let changed = count.min(*enabled)..count.max(*enabled);
        virtual_functions[changed].iter_mut().for_each(|vf| vf.reset(Reset::Cold, now));
        for (index, vf) in (0..).zip(&mut virtual_functions[..count]) {
            let offset = sriov.id_offset(&core.config, index);
            vf.core_mut().id = Bdf::from_bits(id.into_bits().wrapping_add(offset));
            vf.inherit(inherited, sriov.registers(&core.config, index), now);
        }
        // Ids past the last bus would wrap to those of other functions.
        let last = sriov.id_offset(&core.config, u16::try_from(count).unwrap_or(u16::MAX));
        *enabled = if id.into_bits().checked_add(last).is_some() { count } else { 0 };
        function.note_enabled(*enabled);
    }
}

impl<F: SriovFunction> Function for PhysicalFunction<F> {
    fn core(&self) -> &FunctionCore {
        self.function.core()
    }

    fn core_mut(&mut self) -> &mut FunctionCore {
        self.function.core_mut()
    }

    fn core_of(&mut self, id: Bdf) -> Option<&mut FunctionCore> {
        self.functions_mut().map(Function::core_mut).find(|core| core.id == id)
    }

    fn for_each_core(&mut self, act: &mut dyn FnMut(&mut FunctionCore)) {
        self.all_mut().for_each(|it| act(it.core_mut()));
    }

    fn config_write(&mut self, id: Bdf, offset: u16, data: &[u8], now: Instant) {
        let enabled = self.enabled;
        match self.virtual_functions[..enabled].iter_mut().find(|vf| vf.core().id == id) {
            Some(vf) => vf.config_write(id, offset, data, now),
            None => {
                self.function.config_write(id, offset, data, now);
                self.follow(now);
            }
        }
    }

    fn virtual_function(&self, id: Bdf) -> Option<&dyn Function> {
        let found = self.enabled().iter().find(|vf| vf.core().id == id);
        found.map(|vf| vf as &dyn Function)
    }

    fn claims(&self, address: u64, length: usize) -> bool {
        self.functions().any(|function| function.claims(address, length))
    }

    fn memory_read(
        &mut self,
        address: u64,
        data: &mut [u8],
        upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        if let Some(function) = self.functions_mut().find(|it| it.claims(address, data.len())) {
            function.memory_read(address, data, upstream, now);
        }
    }

    fn memory_write(
        &mut self,
        address: u64,
        data: &[u8],
        upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        if let Some(function) = self.functions_mut().find(|it| it.claims(address, data.len())) {
            function.memory_write(address, data, upstream, now);
        }
        // The physical function may have a register that resets it, VF Enable as well.
        if self.enabled > 0 && !self.sriov.is_enabled(&self.function.core().config) {
            self.follow(now);
        }
    }

    fn invalidate_request(&mut self, request: InvalidateRequest) -> bool {
        self.functions_mut().any(|it| it.invalidate_request(request))
    }

    fn obey(
        &mut self,
        request: InvalidateRequest,
        dropped: Option<InvalidateRequest>,
        now: Instant,
    ) {
        self.functions_mut().for_each(|it| it.obey(request, dropped, now));
    }

    fn invalidate_queue_depth(&self) -> u8 {
        self.function.invalidate_queue_depth()
    }

    fn page_group_response(&mut self, response: PageGroupResponse) {
        self.function.page_group_response(response);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.functions().filter_map(Function::poll_timeout).min()
    }

    fn handle_timeout(&mut self, upstream: &mut dyn Upstream, now: Instant) {
        self.functions_mut().for_each(|function| function.handle_timeout(upstream, now));
    }

    fn poll_message(&mut self) -> Option<UpstreamMessage> {
        self.functions_mut().find_map(Function::poll_message)
    }

    fn reset(&mut self, reset: Reset, now: Instant) {
        self.function.reset(reset, now);
        self.follow(now);
    }

    fn poll_reset(&mut self) -> Option<Bdf> {
        self.all_mut().find_map(Function::poll_reset)
    }
}
