//! An ATS test endpoint with SR-IOV. Its virtual functions make no page requests.

use iommu::event::Tracer;
use iommu::time::Instant;

use super::{AtsEndpoint, EndpointConfig, IDENTITY, VF_DEVICE_ID, VirtualFunctions, Window, regs};
use crate::Error;
use crate::pcie::caps::sriov::Sriov;
use crate::pcie::header::{ConfigBuilder, HeaderType};
use crate::pcie::{Inherited, PhysicalFunction, SriovFunction};

impl PhysicalFunction<AtsEndpoint> {
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
        Ok(Self::with(function, sriov, virtual_functions))
    }
}

impl SriovFunction for AtsEndpoint {
    fn inherited(&self) -> Inherited {
        Inherited {
            sleeps: self.core.sleeps(),
            translation_unit: self.translation_unit(),
            pasid: self.rights().pasid,
            completion_timeout: self.completion_timeout(),
        }
    }

    fn inherit(&mut self, inherited: Inherited, registers: Option<u64>, now: Instant) {
        let Inherited { sleeps, translation_unit, pasid, completion_timeout } = inherited;
        self.core.physical_sleeps = sleeps;
        self.physical_unit = translation_unit;
        self.physical_pasid = pasid;
        self.window = Window::Assigned(registers);
        self.physical_timeout = completion_timeout;
        self.engine.outstanding.set_timeout(completion_timeout, now);
    }
}

#[cfg(test)]
mod tests;
