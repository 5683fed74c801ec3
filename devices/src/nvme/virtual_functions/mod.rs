//! An NVMe device with SR-IOV (`NVMe 8.5`): the physical function is the primary controller, each
//! virtual function a secondary one.
//!
//! ```text
//!   PF: queues, ATC, MSI-X ---+
//!   VF 1: queues, ATC, MSI-X -+--> namespaces: one medium each, with one write cache
//!   VF 2: queues, ATC, MSI-X -+
//! ```
//!
//! Secondary controllers are online while their virtual functions are enabled. Queues and vectors
//! cannot be moved between controllers: there is no Virtualization Management.

use std::time::Duration;

use iommu::event::Tracer;
use iommu::time::Instant;

use super::storage::{SharedStorage, Storage};
use super::{Assigned, IDENTITY, Nvme, NvmeFeatures, Role, VF_DEVICE_ID, regs};
use crate::Error;
use crate::pcie::caps::sriov::{Sriov, VirtualFunctions};
use crate::pcie::header::{ConfigBuilder, HeaderType, Ids};
use crate::pcie::spec::pasid::PasidControl;
use crate::pcie::{Inherited, PhysicalFunction, SriovFunction};

impl PhysicalFunction<Nvme> {
    /// A controller with SR-IOV after power-on; the rest is as for [`Nvme::new`]. Virtual functions
    /// have the same features and namespaces.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if its capabilities do not fit.
    pub fn new(
        namespaces: Vec<Box<dyn Storage>>,
        serial: &str,
        latency: Duration,
        features: NvmeFeatures,
        virtual_functions: VirtualFunctions,
        tracer: &Tracer,
    ) -> Result<Self, Error> {
        let shared: Vec<SharedStorage> = namespaces.into_iter().map(SharedStorage::new).collect();
        let boxed = |medium: SharedStorage| Box::new(medium) as Box<dyn Storage>;
        let new_virtual = |number| {
            let namespaces = shared.iter().map(SharedStorage::share).map(boxed).collect();
            let (builder, role) =
                (ConfigBuilder::new_virtual(IDENTITY), Role::Secondary { number });
            Nvme::with_role(builder, role, namespaces, serial, latency, features, tracer.clone())
        };
        let total = virtual_functions.total;
        let secondary = (1..=total).map(new_virtual).collect::<Result<_, _>>()?;
        let mut builder = ConfigBuilder::new(IDENTITY, HeaderType::Endpoint);
        let sriov = Sriov::add(&mut builder, virtual_functions, VF_DEVICE_ID, regs::SIZE)?;
        let (role, namespaces) = (Role::Primary { total, online: 0 }, shared.into_iter());
        let namespaces = namespaces.map(boxed).collect();
        let tracer = tracer.clone();
        let primary =
            Nvme::with_role(builder, role, namespaces, serial, latency, features, tracer)?;
        Ok(Self::with(primary, sriov, secondary))
    }

    /// As [`Nvme::with_vendors`], for all controllers.
    #[must_use]
    pub fn with_vendors(mut self, ids: Ids) -> Self {
        self.all_mut().for_each(|controller| controller.set_vendors(ids));
        self
    }
}

impl SriovFunction for Nvme {
    /// Its requests have no PASIDs.
    fn inherited(&self) -> Inherited {
        Inherited {
            sleeps: self.core.sleeps(),
            translation_unit: self.translation_unit_order(),
            pasid: PasidControl::new(),
            completion_timeout: self.completion_timeout(),
        }
    }

    fn inherit(&mut self, inherited: Inherited, registers: Option<u64>, now: Instant) {
        let was_bus_master = self.core.is_bus_master();
        self.core.physical_sleeps = inherited.sleeps;
        let Inherited { translation_unit, completion_timeout, .. } = inherited;
        self.assigned = Some(Assigned { registers, translation_unit, completion_timeout });
        self.configured(was_bus_master, now);
    }

    fn note_enabled(&mut self, count: usize) {
        if let Role::Primary { online, .. } = &mut self.controller.identity.role {
            *online = u16::try_from(count).unwrap_or(u16::MAX);
        }
    }
}
