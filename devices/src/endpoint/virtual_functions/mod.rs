//! An ATS test endpoint with SR-IOV: a physical function and its virtual ones, each with an ATC and
//! a requester id of its own.
//!
//! ```text
//!   VF Enable, NumVFs -------------------------> how many there are; none after a reset
//!   First VF Offset, VF Stride ----------------> their ids, from the id of the physical function
//!   VF BAR 0, VF MSE --------------------------> the addresses of their registers
//!   PASID Control of the physical function ----> applies to them too (`PCIe 9.3.7`)
//! ```
//!
//! Virtual functions make no page requests. They sleep while their physical function sleeps.

use iommu::ats::{InvalidateRequest, PageGroupResponse};
use iommu::event::Tracer;
use iommu::ids::Bdf;
use iommu::time::Instant;

use super::{AtsEndpoint, EndpointConfig, IDENTITY, VF_DEVICE_ID, VirtualFunctions, Window, regs};
use crate::Error;
use crate::pcie::caps::sriov::Sriov;
use crate::pcie::header::{ConfigBuilder, HeaderType};
use crate::pcie::reset::Reset;
use crate::pcie::{Function, FunctionCore, Upstream, UpstreamMessage};

/// A physical function with its virtual functions.
#[derive(Debug)]
pub struct PhysicalFunction {
    function: AtsEndpoint,
    sriov: Sriov,
    /// All virtual functions that can be enabled.
    virtual_functions: Vec<AtsEndpoint>,
    /// The number of enabled ones, from the first.
    enabled: usize,
}

impl PhysicalFunction {
    /// A function with SR-IOV after reset. Its virtual functions have the same configuration.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if its capabilities do not fit.
    pub fn new(
        config: EndpointConfig,
        virtual_functions: VirtualFunctions,
        tracer: &Tracer,
    ) -> Result<Self, Error> {
        let mut builder = ConfigBuilder::new(IDENTITY, HeaderType::Endpoint);
        let sriov = Sriov::add(&mut builder, virtual_functions, VF_DEVICE_ID, regs::SIZE)?;
        let function = AtsEndpoint::new_physical(builder, config, tracer.clone())?;
        let new = |_| AtsEndpoint::new_virtual(config, tracer.clone());
        let virtual_functions = (0..virtual_functions.total).map(new).collect::<Result<_, _>>()?;
        Ok(Self { function, sriov, virtual_functions, enabled: 0 })
    }

    /// The virtual functions that are enabled.
    fn enabled(&self) -> &[AtsEndpoint] {
        &self.virtual_functions[..self.enabled]
    }

    /// The physical function, and the virtual functions that are enabled.
    fn functions(&self) -> impl Iterator<Item = &AtsEndpoint> {
        std::iter::once(&self.function).chain(self.enabled())
    }

    fn functions_mut(&mut self) -> impl Iterator<Item = &mut AtsEndpoint> {
        let Self { function, virtual_functions, enabled, .. } = self;
        std::iter::once(function).chain(&mut virtual_functions[..*enabled])
    }

    /// Updates the virtual functions after a write to the physical one, or its reset.
    fn follow(&mut self, now: Instant) {
        let Self { function, sriov, virtual_functions, enabled } = self;
        let id = function.core.id;
        let count = sriov.written(&mut function.core.config, id.devfn(), *enabled as u16);
        let count = usize::from(count).min(virtual_functions.len());
        // Functions that are enabled or disabled by this have the state after power-on.
        let changed = count.min(*enabled)..count.max(*enabled);
        virtual_functions[changed].iter_mut().for_each(|vf| vf.reset(Reset::Cold, now));
        let pasid = function.rights().pasid;
        for (index, vf) in (0..).zip(&mut virtual_functions[..count]) {
            let offset = sriov.id_offset(&function.core.config, index);
            vf.core.id = Bdf::from_bits(id.into_bits().wrapping_add(offset));
            vf.window = Window::Assigned(sriov.registers(&function.core.config, index));
            vf.physical_pasid = pasid;
            vf.physical_unit = function.translation_unit();
            vf.core.physical_sleeps = function.core.sleeps();
        }
        // Ids past the last bus would wrap to those of other functions.
        let last = sriov.id_offset(&function.core.config, u16::try_from(count).unwrap_or(u16::MAX));
        *enabled = if id.into_bits().checked_add(last).is_some() { count } else { 0 };
    }
}

impl Function for PhysicalFunction {
    fn core(&self) -> &FunctionCore {
        &self.function.core
    }

    fn core_mut(&mut self) -> &mut FunctionCore {
        &mut self.function.core
    }

    fn core_of(&mut self, id: Bdf) -> Option<&mut FunctionCore> {
        self.functions_mut().map(|function| &mut function.core).find(|core| core.id == id)
    }

    fn for_each_core(&mut self, act: &mut dyn FnMut(&mut FunctionCore)) {
        let Self { function, virtual_functions, .. } = self;
        std::iter::once(function).chain(virtual_functions).for_each(|it| act(&mut it.core));
    }

    fn config_write(&mut self, id: Bdf, offset: u16, data: &[u8], now: Instant) {
        let enabled = self.enabled;
        match self.virtual_functions[..enabled].iter_mut().find(|vf| vf.core.id == id) {
            Some(vf) => vf.config_write(id, offset, data, now),
            None => {
                self.function.config_write(id, offset, data, now);
                self.follow(now);
            }
        }
    }

    fn virtual_function(&self, id: Bdf) -> Option<&dyn Function> {
        let found = self.enabled().iter().find(|vf| vf.core.id == id);
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
    }

    fn invalidate_request(
        &mut self,
        request: InvalidateRequest,
        dropped: Option<InvalidateRequest>,
        now: Instant,
    ) {
        self.functions_mut().for_each(|it| it.invalidate_request(request, dropped, now));
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
        let Self { function, virtual_functions, .. } = self;
        std::iter::once(function).chain(virtual_functions).find_map(Function::poll_reset)
    }
}

#[cfg(test)]
mod tests;
