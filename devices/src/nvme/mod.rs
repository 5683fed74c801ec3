//! An NVMe controller (`NVMe 1.4`): NVM command set, up to 16 namespaces, up to eight I/O queue
//! pairs.
//!
//! ```text
//!   configuration ---> ConfigSpace: BAR 0, PM, MSI-X, PCIe (FLR), ATS
//!   memory ----------> regs (CAP, CC, CSTS, ...)    MSI-X table
//!              \-----> doorbells --> controller: queues, commands in flight
//!                                      |  admin: queues, Identify, features, logs, events
//!                                      |  io: PRPs and SGLs, storage
//!                                      v
//!                      memory: ATC or untranslated --------------> Upstream
//!                      completions: MSI-X -----------------------> poll_message
//! ```
//!
//! While ATS is enabled, each access to guest memory uses the function's own ATC. The function does
//! not know its link. While the link is down, commands fail because their data cannot be reached,
//! and a queue that cannot be reached is a fatal error (CSTS.CFS).

mod admin;
mod controller;
mod events;
mod features;
mod identify;
mod io;
mod logs;
mod memory;
mod model;
mod prp;
mod queue;
pub mod regs;
mod sgl;
mod spec;
pub mod storage;
mod virtual_functions;

use std::time::Duration;

use iommu::ats::InvalidateRequest;
use iommu::event::Tracer;
use iommu::ids::Bdf;
use iommu::time::Instant;

use crate::Error;
use crate::dma::atc::Geometry;
use crate::dma::{Bus, Dma, Rights, TranslationUnit};
use crate::pcie::caps::aer::{Aer, AerKind};
use crate::pcie::caps::ats::{Ats, AtsFeatures};
use crate::pcie::caps::express::{Express, PortType};
use crate::pcie::caps::msix::{Msix, MsixTable};
use crate::pcie::caps::power::PowerManagement;
use crate::pcie::caps::sriov::VirtualFunctions;
use crate::pcie::caps::{ari, secondary};
use crate::pcie::header::{ConfigBuilder, HeaderType, Identity, Ids};
use crate::pcie::reset::Reset;
use crate::pcie::spec::aer::Uncorrectable;
use crate::pcie::spec::pasid::PasidControl;
use crate::pcie::{Function, FunctionCore, Upstream};
use controller::Controller;
use identify::{Identity as ControllerIdentity, Role};
use memory::Memory;
pub use model::{
    DEFAULT_LATENCY, DEVICE_ID, MAX_NAMESPACES, MAX_TRANSFER, MIN_LATENCY, VECTORS, VENDOR_ID,
    VF_DEVICE_ID,
};
use regs::Doorbell;
use storage::Storage;

const IDENTITY: Identity =
    Identity { vendor: VENDOR_ID, device: DEVICE_ID, class: 0x01_08_02, revision: 1 };

/// The properties of a controller that differ from drive to drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NvmeFeatures {
    /// It has the ATS capability, and an ATC.
    pub ats: bool,
    /// It claims Immediate Readiness.
    pub immediate_readiness: bool,
    /// It hangs once after power-on, instead of executing the I/O command after so many. It then
    /// executes nothing, and CSTS does not tell of that. A reset of any kind ends this.
    pub hang_after: Option<u32>,
    /// Its virtual functions, for [`PhysicalFunction`](crate::pcie::PhysicalFunction).
    pub virtual_functions: Option<VirtualFunctions>,
}

impl Default for NvmeFeatures {
    fn default() -> Self {
        Self { ats: true, immediate_readiness: false, hang_after: None, virtual_functions: None }
    }
}

/// The state of a virtual function that its physical function sets.
#[derive(Debug, Clone, Copy, Default)]
struct Assigned {
    /// The address of the registers.
    registers: Option<u64>,
    /// log2 of the pages in the Smallest Translation Unit.
    translation_unit: u8,
    /// Completion Timeout; `None` if it is disabled.
    completion_timeout: Option<Duration>,
}

/// An NVMe controller as a function.
#[derive(Debug)]
pub struct Nvme {
    core: FunctionCore,
    /// `None` in a physical function, which has BAR 0.
    assigned: Option<Assigned>,
    express: Express,
    msix: Msix,
    ats: Option<Ats>,
    table: MsixTable,
    dma: Dma,
    controller: Controller,
    /// When it reports that a request was not answered.
    error_due: Option<Instant>,
    tracer: Tracer,
}

impl Nvme {
    /// A controller after power-on. Its namespaces, [`MAX_NAMESPACES`] at most, have the ids from 1
    /// up. `serial` is the Serial Number (20 printable ASCII characters). Each I/O command takes
    /// `latency`, [`MIN_LATENCY`] at least.
    ///
    /// # Errors
    /// [`Error::CapabilitySpace`] if its capabilities do not fit.
    pub fn new(
        namespaces: Vec<Box<dyn Storage>>,
        serial: &str,
        latency: Duration,
        features: NvmeFeatures,
        tracer: Tracer,
    ) -> Result<Self, Error> {
        let builder = ConfigBuilder::new(IDENTITY, HeaderType::Endpoint);
        Self::with_role(builder, Role::Alone, namespaces, serial, latency, features, tracer)
    }

    /// A controller with this place among those of its device. `builder` may have capabilities.
    fn with_role(
        mut builder: ConfigBuilder,
        role: Role,
        namespaces: Vec<Box<dyn Storage>>,
        serial: &str,
        latency: Duration,
        features: NvmeFeatures,
        tracer: Tracer,
    ) -> Result<Self, Error> {
        let is_virtual = role.is_secondary();
        let bar = (!is_virtual).then(|| builder.memory_bar_64(0, regs::SIZE, false));
        let power = PowerManagement::add(&mut builder)?;
        let msix = Msix::add(&mut builder, VECTORS, 0, regs::MSIX_TABLE, regs::MSIX_PENDING)?;
        let express = Express::add(&mut builder, PortType::Endpoint)?;
        let add_ats = || Ats::add(&mut builder, AtsFeatures::default(), is_virtual);
        let ats = features.ats.then(add_ats).transpose()?;
        let add_aer = || Aer::add(&mut builder, AerKind::Endpoint);
        let aer = (!is_virtual).then(add_aer).transpose()?;
        if !is_virtual {
            secondary::add(&mut builder, false)?;
        }
        if role != Role::Alone {
            ari::add(&mut builder, 0)?;
        }
        if features.immediate_readiness {
            builder.is_ready_at_once();
            power.is_ready_at_once(&mut builder);
        }
        let mut core = FunctionCore::new(builder, bar).with_power(power).with_flr(express);
        if let Some(aer) = aer {
            core = core.with_errors(aer, express);
        }
        let identity = ControllerIdentity::new(serial, role);
        let latency = latency.max(MIN_LATENCY);
        Ok(Self {
            core,
            assigned: is_virtual.then(Assigned::default),
            express,
            msix,
            ats,
            table: MsixTable::new(VECTORS),
            dma: Dma::new(Geometry::default()),
            controller: Controller::new(namespaces, identity, latency, features.hang_after),
            error_due: None,
            tracer,
        })
    }

    /// Identify returns the vendors of `ids`, which configuration space is to have (`NVMe 5.15.2.2`).
    #[must_use]
    pub fn with_vendors(mut self, ids: Ids) -> Self {
        self.set_vendors(ids);
        self
    }

    fn set_vendors(&mut self, ids: Ids) {
        self.controller.identity.set_vendors(ids.vendor, ids.subsystem_vendor);
    }

    /// Whether it has ATS, and software has enabled it.
    fn uses_ats(&self) -> bool {
        self.ats.is_some_and(|ats| ats.is_enabled(&self.core.config))
    }

    /// log2 of the pages in the Smallest Translation Unit.
    fn translation_unit_order(&self) -> u8 {
        match self.assigned {
            None => self.ats.map_or(0, |ats| ats.smallest_translation_unit(&self.core.config)),
            Some(assigned) => assigned.translation_unit,
        }
    }

    /// The time after which it gives a request up; `None` if that is disabled.
    fn completion_timeout(&self) -> Option<Duration> {
        match self.assigned {
            None => self.express.completion_timeout(&self.core.config),
            Some(assigned) => assigned.completion_timeout,
        }
    }

    /// The offset of an access in the registers, if the function claims it.
    #[inline]
    fn claim(&self, address: u64, length: usize) -> Option<u64> {
        match self.assigned {
            None => self.core.claim(address, length),
            Some(Assigned { registers, .. }) => {
                self.core.claim_assigned(registers, regs::SIZE, address, length)
            }
        }
    }

    /// Goes on after a change of configuration or of the power state. `was_bus_master`: the function
    /// could send requests before.
    fn configured(&mut self, was_bus_master: bool, now: Instant) {
        if self.core.is_bus_master() && !was_bus_master {
            self.controller.resume(now);
        }
        self.send_pending();
    }

    /// Calls the controller with access to memory, and sends the interrupts that it raises.
    fn with_memory(
        &mut self,
        upstream: &mut dyn Upstream,
        now: Instant,
        call: impl FnOnce(&mut Controller, &mut Memory<'_>),
    ) {
        let rights = Rights {
            requester: self.core.id,
            bus_master: self.core.is_bus_master(),
            ats: self.uses_ats(),
            unit: TranslationUnit {
                order: self.translation_unit_order(),
                ..TranslationUnit::default()
            },
            pasid: PasidControl::new(),
            tags: u8::MAX,
        };
        let bus = Bus { rights, upstream, tracer: &self.tracer, now };
        let completion_timeout = self.completion_timeout();
        let dma = &mut self.dma;
        let mut memory = Memory { dma, bus, completion_timeout, is_unanswered: false };
        call(&mut self.controller, &mut memory);
        if self.dma.take_timed_out()
            && let Some(wait) = completion_timeout
        {
            self.error_due.get_or_insert(now + wait);
        }
        let announced = self.controller.take_interrupts();
        for vector in (0..VECTORS).filter(|vector| announced & 1 << vector != 0) {
            let msi = self.table.raise(vector, self.msix, &self.core.config);
            self.core.send_msi(msi);
        }
    }

    /// Sends pending interrupts whose vectors are no longer masked.
    fn send_pending(&mut self) {
        while self.core.is_bus_master()
            && let Some(msi) = self.table.take_pending(self.msix, &self.core.config)
        {
            self.core.send_msi(Some(msi));
        }
    }
}

const TABLE: u64 = regs::MSIX_TABLE as u64;
const PENDING: u64 = regs::MSIX_PENDING as u64;

impl Function for Nvme {
    fn core(&self) -> &FunctionCore {
        &self.core
    }

    fn core_mut(&mut self) -> &mut FunctionCore {
        &mut self.core
    }

    fn config_write(&mut self, id: Bdf, offset: u16, data: &[u8], now: Instant) {
        let was_bus_master = self.core.is_bus_master();
        if self.core.config_write(id, offset, data) {
            self.reset(Reset::Function, now);
        }
        if !self.uses_ats() {
            self.dma.disable_ats(self.core.id, &self.tracer, now);
        }
        self.configured(was_bus_master, now);
    }

    fn claims(&self, address: u64, length: usize) -> bool {
        self.claim(address, length).is_some()
    }

    fn memory_read(
        &mut self,
        address: u64,
        data: &mut [u8],
        _upstream: &mut dyn Upstream,
        _now: Instant,
    ) {
        match self.claim(address, data.len()) {
            Some(offset @ PENDING..) => self.table.read_pending(offset - PENDING, data),
            Some(offset @ TABLE..) => self.table.read(offset - TABLE, data),
            Some(offset) => self.controller.registers.read(offset, data),
            None => {}
        }
    }

    fn memory_write(
        &mut self,
        address: u64,
        data: &[u8],
        upstream: &mut dyn Upstream,
        now: Instant,
    ) {
        match self.claim(address, data.len()) {
            None | Some(PENDING..) => {}
            Some(offset @ TABLE..) => {
                self.table.write(offset - TABLE, data);
                self.send_pending();
            }
            Some(offset @ regs::DOORBELLS..) => {
                let Ok(value) = data.try_into().map(u32::from_le_bytes) else { return };
                if !offset.is_multiple_of(4) {
                    return;
                }
                self.with_memory(upstream, now, |controller, memory| match Doorbell::at(offset) {
                    Some(doorbell) => controller.write_doorbell(doorbell, value, memory),
                    None => controller.write_invalid_doorbell(memory),
                });
            }
            Some(offset) => {
                let Some(effect) = self.controller.registers.write(offset, data) else { return };
                self.controller.register_written(effect, now);
                if effect == regs::Effect::SubsystemReset {
                    self.reset(Reset::Hot, now);
                }
            }
        }
    }

    fn invalidate_request(&mut self, request: InvalidateRequest) -> bool {
        let is_mine = request.destination == self.core.id;
        if is_mine {
            self.core.send(Dma::completion(&request));
        }
        is_mine
    }

    fn obey(
        &mut self,
        request: InvalidateRequest,
        dropped: Option<InvalidateRequest>,
        now: Instant,
    ) {
        if request.destination == self.core.id {
            let unit = TranslationUnit {
                order: self.translation_unit_order(),
                ..TranslationUnit::default()
            };
            self.dma.obey(&request, dropped.as_ref(), unit, &self.tracer, now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let controller = self.controller.poll_timeout(self.core.is_bus_master());
        Instant::earliest([controller, self.error_due])
    }

    fn handle_timeout(&mut self, upstream: &mut dyn Upstream, now: Instant) {
        if self.error_due.take_if(|due| *due <= now).is_some() {
            self.core.detect(Uncorrectable::CompletionTimeout);
        }
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.with_memory(upstream, now, Controller::handle_timeout);
        }
    }

    /// A cold reset also power-cycles the namespaces, which lose data that was not flushed. That of a
    /// virtual function leaves the namespaces alone: they are its physical function's.
    fn reset(&mut self, reset: Reset, now: Instant) {
        if reset == Reset::Cold {
            self.controller.power_cycle();
        }
        self.dma.disable_ats(self.core.id, &self.tracer, now);
        self.core.reset(reset);
        self.table = MsixTable::new(VECTORS);
        self.error_due = None;
        self.controller.reset();
    }
}

#[cfg(test)]
mod tests;
